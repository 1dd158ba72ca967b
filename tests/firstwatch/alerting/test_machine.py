"""The alert state machine, round by round: what opens, closes, is held back and is said again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from firstwatch.alerting import AlertState, Level, NoticeKind, delivered, packed, step, unpacked
from firstwatch.monitor import Health
from firstwatch.spec.alerts import Alerts
from tests.firstwatch.alerting.rounds import MINUTE, START, Days, alerts, of_kind, seen, told

# policy, the check's letters, what is told (minute and kind)
COURSES: dict[str, tuple[Alerts, str, list[str]]] = {
    "three in a row open, two close": (alerts(), "udddduu", ["3 opened", "6 closed"]),
    "two in a row are not three": (alerts(), "uddudduddu", []),
    "a failure in between resets the way back": (alerts(2, 2), "ddududuu", ["1 opened", "7 closed"]),
    "two of five": (alerts("2 of 5", 2), "uduuduu", ["4 opened", "6 closed"]),
    "a window opens by a bad result only": (alerts("2 of 5", 1), "dduu", ["1 opened", "2 closed"]),
    "good ones may be counted in a window too": (alerts(1, "2 of 3"), "dudu", ["0 opened", "3 closed"]),
    "unknown neither counts nor resets": (alerts(), "dd??d?u?u", ["4 opened", "8 closed"]),
    "unknown never closes": (alerts(1, 1), "d??", ["0 opened", "1 not watched"]),
    "unknown for long is told once": (alerts(), "u?????u", ["3 not watched", "6 watched again"]),
    "an open alert goes on while nothing is known": (
        alerts(), "ddd???uu", ["2 opened", "5 not watched", "6 watched again", "7 closed"],
    ),
    "slow opens its own level": (alerts(), "sssuu", ["2 opened", "4 closed"]),
    "slow opens as `degraded` has it": (alerts(2, 1, degraded={"after": 4}), "sssssu", ["3 opened", "5 closed"]),
    "slow and down are both not good": (alerts(), "dsd", ["2 opened"]),
    "slow becomes down": (alerts(2, 2), "ssdduu", ["1 opened", "3 worsened", "5 closed"]),
    "down becomes slow": (alerts(2, 2), "ddssuu", ["1 opened", "3 improved", "5 closed"]),
    "one slow result on the way up says nothing": (alerts(2, 2), "ddsuu", ["1 opened", "4 closed"]),
    "not before it has lasted": (
        Alerts.model_validate({"open": {"after": 2, "for": "4m"}}), "ddddddu", ["4 opened"],
    ),
    "a good result ends what has to last": (
        Alerts.model_validate({"open": {"after": 2, "for": "4m"}}), "ddduddddd", ["8 opened"],
    ),
    "reminders while it is open": (
        alerts(1, 1, remind="2m"), "dddddu", ["0 opened", "2 reminder", "4 reminder", "5 closed"],
    ),
    "no reminder of what looks well again": (alerts(1, 3, remind="2m"), "duudd", ["0 opened", "3 reminder"]),
    "no reminder beside other news": (alerts(1, 1, remind="2m"), "ssd", ["0 opened", "2 worsened"]),
}  # fmt: skip


@pytest.mark.parametrize("name", COURSES)
def test_courses(name: str) -> None:
    policy, letters, expected = COURSES[name]
    assert [line.rsplit(" ", 1)[0] for line in Days(policy).play(a=letters)] == expected


def test_a_notice_says_what_was_found_since_when_and_by_how_many_results() -> None:
    days = Days(alerts("2 of 5", 2))
    days.play(a="uudu")
    [notice] = days.round(seen("a", "d", days.now, facts={"status": 500.0}))
    [part] = notice.parts
    assert (notice.incident, notice.first, notice.service) == ("shop@2027-01-15T08:04:00Z", True, "shop")
    assert (part.check, part.health, part.why, part.facts) == ("a", Health.DOWN, "it is d", {"status": 500.0})
    assert (part.since, part.results, part.out_of) == (START + 2 * MINUTE, 2, 5)
    days.play(a="uu")
    assert days.notices[-1].parts[0].since == START + 2 * MINUTE and days.notices[-1].last


def test_the_trouble_of_a_row_begins_with_the_row() -> None:
    days = Days(alerts())
    days.play(a="dduddd")
    assert days.notices[0].parts[0].since == START + 3 * MINUTE


def test_checks_that_fail_together_are_one_notice_and_one_incident_till_the_last_closes() -> None:
    days = Days(alerts(1, 1))
    assert days.play(a="uddu", b="uddd", c="uudd") == ["1 opened a+b", "2 opened c", "3 closed a"]
    assert len({notice.incident for notice in days.notices}) == 1
    assert [notice.first for notice in days.notices] == [True, False, False]
    assert days.state.incident is not None and days.state.incident.checks == ("a", "b", "c")
    days.play(b="uu", c="uu", a="uu")
    assert days.notices[-1].last and days.state.open_incident is None
    days.play(a="d", b="u", c="u")
    assert days.notices[-1].first and days.notices[-1].incident != days.notices[0].incident


def test_an_incident_goes_on_where_one_check_opens_as_another_closes() -> None:
    days = Days(alerts(1, 1))
    days.play(a="du", b="ud")
    assert len({notice.incident for notice in days.notices}) == 1
    assert [notice.last for notice in of_kind(days.notices, NoticeKind.CLOSED)] == [False]


def test_a_check_that_comes_back_within_an_incident_is_told_as_that() -> None:
    assert Days(alerts(1, 1)).play(a="dud", b="ddd") == ["0 opened a+b", "1 closed a", "2 opened again a"]


def test_a_reminder_that_does_not_arrive_is_due_again_at_once() -> None:
    days = Days(alerts(1, 1, remind="5m"))
    days.play(a="ddddd")
    days.arrives = False
    assert days.play(a="d") == ["5 reminder a"]
    days.arrives = True
    assert days.play(a="ddddddd") == ["6 reminder a", "11 reminder a"]


def test_nobody_is_reminded_of_what_they_were_never_told() -> None:
    days = Days(alerts(1, 1, remind="1m"))
    days.arrives = False
    assert days.play(a="ddddd") == ["0 opened a"]


def test_what_was_told_in_a_digest_was_told() -> None:
    days = Days(alerts(1, 1, remind="2m"))
    days.arrives = False
    days.play(a="d")
    digest = replace(days.notices[0], kind=NoticeKind.DIGEST, parts=())
    days.state = delivered(days.state, digest, True, days.now)
    assert days.play(a="ddd") == ["3 reminder a"]


def test_one_reminder_speaks_of_all_that_is_open() -> None:
    assert Days(alerts(1, 1, remind="5m")).play(a="d" * 9, b="uu" + "d" * 7) == [
        "0 opened a", "2 opened b", "7 reminder a+b",
    ]  # fmt: skip


# ── parents ──────────────────────────────────────────────────────────────────────────────────────────────────

FAMILY = {"door": (), "login": ("door",), "buy": ("login",)}


def test_while_a_parent_is_down_only_the_opening_of_its_children_is_held_back() -> None:
    days = Days(alerts(2, 1), FAMILY)
    assert days.play(door="uddd", login="uddd", buy="uddd") == ["2 opened door", "2 held back buy+login"]
    [held] = of_kind(days.notices, NoticeKind.HELD)
    assert not held.tell and "needs 'door', which is down" in held.parts[1].why
    assert days.state.checks["buy"].row == -3, "it is measured and counted all the same"


def test_what_is_still_bad_when_the_parent_is_back_opens_by_one_more_result() -> None:
    days = Days(alerts(2, 1), {"door": (), "login": ("door",)})
    days.play(door="dd", login="dd")
    assert days.play(door="uu", login="dd") == ["2 closed door", "3 opened login"]


def test_what_is_well_again_with_its_parent_was_never_told() -> None:
    assert Days(alerts(2, 2), {"door": (), "login": ("door",)}).play(door="dduuu", login="dduuu") == [
        "1 opened door", "1 held back login", "3 closed door",
    ]  # fmt: skip


def test_what_is_held_back_is_recorded_once_an_occasion() -> None:
    days = Days(alerts(1, 1), {"door": (), "login": ("door",)})
    assert days.play(door="ddddd", login="uddud") == ["0 opened door", "1 held back login", "4 held back login"]


def test_a_child_that_was_open_before_closes_while_its_parent_is_down() -> None:
    days = Days(alerts(1, 1), {"door": (), "login": ("door",)})
    assert days.play(door="udd", login="ddu") == ["0 opened login", "1 opened door", "2 closed login"]


def test_a_slow_parent_stands_for_a_slow_child_not_for_one_that_is_down() -> None:
    policy, needs = alerts(1, 1), {"door": (), "login": ("door",)}
    assert Days(policy, needs).play(door="ss", login="us") == ["0 opened door", "1 held back login"]
    assert Days(policy, needs).play(door="ss", login="ud") == ["0 opened door", "1 opened login"]


def test_what_needs_itself_or_nobody_knows_does_not_hang() -> None:
    days = Days(alerts(1, 1), {"a": ("b", "a"), "b": ("a",), "c": ("nobody",)})
    assert days.play(a="u", b="u", c="d") == ["0 opened c"]
    assert days.play(a="dd", b="dd", c="dd") == ["1 held back a+b"], "each explains the other; no such file loads"


# ── maintenance, flapping, the file's own changes ────────────────────────────────────────────────────────────


def windows(**window: Any) -> list[dict[str, Any]]:
    return [{"name": "deploy", "from": "2027-01-15T08:03", "until": "2027-01-15T08:06", **window}]


def test_within_a_maintenance_nothing_opens_and_after_it_results_count_anew() -> None:
    days = Days(alerts(2, 1, maintenance=windows()))
    assert days.play(a="uuddddddd") == ["3 held back a", "7 opened a"]
    assert days.notices[0].parts[0].why == "held back, maintenance (deploy): it is d"


def test_within_a_maintenance_an_open_alert_is_not_reminded_of_and_closes() -> None:
    days = Days(alerts(1, 2, remind="2m", maintenance=windows()))
    assert days.play(a="uddddduu") == ["1 opened a", "7 closed a"]
    assert Days(alerts(1, 2, maintenance=windows())).play(a="ududuu") == ["1 opened a", "5 closed a"]


def test_what_is_not_watched_or_expires_within_a_maintenance_is_told_after_it() -> None:
    days = Days(alerts(1, 1, maintenance=windows()))
    days.play(a="uuu", tls="uuu")
    for _ in range(5):
        days.round(seen("a", "?", days.now), seen("tls", "u", days.now, warning="expires soon"))
    assert told(days.notices) == ["6 warning tls", "6 not watched a"]


def test_a_window_of_some_checks_is_of_those_only() -> None:
    days = Days(alerts(1, 1, maintenance=windows(checks=["a"])))
    assert days.play(a="uuudd", b="uuudd") == ["3 opened b", "3 held back a"]


def test_a_check_that_flaps_is_told_once_and_then_when_it_is_steady() -> None:
    policy = alerts(1, 1, flapping={"changes": 4, "within": "10m"})
    days = Days(policy)
    assert days.play(a="dudud") == ["0 opened a", "1 closed a", "2 opened a", "3 closed a", "4 opened a"]
    assert days.state.checks["a"].flapping
    assert days.play(a="udududud" + "u" * 11) == ["23 closed a"]
    assert days.play(a="d") == ["24 opened a"]


def test_flapping_that_never_reaches_the_threshold_opens_as_degraded_and_may_become_down() -> None:
    days = Days(alerts(3, 2, flapping={"changes": 4, "within": "10m"}))
    assert days.play(a="ududuud") == ["6 opened a"], "by a bad result"
    assert days.state.checks["a"].level is Level.DEGRADED
    assert "goes up and down: 4 changes in 10m" in days.notices[0].parts[0].why
    assert days.play(a="dduuddd") == ["8 worsened a"], "down for good is told, once, however it flaps"
    assert days.play(a="d" * 10) == ["21 steady a"]


def test_an_open_alert_that_begins_to_flap_says_so_once() -> None:
    days = Days(alerts(1, 2, flapping={"changes": 4, "within": "10m"}))
    assert days.play(a="dududud") == ["0 opened a", "4 flapping a"]


def test_what_flaps_is_not_reminded_of() -> None:
    days = Days(alerts(1, 2, remind="1m", flapping={"changes": 3, "within": "10m"}))
    assert days.play(a="udududddd") == ["1 opened a", "3 flapping a"]


def test_changes_within_a_maintenance_are_nobodys_flapping() -> None:
    window = windows(**{"from": "2027-01-15T08:00", "until": "2027-01-15T09:00"})
    assert Days(alerts(5, 1, flapping={"changes": 3, "within": "1h"}, maintenance=window)).play(a="ud" * 20) == []


def test_a_check_that_left_the_file_closes_as_no_longer_monitored() -> None:
    days = Days(alerts(1, 1))
    days.play(a="d", b="u")
    assert days.play(b="u") == ["1 closed a"]
    assert days.notices[-1].parts[0].why == "no longer monitored" and days.notices[-1].last
    assert set(days.state.checks) == {"b"}


def test_a_check_that_the_round_lost_is_unknown_not_gone_and_not_well() -> None:
    days = Days(alerts(1, 1), {"a": (), "b": ()})
    days.play(a="d", b="u")
    assert days.play(b="uuu") == ["1 not watched a"]
    assert days.state.checks["a"].level is Level.DOWN


def test_warnings_are_told_once_per_threshold_and_fingerprint() -> None:
    days = Days(alerts())

    def warn(threshold: float, fingerprint: str) -> int:
        facts = {"threshold": threshold, "fingerprint": fingerprint}
        return len(days.round(seen("tls", "u", days.now, warning="expires soon", facts=facts)))

    assert [warn(21.0, "aa"), warn(21.0, "aa"), warn(7.0, "aa"), warn(21.0, "bb"), warn(21.0, "aa")] == [1, 0, 1, 1, 0]
    assert days.notices[0].kind is NoticeKind.WARNING and days.notices[0].parts[0].why == "expires soon"


def test_a_warning_without_a_fingerprint_is_told_once_until_it_is_gone() -> None:
    days = Days(alerts())
    numbers = [len(days.round(seen("tls", "u", days.now, warning=text))) for text in ("x", "y", "", "x")]
    assert numbers == [1, 0, 0, 1]


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_round_that_was_applied_changes_nothing_and_tells_nothing() -> None:
    policy = alerts(1, 1)
    once, notices = step(AlertState("shop"), policy, "r", [seen("a", "d", START)], {}, START)
    assert len(notices) == 1
    assert step(once, policy, "r", [seen("a", "u", START)], {}, START + 5) == (once, ())


def test_a_round_decided_again_after_its_state_was_lost_tells_the_same() -> None:
    policy, results = alerts(1, 1), [seen("a", "d", START), seen("b", "d", START)]
    first = step(AlertState("shop"), policy, "r", results, {}, START)
    again = step(AlertState("shop"), policy, "r", results[::-1], {}, START)
    assert first == again


def test_several_results_of_a_check_count_in_order_and_decide_once() -> None:
    days = Days(alerts(2, 2))
    [notice] = days.round(*(seen("a", letter, START) for letter in "ddd"))
    assert notice.kind is NoticeKind.OPENED
    assert days.round(*(seen("a", letter, START) for letter in "uud")) == (), "good in between, and bad in the end"


def test_ten_checks_in_trouble_fit_into_a_variable() -> None:
    days = Days(alerts("3 of 10", 2, remind="1h"))
    for letters in ("ududududud", "dddddddddd"):
        days.play(**{f"check number {i}": letters for i in range(10)})
    text = json.dumps(packed(days.state))
    assert len(text) < 4500, len(text)
    assert unpacked(AlertState, json.loads(text)) == days.state


def test_a_partial_round_leaves_what_it_has_no_result_of_as_it_was() -> None:
    needs: dict[str, tuple[str, ...]] = {"a": (), "b": ()}
    both = [seen("a", "u", START), seen("b", "u", START)]
    state, _ = step(AlertState("shop"), Alerts(), "round", both, needs, START)
    before = state.checks["b"]
    for n in range(5):
        found = [seen("a", "u", START + n)]
        state, notices = step(state, Alerts(), f"smoke {n}", found, needs, START + n, partial=True)
        assert notices == ()
    assert state.checks["b"] == before and state.checks["a"].results == "uuu"
