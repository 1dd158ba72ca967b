"""What a release's window and its canary's gate come to together, and at which limits none had failed."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from firstwatch.backtest import BacktestResult, Case, Part, Threshold, decide, gate_end, prepare
from firstwatch.gate import Answer, Gate, History
from firstwatch.gate import replay as replay_gate
from firstwatch.model import Gauge, Judgement, Outcome, Release, SourceError, Values, Verdict
from firstwatch.past import PastRelease, ReleasesError
from firstwatch.spec import Service, load_or_raise
from firstwatch.spec.canary import interval_of, metrics_of
from firstwatch.spec.models import Checkpoint, Window
from firstwatch.thresholds import measured_alone, rules_of, threshold
from firstwatch.timeline import Measured

AT = 1767225600.0
FILE = """
service: shop
base_url: http://127.0.0.1:1
metrics: {prometheus: "http://127.0.0.1:1"}
window:
  look_every: 60s
  checkpoints:
    - {at: 0m, name: queue, query: 'queue', expect: value < 100}
    - {at: 10m, name: end, query: 'queue', expect: value < 1000}
canary:
  metrics:
    - name: success-rate
      interval: 2m
      count: 5
      successCondition: result[0] >= 0.99
      consecutiveFailureLimit: 3
      provider: {prometheus: {query: 'rate{service="{{service}}"}'}}
"""
EVENTS = """
    - name: events
      interval: 2m
      CONDITION
      failureLimit: 1
      provider: {prometheus: {query: events}}
"""


def service(more: str = "") -> Service:
    return load_or_raise(FILE + more, "shop.yaml", {})


def window(values: Callable[[float], float], until: float = 700.0) -> Measured:
    """The queue's length by the seconds since the deploy."""
    times = [t * 15.0 for t in range(int(until / 15) + 1)]
    gauge = Gauge(tuple(AT + t for t in times), tuple(map(values, times)), "queue")
    return Measured({"queue": gauge, "end": gauge}, None, None)


def calm(_: float) -> float:
    return 10.0


def gate(file: Service, **results: Sequence[Any]) -> History:
    """The metrics' results in turn, the last one for ever after; `_` stands for `-` in a name. A str is an error."""
    assert file.canary is not None
    answers: dict[str, dict[int, Answer]] = {}
    for metric in metrics_of(file.canary):
        given = results[metric.name.replace("-", "_")]
        moments = [AT + metric.initial_delay + i * interval_of(metric) for i in range(40)]
        found = (given[min(i, len(given) - 1)] for i in range(40))
        answers[metric.name] = {
            round(at * 1000): SourceError(one) if isinstance(one, str) else Values(at, one, "q")
            for at, one in zip(moments, found, strict=True)
        }
    return History(answers)


def case(
    measured: Measured | None,
    history: History | None,
    file: Service | None = None,
    until: float = 1e4,
    name: str = "v2",
) -> Case:
    release = Release("shop", name, AT)
    return Case(file or service(), PastRelease(release, AT), AT + until, measured, history)


def said(result: BacktestResult) -> tuple[Verdict, float, Part | None, list[str]]:
    return result.verdict, result.after_s, result.by, [reason.check for reason in result.reasons]


GOOD, BAD = [(0.999,)], [(0.999,), (0.97,), (0.96,), (0.95,)]


@pytest.mark.parametrize(
    ("queue", "rates", "expected"),
    [
        (calm, GOOD, (Verdict.HEALTHY, 600, None, ["queue", "end", "success-rate"])),
        (calm, BAD, (Verdict.UNHEALTHY, 360, "canary", ["success-rate"])),
        (lambda t: 200.0 if t >= 120 else 10.0, GOOD, (Verdict.UNHEALTHY, 180, "window", ["queue"])),
        (lambda t: 200.0 if t >= 120 else 10.0, BAD, (Verdict.UNHEALTHY, 180, "window", ["queue", "success-rate"])),
        (lambda t: 200.0 if t >= 480 else 10.0, BAD, (Verdict.UNHEALTHY, 360, "canary", ["success-rate", "queue"])),
        (calm, [()], (Verdict.INCONCLUSIVE, 960, None, ["success-rate"])),
    ],
)  # fmt: skip
def test_the_window_and_the_gate_come_to_one_verdict(
    queue: Callable[[float], float], rates: Sequence[Any], expected: Any
) -> None:
    file = service()
    result = decide(case(window(queue), gate(file, success_rate=rates)))
    assert said(result) == expected
    if result.by is not None:
        assert [r.at for r in result.reasons] == sorted(r.at for r in result.reasons)


