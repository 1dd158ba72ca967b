"""Rounds, replayed on an injected clock: what is remembered of each, and what alerts are made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from firstwatch import alerting
from firstwatch.alerting import Notice, NoticeKind
from firstwatch.model import Outcome, as_json
from firstwatch.monitor import Health, Kind, Probe, Seen
from firstwatch.rounds import Place, Round, due, joined, last_judged, remembered, schedule_name, slot_of
from firstwatch.spec.alerts import Alerts, Streak
from firstwatch.spec.models import Objectives
from firstwatch.spec.synthetic import Degraded

START = 1_767_225_600.0  # 2026-01-01T00:00:00Z, a whole day
DAY = 86_400.0
OBJECTIVES = Objectives(latency={"p95": 10.0})


def probe(check: str, at: float, outcome: Outcome = Outcome.PASS, seconds: float | None = 0.2, **more: Any) -> Probe:
    why = "" if outcome is Outcome.PASS else f"{check} is {outcome}"
    return Probe(check, Kind.HTTP, f"GET /{check}", outcome, why, at, seconds, **more)


def taken(planned: float, *probes: Probe, late: float = 0.5, **more: Any) -> Round:
    return Round(planned, planned + late, planned + late + 2, probes, **more)


PLACE = TypeAdapter(Place)


def through_json(place: Place) -> Place:
    return PLACE.validate_python(as_json(place))


# ── one location ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_remembered_survives_json() -> None:
    place = Place(every=60.0)
    for n in range(15):
        at = START + 60 * n
        found = taken(at, probe("health", at + 1), probe("api", at + 1, Outcome.FAIL), ttls={"dns": 60.0})
        place = through_json(remembered(place, found, Degraded(), OBJECTIVES))
    assert place.rounds == 15 and [vote.slot for vote in place.votes] == [slot_of(START, 60) + n for n in range(11, 15)]
    assert {seen.check: seen.health for seen in place.seen} == {
        "health": Health.UP,
        "api": Health.DOWN,
        "schedule": Health.UP,
    }
    assert set(place.histories) == {"health"}


def test_of_two_rounds_of_one_slot_the_later_one_counts() -> None:
    first = remembered(Place(60.0), taken(START, probe("a", START, Outcome.FAIL)), Degraded(), OBJECTIVES)
    again = remembered(first, taken(START, probe("a", START + 20)), Degraded(), OBJECTIVES)
    assert len(again.votes) == 1 and again.votes[0].seen[0].health is Health.UP


def test_a_round_that_comes_back_within_its_interval_takes_its_own_place() -> None:
    place = Place(60.0)
    for minute in (0, 2, 1):
        at = START + 60 * minute
        place = remembered(place, taken(at, probe("a", at), late=0.5 if minute != 1 else 59.0), Degraded(), OBJECTIVES)
    assert [vote.slot - slot_of(START, 60) for vote in place.votes] == [0, 1, 2]


def test_a_location_that_cannot_reach_its_reference_has_no_vote() -> None:
    found = taken(START, probe("a", START, Outcome.FAIL), reference="us cannot reach its own reference: DNS")
    place = remembered(Place(60.0), found, Degraded(), OBJECTIVES, "us")
    assert [(s.check, s.health) for s in place.seen] == [("a", Health.UNKNOWN), ("schedule us", Health.UP)]
    assert "cannot reach its own reference" in place.seen[0].why


def test_lateness_past_one_interval_and_a_death_are_bad_results_of_the_schedule() -> None:
    late = remembered(Place(60.0), taken(START, late=61.0), Degraded(), OBJECTIVES)
    assert late.seen[-1].health is Health.DOWN and "began 1m1s late" in late.seen[-1].why
    on_time = remembered(Place(60.0), taken(START, late=60.0), Degraded(), OBJECTIVES)
    assert on_time.seen[-1].health is Health.UP
    died = remembered(Place(60.0), taken(START, late=20.0, crashed=True), Degraded(), OBJECTIVES)
    assert died.seen[-1].health is Health.DOWN and "its process died" in died.seen[-1].why


def test_what_the_file_has_no_more_is_forgotten() -> None:
    place = Place(60.0)
    for n in range(2):
        at = START + 60 * n
        checks = ("a", "b") if n == 0 else ("a",)
        kept = {"baselines": {c: {"baseline": c} for c in checks}, "ttls": dict.fromkeys(checks, 5.0)}
        place = remembered(place, taken(at, *(probe(c, at) for c in checks), **kept), Degraded(), OBJECTIVES)
    assert set(place.histories) == set(place.baselines) == set(place.ttls) == set(place.watched_since) == {"a"}


def test_a_round_that_is_late_by_an_interval_counts_for_the_one_it_begins_in() -> None:
    """After a worker was away: ten rounds within a minute look at one moment, and are one result, not ten."""
    place, judged = Place(60.0), list[int]()
    for minute in range(10):
        planned = START + 60 * minute
        late = START + 600 + 2 * minute - planned
        place = remembered(
            place, taken(planned, probe("a", planned + late), late=late, run=f"{minute}"), Degraded(), OBJECTIVES
        )
        judged += due({"": place}, judged[-1] if judged else None)
    assert judged == [slot_of(START + 600, 60)]
    assert place.seen[-1].health is Health.DOWN and "began 1m18s late" in place.seen[-1].why


def test_what_is_wrong_with_the_schedule_is_said_although_its_slot_was_judged_before() -> None:
    place = Place(60.0)

    def round(minute: int, run: str, **more: Any) -> Seen:
        nonlocal place
        at = START + 60 * minute
        place = through_json(remembered(place, taken(at, probe("a", at), run=run, **more), Degraded(), OBJECTIVES))
        last = due({"": place}, None)[-1]
        return next(seen for seen in joined({"": place}, last, None) if seen.check == "schedule")

    assert round(1, "second").health is Health.UP
    round(0, "first", late=50.0, crashed=True)  # its process was killed, and the next round was faster
    said = round(2, "third")
    assert said.health is Health.DOWN and "its process died" in said.why
    assert round(3, "fourth").health is Health.UP


def test_what_a_person_has_accepted_during_a_round_stays() -> None:
    old = {"baseline": {"values": {"x": 1}}, "seen": {"values": {"x": 2}}, "diff": ["x: 1 → 2"]}
    accepted = {"baseline": {"values": {"x": 2}}, "seen": {"values": {"x": 2}}, "diff": []}
    found = taken(START, probe("drift", START), baselines={"drift": old}, compared={"drift": old})
    assert remembered(Place(60.0, baselines={"drift": accepted}), found, Degraded(), OBJECTIVES).baselines == {
        "drift": accepted
    }
    first = remembered(Place(60.0), found, Degraded(), OBJECTIVES)
    new = {**old, "seen": {"values": {"x": 3}}}
    found = taken(START, probe("drift", START), baselines={"drift": new}, compared=first.baselines)
    assert remembered(first, found, Degraded(), OBJECTIVES).baselines == {"drift": new}


# ── all locations ────────────────────────────────────────────────────────────────────────────────────────────


def places(**votes: Iterable[tuple[int, Outcome]]) -> dict[str, Place]:
    found = {}
    for name, given in votes.items():
        place = Place(60.0)
        for minute, outcome in given:
            at = START + 60 * minute
            place = remembered(place, taken(at, probe("a", at, outcome)), Degraded(), OBJECTIVES, name)
        found[name] = place
    return found


BASE = slot_of(START, 60)
UP, DOWN = Outcome.PASS, Outcome.FAIL


def test_a_slot_waits_for_all_that_have_voted_lately() -> None:
    waiting = places(eu=[(0, UP), (1, UP)], us=[(0, UP)])
    assert due(waiting, None) == [BASE]  # us has not looked at minute 1 yet
    assert due(places(eu=[(0, UP), (1, UP)], us=[(0, UP), (1, UP)]), BASE) == [BASE + 1]
    assert due(waiting, BASE) == []


def test_a_later_slot_and_a_long_silence_end_the_waiting() -> None:
    assert due(places(eu=[(0, UP), (1, UP), (2, UP)], us=[(0, UP)]), BASE) == [BASE + 1]
    assert due(places(eu=[(n, UP) for n in range(6)], us=[(0, UP)]), BASE + 4) == [BASE + 5]


def test_of_three_locations_two_must_find_it_bad() -> None:
    one = joined(places(eu=[(0, DOWN)], us=[(0, UP)], ap=[(0, UP)]), BASE, None)
    assert one[0].health is Health.UP
    two = joined(places(eu=[(0, DOWN)], us=[(0, DOWN)], ap=[(0, UP)]), BASE, None)
    assert two[0].health is Health.DOWN and "eu, us" in two[0].why
    split = joined(places(eu=[(0, DOWN)], us=[(0, UP)]), BASE, None)
    assert split[0].health is Health.UNKNOWN
    assert [seen.check for seen in split[1:]] == ["schedule eu", "schedule us"]


def test_one_location_is_no_quorum_where_the_file_asks_for_two() -> None:
    """The others have not begun yet, or their documents are gone."""
    alone = places(eu=[(0, DOWN)])
    assert joined(alone, BASE, Streak(count=2, out_of=3))[0].health is Health.UNKNOWN
    assert joined(alone, BASE, None)[0].health is Health.DOWN


def test_rounds_are_judged_on_when_the_interval_changes() -> None:
    assert last_judged(slot_of(START, 60), 60.0, 300.0, START) == slot_of(START, 300)
    assert last_judged(slot_of(START, 300), 300.0, 60.0, START) == slot_of(START, 60)
    assert last_judged(slot_of(START, 60), None, 60.0, START) == slot_of(START, 60)
    for nothing in (None, "soon", 1.5):
        assert last_judged(nothing, 60.0, 60.0, START) is None


def test_a_clock_that_was_ahead_does_not_end_the_judging() -> None:
    ahead = places(eu=[(0, UP), (1, UP), (1440, UP)])["eu"]
    judged = last_judged(BASE + 1440, 60.0, 60.0, START + 60)
    assert judged == BASE
    assert due({"": ahead}, judged, BASE + 1) == [BASE + 1]
    assert due({"": ahead}, BASE + 1, BASE + 1) == []


# ── a day ────────────────────────────────────────────────────────────────────────────────────────────────────

Service = Callable[[float, random.Random], tuple[Outcome, float]]


def replay(every: float, until: float, services: Mapping[str, Service], seed: int = 7) -> list[Notice]:
    """All that is told from START on, one location, each round through JSON as it is stored."""
    rng, place = random.Random(seed), Place(every)
    state, told = alerting.AlertState("shop"), list[Notice]()
    policy, judged, at = Alerts(), None, START
    while at < START + until:
        probes = []
        for name, service in services.items():
            outcome, seconds = service(at, rng)
            probes.append(probe(name, at + 1, outcome, seconds))
        place = through_json(remembered(place, taken(at, *probes), Degraded(), OBJECTIVES))
        for slot in due({"": place}, judged):
            seen = joined({"": place}, slot, None, policy.open.after.count)
            needs: dict[str, tuple[str, ...]] = {name: () for name in (*services, schedule_name(""))}
            state, notices = alerting.step(state, policy, f"slot {slot}", seen, needs, at + 3)
            told += [notice for notice in notices if notice.tell]
            judged = slot
        at += every
    return told


def steady(at: float, rng: random.Random) -> tuple[Outcome, float]:
    """Noise, a daily course, and a hiccup now and then."""
    seconds = 0.2 * (1 + 0.2 * abs((at % DAY) / DAY - 0.5)) * rng.lognormvariate(0, 0.15)
    return UP, seconds * (5 if rng.random() < 0.01 else 1)


def hours(low: float, high: float, at: float) -> bool:
    return START + low * 3600 <= at < START + high * 3600


def test_a_day_of_five_minute_rounds_tells_each_outage_once() -> None:
    def fails(at: float, rng: random.Random) -> tuple[Outcome, float]:
        bad = hours(6, 7, at) or hours(18, 18.5, at) or hours(12, 12.15, at)  # the last one is over after two rounds
        return (DOWN if bad else UP), 0.2

    told = replay(300, DAY, {"health": steady, "api": fails})
    said = [(notice.kind, notice.checks, round((notice.at - START) / 60)) for notice in told]
    assert said == [
        (NoticeKind.OPENED, ("api",), 370),
        (NoticeKind.CLOSED, ("api",), 425),
        (NoticeKind.OPENED, ("api",), 1090),
        (NoticeKind.CLOSED, ("api",), 1115),
    ]


def test_a_slow_creep_over_a_day_is_told_as_degraded_and_noise_is_not() -> None:
    def creeps(at: float, rng: random.Random) -> tuple[Outcome, float]:
        outcome, seconds = steady(at, rng)
        grown = min(max((at - START) / DAY - 3, 0.0), 1.0)  # from the fourth day on
        return outcome, seconds * (1 + 0.45 * grown)

    told = replay(300, 4.5 * DAY, {"health": steady, "api": creeps})
    assert [(notice.kind, notice.checks) for notice in told] == [(NoticeKind.OPENED, ("api",))]
    assert told[0].parts[0].health is Health.DEGRADED
    assert START + 3 * DAY < told[0].at < START + 4.2 * DAY
