"""How long a check usually takes at an hour of the day, and how far it usually strays from that.

Formula. All is in logarithms, since slowness is a factor. With m(d, h) the middle of hour h, d days ago (1 to 7):
  level(h)      the median of m(d, h) over the days, and between the middles of two hours a line. A daily course is
                in it, and a day that was slow as a whole moves it little.
  strayed(d, h) m(d, h) less the median of the *other* days at that hour: what the judge would have seen then.
  stretch       what one in 56 of these exceed (three of a week's 168), for stretches of at least twelve rounds: noise
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

from firstwatch.slowness.history import HOUR, History, Hour

DAY = 24  # hours
LEAST_AGO = 23  # hours: no younger than this is compared with
JUST_BEFORE = 4  # hours that a new check is compared with
FEWEST = 2  # of those
STRETCH = 12  # rounds that a stretch has at least
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


def usual(history: History, now: float, length: float) -> Usual | None:
    """From up to `length` seconds of history; None where there is too little. It changes with the hour only."""
    hour = int(now // HOUR) * HOUR
    ended = _ended(history, hour)
    typical = median(h.count for h in ended) if ended else 0
    full = [h for h in ended if 2 * h.count >= typical]
    old = [h for h in full if hour - length <= h.start <= hour - LEAST_AGO * HOUR]
    by_hour = _by_hour(old)
    levels = tuple(median(map(log, (h.middle for h in by_hour[n]))) if n in by_hour else None for n in range(DAY))
    here = int(hour // HOUR) % DAY
    if levels[here] is None and levels[here - 1] is None:
        return _just_before(full, hour)
    stretch, burst = _strayed(old, by_hour)
    days = max(map(len, by_hour.values()))
    return Usual(levels, days, stretch, burst, _a_week_ago(full, levels, hour))


def _ended(history: History, hour: int) -> list[Hour]:
    """Hours that are over, and were before it was degraded."""
    end = hour if history.since is None else min(hour, history.since - history.since % HOUR)
    return [h for h in history.hours if h.start < end]


def log(seconds: float) -> float:
    return math.log(max(seconds, TICK))


def _by_hour(hours: Sequence[Hour]) -> dict[int, list[Hour]]:
    found: dict[int, list[Hour]] = defaultdict(list)
    for h in hours:
        found[h.start // HOUR % DAY].append(h)
    return dict(found)


def _strayed(hours: Sequence[Hour], by_hour: dict[int, list[Hour]]) -> tuple[float, float]:
    """`stretch` and `burst`."""
    stretches, bursts = [], []
    together: list[tuple[int, float]] = []
    for h in hours:
        others = [log(o.middle) for o in by_hour[h.start // HOUR % DAY] if o is not h]
        if not others:
            continue
        expected = median(others)
        bursts.append(log(h.slowest) - expected)
        together.append((h.count, log(h.middle) - expected))
        if sum(count for count, _ in together) >= STRETCH:
            stretches.append(sum(s for _, s in together) / len(together))
            together = []
    if len(stretches) < DAY // 2:
        own = [log(h.slowest) - log(h.middle) for h in hours]
        return max([UNKNOWN, *stretches]), UNKNOWN + max([0.0, _highest(own), *bursts])
    return _highest(stretches), _highest(bursts)


def _highest(strayed: Sequence[float]) -> float:
    """What one in 56 exceed; of fewer, the highest. Never below 0."""
    return max(0.0, sorted(strayed)[-max(1, round(len(strayed) / ONE_IN))]) if strayed else 0.0


def _a_week_ago(hours: Sequence[Hour], levels: Sequence[float | None], hour: int) -> float:
    begin = hour - (7 * DAY + 3) * HOUR
    then = [h for h in hours if begin <= h.start <= begin + 6 * HOUR]
    above = [log(h.middle) - level for h in then if (level := levels[h.start // HOUR % DAY]) is not None]
    return max(0.0, median(above)) if len(above) >= 3 else 0.0


def _just_before(hours: Sequence[Hour], hour: int) -> Usual | None:
    """The last hours that are over, the latest of which may already be slow and is left out where there are others."""
    before = [h for h in hours if h.start > hour - DAY * HOUR][-JUST_BEFORE - 1 :]
    before = before[:-1] if len(before) > FEWEST else before
    if len(before) < FEWEST:
        return None
    level = median(log(h.middle) for h in before)
    burst = max(log(h.slowest) for h in before) - level
    return Usual((level,) * DAY, 0, UNKNOWN, max(UNKNOWN, burst), is_new=True)