def test_each_can_be_replayed_alone() -> None:
    file = service()
    assert said(decide(case(window(calm), None))) == (Verdict.HEALTHY, 600, None, ["queue", "end"])
    assert said(decide(case(None, gate(file, success_rate=BAD)))) == (
        Verdict.UNHEALTHY,
        360,
        "canary",
        ["success-rate"],
    )


def test_what_is_not_over_yet_or_was_not_answered_is_never_healthy() -> None:
    file = service()
    early = decide(case(window(calm, 300), gate(file, success_rate=GOOD), until=300))
    assert said(early) == (Verdict.INCONCLUSIVE, 300, None, ["end", "window", "success-rate", "canary"])
    assert not early.ours
    away = decide(case(window(calm), gate(file, success_rate=["connection refused"])))
    assert (away.verdict, away.ours) == (Verdict.INCONCLUSIVE, True)
    assert [r.check for r in away.reasons] == ["success-rate"] and "connection refused" in away.reasons[0].why
    unasked = decide(case(window(calm), History({})))
    assert unasked.verdict is Verdict.INCONCLUSIVE and unasked.ours


def test_the_gate_decides_as_the_live_one_and_can_be_sent_to_another_process() -> None:
    file = service()
    history = gate(file, success_rate=BAD)
    assert file.canary is not None
    live = replay_gate(Gate(file.canary, AT), file.objectives, history.answer, AT + 1e4).ruling
    result = decide(pickle.loads(pickle.dumps(case(None, history))))
    assert (result.verdict, result.decided_at, result.reasons) == (live.verdict, live.decided_at, live.reasons)


def test_a_gate_is_measured_as_far_as_it_may_measure() -> None:
    assert gate_end(service(), AT) == AT + 480 + 4 * 120  # its own time, and four intervals more
    endless = service(EVENTS.replace("CONDITION", "successCondition: result < 5"))
    assert gate_end(endless, AT) == AT + 960
    rare = endless.model_copy(update={"window": Window(checkpoints=[Checkpoint(at=1800, name="q", query="q")])})
    assert gate_end(rare, AT) == AT + 1920, "as far as the window, its grace included"
    short = service().model_copy(update={"canary": None})
    assert gate_end(short, AT) == AT


def test_a_missing_value_names_its_place_and_the_way_around() -> None:
    file = service(
        EVENTS.replace("CONDITION", "successCondition: result < 5").replace(
            "query: events", "query: 'e{v=\"{{args.stable}}\"}'"
        )
    )
    releases = [
        PastRelease(Release("shop", "v2", AT), AT),
        PastRelease(Release("shop", "v3", AT), AT, {"stable": "v2"}),
    ]
    with pytest.raises(ReleasesError) as refused:
        prepare(file, releases)
    (problem,) = refused.value.problems
    assert problem.startswith("releases[0] (shop v2): canary.metrics[1].provider.prometheus.query: {{args.stable}}")
    assert problem.endswith("(hint: give it under args, or --only window)")
    assert [filled.canary for filled in prepare(file, releases, "window")] == [None, None]
    filled = prepare(file, releases[1:], "canary")[0].canary
    assert filled is not None and 'v="v2"' in str(filled.metrics[1].provider)
    with pytest.raises(ReleasesError, match="no canary section"):
        prepare(file.model_copy(update={"canary": None}), releases, "canary")


