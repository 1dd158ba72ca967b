"""The canary's gate: when it measures, what a measurement says, and when the verdict is certain."""

from __future__ import annotations

import math
from typing import Any

import pytest

from firstwatch.gate import Gate, Seen, judged, label, replay
from firstwatch.model import Counts, Judgement, NoData, Outcome, SourceError, Values, Verdict
from firstwatch.spec.canary import Canary, CanaryMetric
from firstwatch.spec.models import Objectives
from firstwatch.tally import Phase, assess, settled, tally_of

OBJECTIVES = Objectives()
RATE: dict[str, Any] = {
    "name": "success-rate",
    "interval": "2m",
    "count": 15,
    "successCondition": "result[0] >= 0.99",
    "consecutiveFailureLimit": 3,
    "provider": {"prometheus": {"query": "x"}},
}


def metric(**changed: Any) -> CanaryMetric:
    return CanaryMetric.model_validate({**RATE, **changed})


def played(gate: Gate, results: dict[str, list[Any]], until: float = math.inf) -> Gate:
    """The gate after its metrics gave these results, in turn; the last one for ever after. A str is an error."""
    asked: dict[str, int] = {}

    def answer(m: CanaryMetric, at: float) -> Values | SourceError:
        given = results[m.name]
        n = asked[m.name] = asked.get(m.name, 0) + 1
        value = given[min(n, len(given)) - 1]
        return SourceError(value) if isinstance(value, str) else Values(at, value)

    return replay(gate, OBJECTIVES, answer, until)


def gate(*metrics: CanaryMetric, **more: Any) -> Gate:
    return Gate(Canary(metrics=list(metrics), **more), start=1000.0)


def test_the_mission_three_times_in_a_row_below_99_percent_is_unhealthy_at_once() -> None:
    after = played(gate(metric()), {"success-rate": [(0.999,), (0.98,), (0.985,), (0.97,)]})
    ruling = after.ruling
    assert ruling.verdict is Verdict.UNHEALTHY and ruling.final
    assert ruling.decided_at == 1000 + 3 * 120, "at the third in a row, not an interval later"
    [reason] = ruling.reasons
    assert reason.outcome is Outcome.FAIL and reason.value == 0.97 and reason.limit == 0.99
    assert "3 failures in a row" in reason.why and "0.97" in reason.why


def test_failures_that_are_not_in_a_row_do_not_abort_and_all_measurements_are_taken() -> None:
    after = played(gate(metric()), {"success-rate": [(0.98,), (0.98,), (0.999,)] * 5})
    assert len(after.judgements["success-rate"]) == 15
    assert after.ruling.verdict is Verdict.INCONCLUSIVE, "ten of fifteen failed: that is no success"
    mostly_good = played(gate(metric()), {"success-rate": [(0.98,), (0.999,), (0.999,)] * 5})
    assert mostly_good.ruling.verdict is Verdict.HEALTHY and mostly_good.ruling.final


def test_a_row_that_is_open_at_the_end_is_measured_to_its_end() -> None:
    good, bad = (0.999,), (0.9,)
    broken = played(gate(metric()), {"success-rate": [good] * 13 + [bad] * 3})
    assert broken.ruling.verdict is Verdict.UNHEALTHY and len(broken.judgements["success-rate"]) == 16
    mended = played(gate(metric()), {"success-rate": [good] * 13 + [bad] * 2 + [good]})
    assert mended.ruling.verdict is Verdict.HEALTHY


@pytest.mark.parametrize("nothing", [(math.nan,), (), None, "Prometheus is away"])
def test_what_proves_nothing_never_promotes_and_never_aborts(nothing: Any) -> None:
    always = played(gate(metric()), {"success-rate": [nothing]})
    assert always.ruling.verdict is Verdict.INCONCLUSIVE and always.ruling.final
    at_first = played(gate(metric()), {"success-rate": [nothing] * 6 + [(0.999,)]})
    assert at_first.ruling.verdict is Verdict.HEALTHY, "a quarter of an hour without data is made up for"
    assert [j.outcome for j in at_first.judgements["success-rate"]].count(Outcome.PASS) == 15
    between = played(gate(metric()), {"success-rate": [(0.98,), nothing, (0.98,), nothing, (0.98,)]})
    assert between.ruling.verdict is Verdict.UNHEALTHY, "no data does not break a row of failures"


