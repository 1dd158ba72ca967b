from __future__ import annotations

import dataclasses
import json

import pytest

from firstwatch.model import Counts, Gauge, NoData, Outcome, SourceError, Verdict, as_json
from firstwatch.spec import look_every, window_length
from firstwatch.spec.models import DEFAULT_CHECKPOINTS, Checkpoint, Objectives, Window
from firstwatch.timeline import Look, Measured, Watch, context_of, looks, replay
from tests.firstwatch.judges.worlds import counts, gauge

DEPLOYED = 1_000_000.0
DEFAULT = Window(checkpoints=list(DEFAULT_CHECKPOINTS))
NAMES = [c.name for c in DEFAULT_CHECKPOINTS]


def measured(errors: list[float] | None = None, **changes: object) -> Measured:
    """A healthy release with history, all five checkpoints; `changes` by checkpoint name with _ for space."""
    n = 120 + 130
    seen = {
        "error rate": counts(errors or [0.0] * n, 300, first=DEPLOYED - 1800),
        "p95 latency": counts([3.0] * n, 300, first=DEPLOYED - 1800),
        "memory trend": gauge([4e8 + i % 7 * 1e5 for i in range(n)], first=DEPLOYED - 1800),
        "DB connections": gauge([6.0 + i % 3 for i in range(n)], first=DEPLOYED - 1800),
    }
    seen["memory creep"] = seen["memory trend"]
    seen.update({k.replace("_", " "): v for k, v in changes.items()})  # type: ignore[misc]
    return Measured(seen, load=seen["error rate"], alive=seen["error rate"].at)  # type: ignore[arg-type, union-attr]


def watch(window: Window = DEFAULT) -> Watch:
    return Watch(window, Objectives(), DEPLOYED)


BROKEN_AT_7M = [0.0] * (120 + 28) + [60.0] * 102


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_looks_come_every_15_seconds_and_at_each_checkpoint_and_reach_each_once() -> None:
    all_looks = looks(DEFAULT, DEPLOYED)
    in_time = [k for k in all_looks if not k.grace]
    assert [k.at - DEPLOYED for k in in_time] == [15.0 * i for i in range(121)]
    assert [(k.at - DEPLOYED, k.reached) for k in in_time if k.reached] == [
        (0, ("error rate",)), (120, ("p95 latency",)), (300, ("memory trend",)), (600, ("DB connections",)),
        (1800, ("memory creep",)),
    ]  # fmt: skip
    assert in_time[20].watched == ("error rate", "p95 latency", "memory trend")
    assert [k.at - DEPLOYED for k in all_looks if k.grace] == [1815.0 + 15 * i for i in range(8)]


def test_a_window_of_a_minute_has_as_many_looks_and_off_beat_checkpoints_theirs() -> None:
    short = Window(
        checkpoints=[dataclasses_checkpoint("a", 0), dataclasses_checkpoint("b", 7.3), dataclasses_checkpoint("c", 60)]
    )
    assert (window_length(short), look_every(short)) == (60, 0.5)
    times = [k.at for k in looks(short, 0.0) if not k.grace]
    assert len(times) == 122 and 7.3 in times and times == sorted(set(times))


def dataclasses_checkpoint(name: str, at: float) -> Checkpoint:
    return Checkpoint(name=name, at=at, signal="errors")


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_healthy_release_is_healthy_only_at_the_end() -> None:
    before = replay(measured(), watch(), DEPLOYED + 1799).ruling
    assert (before.verdict, before.final) == (Verdict.INCONCLUSIVE, False)
    at_end = replay(measured(), watch(), DEPLOYED + 1800).ruling
    assert (at_end.verdict, at_end.decided_at, at_end.final) == (Verdict.HEALTHY, DEPLOYED + 1800, True)
    assert [r.check for r in at_end.reasons] == NAMES
    assert all(r.outcome is Outcome.PASS for r in at_end.reasons)


