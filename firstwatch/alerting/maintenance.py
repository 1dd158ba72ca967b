"""Maintenance: whether a check is in one of its windows at a time, and what can be wrong with a window.

A window lasts its duration in real time, from its start on the clock of its zone. A start that the clock skips (in
spring) is taken at the first minute after the gap, as cron does it; one that the clock shows twice (in autumn) is the
first of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from firstwatch.spec.alerts import Maintenance
from firstwatch.units import show_duration

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAY = 86400.0
_LONGEST_GAP = 1500  # minutes that a clock has ever skipped: a day, on Samoa
_BACK = timedelta(hours=3)  # a clock that was put back has been so by less


def under(windows: Sequence[Maintenance], check: str, at: float) -> str | None:
    """The name of the first window that the check is in at `at` (Unix seconds); None if it is in none.

    A window that cannot be read covers nothing: an alert too many is better than none.
    """
    return next((w.name for w in windows if (not w.checks or check in w.checks) and _covers(w, at)), None)


def _covers(window: Maintenance, at: float) -> bool:
    zone = _zone(window.timezone)
    if zone is None:
        return False
    if window.begins is not None or window.ends is not None:
        begins, ends = _moment(window.begins, zone), _moment(window.ends, zone)
        return begins is not None and ends is not None and begins <= at < ends
    if not window.duration:
        return False
    if window.cron is not None:
        return any(begun <= at < begun + window.duration for begun in _by_cron(window.cron, window.timezone, at))
    return any(begun <= at < begun + window.duration for begun in _by_clock(window, zone, at))


# ── when windows start ───────────────────────────────────────────────────────────────────────────────────────


def _by_clock(window: Maintenance, zone: ZoneInfo, at: float) -> Iterator[float]:
    """The starts of a daily window that may still cover `at`: today's, yesterday's and, as days of 25 hours exist, the
    day before's."""
    start = _clock(window.start)
    if start is None:
        return
    today = datetime.fromtimestamp(at, zone).date()
    wanted = {day.lower() for day in window.days}
    for back in range(3):
        day = today - timedelta(days=back)
        if not wanted or DAYS[day.weekday()].lower() in wanted:
            yield _first_real(day, start, zone)


def _first_real(day: date, start: time, zone: ZoneInfo) -> float:
    """When the zone's clock shows that time, or the first minute after it that it does not skip."""
    wall = datetime.combine(day, start)
    for _ in range(_LONGEST_GAP):
        there = wall.replace(tzinfo=zone).astimezone(UTC)
        if there.astimezone(zone).replace(tzinfo=None) == wall:
            break
        wall += timedelta(minutes=1)
    return there.timestamp()


@lru_cache(maxsize=256)
def _by_cron(cron: str, timezone: str, at: float) -> tuple[float, ...]:
    """The last start of a cron window at or before `at`. While the clock shows an hour for the second time, a start in
    the hour before it, which shows a later time, counts too."""
    zone = ZoneInfo(timezone)
    now = datetime.fromtimestamp(at, zone)
    put_back = now.utcoffset() != datetime.fromtimestamp(at - _BACK.total_seconds(), zone).utcoffset()
    moments = (now, now + _BACK) if put_back else (now,)
    return tuple(begun for moment in moments if (begun := _last_before(cron, moment, at)) is not None)


def _last_before(cron: str, moment: datetime, at: float) -> float | None:
    """The last start that `at` has seen, looked for backwards from `moment`."""
    try:
        starts = CronSim(cron, moment.replace(microsecond=0) + timedelta(seconds=1), reverse=True)
        for _, start in zip(range(_LONGEST_GAP), starts, strict=False):
            if start.timestamp() <= at:
                return start.timestamp()
    except CronSimError:
        return None
    return None


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # KeyError is a zone that is not known; OSError one that is a directory
        return None


def _clock(text: str | None) -> time | None:
    """`2:30` or `02:30`."""
    try:
        hours, minutes = (text or "").split(":")
        return time(int(hours), int(minutes))
    except ValueError:
        return None


def _moment(text: str | None, zone: ZoneInfo) -> float | None:
    """An ISO date and time as Unix seconds; without an offset of its own it is one of the zone's clock."""
    try:
        given = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return given.timestamp() if given.tzinfo else _first_real(given.date(), given.time(), zone)


# ── what is wrong with one ───────────────────────────────────────────────────────────────────────────────────


def problems(window: Maintenance) -> Iterator[str]:
    """What is wrong with a window, in words for the file's author; nothing if it is in order."""
    zone = _zone(window.timezone)
    if zone is None:
        yield f"there is no time zone {window.timezone!r}; write an IANA name, as in Europe/Amsterdam"
    once = window.begins is not None or window.ends is not None
    ways = [way for way, given in (("start", window.start), ("cron", window.cron)) if given is not None]
    ways += ["from and until"] if once else []
    if len(ways) != 1:
        yield "a window is given by start and duration, by cron and duration, or by from and until" + (
            f", not by {' and '.join(ways)} at once" if ways else ""
        )
        return
    yield from _once(window, zone or ZoneInfo("UTC")) if once else _repeated(window)


def _once(window: Maintenance, zone: ZoneInfo) -> Iterator[str]:
    begins, ends = _moment(window.begins, zone), _moment(window.ends, zone)
    for name, text, moment in (("from", window.begins, begins), ("until", window.ends, ends)):
        if text is None:
            yield f"`{name}` is missing"
        elif moment is None:
            yield f"`{name}` is no date and time: {text!r}; write 2026-12-24T22:00"
    if begins is not None and ends is not None and begins >= ends:
        yield "`from` is not before `until`"
    if window.duration is not None or window.days:
        yield "`duration` and `days` have no meaning beside `from` and `until`"


def _repeated(window: Maintenance) -> Iterator[str]:
    if not window.duration:
        yield "it lasts no time" if window.duration == 0 else "`duration` is missing"
    elif window.start is not None and window.duration > DAY:
        yield f"a daily window lasts at most 24h, not {show_duration(window.duration)}; longer ones are given by cron"
    if window.start is not None and _clock(window.start) is None:
        yield f"`start` is no time of day: {window.start!r}; write 02:30"
    for day in window.days:
        if day.capitalize() not in DAYS:
            yield f"{day!r} is no day; they are {', '.join(DAYS)}"
    if window.cron is not None:
        yield from _cron_problems(window.cron)
        if window.days:
            yield "`days` have no meaning beside `cron`, whose last field says them"


def _cron_problems(cron: str) -> Iterator[str]:
    if len(cron.split()) != 5:
        yield f"{cron!r} has not the five fields minute, hour, day, month, day of the week"
        return
    try:
        if next(CronSim(cron, datetime(2026, 1, 1)), None) is None:
            yield f"{cron!r} never comes"
    except CronSimError as error:
        yield f"{cron!r} is no cron expression: {str(error) or 'it cannot be read'}"