def test_no_data_counts_as_the_file_says() -> None:
    failing = played(gate(metric(onNoData="fail")), {"success-rate": [()]})
    assert failing.ruling.verdict is Verdict.UNHEALTHY and "onNoData" in failing.ruling.reasons[0].why
    passing = played(gate(metric(onNoData="pass")), {"success-rate": [()]})
    assert passing.ruling.verdict is Verdict.HEALTHY
    away = played(gate(metric(onNoData="fail")), {"success-rate": ["Prometheus is away"]})
    assert away.ruling.verdict is Verdict.INCONCLUSIVE, "a source that does not answer is not the canary's doing"


def test_too_few_requests_are_no_data() -> None:
    m = metric(minSample=50)
    few, enough, unknown = (
        judged(gate(m), OBJECTIVES, m, Values(0.0, (0.5,), sample=sample), 0.0) for sample in (49, 50, None)
    )
    assert few.outcome is Outcome.NO_DATA and "49 requests" in few.why and "minSample is 50" in few.why
    assert unknown.outcome is Outcome.NO_DATA
    assert enough.outcome is Outcome.FAIL and enough.sample == 50


def test_failure_wins_and_neither_is_inconclusive() -> None:
    m = metric(successCondition="result[0] >= 0.9", failureCondition="result[0] < 0.5", inconclusiveLimit=1)
    said = [judged(gate(m), OBJECTIVES, m, Values(0.0, (v,)), 0.0).outcome for v in (0.95, 0.7, 0.4)]
    assert said == [Outcome.PASS, Outcome.NOT_YET, Outcome.FAIL]
    after = played(gate(m), {"success-rate": [(0.95,), (0.7,), (0.7,)]})
    assert after.ruling.verdict is Verdict.INCONCLUSIVE and len(after.judgements["success-rate"]) == 3


def test_one_failed_metric_ends_the_gate_and_a_dry_run_does_not() -> None:
    slow = metric(name="latency", successCondition="result[0] < 0.5", failureLimit=0, consecutiveFailureLimit=None)
    after = played(gate(metric(), slow), {"success-rate": [(1.0,)], "latency": [(0.7,)]})
    assert after.ruling.verdict is Verdict.UNHEALTHY and after.ruling.decided_at == 1000
    dry = slow.model_copy(update={"dry_run": True})
    after = played(gate(metric(), dry), {"success-rate": [(1.0,)], "latency": [(0.7,)]})
    assert after.ruling.verdict is Verdict.HEALTHY


def test_a_metric_without_an_end_ends_with_the_others() -> None:
    background = metric(name="background", count=0, interval="1m")
    good = played(gate(metric(count=3), background), {"success-rate": [(1.0,)], "background": [(1.0,)]})
    assert good.ruling.verdict is Verdict.HEALTHY and len(good.judgements["background"]) == 5
    silent = played(gate(metric(count=3), background), {"success-rate": [(1.0,)], "background": [()]})
    assert silent.ruling.verdict is Verdict.INCONCLUSIVE


def test_it_ends_as_soon_as_nothing_can_change_the_verdict() -> None:
    lenient = metric(failureLimit=3, count=10, consecutiveFailureLimit=None)
    after = played(gate(lenient), {"success-rate": [(1.0,)]})
    assert after.ruling.verdict is Verdict.HEALTHY and len(after.judgements["success-rate"]) == 7
    three_of_five = metric(failureLimit=-1, consecutiveSuccessLimit=3, count=5, consecutiveFailureLimit=None)
    after = played(gate(three_of_five), {"success-rate": [(1.0,), (0.5,), (1.0,), (0.5,), (1.0,)]})
    assert after.ruling.verdict is Verdict.UNHEALTHY and len(after.judgements["success-rate"]) == 4


def test_errors_end_a_metric_only_where_it_says_how_many_it_bears() -> None:
    patient = tally_of([Outcome.ERROR] * 5)
    assert assess(metric(), patient) is Phase.ERROR, "that is how it stands, as in Argo"
    waiting = played(gate(metric()), {"success-rate": ["away"] * 6 + [(1.0,)]})
    assert waiting.ruling.verdict is Verdict.HEALTHY
    strict = played(gate(metric(consecutiveErrorLimit=1)), {"success-rate": [(1.0,), "away", "away", (1.0,)]})
    assert strict.ruling.verdict is Verdict.INCONCLUSIVE and len(strict.judgements["success-rate"]) == 3