def test_a_service_that_breaks_at_7_minutes_is_caught_by_the_checkpoint_of_0_minutes() -> None:
    ruling = replay(measured(BROKEN_AT_7M), watch(), DEPLOYED + 1800).ruling
    assert (ruling.verdict, ruling.final) == (Verdict.UNHEALTHY, True)
    assert 0 < ruling.decided_at - (DEPLOYED + 420) <= 120
    (reason,) = ruling.reasons
    assert (reason.check, reason.outcome, reason.at) == ("error rate", Outcome.FAIL, ruling.decided_at)
    assert "objective 1 %" in reason.why and reason.value is not None and reason.sample
    assert json.loads(json.dumps(as_json(ruling)))["reasons"][0]["limit"] == pytest.approx(0.01)


def test_a_failure_stays_whatever_comes_after_it() -> None:
    failed = replay(measured(BROKEN_AT_7M), watch(), DEPLOYED + 1800)
    look = next(k for k in looks(DEFAULT, DEPLOYED) if failed.now is not None and k.at > failed.now)
    later = failed.after(look, Measured({}))
    assert later.states["error rate"].last.outcome is Outcome.ERROR  # type: ignore[union-attr]
    assert later.ruling.verdict is Verdict.UNHEALTHY and later.ruling.decided_at == failed.ruling.decided_at


@pytest.mark.parametrize(
    "lost", [NoData("no series"), SourceError("HTTP 503"), Counts(DEPLOYED, (), (), ()), Gauge((), ())]
)
def test_what_was_not_measured_is_never_healthy(lost: NoData | SourceError | Counts | Gauge) -> None:
    ruling = replay(measured(DB_connections=lost), watch(), DEPLOYED + 3600).ruling
    assert (ruling.verdict, ruling.final) == (Verdict.INCONCLUSIVE, True)
    assert ruling.reasons[0].check == "DB connections"
    assert ruling.reasons[0].outcome in (Outcome.NO_DATA, Outcome.ERROR)


def test_a_source_that_was_away_in_mid_window_does_no_harm_and_at_the_end_gets_a_grace() -> None:
    state = watch()
    for look in looks(DEFAULT, DEPLOYED):
        away = 400 < look.at - DEPLOYED < 700 or 1700 < look.at - DEPLOYED < 1840
        whole = measured().until(look.at)
        lost = dict.fromkeys(NAMES, SourceError("connection refused"))
        if state.ruling.final:
            break
        state = state.after(look, Measured(lost) if away else whole)
    assert (state.ruling.verdict, state.ruling.decided_at) == (Verdict.HEALTHY, DEPLOYED + 1845)


ON = DEPLOYED + 3000  # somebody said at T+35m: keep watching until T+50m


def on_until(on: float, bad_after: float = float("inf"), killed_at: float = 0.0) -> Watch:
    """The window's end had an unreachable source; then it is watched on, with the source back."""
    state = watch()
    lost = dict.fromkeys(NAMES, SourceError("connection refused"))
    for look in looks(DEFAULT, DEPLOYED):
        state = state.after(look, Measured(lost))
    assert (state.ruling.verdict, state.ruling.final) == (Verdict.INCONCLUSIVE, True)
    n = 120 + 250  # until T+62m
    bad = [60.0 if DEPLOYED - 1800 + 15 * (i + 1) > bad_after else 0.0 for i in range(n)]
    seen = {"error rate": counts(bad, 300, first=DEPLOYED - 1800)}
    seen["p95 latency"] = counts([3.0] * n, 300, first=DEPLOYED - 1800)
    memory = gauge([4e8 + i % 7 * 1e5 for i in range(n)], first=DEPLOYED - 1800)
    pool = gauge([6.0 + i % 3 for i in range(n)], first=DEPLOYED - 1800)
    whole = measured(**{**seen, "memory trend": memory, "memory creep": memory, "DB connections": pool})
    if killed_at:
        state = replay(whole, state.watched_on(on), killed_at)
        state = dataclasses.replace(watch(), states=state.states, now=state.now)  # what a journal holds
    return replay(whole, state.watched_on(on), DEPLOYED + 7200)


@pytest.mark.parametrize("killed_at", [0.0, DEPLOYED + 2500])
def test_watched_on_it_is_healthy_at_the_later_end_only(killed_at: float) -> None:
    more = [look.at for look in looks(DEFAULT, DEPLOYED, ON)]
    assert more[: 1 + 128] == [look.at for look in looks(DEFAULT, DEPLOYED)], "what has been looked at stays as it is"
    assert more[-1] == ON + 120
    ruling = on_until(ON, killed_at=killed_at).ruling
    assert (ruling.verdict, ruling.decided_at, ruling.final) == (Verdict.HEALTHY, ON, True)


