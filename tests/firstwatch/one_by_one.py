"""What firstwatch.series says, in plain Python, sample by sample: the judge of the arrays that say it fast."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

from firstwatch.model import Counts, Gauge, Histogram, Measurement, NoData, SourceError
from firstwatch.series import RawSeries, several
from firstwatch.units import show_duration


@dataclass(frozen=True, slots=True)
class _Step:
    """What one sample adds to a series: the counts by upper bound. A plain counter has one bound, infinity.
    `base` is when the counting of this step began, `None` where that was a restart."""

    at: float
    added: Mapping[float, float]
    base: float | None


_Rows = list[tuple[float, Mapping[float, float]]]  # cumulative counts by upper bound, over time
_Labelled = Sequence[tuple[Mapping[str, str], _Rows]]
_Floats = tuple[float, ...]
_Counted = Sequence[tuple[_Step, _Floats]]  # what each step adds to what is counted


# ── the four questions ───────────────────────────────────────────────────────────────────────────────────────


def gauge(series: Iterable[RawSeries], since: float, until: float, query: str = "") -> Measurement:
    """The one series' samples in [since, until]: Gauge, NoData, or SourceError where there are several series."""
    found = [(s, points) for s in series if (points := _between(s, since, until))]
    if len(found) > 1:
        (_, first), (_, second) = sorted(found, key=lambda one: one[1][0][0])[:2]
        before = gauge([RawSeries({}, *zip(*first, strict=True))], since, until, query)
        told = several([s for s, _ in found])
        return SourceError(told, query, second[0][0], before if isinstance(before, Gauge) else None)
    points = found[0][1] if found else []
    finite = [(t, v) for t, v in points if math.isfinite(v)]
    if not finite:
        return NoData("every sample is NaN or infinite" if points else "no series has a sample in this time", query)
    at, value = zip(*finite, strict=True)
    return Gauge(at, value, query)


def _between(series: RawSeries, since: float, until: float) -> list[tuple[float, float]]:
    return [(t, v) for t, v in zip(series.at, series.value, strict=True) if since <= t <= until]


def counts(
    bad: Iterable[RawSeries],
    total: Iterable[RawSeries],
    since: float,
    until: float,
    query: str = "",
    *,
    watched_from: float | None = None,
) -> Measurement:
    """Events of `total` and, of these, of `bad` by scrape interval in (since, until], summed over the series.

    `watched_from`: since when the one target was scraped, where the source knows. No series of `bad` means that
    nothing bad was ever counted: 0. No series of `total` is NoData. More bad than total is SourceError: `bad` must
    select some of what `total` selects.
    """
    totals = [(s.labels, _counter_rows(s)) for s in total]
    bads = [(s.labels, _counter_rows(s)) for s in bad]
    history = _History.of(totals, until, watched_from)
    steps = [
        (s, (0.0, s.added[math.inf])) for labels, rows in totals for s in _steps(labels, rows, history, since, until)
    ]
    steps += [
        (s, (s.added[math.inf], 0.0)) for labels, rows in bads for s in _steps(labels, rows, history, since, until)
    ]
    measured = _as_counts(steps, history, since, until, query)
    if isinstance(measured, Counts) and sum(measured.bad) > sum(measured.total):
        more, fewer = f"{sum(measured.bad):g}", f"{sum(measured.total):g}"
        why = (
            f"{more} errors but only {fewer} requests: the selector of errors must pick from what the other one selects"
        )
        return SourceError(why, query)
    return measured


def slower_than(
    buckets: Iterable[RawSeries],
    bound: float,
    since: float,
    until: float,
    query: str = "",
    *,
    watched_from: float | None = None,
) -> Measurement:
    """Requests (total) and those slower than `bound` seconds (bad), from the `_bucket` series of histograms.

    Inside a bucket requests are taken to be spread evenly, and the first one to begin at 0, as Prometheus'
    histogram_quantile does (prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
    SourceError: no +Inf bucket, an `le` that is no number, a bound above the last finite bucket.
    """
    try:
        histograms = _histograms(buckets)
        history = _History.of(histograms, until, watched_from)
        steps = [
            (s, (s.added[math.inf] - _up_to(bound, s.added), s.added[math.inf]))
            for labels, rows in histograms
            for s in _steps(labels, rows, history, since, until)
        ]
    except ValueError as error:
        return SourceError(str(error), query)
    return _as_counts(steps, history, since, until, query)


