"""What holds whatever the rounds are: told once, opened and closed in turn, nothing by UNKNOWN, and quick."""

from __future__ import annotations

import json
import random
import time
from itertools import zip_longest
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from firstwatch.alerting import AlertState, NoticeKind, Outbox, at_rest, delivered, packed, step, unpacked
from firstwatch.alerting import outbox as box
from firstwatch.alerting.model import Notice
from firstwatch.monitor import Seen
from firstwatch.spec.alerts import Alerts
from tests.firstwatch.alerting.rounds import MINUTE, START, Days, alerts, seen

CHECKS = ("a", "b", "c")
NEEDS = {"a": (), "b": ("a",), "c": ("b",)}
streaks = (
    st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))).map(lambda x: f"{x[0]} of {x[1]}")
)


@st.composite
def policies(draw: Any) -> Alerts:
    given: dict[str, Any] = {"flapping": {"changes": draw(st.integers(3, 8)), "within": draw(st.integers(60, 1200))}}
    if draw(st.booleans()):
        given["remind"] = draw(st.integers(60, 600))
    if draw(st.booleans()):
        given["degraded"] = {"after": draw(streaks)}
    if draw(st.booleans()):
        given["maintenance"] = [{"start": f"08:{draw(st.integers(0, 30)):02}", "duration": draw(st.integers(60, 900))}]
    return alerts(draw(streaks), draw(streaks), **given)


def rounds(letters: str = "uuuddds?", checks: tuple[str, ...] = CHECKS) -> st.SearchStrategy[list[dict[str, str]]]:
    """Rounds of some of the checks; a check that stays out for a while is one the file does not name then."""
    return st.lists(st.fixed_dictionaries({}, optional={c: st.sampled_from(letters) for c in checks}), max_size=60)


def results(letters: dict[str, str], at: float) -> list[Seen]:
    return [seen(check, letter, at) for check, letter in letters.items()]


def played(policy: Alerts, course: list[dict[str, str]], arrives: bool = True) -> Days:
    days = Days(policy, {"b": ("a",), "c": ("b",)})
    days.arrives = arrives
    for letters in course:
        days.round(*results(letters, days.now))
    return days


@given(policies(), rounds())
def test_applying_a_round_twice_changes_nothing(policy: Alerts, course: list[dict[str, str]]) -> None:
    state = AlertState("shop")
    for i, letters in enumerate(course):
        now = START + MINUTE * i
        state, _ = step(state, policy, f"r{i}", results(letters, now), NEEDS, now)
        assert step(state, policy, f"r{i}", results(letters, now), NEEDS, now + 1) == (state, ())


mostly_good = st.lists(st.sampled_from(["u", "uuuu", "uuuuuuu", "d", "s", "ddd", "?"]), max_size=20).map("".join)


@settings(max_examples=400)
@given(policies(), mostly_good, mostly_good, st.integers(1, 8))
def test_good_rounds_that_were_not_written_down_and_are_applied_again_change_nothing_that_is_told(
    policy: Alerts, a: str, b: str, longest: int
) -> None:
    """As a monitor leaves them: at most so many, of which only the last four are still known."""
    course = [{"a": one, "b": other} for one, other in zip_longest(a, b, fillvalue="u")]
    days, state, known = played(policy, course), AlertState("shop"), -1
    needs, told = {"b": ("a",), "c": ("b",)}, []
    for i in range(len(course)):
        now, after, news = START + MINUTE * i, state, []
        for slot in range(max(known + 1, i - 3), i + 1):
            votes = results(course[slot], START + MINUTE * slot)
            after, notices = step(after, policy, f"r{slot}", votes, needs, now)
            for notice in notices:
                after = delivered(after, notice, True, now)
            news += notices
        if news or i - known >= longest or not at_rest(state, after):
            state, known = after, i
        told += news
    assert [(n.at, n.kind, n.checks) for n in told] == [(n.at, n.kind, n.checks) for n in days.notices]