def test_watched_on_a_failure_is_found_at_once() -> None:
    ruling = on_until(ON, bad_after=DEPLOYED + 2400).ruling
    assert ruling.verdict is Verdict.UNHEALTHY and DEPLOYED + 2400 < ruling.decided_at < DEPLOYED + 2550


def test_nothing_watched_is_inconclusive() -> None:
    ruling = watch().ruling
    assert ruling.verdict is Verdict.INCONCLUSIVE
    assert {r.why for r in ruling.reasons} == {"was never reached"}


def test_a_service_that_is_gone_fails_though_its_series_are_no_data_by_then() -> None:
    n = 120 + 20
    whole = measured()
    cut = Measured({k: v.until(DEPLOYED + 300) for k, v in whole.checkpoints.items()}, alive=whole.alive)  # type: ignore[union-attr]
    ruling = replay(cut, watch(), DEPLOYED + 1800).ruling
    assert (ruling.verdict, ruling.decided_at - DEPLOYED) == (Verdict.UNHEALTHY, 450)
    assert ruling.reasons[0].why.startswith("no sample for 150 s while the source worked")
    quiet = NoData("the newest sample is 2m30s old", last=counts([0] * n, 300, first=DEPLOYED - 1800))
    live = watch().judge("error rate", Measured({"error rate": quiet}, alive=whole.alive), DEPLOYED + 450)
    assert live.outcome is Outcome.FAIL


# ── replay ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("killed_at", [0, 130, 433, 1500])
def test_a_run_that_was_killed_and_one_that_was_not_agree(killed_at: float) -> None:
    whole = measured(BROKEN_AT_7M)
    straight = replay(whole, watch(), DEPLOYED + 1800)
    first = replay(whole, watch(), DEPLOYED + killed_at)
    assert replay(whole, first, DEPLOYED + 1800) == straight
    live = watch()
    for look in looks(DEFAULT, DEPLOYED):
        if live.ruling.final:
            break
        live = live.after(look, whole.until(look.at))
    assert live == straight


def test_alpha_is_shared_out_so_that_a_further_signal_adds_no_false_rollbacks() -> None:
    for window in (DEFAULT, Window(checkpoints=list(DEFAULT_CHECKPOINTS[:2]))):
        told = [context_of(window, c, Objectives(), 0, 0, Measured({})) for c in window.checkpoints]
        assert sum(c.alpha for c in told) == pytest.approx(window.alpha)


def test_limits_follow_the_objectives_and_the_checkpoint() -> None:
    objectives = Objectives(availability=0.995, latency={"p99": 0.25, "p50": 0.1})
    latency = Checkpoint(name="l", at=0, signal="latency")
    told = [
        context_of(DEFAULT, c, objectives, 0, 0, Measured({}))
        for c in (
            DEFAULT_CHECKPOINTS[0], latency, latency.model_copy(update={"quantile": "p50"}), DEFAULT_CHECKPOINTS[2],
            DEFAULT_CHECKPOINTS[4], DEFAULT_CHECKPOINTS[4].model_copy(update={"limit": 0.4}),
        )
    ]  # fmt: skip
    assert [c.limit for c in told] == pytest.approx([0.005, 0.01, 0.5, 0.25, 0.1, 0.4])
    assert told[1].words == "requests took longer than 250ms"


def test_a_query_with_a_condition_of_its_own_is_judged_by_it() -> None:
    window = Window(checkpoints=[Checkpoint(name="queue", at=60, query="sum(queue_depth)", expect="value < 100")])
    for values, verdict in (([10.0] * 8, Verdict.HEALTHY), ([10.0, 200, 200, 200] + [200.0] * 4, Verdict.UNHEALTHY)):
        state = replay(Measured({"queue": gauge(values, 10.0)}), Watch(window, Objectives(), 0.0), 60)
        assert state.ruling.verdict is verdict, state.ruling
    broken = dataclasses.replace(watch(), window=window).after(
        Look(DEPLOYED, (), ("queue",)), Measured({"queue": counts([0], 1, first=DEPLOYED - 15)})
    )
    assert broken.states["queue"].last.outcome is Outcome.ERROR  # type: ignore[union-attr]
