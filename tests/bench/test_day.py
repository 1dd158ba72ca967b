"""The bench of a day: a small one across a death and a restart; and that it sees what is lost, doubled or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bench.day import Blow, Outcome, replay
from bench.day_expected import Incident, busy, incidents, storms
from bench.day_found import Taken, wrong_alerts, wrong_requests
from bench.day_script import MINUTE, Script, planned, scripts
from demo.slack import Posted


def script(minutes: int, *events: tuple[int, str], service: str = "svc-00") -> Script:
    states = ["u"] * minutes
    for at, letters in events:
        states[at : at + len(letters)] = letters
    return Script(service, "".join(states))


def told(one: Incident) -> tuple[int, str, int | None, list[str]]:
    return one.opened, one.words, one.closed, one.replies


# ── what is expected ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("events", "again", "expected"),
    [
        ([(10, "dd"), (20, "dud")], {}, []),
        ([(10, "ddd")], {}, [(12, "1 of 2 checks down", 14, ["resolved"])]),
        ([(10, "dddud")], {}, [(12, "1 of 2 checks down", 16, ["resolved"])]),
        ([(10, "s" * 11)], {}, [(19, "1 of 2 checks degraded", 27, ["resolved"])]),
        ([], {7: 12.0}, [(7, "1 of 2 checks down", 9, ["resolved"])]),
        (
            [(5, "ddd")],
            {8: 12.0},
            [(7, "1 of 2 checks down", 10, ["schedule down too", "health up again", "resolved"])],
        ),
        ([(10, "dudududdd")], {}, [(16, "1 of 2 checks degraded", None, ["health worse, now down"])]),
    ],
)  # fmt: skip
def test_by_hand(events: list[tuple[int, str]], again: dict[int, float], expected: list[object]) -> None:
    assert [told(one) for one in incidents(script(40, *events), again)] == expected


def test_flapping_ends_an_hour_after_the_last_change() -> None:
    (one,) = incidents(script(100, (10, "dududud")), {})
    assert told(one) == (16, "1 of 2 checks degraded", 77, ["resolved"])


def test_busy_minutes_are_those_around_what_happens() -> None:
    assert sorted(busy(script(40, (10, "ddddddddd")))) == [*range(9, 15), *range(18, 23)]


def test_a_storm_is_five_within_five_minutes_and_what_opens_until_it_is_over() -> None:
    found = [Incident("svc", minute, "", closed) for minute, closed in [(0, 1), *[(10, 20)] * 5, (18, 19), (40, 41)]]
    (storm,) = storms(found, {id(one): one.opened * MINUTE + n for n, one in enumerate(found)})
    assert storm == found[1:7]


def test_every_service_of_a_day_has_its_outages() -> None:
    made = scripts(1, 20, 1440)
    assert all(len(one.states) == 1440 and len(incidents(one, {})) >= 3 for one in made)
    assert all(one.states[720:728] == "d" * 8 for one in made) and made == scripts(1, 20, 1440)


# ── a small one ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    made = [
        script(60, (17, "d" * 6), service="svc-00"),
        script(60, (28, "d" * 4), (50, "dd"), service="svc-01"),
        script(60, (18, "d" * 14), service="svc-02"),
    ]
    return replay(made, [Blow("kill", 20, 0.1), Blow("restart", 30)])


def _wrong(outcome: Outcome, messages: Sequence[Posted]) -> list[str]:
    return [*wrong_alerts(outcome.expected, messages, lambda one: planned(0, one.opened), 5)]


@pytest.mark.e2e
def test_an_hour_across_a_death_and_a_restart(outcome: Outcome) -> None:
    assert outcome.problems == []
    assert [blow["kind"] for blow in outcome.blows] == ["kill", "restart"] and outcome.blows[0]["under_way"] > 0
    assert len(outcome.expected) >= 3 and 0 < outcome.on_the_server < outcome.rounds == 180


@pytest.mark.e2e
def test_a_message_that_is_lost_doubled_or_wrong_is_seen(outcome: Outcome) -> None:
    messages = outcome.messages
    assert len(messages) > 5 and _wrong(outcome, messages) == []
    for n, message in enumerate(messages):
        assert _wrong(outcome, [*messages[:n], *messages[n + 1 :]]), f"lost: {message.words}"
        assert _wrong(outcome, [*messages, replace(message, ts="9.9")]), f"doubled: {message.words}"
    replies = [n for n, message in enumerate(messages) if message.thread_ts]
    bad = replace(messages[replies[0]], blocks=[], text="🔴 svc-00: health down too")
    assert _wrong(outcome, [*messages[: replies[0]], bad, *messages[replies[0] + 1 :]])


def test_a_round_that_is_lost_or_doubled_is_seen() -> None:
    one = script(3)
    all_busy, asked = {one.service: {0, 1, 2}}, {(one.service, minute): 1 for minute in range(3)}
    assert [*wrong_requests([one], all_busy, asked, [], 1)] == []
    twice = {**asked, (one.service, 1): 2}
    assert [*wrong_requests([one], all_busy, twice, [], 1)] == ["svc-00: asked 2 times in minute 1"]
    assert [*wrong_requests([one], all_busy, twice, [Taken(one.service, 1, written=False)], 1)] == []
    assert [*wrong_requests([one], {one.service: {0, 2}}, twice, [], 1)] == []
    assert [*wrong_requests([one], all_busy, {k: v for k, v in asked.items() if k[1]}, [], 1)] != []