@given(policies(), rounds(), st.booleans())
def test_each_check_opens_and_closes_in_turn_each_incident_once(
    policy: Alerts, course: list[dict[str, str]], arrives: bool
) -> None:
    days = played(policy, course, arrives)
    is_open: dict[str, bool] = {}
    incident = ""
    for notice in days.notices:
        if notice.first:
            assert not incident and notice.kind is NoticeKind.OPENED
            incident = notice.incident
        for check in notice.checks:
            if notice.kind in (NoticeKind.OPENED, NoticeKind.REOPENED):
                assert not is_open.get(check)
                is_open[check] = True
            elif notice.kind is NoticeKind.CLOSED:
                assert is_open[check]
                is_open[check] = False
            elif notice.incident and notice.kind is not NoticeKind.HELD:
                assert is_open[check], "what is said of an alert is said while it is open"
        if notice.incident:
            assert notice.incident == incident or notice.kind is NoticeKind.HELD
        if notice.last:
            assert not any(is_open.values())
            incident = ""
    assert {c for c, o in is_open.items() if o} == set(days.state.open_checks)
    assert len({notice.id for notice in days.notices}) == len(days.notices)


@given(policies(), rounds())
def test_a_check_opens_once_an_incident_and_then_again(policy: Alerts, course: list[dict[str, str]]) -> None:
    been: set[tuple[str, str]] = set()
    for notice in played(policy, course).notices:
        told = {(notice.incident, check) for check in notice.checks}
        if notice.kind is NoticeKind.OPENED:
            assert not told & been
            been |= told
        elif notice.kind is NoticeKind.REOPENED:
            assert told <= been


@given(policies(), rounds(), st.integers(0, 30))
def test_unknown_alone_neither_opens_nor_closes(policy: Alerts, course: list[dict[str, str]], more: int) -> None:
    days = played(policy, course)
    before = days.state.open_checks
    after = len(days.notices)
    names = tuple(days.state.checks)
    for _ in range(more):
        days.round(*(seen(name, "?", days.now) for name in names))
    assert days.state.open_checks == before
    said = {notice.kind for notice in days.notices[after:]}
    assert said <= {NoticeKind.UNWATCHED, NoticeKind.REMINDER}


@given(policies(), rounds())
def test_what_is_stored_comes_back_as_it_was(policy: Alerts, course: list[dict[str, str]]) -> None:
    days = played(policy, course)
    outbox, _ = box.claim(box.add(Outbox(), days.notices), "me", days.now)
    for kind, value in ((AlertState, days.state), (Outbox, outbox)):
        assert unpacked(kind, json.loads(json.dumps(packed(value)))) == value
    for notice in days.notices:
        assert unpacked(Notice, json.loads(json.dumps(packed(notice)))) == notice


@given(policies(), rounds())
def test_a_course_goes_on_from_what_was_stored_as_if_it_had_not_been(
    policy: Alerts, course: list[dict[str, str]]
) -> None:
    straight, stored = Days(policy, NEEDS), Days(policy, NEEDS)
    for letters in course:
        straight.round(*results(letters, straight.now))
        stored.round(*results(letters, stored.now))
        stored.state = unpacked(AlertState, json.loads(json.dumps(packed(stored.state))))
    assert stored.notices == straight.notices


@settings(max_examples=50)
@given(policies(), rounds(letters="ud"), st.randoms(use_true_random=False))
def test_the_order_of_a_rounds_results_does_not_matter(
    policy: Alerts, course: list[dict[str, str]], order: random.Random
) -> None:
    straight, mixed = Days(policy, NEEDS), Days(policy, dict(reversed(NEEDS.items())))
    for letters in course:
        found = results(letters, straight.now)
        straight.round(*found)
        order.shuffle(found)
        mixed.round(*found)
    assert mixed.notices == straight.notices


def test_a_day_of_ten_checks_is_replayed_in_less_than_two_seconds() -> None:
    names, chance = [f"check {i}" for i in range(10)], random.Random(7)
    policy = alerts(
        3, 2, remind="1h", maintenance=[{"cron": "30 2 * * *", "duration": "1h", "timezone": "Europe/Rome"}]
    )
    days = Days(policy, {name: names[:1] for name in names})
    course = [[seen(name, chance.choice("uuuuuuds"), START) for name in names] for _ in range(1440)]
    began = time.process_time()
    for found in course:
        days.round(*found)
    took = time.process_time() - began
    assert took < 2.0, f"{took:.2f} s"
    assert days.notices
