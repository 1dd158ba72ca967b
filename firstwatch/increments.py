"""What each sample adds, and what the samples of all series add at each tick: firstwatch.series' rules, in arrays.

A look reads some 360 samples of a dozen series, and a thousand windows look every fifteen seconds: sample by sample in
Python that took 25 ms a look. Sums are taken in the order of time, series after series, as a person would add them up;
tests/firstwatch/one_by_one.py says the same in plain Python, and the tests hold one against the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Samples(Protocol):
    """A series as it was scraped."""

    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def at(self) -> Sequence[float]: ...
    @property
    def value(self) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A series' cumulative counts: at `at[i]`, `count[i, j]` events up to `bounds[j]`; NaN where there is no such
    bucket. `bounds` ascend; a plain counter has one, infinity."""

    labels: Mapping[str, str]
    bounds: Sequence[float]
    at: Floats
    count: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What samples add: `added[i, j]` events up to `bounds[j]`, counted from `base[i]` (a restart: from the beginning
    of what is asked) to `at[i]`."""

    bounds: Sequence[float]
    at: Floats
    base: Floats
    added: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Sums by tick: the first interval began at `since`; tick i ends at `at[i]`. `times`: of how many samples."""

    since: float
    at: tuple[float, ...]
    sums: Floats
    times: int


# ── series over time ─────────────────────────────────────────────────────────────────────────────────────────


def counter(series: Samples) -> Rows:
    at, value = _arrays(series)
    finite = np.isfinite(value)
    if not finite.all():
        at, value = at[finite], value[finite]
    return Rows(series.labels, (math.inf,), at, value[:, None])


def histograms(buckets: Iterable[tuple[float, Samples]]) -> list[Rows]:
    """The buckets (upper bound, series) that differ in `le` only, put together; labels without `le`."""
    members: dict[frozenset[tuple[str, str]], list[tuple[float, Samples]]] = {}
    for bound, series in buckets:
        key = frozenset(item for item in series.labels.items() if item[0] != "le")
        members.setdefault(key, []).append((bound, series))
    return [_histogram(dict(key), found) for key, found in members.items()]


def _histogram(labels: Mapping[str, str], buckets: Sequence[tuple[float, Samples]]) -> Rows:
    arrays = [_arrays(series) for _, series in buckets]
    at, shared = arrays[0][0], buckets[0][1].at
    pairs = zip(buckets, arrays, strict=True)
    alike = all(series.at is shared or np.array_equal(at, times) for (_, series), (times, _) in pairs)
    if not alike:
        at = np.unique(np.concatenate([times for times, _ in arrays]))
    bounds = sorted({bound for bound, _ in buckets})
    count = np.full((len(at), len(bounds)), np.nan)
    for (bound, _), (times, value) in zip(buckets, arrays, strict=True):
        finite, j = np.isfinite(value), bounds.index(bound)
        if alike:
            count[finite, j] = value[finite]
        else:
            count[np.searchsorted(at, times[finite]), j] = value[finite]
    there = ~np.isnan(count).all(axis=1)
    return Rows(labels, bounds, at[there], count[there])


def _arrays(series: Samples) -> tuple[Floats, Floats]:
    """(times, values). Raises ValueError where they are not as many."""
    at, value = np.asarray(series.at, np.float64), np.asarray(series.value, np.float64)
    if at.shape != value.shape:
        raise ValueError(f"{len(at)} times but {len(value)} values")
    return at, value


# ── what was scraped when ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class History:
    """What was scraped when: tells a series that is new from one that we only now look at.

    `interval`: the scrape interval, None where no series has two samples.
    """

    interval: float | None
    newest: float | None
    first: float
    first_by_target: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, series: Iterable[Rows], until: float, watched_from: float | None) -> History:
        """Of the samples up to `until`. `watched_from`: since when the one target was scraped, if known."""
        by_target: dict[tuple[str, str], float] = {}
        times = []
        for rows in series:
            at = rows.at[: rows.at.searchsorted(until, "right")]
            if len(at):
                times.append(at)
                target, watched = _target(rows.labels), math.inf if watched_from is None else watched_from
                by_target[target] = min(by_target.get(target, math.inf), float(at[0]), watched)
        newest = max((float(at[-1]) for at in times), default=None)
        return cls(_interval(times), newest, min(by_target.values(), default=math.inf), by_target)

    def knew(self, labels: Mapping[str, str], at: float) -> bool:
        """Whether a series that first appears at `at` was missing before because it did not exist."""
        if self.first_by_target.get(_target(labels), math.inf) < at:
            return True
        return self.interval is not None and self.first + 1.5 * self.interval < at


