"""What was read before need not be read again: old samples and a new, short answer put together.

A sample that is in a Prometheus stays as it is, but it may come late: a scrape is stored when it has ended, and what is
written from afar lags behind. So the last minute before the newest sample is read again, of each series that has not
ended, and where old and new do not fit together like one reading, everything is to be read anew:

* a sample that was read has gone, or a series has: another replica answers, or something was deleted;
* a hole where old and new meet: what lies in it may have come since;
* a series that was not there before, and may have begun before the new answer does;
* it was ten minutes ago that everything was read: what came very late, and into the middle of a series, is then seen.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import sub

from firstwatch.series import LOOK_BACK, RawSeries

LATE = 60.0  # seconds, or two scrape intervals: by so much a sample may come later than the newest of its series
ENDED = LOOK_BACK  # seconds without a sample, after which no series that goes on is expected to have late ones
ANEW_AFTER = 600.0  # seconds
_HOLE = 1.5  # usual gaps
_GAPS = 9  # the last ones, whose median is the usual one

_Key = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class _Seam:
    """Of the old samples, those in [first:end] stay; `at`: their times and the new ones'."""

    first: int
    end: int
    at: array[float]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """All samples of a selector in [since, until], as they were read (16 bytes each); `whole`: the `until` of when
    everything was read. No series is without a sample. Series that were scraped together, such as a histogram's
    buckets, share one array of times: what follows from it is worked out once for all of them."""

    since: float
    until: float
    whole: float
    series: tuple[RawSeries, ...]

    @classmethod
    def of(cls, answer: Iterable[RawSeries], since: float, until: float) -> Kept:
        packed, at = [], array("d")
        for series in answer:
            times = array("d", series.at)
            at = at if times == at else times
            packed.append(RawSeries(series.labels, at, array("d", series.value)))
        return cls(since, until, until, tuple(packed))

    @property
    def samples(self) -> int:
        return sum(len(s.at) for s in self.series)

    def begin(self, since: float, until: float) -> float | None:
        """From when on to read, to know all in [since, until] (Unix seconds). None: everything is to be read."""
        if since < self.since or until < self.until or until - self.whole >= ANEW_AFTER:
            return None
        going_on = {id(s.at): s.at for s in self.series if s.at[-1] > self.until - ENDED}
        if self.series and not going_on:
            return None
        begin = min((at[-1] - _late(at) for at in going_on.values()), default=self.until - LATE)
        return begin if begin > since else None

    def joined(self, answer: Sequence[RawSeries], begin: float, since: float, until: float) -> Kept | None:
        """With `answer`, which is all in [begin, until]: everything in [since, until]. None: they do not fit."""
        new = {_key(s): s for s in answer}
        if len(new) < len(answer) or any(s.at[0] < begin for s in answer):
            return None
        together, seams = [], _Seams(begin, since)
        for old in self.series:
            one = seams.continued(old, new.pop(_key(old), None))
            if one is None:
                return None
            together.append(one)
        for one in new.values():
            if _may_have_begun_before(one.at, begin):
                return None
            together.append(Kept.of([one], since, until).series[0])
        if new:
            together.sort(key=lambda s: sorted(s.labels.items()))  # as Prometheus does
        return Kept(since, until, self.whole, tuple(s for s in together if len(s.at)))


def _key(series: RawSeries) -> _Key:
    return frozenset(series.labels.items())


class _Seams:
    """Where old samples before `begin` and new ones meet, by the array of the old times: that of one series is, as a
    rule, that of the next one."""

    def __init__(self, begin: float, since: float) -> None:
        self._begin, self._since = begin, since
        self._known: dict[int, tuple[Sequence[float] | None, _Seam | None]] = {}

    def continued(self, old: RawSeries, new: RawSeries | None) -> RawSeries | None:
        """One series, old and new. None: they do not fit."""
        later = None if new is None else new.at
        known, seam = self._known.get(id(old.at), ((), None))
        if known != later:
            seam = self._seam(old.at, later)
            self._known[id(old.at)] = later, seam
        if seam is None:
            return None
        value = array("d", old.value[seam.first : seam.end])
        value.extend(new.value if new is not None else ())
        return RawSeries(old.labels, seam.at, value)

    def _seam(self, old: Sequence[float], new: Sequence[float] | None) -> _Seam | None:
        first, end = bisect_left(old, self._since), bisect_left(old, self._begin)
        if new is None:
            return _Seam(first, end, array("d", old[first:end])) if end == len(old) else None
        if not set(old[end:]) <= set(new):
            return None
        if end == 0:
            if new[0] != old[0] and _may_have_begun_before(new, self._begin):
                return None
        elif not new[0] - old[end - 1] <= _HOLE * min(_usual_gap(old), _usual_gap(new)) < math.inf:
            return None
        at = array("d", old[first:end])
        at.extend(new)
        return _Seam(first, end, at)


def _may_have_begun_before(at: Sequence[float], begin: float) -> bool:
    """Whether the sample before the first of these might lie before `begin`."""
    gap = _usual_gap(at)
    return at[0] <= begin + (_HOLE * gap if math.isfinite(gap) else LATE / 2)


def _late(at: Sequence[float]) -> float:
    gap = _usual_gap(at)
    return max(LATE, 2 * gap) if math.isfinite(gap) else LATE


def _usual_gap(at: Sequence[float]) -> float:
    """Seconds between the samples of late; infinite where there is one sample only."""
    last = at[-_GAPS - 1 :]
    gaps = sorted(map(sub, last[1:], last))
    return gaps[len(gaps) // 2] if gaps else math.inf