def histogram(
    buckets: Iterable[RawSeries],
    since: float,
    until: float,
    query: str = "",
    *,
    watched_from: float | None = None,
) -> Measurement:
    """All buckets by scrape interval, summed over the series, from the `_bucket` series of histograms.

    Series whose buckets differ (an old and a new version of the service) are laid on the bounds that all of them
    have, where their sums are exact. SourceError: no +Inf bucket, an `le` that is no number, no finite bound in common.
    """
    try:
        histograms = _histograms(buckets)
    except ValueError as error:
        return SourceError(str(error), query)
    history = _History.of(histograms, until, watched_from)
    found = [s for labels, rows in histograms for s in _steps(labels, rows, history, since, until)]
    bounds = sorted(set[float].intersection(*(set(s.added) for s in found))) if found else []
    if len(bounds) == 1:
        return SourceError("the series have no finite bucket (le) in common: select those of one kind", query)
    steps = [(s, tuple(s.added[upper] - s.added.get(lower, 0.0) for lower, upper in _edges(bounds))) for s in found]
    grid = _on_grid(steps, history, since)
    if grid is None:
        return NoData(_too_few(history.newest, since, until), query)
    began, at, rows = grid
    return Histogram(began, at, tuple(bounds), rows, query)


def above(measured: Histogram, bound: float) -> Counts:
    """The events that were larger than `bound` (bad) of all, as `slower_than` would have counted them. Raises
    ValueError for a bound above the last finite bucket."""
    rows = [dict(zip(measured.bounds, accumulate(row), strict=True)) for row in measured.counts]
    total = tuple(row[math.inf] for row in rows)
    bad = tuple(row[math.inf] - _up_to(bound, row) for row in rows)
    return Counts(measured.since, measured.at, bad, total, measured.query)


def interval(times: Iterable[Sequence[float]]) -> float | None:
    """The scrape interval: the median gap between samples. None where no series has two."""
    gaps = [b - a for at in times for a, b in pairwise(at)]
    return median(gaps) if gaps else None


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _History:
    """What was scraped when: tells a series that is new from one that we only now look at."""

    interval: float | None
    newest: float | None
    first: float
    first_by_target: Mapping[tuple[str, str], float]

    @classmethod
    def of(cls, series: _Labelled, until: float, watched_from: float | None) -> _History:
        by_target: dict[tuple[str, str], float] = {}
        times = [[t for t, _ in rows if t <= until] for _, rows in series]
        for (labels, _), at in zip(series, times, strict=True):
            if at:
                known = by_target.get(_target(labels), math.inf)
                by_target[_target(labels)] = min(known, at[0], watched_from if watched_from is not None else math.inf)
        newest = max((at[-1] for at in times if at), default=None)
        return cls(interval(times), newest, min(by_target.values(), default=math.inf), by_target)

    def knew(self, labels: Mapping[str, str], at: float) -> bool:
        """Whether a series that first appears at `at` was missing before because it did not exist."""
        if self.first_by_target.get(_target(labels), math.inf) < at:
            return True
        return self.interval is not None and self.first + 1.5 * self.interval < at