def test_a_metric_is_measured_at_its_interval_without_drift() -> None:
    g = gate(metric(initialDelay="30s", count=3))
    moments = []
    while (due := g.due) is not None:
        moments.append((due.at - 1000, dict(due.numbers)))
        g = g.after({"success-rate": Judgement(Outcome.PASS, "", due.at + 7.3)})  # it took its time
    assert moments == [(30, {"success-rate": 1}), (150, {"success-rate": 2}), (270, {"success-rate": 3})]


def test_a_judge_of_ours_fails_at_once_and_passes_at_the_end() -> None:
    m = CanaryMetric.model_validate(
        {"name": "errors", "judge": "proportion", "canary": {"version": "v2"}, "interval": "1m", "count": 5}
    )
    at = tuple(1000.0 + 5 * i for i in range(1, 100))

    def series(share: float) -> Counts:
        return Counts(1000.0, at, tuple(200 * share for _ in at), tuple(200.0 for _ in at))

    def seen(share: float) -> Any:
        return lambda _metric, now: Seen(series(share)).until(now)

    healthy = replay(gate(m), OBJECTIVES, seen(0.001), math.inf).ruling
    assert healthy.verdict is Verdict.HEALTHY
    broken = replay(gate(m), OBJECTIVES, seen(0.2), math.inf).ruling
    assert broken.verdict is Verdict.UNHEALTHY and broken.decided_at < 1000 + 4 * 60
    gone = replay(gate(m), OBJECTIVES, lambda _m, _at: Seen(NoData("no series")), math.inf).ruling
    assert gone.verdict is Verdict.INCONCLUSIVE and gone.final


def test_task_runs_are_named_as_people_read_them() -> None:
    assert label(metric(), 3) == "canary 3/15 success-rate"
    assert label(metric(), 3, 25) == "canary 25% 3/15 success-rate"
    assert label(metric(count=0), 3) == "canary 3 success-rate"


def test_an_early_end_is_inconclusive_and_settling_never_contradicts_assessing() -> None:
    for outcomes in ([], [Outcome.PASS], [Outcome.ERROR] * 4):
        assert assess(metric(), tally_of(outcomes), terminating=True) is Phase.INCONCLUSIVE
    m = metric(failureLimit=2, count=6, consecutiveFailureLimit=None)
    for n in range(2**6):
        outcomes = [Outcome.PASS if n >> i & 1 else Outcome.FAIL for i in range(6)]
        phases = [settled(m, tally_of(outcomes[:i])) for i in range(7)]
        first = next(phase for phase in phases if phase is not Phase.RUNNING)
        assert first is assess(m, tally_of(outcomes)), outcomes


@pytest.mark.parametrize("nothing", [(), "away"])
def test_a_row_of_successes_is_not_waited_for_without_data_for_ever(nothing: Any) -> None:
    waits = metric(count=0, consecutiveFailureLimit=None, consecutiveSuccessLimit=3, interval="1m")
    ended = played(gate(waits), {"success-rate": [(1.0,), (1.0,), nothing]}, until=1e6)
    assert ended.due is None and ended.ruling.verdict is Verdict.INCONCLUSIVE
    assert ended.ruling.decided_at == 1000 + 60 + 600, "ten minutes after the last data"
    back = played(gate(waits), {"success-rate": [nothing] * 9 + [(1.0,)]})
    assert back.ruling.verdict is Verdict.HEALTHY


def test_what_never_succeeded_is_not_healthy_and_what_was_never_measured_has_no_phase() -> None:
    neither = metric(count=3, consecutiveFailureLimit=None, failureCondition="result[0] < 0.5", inconclusiveLimit=3)
    ended = played(gate(neither), {"success-rate": [(0.7,)]})
    assert (ended.ruling.verdict, len(ended.judgements["success-rate"])) == (Verdict.INCONCLUSIVE, 3)
    hopeless = metric(count=1, interval=None, consecutiveSuccessLimit=2)
    assert gate(hopeless).phase(hopeless) is Phase.RUNNING and not gate(hopeless).ruling.final


def test_an_unknown_number_of_requests_is_no_sample() -> None:
    m = metric(minSample=100)
    for sample in (math.nan, None, 99.0):
        said = judged(gate(m), OBJECTIVES, m, Values(0.0, (1.0,), sample=sample), 0.0)
        assert said.outcome is Outcome.NO_DATA, sample
