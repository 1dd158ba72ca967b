"""When rounds start: every service and location at a second of its own, spread, and always the same."""

from __future__ import annotations

from collections import Counter

import pytest

from firstwatch.schedule import HOUR, cron, fits_the_hour, interval, phase, starts

EVERY = [60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600]


def test_an_hour_has_twelve_divisions_into_whole_minutes() -> None:
    assert [every for every in range(1, HOUR + 1) if fits_the_hour(every)] == EVERY
    assert not fits_the_hour(7200) and not fits_the_hour(60.5)


def test_the_phase_is_of_the_name_and_of_nothing_else() -> None:
    """These stand in people's prefect.yaml: another value would move every monitor there is."""
    assert [phase("shop", place, every) for place, every in (("", 60), ("", 300), ("eu", 300), ("", 3600))] == [
        38.0,
        38.0,
        117.0,
        3338.0,
    ]
    assert phase("a", "b", 3600) != phase("ab", "", 3600)


@pytest.mark.parametrize("every", EVERY)
def test_a_cron_line_starts_each_interval_at_the_phase(every: int) -> None:
    for service in ("shop", "tea", "x-1"):
        line = cron(service, every, "eu")
        assert starts(line) == tuple(range(int(phase(service, "eu", every)), HOUR, every))
        assert interval(line) == every


def test_lines_are_written_as_people_do() -> None:
    assert cron("shop", 60).startswith("* * * * * ")
    assert cron("shop", 300).split()[0].endswith("-59/5")
    assert cron("shop", 3600).split()[0].isdigit()


@pytest.mark.parametrize("every", [0, 30, 90, 420, 7200])
def test_what_does_not_fit_the_hour_has_no_line(every: int) -> None:
    with pytest.raises(ValueError, match="an hour cannot be divided"):
        cron("shop", every)


def test_two_hundred_monitors_spread_over_the_minute() -> None:
    counted = Counter(phase(f"service-{i}", "", 60) for i in range(200))
    assert len(counted) > 50 and max(counted.values()) <= 12  # 3.3 a second on average
    minutes = Counter(phase(f"service-{i}", "", 3600) // 60 for i in range(600))
    assert len(minutes) == 60 and max(minutes.values()) <= 25


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("*/5 * * * *", tuple(range(0, HOUR, 300))),
        ("2-59/20 * * * * 41", (161, 1361, 2561)),
        ("2/20 * * * * 41", (161, 1361, 2561)),
        ("0,30 * * * * 0", (0, 1800)),
        ("5 */1 * * *", (300,)),
        ("5 * * * * 10-12", (310, 311, 312)),
        ("* * * * * 60", ()),
        ("5 3 * * *", ()),
        ("5 * * * MON", ()),
        ("5 * * *", ()),
        ("9-5 * * * *", ()),
        ("*/0 * * * *", ()),
        ("H * * * *", ()),
        ("", ()),
    ],
)
def test_starts_of_a_line(line: str, expected: tuple[int, ...]) -> None:
    assert starts(line) == expected


def test_an_interval_that_varies_is_none() -> None:
    assert interval("0,10 * * * *") == 0
    assert interval("nonsense") == 0
    assert interval("7 * * * *") == 3600
    assert interval("*/7 * * * *") == 0  # 56 minutes, then 4
