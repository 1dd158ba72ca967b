"""From the raw samples of a metrics page to measurements: the arithmetic that every metric source shares.

Rules, the same for a Prometheus and for the embedded source:

* An increment counts from the moment on which it was seen. What was counted between the last sample before `since`
  and the first one after it may have happened before, so it is left out; the first interval then starts at that
  first sample.
* A counter that falls was reset by a restart: its new value was counted since then, all of it. Each series is
  looked at for itself; the buckets of one histogram are one series. (A reset that has overtaken the old value
  between two samples cannot be seen; Prometheus' own `increase` has the same limit.)
* A series that appears in mid-range started at 0, so that the first error ever is an error, if its target had been
  scraped before. A target is what shares the labels job and instance. A new target's series (a new pod) started at 0
  too, if other targets had been scraped for longer than an interval and a half; otherwise the scraping itself may
  have just begun, and the first sample is only a base.
* Samples that are NaN or infinite are no samples.
* Series of several targets are laid on one grid: samples less than 0.9 scrape intervals after the first of their
  group are one tick, which bears the time of its last sample.
* How old the newest sample is, is not judged here: a series that has ended is still evidence of what was.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from firstwatch import increments
from firstwatch.increments import History
from firstwatch.model import Counts, Gauge, Histogram, Measurement, NoData, SourceError
from firstwatch.units import show_duration

LOOK_BACK = 300.0  # seconds before `since` that a source reads too, to know what was there already
_SHOWN = 3  # of several series, as many are named
_TICK = 0.9  # scrape intervals

_Parts = Sequence[tuple[increments.Steps, increments.Floats]]


@dataclass(frozen=True, slots=True)
class RawSeries:
    """One series' samples as they were scraped. `labels` holds its name as `__name__`; `at` strictly ascends."""

    labels: Mapping[str, str]
    at: Sequence[float]
    value: Sequence[float]

    def between(self, since: float, until: float) -> RawSeries:
        """The samples in [since, until]."""
        first, end = bisect_left(self.at, since), bisect_right(self.at, until)
        return RawSeries(self.labels, self.at[first:end], self.value[first:end])

    def __str__(self) -> str:
        labels = ",".join(f'{k}="{v}"' for k, v in sorted(self.labels.items()) if k != "__name__")
        return f"{self.labels.get('__name__', '')}{{{labels}}}"


# ── the four questions ───────────────────────────────────────────────────────────────────────────────────────


def gauge(series: Iterable[RawSeries], since: float, until: float, query: str = "") -> Measurement:
    """The one series' samples in [since, until]: Gauge, NoData, or SourceError where there are several series."""
    found = [part for s in series if len((part := s.between(since, until)).at)]
    if len(found) > 1:
        first, second = sorted(found, key=lambda part: part.at[0])[:2]
        before = gauge([first], since, until, query)
        return SourceError(several(found), query, second.at[0], before if isinstance(before, Gauge) else None)
    at, value = (tuple(found[0].at), tuple(found[0].value)) if found else ((), ())
    finite = np.isfinite(np.asarray(found[0].value if found else ()))
    if not finite.any():
        return NoData("every sample is NaN or infinite" if found else "no series has a sample in this time", query)
    if not finite.all():
        at, value = (tuple(compress(column, finite)) for column in (at, value))
    return Gauge(at, value, query)


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
    seen, failed = list(total), list(bad)
    totals = [increments.counter(s) for s in seen]
    history = History.of(totals, until, watched_from)
    every = [increments.steps(rows, history, since, until) for rows in totals]
    if len(seen) == len(failed) and all(a is b for a, b in zip(seen, failed, strict=True)):  # the load, as a rule
        parts = [(s, _bad_and_all(s, True, True)) for s in every]
    else:
        bads = [increments.steps(increments.counter(s), history, since, until) for s in failed]
        parts = [(s, _bad_and_all(s, False, True)) for s in every] + [(s, _bad_and_all(s, True, False)) for s in bads]
    measured = _as_counts(parts, history, since, until, query)
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
        history = History.of(histograms, until, watched_from)
        steps = [increments.steps(rows, history, since, until) for rows in histograms]
        parts = [(s, _slower_and_all(bound, s.bounds, s.added)) for s in steps]
    except ValueError as error:
        return SourceError(str(error), query)
    return _as_counts(parts, history, since, until, query)


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
    history = History.of(histograms, until, watched_from)
    found = [s for rows in histograms if len((s := increments.steps(rows, history, since, until)).at)]
    bounds = sorted(set[float].intersection(*(_always_there(s) for s in found))) if found else []
    if len(bounds) == 1:
        return SourceError("the series have no finite bucket (le) in common: select those of one kind", query)
    shared = [s.added[:, [s.bounds.index(bound) for bound in bounds]] for s in found]
    parts = [(s, np.diff(added, axis=1, prepend=0.0)) for s, added in zip(found, shared, strict=True)]
    grid = increments.on_grid(parts, _TICK * (history.interval or 0.0))
    if grid is None:
        return NoData(_too_few(history.newest, since, until), query)
    return Histogram(grid.since, grid.at, tuple(bounds), tuple(map(tuple, grid.sums.tolist())), query)


