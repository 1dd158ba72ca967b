"""Maintenance windows: across midnight, by cron, once, over the nights on which clocks change; and what is wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.alerting.maintenance import DAYS, problems, under
from firstwatch.spec.alerts import Maintenance

ROME = "Europe/Rome"  # forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00


def window(**given: Any) -> Maintenance:
    return Maintenance.model_validate(given)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def covers(given: dict[str, Any], moment: float) -> bool:
    assert not list(problems(window(**given)))
    return under([window(**given)], "a", moment) is not None


NIGHT = {"start": "23:30", "duration": "2h"}
LONG = {"start": "01:30", "duration": 23.9 * 3600}
FRIDAYS = {**NIGHT, "days": ["Friday"]}
CRON = {"cron": "30 23 * * 5", "duration": "2h"}
WEEKEND = {"cron": "0 22 * * 5", "duration": "60h"}
ONCE = {"from": "2026-12-24T22:00", "until": "2026-12-25T06:00", "timezone": ROME}


@pytest.mark.parametrize(
    ("given", "moment", "is_under"),
    [
        (NIGHT, "2026-01-14T23:29:59", False),
        (NIGHT, "2026-01-14T23:30:00", True),
        (NIGHT, "2026-01-15T01:29:59", True),
        (NIGHT, "2026-01-15T01:30:00", False),
        (LONG, "2026-01-15T01:10:00", True),  # yesterday's
        (LONG, "2026-01-15T01:25:00", False),
        ({"start": "0:00", "duration": "24h"}, "2026-01-15T00:00:00", True),
        (FRIDAYS, "2026-01-16T23:45:00", True),
        (FRIDAYS, "2026-01-17T01:00:00", True),  # Saturday, by Friday's window
        (FRIDAYS, "2026-01-16T01:00:00", False),  # Friday, before it
        ({**FRIDAYS, "days": ["friday", "Sunday"]}, "2026-01-19T01:00:00", True),
        (CRON, "2026-01-16T23:29:59", False),
        (CRON, "2026-01-16T23:30:00", True),
        (CRON, "2026-01-17T01:29:59.5", True),
        (CRON, "2026-01-17T01:30:00", False),
        (WEEKEND, "2026-01-18T23:00:00", True),  # two days after it began
        (WEEKEND, "2026-01-19T10:00:00", False),
        (ONCE, "2026-12-24T20:59:59", False),
        (ONCE, "2026-12-24T21:00:00", True),  # 22:00 in Rome
        (ONCE, "2026-12-25T05:00:00", False),
        ({**ONCE, "from": "2026-12-24T22:00+00:00"}, "2026-12-24T21:30:00", False),  # an offset of its own
        ({**NIGHT, "timezone": "America/Los_Angeles"}, "2026-01-15T08:00:00", True),
    ],
)
def test_windows(given: dict[str, Any], moment: str, is_under: bool) -> None:
    assert covers(given, at(moment)) is is_under


EARLY = {"start": "02:30", "duration": "1h", "timezone": ROME}
EARLY_BY_CRON = {"cron": "30 2 * * *", "duration": "1h", "timezone": ROME}


@pytest.mark.parametrize("given", [EARLY, EARLY_BY_CRON], ids=["start", "cron"])
@pytest.mark.parametrize(
    ("moment", "is_under"),
    [
        ("2026-03-29T00:59:59", False),  # 01:59:59 in Rome
        ("2026-03-29T01:00:00", True),  # 03:00: 02:30 was skipped, and lasts an hour from where it would have been
        ("2026-03-29T01:59:59", True),
        ("2026-03-29T02:00:00", False),
        ("2026-10-25T00:29:59", False),
        ("2026-10-25T00:30:00", True),  # 02:30 for the first time
        ("2026-10-25T01:10:00", True),  # 02:10 for the second time, forty minutes later
        ("2026-10-25T01:30:00", False),  # 02:30 for the second time
        ("2026-03-30T00:30:00", True),  # the day after, in summer time
        ("2026-03-30T00:29:59", False),
    ],
)
def test_on_the_nights_on_which_the_clock_changes(given: dict[str, Any], moment: str, is_under: bool) -> None:
    assert covers(given, at(moment)) is is_under


@given(st.integers(0, 366 * 24 * 60), st.integers(0, 1439), st.integers(1, 1440))
def test_a_daily_window_and_the_same_by_cron_agree_the_whole_year(minute: int, start: int, length: int) -> None:
    moment = at("2026-01-02T00:00:00") + 60 * minute + 0.5
    hour, of_hour = divmod(start, 60)
    both = {"duration": 60 * length, "timezone": ROME}
    by_clock = covers({"start": f"{hour:02}:{of_hour:02}", **both}, moment)
    assert by_clock == covers({"cron": f"{of_hour} {hour} * * *", **both}, moment)


def test_the_first_window_that_covers_is_named_and_others_checks_are_not_in_it() -> None:
    windows = [window(name="b's", start="00:00", duration="24h", checks=["b"]), window(name="all", **NIGHT)]
    assert under(windows, "b", at("2026-01-14T12:00")) == "b's"
    assert under(windows, "a", at("2026-01-14T12:00")) is None
    assert under(windows, "a", at("2026-01-14T23:40")) == "all"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "a window is given by start and duration"),
        ({**NIGHT, "cron": "0 0 * * *"}, "not by start and cron at once"),
        ({**NIGHT, "from": "2026-12-24T22:00"}, "not by start and from and until at once"),
        ({"start": "23:00"}, "`duration` is missing"),
        ({"start": "23:00", "duration": 0}, "it lasts no time"),
        ({"start": "23:00", "duration": "25h"}, "at most 24h, not 1d1h"),
        ({**NIGHT, "days": ["Fridey"]}, "'Fridey' is no day"),
        ({**NIGHT, "timezone": "Europe/Romme"}, "no time zone 'Europe/Romme'"),
        ({**NIGHT, "timezone": "Europe"}, "no time zone 'Europe'"),
        ({**NIGHT, "timezone": "../UTC"}, "no time zone"),
        ({"cron": "0 0 * *", "duration": "1h"}, "has not the five fields"),
        ({"cron": "0 25 * * *", "duration": "1h"}, "is no cron expression: Bad hour"),
        ({"cron": "0 0 30 2 *", "duration": "1h"}, "is no cron expression"),
        ({"cron": "0 0 * * *", "duration": "1h", "days": ["Friday"]}, "`days` have no meaning beside `cron`"),
        ({"from": "2026-12-24T22:00"}, "`until` is missing"),
        ({"until": "2026-12-24T22:00"}, "`from` is missing"),
        ({"from": "Christmas", "until": "2026-12-24T22:00"}, "`from` is no date and time"),
        ({"from": "2026-12-25", "until": "2026-12-24"}, "`from` is not before `until`"),
        ({**ONCE, "duration": "1h"}, "have no meaning beside"),
    ],
)
def test_what_is_wrong_is_said(given: dict[str, Any], said: str) -> None:
    found = list(problems(window(**given)))
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    "broken",
    [
        {"timezone": "Europe"},
        {"start": None},
        {"duration": None},
        {"duration": 0},
        {"days": ["Fridey"]},
        {"start": None, "cron": "0 25 * * *"},
        {"start": None, "cron": "0 0 30 2 *"},
        {"start": None, "until": "2027-01-01"},
        {"start": None, "from": "soon", "until": "2027-01-01"},
    ],
)
def test_what_cannot_be_read_covers_nothing(broken: dict[str, Any]) -> None:
    assert covers(LONG, at("2026-01-14T12:00"))
    assert under([window(**{**LONG, **broken})], "a", at("2026-01-14T12:00")) is None


def test_days_are_named_as_the_calendar_has_them() -> None:
    assert [DAYS[datetime(2026, 1, day).weekday()] for day in (12, 18)] == ["Monday", "Sunday"]