def _interval(times: Iterable[Floats]) -> float | None:
    """The median gap between samples."""
    gaps = [np.diff(at) for at in times if len(at) > 1]
    if not gaps:
        return None
    every = np.sort(np.concatenate(gaps))
    return float((every[(len(every) - 1) // 2] + every[len(every) // 2]) / 2)


def _target(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("job", ""), labels.get("instance", "")


# ── what samples add ─────────────────────────────────────────────────────────────────────────────────────────


def steps(rows: Rows, history: History, since: float, until: float) -> Steps:
    """What each sample in (since, until] adds, as the rules in firstwatch.series say."""
    first, end = rows.at.searchsorted((since, until), "right").tolist()
    at, now = rows.at[first:end], rows.count[first:end]
    if first:
        at_before, before = rows.at[first - 1 : end - 1], rows.count[first - 1 : end - 1]
    else:  # nothing came before the first sample
        at_before = np.concatenate(((-math.inf,), rows.at[:end][:-1]))[: len(at)]
        before = np.concatenate((np.full((1, now.shape[1]), np.nan), rows.count[:end][:-1]))[: len(at)]
    # A count fell, or the buckets are other ones: a new process counts. So it is where there was nothing before.
    anew = ((now < before) | (np.isnan(now) != np.isnan(before))).any(axis=1)
    added = np.where(anew[:, None], now, now - before)
    base = np.where(anew, since, at_before)
    placed = 0
    if len(at):
        known = history.knew(rows.labels, float(at[0])) if first == 0 else bool(anew[0] or at_before[0] >= since)
        placed = 0 if known else 1
    return Steps(rows.bounds, at[placed:], base[placed:], added[placed:])


def up_to(bound: float, bounds: Sequence[float], count: Floats) -> Floats:
    """How many of the requests in the buckets took `bound` seconds or less, row by row.

    Raises ValueError for a bound above the last finite bucket of a row.
    """
    there = ~np.isnan(count)
    if there.all():
        return _up_to(bound, bounds, count) if len(count) else np.zeros(0)
    found = np.empty(len(count))
    patterns, first, members = np.unique(there, axis=0, return_index=True, return_inverse=True)
    for i in np.argsort(first):  # so that the first row that cannot say is the one that is told of
        mine = members.reshape(-1) == i
        own = [upper for upper, has in zip(bounds, patterns[i], strict=True) if has]
        found[mine] = _up_to(bound, own, count[np.ix_(mine, patterns[i])])
    return found


def _up_to(bound: float, bounds: Sequence[float], count: Floats) -> Floats:
    lower, below = 0.0, np.zeros(len(count))
    for j, upper in enumerate(bounds):
        if math.isclose(bound, upper, rel_tol=1e-9):
            return count[:, j]
        if bound < upper:
            if upper == math.inf:
                break
            return below + (count[:, j] - below) * (bound - lower) / (upper - lower)
        lower, below = upper, count[:, j]
    raise ValueError(
        f"the histogram's last finite bucket ends at {lower:g}s, below {bound:g}s: it cannot say how many were slower;"
        f" add a bucket at {bound:g} to the service's histogram"
    )


# ── all series together ──────────────────────────────────────────────────────────────────────────────────────


def on_grid(parts: Sequence[tuple[Steps, Floats]], width: float) -> Grid | None:
    """What the steps of all series add, in the sum at each tick of `width` seconds; with 0, each sample's time is one.

    A part's second is what its steps add to what is counted: a row a step.
    """
    at = np.concatenate([s.at for s, _ in parts]) if parts else np.zeros(0)
    if not len(at):
        return None
    order = np.argsort(at, kind="stable")
    at, base = at[order], np.concatenate([s.base for s, _ in parts])[order]
    more = np.concatenate([m for _, m in parts])[order]
    begins = np.concatenate(((True,), at[1:] > at[:-1]))
    times = at[begins]
    tick_of_time = _ticks(times, width)
    last = np.concatenate((tick_of_time[1:] > tick_of_time[:-1], (True,)))
    tick = tick_of_time[np.cumsum(begins) - 1]
    ends = times[last]
    # bincount adds one after the other, in the order of time.
    sums = np.empty((len(ends), more.shape[1]))
    for j in range(more.shape[1]):
        sums[:, j] = np.bincount(tick, more[:, j], len(ends))
    # Of the first tick alone: what comes later must not change what was said before.
    return Grid(float(base[at <= ends[0]].min()), tuple(ends.tolist()), sums, len(times))


def _ticks(times: Floats, width: float) -> NDArray[np.intp]:
    """The number of the tick of each time: as soon as one is `width` after its tick's first, the next tick begins."""
    if (np.diff(times) >= width).all():
        return np.arange(len(times))
    ticks, tick, began = [], -1, -math.inf
    for at in times.tolist():
        if at - began >= width:
            tick, began = tick + 1, at
        ticks.append(tick)
    return np.array(ticks)