def _target(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("job", ""), labels.get("instance", "")


def _counter_rows(series: RawSeries) -> _Rows:
    return [(t, {math.inf: v}) for t, v in zip(series.at, series.value, strict=True) if math.isfinite(v)]


def _steps(labels: Mapping[str, str], rows: _Rows, history: _History, since: float, until: float) -> Iterator[_Step]:
    """What each sample in (since, until] adds, as the rules at the top say."""
    before: tuple[float, Mapping[float, float]] | None = None
    for at, now in rows:
        if at > until:
            return
        if at > since:
            if before is None:
                if history.knew(labels, at):
                    yield _Step(at, now, None)
            elif _was_reset(before[1], now):
                yield _Step(at, now, None)
            elif before[0] >= since:
                yield _Step(at, {le: count - before[1][le] for le, count in now.items()}, before[0])
        before = at, now


def _was_reset(before: Mapping[float, float], now: Mapping[float, float]) -> bool:
    """A count fell, or the buckets are other ones: a new process counts."""
    return before.keys() != now.keys() or any(count < before[le] for le, count in now.items())


def _as_counts(steps: _Counted, history: _History, since: float, until: float, query: str) -> Measurement:
    """(step, (bad, total)) of all series as one Counts, or why there is none."""
    grid = _on_grid(steps, history, since)
    if grid is None:
        return NoData(_too_few(history.newest, since, until), query)
    measured = _of_grid(*grid, query)
    if len(measured.at) == len({step.at for step, _ in steps}):
        return measured
    single = _on_grid(steps, history, since, 0.0)
    return dataclasses.replace(measured, single=_of_grid(*single, query)) if single else measured


def _of_grid(began: float, at: _Floats, rows: tuple[_Floats, ...], query: str) -> Counts:
    return Counts(began, at, tuple(bad for bad, _ in rows), tuple(total for _, total in rows), query)


def _on_grid(
    steps: _Counted, history: _History, since: float, tick: float = 0.9
) -> tuple[float, _Floats, tuple[_Floats, ...]] | None:
    """What the steps of all series add, in the sum at each tick: when the first interval began, the ticks, the sums.

    A tick is `tick` scrape intervals wide; with 0, each sample's time is one.
    """
    if not steps:
        return None
    width = tick * (history.interval or 0.0)
    at: list[float] = []
    rows: list[_Floats] = []
    began = -math.inf
    for step, more in sorted(steps, key=lambda entry: entry[0].at):
        if step.at - began >= width and (not at or step.at > at[-1]):
            began = step.at
            at.append(step.at)
            rows.append((0.0,) * len(more))
        at[-1] = step.at
        rows[-1] = tuple(a + b for a, b in zip(rows[-1], more, strict=True))
    # Of the first tick alone: what comes later must not change what was said before.
    starts = [step.base if step.base is not None else since for step, _ in steps if step.at <= at[0]]
    return min(starts), tuple(at), tuple(rows)


# ── histograms ───────────────────────────────────────────────────────────────────────────────────────────────


def _histograms(buckets: Iterable[RawSeries]) -> list[tuple[Mapping[str, str], _Rows]]:
    """The buckets that differ in `le` only, put together: labels without `le`, and counts by bound over time."""
    labels_of: dict[frozenset[tuple[str, str]], Mapping[str, str]] = {}
    rows_of: dict[frozenset[tuple[str, str]], dict[float, dict[float, float]]] = {}
    for series in buckets:
        labels = {k: v for k, v in series.labels.items() if k != "le"}
        key = frozenset(labels.items())
        labels_of[key] = labels
        rows = rows_of.setdefault(key, defaultdict(dict))
        le = _bound(series)
        for t, v in zip(series.at, series.value, strict=True):
            if math.isfinite(v):
                rows[t][le] = v
    for key, rows in rows_of.items():
        if any(math.inf not in counts_by_le for counts_by_le in rows.values()):
            name = RawSeries(labels_of[key], (), ())
            raise ValueError(f'{name} has no le="+Inf" bucket, so nobody knows how many requests there were')
    return [(labels_of[key], sorted(rows.items(), key=lambda row: row[0])) for key, rows in rows_of.items()]


def _bound(series: RawSeries) -> float:
    try:
        bound = float(series.labels.get("le", ""))
    except ValueError:
        bound = math.nan
    if math.isnan(bound):
        raise ValueError(f"{series} is no histogram bucket: its label le is not a number")
    return bound


def _edges(bounds: Sequence[float]) -> Iterator[tuple[float, float]]:
    """(lower, upper) of each bucket; the first one's lower bound is none of the histogram's."""
    return pairwise([-math.inf, *bounds])


def _up_to(bound: float, added: Mapping[float, float]) -> float:
    """How many of the requests in the buckets took `bound` seconds or less."""
    lower, below = 0.0, 0.0
    for upper, count in sorted(added.items()):
        if math.isclose(bound, upper, rel_tol=1e-9):
            return count
        if bound < upper:
            if upper == math.inf:
                break
            return below + (count - below) * (bound - lower) / (upper - lower)
        lower, below = upper, count
    raise ValueError(
        f"the histogram's last finite bucket ends at {lower:g}s, below {bound:g}s: it cannot say how many were slower;"
        f" add a bucket at {bound:g} to the service's histogram"
    )


# ── what is not there ────────────────────────────────────────────────────────────────────────────────────────


def _too_few(newest: float | None, since: float, until: float) -> str:
    if newest is None:
        return "no series has a sample in this time"
    if newest <= since:
        return f"the newest sample is {show_duration(until - newest)} old"
    return "one sample only, yet: a count needs two"