# ── at which number none had failed ──────────────────────────────────────────────────────────────────────────


def found_for(file: Service, name: str, *histories: History) -> Threshold:
    cases = [case(None, history, file, name=f"v{i}") for i, history in enumerate(histories)]
    found = threshold("canary", name, pickle.loads(pickle.dumps(cases)))
    assert pickle.loads(pickle.dumps(found)) == found, "another process searches"
    return found


def test_the_number_for_none_is_one_at_which_none_fails_and_hardly_less_is_not() -> None:
    file = service()
    histories = [
        gate(file, success_rate=rates) for rates in (BAD, GOOD, [(0.98,)], [(0.999,), (0.9412,), (0.9411,), (0.98,)])
    ]
    found = found_for(file, "success-rate", *histories)
    assert (found.failed, found.gone, found.limit, found.expect) == (3, 0, 0.99, "result[0] >= 0.99")
    # Of three in a row one must hold: the worst row, that which the first release ends with, has 0.95 only.
    assert found.needed is not None and 0.949 <= found.needed <= 0.95
    assert found.seen == (0.9411, 0.999)


@pytest.mark.parametrize(
    ("condition", "results", "limit", "needed"),
    [
        ("successCondition: result[0] < 5", [(50.0,), (70.0,)], 5, 70),
        ("failureCondition: result[0] > 5", [(50.0,), (70.0,)], 5, 70),
        ("failureCondition: result[0] < 5", [(-50.0,), (2.0,), (-70.0,)], 5, -70),
        ("successCondition: '-5 <= result[0]'", [(-50.0,), (2.0,), (-70.0,)], -5, -70),
    ],
)  # fmt: skip
def test_the_number_moves_to_the_side_on_which_more_is_allowed(
    condition: str, results: Sequence[Any], limit: float, needed: float
) -> None:
    """One failure is borne, and the last value is measured more than once: it must hold."""
    file = service(EVENTS.replace("CONDITION", condition))
    found = found_for(file, "events", gate(file, success_rate=GOOD, events=results))
    assert (found.failed, found.gone, found.limit) == (1, 0, limit)
    assert found.needed is not None
    assert found.needed == pytest.approx(needed, rel=0.02) and abs(found.needed) >= abs(needed)


def test_what_no_number_changes_is_counted_and_what_has_none_shows_its_values() -> None:
    file = service(EVENTS.replace("CONDITION", "successCondition: result[0] < 5\n      onNoData: fail"))
    silent = found_for(file, "events", gate(file, success_rate=GOOD, events=[()]))
    assert (silent.failed, silent.gone, silent.needed) == (1, 1, 5)
    file = service(EVENTS.replace("CONDITION", "successCondition: result[0] > 1 && result[0] < 5"))
    ranged = found_for(file, "events", gate(file, success_rate=GOOD, events=[(2.0,), (9.0,), (0.5,)]))
    assert (ranged.failed, ranged.limit, ranged.needed, ranged.seen) == (1, None, None, (0.5, 9.0))


def test_every_rule_that_decides_has_a_threshold_whether_or_not_another_was_faster() -> None:
    file = service(EVENTS.replace("CONDITION", "successCondition: result[0] < 5\n      dryRun: true"))
    failed = case(window(lambda t: 200.0), gate(file, success_rate=BAD, events=[(9.0,)]), file)
    assert rules_of(failed) == [("window", "queue"), ("window", "end"), ("canary", "success-rate")]
    found = {name: threshold(part, name, [failed]) for part, name in rules_of(failed)}
    assert (decide(failed).by, found["queue"].failed, found["end"].failed) == ("window", 1, 0)
    assert (found["success-rate"].failed, found["success-rate"].part) == (1, "canary")
    judgements: Sequence[Judgement] = measured_alone(failed, metrics_of(file.canary)[0]) if file.canary else ()
    assert [j.outcome for j in judgements] == [Outcome.PASS, *[Outcome.FAIL] * 3]