def above(measured: Histogram, bound: float) -> Counts:
    """The events that were larger than `bound` (bad) of all, as `slower_than` would have counted them. Raises
    ValueError for a bound above the last finite bucket."""
    rows = np.array(measured.counts, np.float64).reshape(len(measured.at), len(measured.bounds))
    found = _slower_and_all(bound, measured.bounds, np.cumsum(rows, axis=1))
    bad, total = (tuple(column.tolist()) for column in found.T)
    return Counts(measured.since, measured.at, bad, total, measured.query)


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────


def _as_counts(parts: _Parts, history: History, since: float, until: float, query: str) -> Measurement:
    """(steps, (bad, total)) of all series as one Counts, or why there is none."""
    grid = increments.on_grid(parts, _TICK * (history.interval or 0.0))
    if grid is None:
        return NoData(_too_few(history.newest, since, until), query)
    measured = _of_grid(grid, query)
    if len(grid.at) == grid.times:
        return measured
    single = increments.on_grid(parts, 0.0)
    return dataclasses.replace(measured, single=_of_grid(single, query)) if single else measured


def _of_grid(grid: increments.Grid, query: str) -> Counts:
    bad, total = (tuple(column.tolist()) for column in grid.sums.T)
    return Counts(grid.since, grid.at, bad, total, query)


def _bad_and_all(steps: increments.Steps, bad: bool, counted: bool) -> increments.Floats:
    """What a counter's steps add to the bad events and to all."""
    return np.outer(steps.added[:, 0], (bad, counted))


# ── histograms ───────────────────────────────────────────────────────────────────────────────────────────────


def _histograms(buckets: Iterable[RawSeries]) -> list[increments.Rows]:
    """The buckets that differ in `le` only, put together. Raises ValueError: no +Inf bucket, an `le` that is none."""
    found = increments.histograms([(_bound(series), series) for series in buckets])
    for rows in found:
        if len(rows.at) and (rows.bounds[-1] != math.inf or np.isnan(rows.count[:, -1]).any()):
            name = RawSeries(rows.labels, (), ())
            raise ValueError(f'{name} has no le="+Inf" bucket, so nobody knows how many requests there were')
    return found


def _bound(series: RawSeries) -> float:
    try:
        bound = float(series.labels.get("le", ""))
    except ValueError:
        bound = math.nan
    if math.isnan(bound):
        raise ValueError(f"{series} is no histogram bucket: its label le is not a number")
    return bound


def _slower_and_all(bound: float, bounds: Sequence[float], count: increments.Floats) -> increments.Floats:
    """Of the requests in each row of cumulative buckets: those slower than `bound` seconds, and all."""
    every = count[:, -1]
    return np.stack((every - increments.up_to(bound, bounds, count), every), axis=1)


def _always_there(steps: increments.Steps) -> set[float]:
    """The bounds of the buckets that each step has."""
    return {bound for j, bound in enumerate(steps.bounds) if not np.isnan(steps.added[:, j]).any()}


# ── what is not there ────────────────────────────────────────────────────────────────────────────────────────


def _too_few(newest: float | None, since: float, until: float) -> str:
    if newest is None:
        return "no series has a sample in this time"
    if newest <= since:
        return f"the newest sample is {show_duration(until - newest)} old"
    return "one sample only, yet: a count needs two"


def several(found: Sequence[RawSeries]) -> str:
    names = ", ".join(sorted(str(s) for s in found)[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} series where one is expected: {names}{more}; add labels, or put sum(…) or max(…) around it"
