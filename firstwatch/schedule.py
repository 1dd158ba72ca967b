"""When the rounds of a monitor start: each service and location at a second of its own, the same one every time.

Schedules that all start on the full minute make the load of a minute come in its first second. The second is taken
from the name, so nobody has to hand them out and none moves when another service is added. Prefect takes a cron line
of six fields, the last of which are the seconds. Pure.
"""

from __future__ import annotations

import hashlib
import re

HOUR = 3600
SIDE_BY_SIDE, APART = 5, 1.0
"""Of the services of one schedule, so many rounds begin at once, and the next ones so many seconds later: all at once
would measure how long they wait for each other."""
_FIELD = re.compile(r"(\*|\d+(?:-\d+)?)(?:/(\d+))?")


def fits_the_hour(every: float) -> bool:
    """Whether `every` seconds are whole minutes of which an hour has a whole number: cron knows no other interval."""
    return every >= 60 and every % 60 == 0 and HOUR % every == 0


def phase(service: str, location: str, every: float) -> float:
    """How long after the full hour the first round starts: whole seconds, less than `every` and than an hour."""
    digest = hashlib.sha256(f"{service}\0{location}".encode()).digest()
    return float(int.from_bytes(digest[:8], "big") % max(1, int(min(every, HOUR))))


def cron(service: str, every: float, location: str = "") -> str:
    """The cron line of that phase, as in `2-59/5 * * * * 41` for every 300 seconds.

    Raises ValueError for an interval that does not fit the hour.
    """
    if not fits_the_hour(every):
        raise ValueError(f"an hour cannot be divided into {every:g} seconds each, in whole minutes")
    minute, second = divmod(int(phase(service, location, every)), 60)
    step = int(every) // 60
    minutes = "*" if step == 1 else f"{minute}" if step == 60 else f"{minute}-59/{step}"
    return f"{minutes} * * * * {second}"


def begins_after(position: int) -> float:
    """Seconds from the start of a run to the round of its service at this position, from 0."""
    return position // SIDE_BY_SIDE * APART


def starts(line: str) -> tuple[int, ...]:
    """The seconds of an hour at which a cron line starts something, ascending.

    Empty for a line that is not the same in every hour, or that cannot be read.
    """
    fields = line.split()
    if len(fields) not in (5, 6) or any(field not in ("*", "*/1") for field in fields[1:5]):
        return ()
    minutes, seconds = _expanded(fields[0]), _expanded(fields[5]) if len(fields) == 6 else frozenset({0})
    return tuple(sorted(60 * minute + second for minute in minutes for second in seconds))


def interval(line: str) -> float:
    """Seconds between two starts of a cron line; 0 where they are not always the same, or it cannot be read."""
    times = starts(line)
    gaps = {after - before for before, after in zip(times, (*times[1:], *(t + HOUR for t in times[:1])), strict=True)}
    return float(gaps.pop()) if len(gaps) == 1 else 0.0


def _expanded(field: str) -> frozenset[int]:
    """The values of a cron field of minutes or seconds; empty if it is none."""
    values: set[int] = set()
    for part in field.split(","):
        found = _FIELD.fullmatch(part)
        if found is None:
            return frozenset()
        first, _, last = found[1].partition("-")
        low = 0 if first == "*" else int(first)
        high = 59 if first == "*" or (found[2] and not last) else int(last or first)
        step = int(found[2] or 1)
        if not low <= high <= 59 or not step:
            return frozenset()
        values.update(range(low, high + 1, step))
    return frozenset(values)
