"""How long a check took, round by round: narrow and deep for now, wide and shallow for the days before.

Now: the last 60 rounds, one by one. Before: for each hour of the last eight days, how many rounds there were, their
middle, and the slowest ten in a row. That is all that is known, whatever a check's age, so that it fits into a Prefect
variable: about a thousand characters, packed.

Durations are kept to three digits, times to the second. The middle of some durations is the mean of those that are left
without the fastest and the slowest 30 %: nearly as robust as the median, and, unlike it, not thrown from one tick of a
coarse clock to the next (trimmed means: Tukey 1960; Huber, Robust Statistics, 1981).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

HOUR = 3600
KEPT_ROUNDS = 60  # an hour of rounds a minute apart
KEPT_HOURS = 8 * 24  # a week, and the day on which the same hour a week ago is looked for
BLOCK = 10  # rounds in a row that say something together
TRIMMED = 0.3  # of the durations, on either side
LONGEST = 86400.0  # seconds; what took longer was not measured by us
LATEST = 32503680000.0  # the year 3000: a time beyond it is none
PACKED = 1  # the version of the packed form
LARGEST = 100_000  # bytes; what unpacks to more is not ours


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour's rounds: when it began (Unix seconds, a multiple of 3600), how many there were, the middle of their
    durations, and that of the slowest ten in a row that ended in it (seconds)."""

    start: int
    count: int
    middle: float
    slowest: float


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a check's durations. `at` (Unix seconds) strictly ascends, and so do the hours; `since` is when
    it began to be degraded, None while it is not."""

    empty: ClassVar[History]

    at: tuple[int, ...] = ()
    seconds: tuple[float, ...] = ()
    hours: tuple[Hour, ...] = ()
    since: int | None = None


History.empty = History()


def middle(durations: Sequence[float]) -> float:
    """Their mean without the fastest and slowest 30 %. Of at least one."""
    cut = int(TRIMMED * len(durations))
    kept = sorted(durations)[cut : len(durations) - cut]
    return sum(kept) / len(kept)


def digits(seconds: float) -> float:
    """To three digits, and to the microsecond."""
    return float(f"{round(seconds, 6):.3g}")


# ── one round more ───────────────────────────────────────────────────────────────────────────────────────────


def add(history: History, at: float, seconds: float, now: float | None = None) -> History:
    """With one more round, which began at `at` and took so many seconds.

    A round is taken once, however often it is added, and may come late, as long as it is not older than what is kept.
    What is no duration (NaN, negative, more than a day) or no time changes nothing. With `now`, neither does a round of
    the future, and what an earlier round of a wrong clock had left there is removed.
    """
    if now is not None:
        history = _until(history, now)
    if not _is_sound(at, seconds) or (now is not None and at > now):
        return history
    second, place = int(at), bisect_left(history.at, int(at))
    if second in history.at or (place == 0 and len(history.at) >= KEPT_ROUNDS):
        return history
    times = (*history.at[:place], second, *history.at[place:])
    durations = (*history.seconds[:place], digits(seconds), *history.seconds[place:])
    hours = _with_hour(history.hours, times, durations, place)
    return History(times[-KEPT_ROUNDS:], durations[-KEPT_ROUNDS:], hours, history.since)


def _is_sound(at: float, seconds: float) -> bool:
    """NaN fails every comparison."""
    return 0 <= seconds <= LONGEST and 0 <= at <= LATEST


def _until(history: History, now: float) -> History:
    """Without what lies after `now`."""
    n = bisect_right(history.at, now)
    ahead = history.hours and history.hours[-1].start > now
    if n == len(history.at) and not ahead and (history.since is None or history.since <= now):
        return history
    since = history.since if history.since is not None and history.since <= now else None
    return History(history.at[:n], history.seconds[:n], tuple(h for h in history.hours if h.start <= now), since)


def _with_hour(hours: tuple[Hour, ...], at: Sequence[int], seconds: Sequence[float], place: int) -> tuple[Hour, ...]:
    """The hours, with that of the round at `place` counted anew."""
    start = at[place] - at[place] % HOUR
    index = bisect_left(hours, start, key=lambda hour: hour.start)
    old = hours[index] if index < len(hours) and hours[index].start == start else None
    first, end = bisect_left(at, start), bisect_left(at, start + HOUR)
    block = digits(middle(seconds[max(0, place + 1 - BLOCK) : place + 1])) if place + 1 >= BLOCK else 0.0
    if old is None:
        new = Hour(start, 1, seconds[place], block)
    elif end - first <= old.count:  # some of its rounds are gone already: those that are left would say less
        new = dataclasses.replace(old, count=old.count + 1, slowest=max(old.slowest, block))
    else:
        new = Hour(start, end - first, digits(middle(seconds[first:end])), max(old.slowest, block))
    changed = (*hours[:index], new, *hours[index + (old is not None) :])
    oldest = changed[-1].start - KEPT_HOURS * HOUR
    return changed if changed[0].start > oldest else tuple(hour for hour in changed if hour.start > oldest)


def accept(history: History, now: float) -> History:
    """As a person has it who says that this is how it is now: what was before counts no more. The rounds of the last
    while are kept, which the limit needs."""
    recent = [(at, seconds) for at, seconds in zip(history.at, history.seconds, strict=True) if at <= now][-BLOCK:]
    fresh = History.empty
    for at, seconds in recent:
        fresh = add(fresh, at, seconds)
    return fresh


# ── packed ───────────────────────────────────────────────────────────────────────────────────────────────────


def pack(history: History) -> str:
    """As a short text that JSON, URLs and Prefect variables take as it is. `unpack` gives back an equal history."""
    content = [
        PACKED,
        history.since,
        _steps(history.at),
        [_packed(s) for s in history.seconds],
        _steps([hour.start // HOUR for hour in history.hours]),
        [hour.count for hour in history.hours],
        [_packed(hour.middle) for hour in history.hours],
        [_packed(hour.slowest) for hour in history.hours],
    ]
    text = json.dumps(content, separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(text: str | None) -> tuple[History, str]:
    """What `pack` has made, and why it starts anew where it does: "" for a sound history, or for none at all."""
    if not text:
        return History.empty, ""
    try:
        return _unpacked(_inflated(text)), ""
    except (ValueError, TypeError, OverflowError, zlib.error, binascii.Error, RecursionError) as error:
        return History.empty, f"its history could not be read ({type(error).__name__}), and starts anew"


def _inflated(text: str) -> Any:
    inflater = zlib.decompressobj()
    raw = inflater.decompress(base64.urlsafe_b64decode(text), LARGEST)
    if not inflater.eof:
        raise ValueError("cut short, or too large")
    return json.loads(raw)


def _unpacked(content: Any) -> History:
    """Raises ValueError or TypeError for what `pack` would not have made."""
    version, since, at, seconds, starts, counts, middles, slowest = content
    hours = tuple(
        Hour(start * HOUR, int(count), float(typical) / 1000, float(worst) / 1000)
        for start, count, typical, worst in zip(_summed(starts), counts, middles, slowest, strict=True)
    )
    hours = tuple(dataclasses.replace(h, middle=digits(h.middle), slowest=digits(h.slowest)) for h in hours)
    kept = History(_summed(at), tuple(digits(float(s) / 1000) for s in seconds), hours, since)
    if version != PACKED or not _is_whole(kept):
        raise ValueError("not a history")
    return kept


def _is_whole(history: History) -> bool:
    times, starts = history.at, [hour.start for hour in history.hours]
    return (
        len(times) == len(history.seconds) <= KEPT_ROUNDS
        and len(starts) <= KEPT_HOURS
        and all(a < b for values in (times, starts) for a, b in pairwise(values))
        and all(_is_sound(at, s) for at, s in zip(times, history.seconds, strict=True))
        and all(_is_sound(h.start, h.middle) and _is_sound(h.start, h.slowest) and h.count > 0 for h in history.hours)
        and (history.since is None or (type(history.since) is int and _is_sound(history.since, 0)))
    )


def _packed(seconds: float) -> float:
    """Milliseconds to three digits, a whole number where it is one: that is shorter."""
    thousandths = float(f"{seconds * 1000:.3g}")
    return int(thousandths) if thousandths == int(thousandths) else thousandths


def _steps(values: Sequence[int]) -> list[int]:
    """The first, and then by how much each is more than the one before."""
    return [value - before for value, before in zip(values, (0, *values), strict=False)]


def _summed(steps: Sequence[int]) -> tuple[int, ...]:
    total, values = 0, []
    for step in steps:
        if type(step) is not int:
            raise TypeError("times are whole seconds")
        total += step
        values.append(total)
    return tuple(values)
