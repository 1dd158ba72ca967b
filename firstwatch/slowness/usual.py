"""How long a check usually takes at an hour of the day, and how far it usually strays from that.

Formula. All is in logarithms, since slowness is a factor. With m(d, h) the middle of hour h, d days ago (1 to 7):
  level(h)      the median of m(d, h) over the days, and between the middles of two hours a line. A daily course is
                in it, and a day that was slow as a whole moves it little.
  strayed(d, h) m(d, h) less the median of the *other* days at that hour: what the judge would have seen then.
  stretch       what one in 56 of these exceed (three of a week's 168), for stretches of at least 24 rounds: noise
                of all kinds, with its memory, from hour to hour and from day to day, as it was.
  burst         the same for the slowest ten rounds in a row of each hour.
  week          by how much the same hours a week ago were above the level: a Monday that is slow each week is usual.

Nothing of the last 23 hours is in it, so what creeps in over a day cannot hide itself; and while the check is degraded,
nothing since it began. With less than a day of history the hours just before take its place (`is_new`): they have seen
nothing of the day's course, so the judge has to allow for one.

Assumption. The next hours stray as those of the last days did. The hours are those of UTC: where clocks change, the
daily course is an hour off for a week.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from firstwatch.slowness.history import HOUR, History

DAY = 24  # hours
LEAST_AGO = 23  # hours: no younger than this is compared with
JUST_BEFORE = 4  # hours that a new check is compared with
FEWEST = 2  # of those
STRETCH = 24  # rounds that a stretch has at least, as has what the judge sees of a lasting slow-down
FEWEST_STRETCHES = 12  # without which it is not known how they stray
AROUND = 3  # hours before and after this one, a week ago
ONE_IN = 56  # stretches stray as far as `stretch`
UNKNOWN = 0.15  # how far hours stray where no two days can be compared
COURSE = 1.5  # times: what the course of a day may do to a check within four hours, where it is not known yet
TICK = 1e-4  # seconds; a clock that says less says nothing


@dataclass(frozen=True, slots=True)
class Usual:
    """`levels` by the hour of the day (UTC), None where nothing is known; logarithms of seconds, as are the others."""

    levels: tuple[float | None, ...]
    days: int
    stretch: float
    burst: float
    week: float = 0.0
    is_new: bool = False

    @property
    def allowed(self) -> float:
        """How far above the level is as usual as the level itself."""
        return self.week + (math.log(COURSE) if self.is_new else 0.0)

    def at(self, when: float) -> float | None:
        """The level at a time (log seconds), None where nothing is known of that hour and its neighbour."""
        position = when / HOUR - 0.5
        before = math.floor(position)
        one, other = self.levels[before % DAY], self.levels[(before + 1) % DAY]
        if one is None or other is None:
            return one if other is None else other
        return one + (position - before) * (other - one)


class Logged(NamedTuple):
    """An hour, in logarithms. `number` counts the hours since 1970."""

    number: int
    rounds: int
    middle: float
    slowest: float


def usual(history: History, now: float, length: float) -> Usual | None:
    """From up to `length` seconds of history, or all that is kept of the time before it was degraded; None where there
    is too little. It changes with the hour only."""
    this = int(now // HOUR)
    full = _ended(history, this)
    first = this - length / HOUR if history.since is None else 0
    old = [h for h in full if first <= h.number <= this - LEAST_AGO]
    by_hour = _by_hour(old)
    levels = tuple(median(h.middle for h in by_hour[n]) if n in by_hour else None for n in range(DAY))
    if levels[this % DAY] is None and levels[(this - 1) % DAY] is None:
        return _just_before(full, this)
    stretch, burst = _strayed(old, by_hour)
    return Usual(levels, max(map(len, by_hour.values())), stretch, burst, _a_week_ago(full, levels, this))


def _ended(history: History, this: int) -> list[Logged]:
    """Hours that are over, were before it was degraded, and have half of the usual rounds at least."""
    end = this if history.since is None else min(this, history.since // HOUR)
    ended = [h for h in history.hours if h.start < end * HOUR]
    least = median(h.count for h in ended) / 2 if ended else 0
    return [Logged(h.start // HOUR, h.count, log(h.middle), log(h.slowest)) for h in ended if h.count >= least]


def log(seconds: float) -> float:
    return math.log(max(seconds, TICK))


def _by_hour(hours: Sequence[Logged]) -> dict[int, list[Logged]]:
    found: dict[int, list[Logged]] = defaultdict(list)
    for h in hours:
        found[h.number % DAY].append(h)
    return dict(found)


def _strayed(hours: Sequence[Logged], by_hour: dict[int, list[Logged]]) -> tuple[float, float]:
    """`stretch` and `burst`."""
    stretches, bursts = [], []
    together: list[float] = []
    rounds = 0
    for h in hours:
        others = [o.middle for o in by_hour[h.number % DAY] if o is not h]
        if not others:
            continue
        expected = median(others)
        bursts.append(h.slowest - expected)
        together.append(h.middle - expected)
        rounds += h.rounds
        if rounds >= STRETCH:
            stretches.append(sum(together) / len(together))
            together, rounds = [], 0
    if len(stretches) < FEWEST_STRETCHES:
        own = [h.slowest - h.middle for h in hours]
        return max([UNKNOWN, *stretches]), max([UNKNOWN + _highest(own), *bursts])
    return _highest(stretches), _highest(bursts)


def _highest(strayed: Sequence[float]) -> float:
    """What one in 56 exceed; of fewer, the highest. Never below 0."""
    return max(0.0, sorted(strayed)[-max(1, round(len(strayed) / ONE_IN))]) if strayed else 0.0


def _a_week_ago(hours: Sequence[Logged], levels: Sequence[float | None], this: int) -> float:
    """By how much the seven hours around this one were above the level then; less than three of them say nothing."""
    then = [h for h in hours if abs(h.number - (this - 7 * DAY)) <= AROUND]
    above = [h.middle - level for h in then if (level := levels[h.number % DAY]) is not None]
    return max(0.0, median(above)) if len(above) >= AROUND else 0.0


def _just_before(hours: Sequence[Logged], this: int) -> Usual | None:
    """The last hours that are over; the latest may be slow already, and is left out where there are others."""
    before = [h for h in hours if h.number > this - DAY][-JUST_BEFORE - 1 :]
    before = before[:-1] if len(before) > FEWEST else before
    if len(before) < FEWEST:
        return None
    level = median(h.middle for h in before)
    burst = max(h.slowest for h in before) - level
    return Usual((level,) * DAY, 0, UNKNOWN, max(UNKNOWN, burst), is_new=True)
