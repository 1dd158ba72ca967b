"""Has the latency got worse? From a histogram, from counts of slow requests, or from a quantile that is measured.

Against the objective (`context.bound`, of which `context.limit` of the requests may be longer): a histogram becomes
counts of requests above the bound, and the proportion judge says whether their share is too large. A gauge of a
quantile (a summary) says only where the quantile lay in each scrape: e-values 1 + λ·(±1) of whether it was above the
bound, in more than half of the scrapes.

Against the stable version (`context.stable`): the shares of requests above every bound of the histograms are compared,
each as the compare judge compares two shares, and their e-values averaged, which is one again: it finds a slow tail as
well as a shift of everything, and looking at a dozen bounds costs log 12, not a dozen chances to err. Anytime-valid;
formulas and sources in `evidence` (for whole distributions: Howard, Ramdas, arXiv 1906.09512; Lindon, Malek, NeurIPS
2022). `context.limit` is then by how much the share above a bound may grow, relative to the stable version's.

Assumptions: as in `proportion` and in `compare`. Where both bound and stable version are given, each is tested at half
of alpha, with `context.limit` for the objective and a quarter for the comparison.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from firstwatch import series as arithmetic
from firstwatch.judges.base import Context, Floats, judgement, percent
from firstwatch.judges.evidence import RISES, accumulated, signs, two_shares, worth_one
from firstwatch.judges.proportion import proportion
from firstwatch.judges.versions import (
    against_stable,
    is_proven,
    no_chance,
    not_yet,
    open_or_passed,
    spread_evenly,
    starts,
    too_few,
    worst,
)
from firstwatch.model import Counts, Gauge, Histogram, Judgement, Outcome, Series
from firstwatch.units import show_duration

MARGIN = 0.25  # by how much a share may grow, where context.limit is the objective's
FEWEST = 8  # samples of a quantile


def distribution(series: Series, context: Context) -> Judgement:
    """Judges a `Histogram` (seconds), a `Gauge` of a quantile, or `Counts` of slow requests. Never raises on data."""
    stable = context.stable if isinstance(series, Histogram) else None
    both = stable is not None and context.bound is not None
    half = dataclasses.replace(context, alpha=context.alpha / 2) if both else context
    judged = []
    if isinstance(series, Counts):
        judged.append(proportion(series, context))
    elif context.bound is not None:
        judged.append(_objective(series, context.bound, half))
    if isinstance(series, Histogram) and isinstance(stable, Histogram):
        judged.append(histograms(series, stable, dataclasses.replace(half, limit=MARGIN) if both else half))
    elif stable is not None:
        judged.append(not_yet("the stable version has no histogram to compare with", context, series))
    if not judged:
        return not_yet("neither an objective nor a stable version to compare with", context, series)
    return worst(judged)


# ── against the objective ────────────────────────────────────────────────────────────────────────────────────


def _objective(series: Histogram | Gauge, bound: float, context: Context) -> Judgement:
    if isinstance(series, Gauge):
        return _quantile(series, bound, context)
    try:
        return proportion(arithmetic.above(series, bound), context)
    except ValueError as error:
        return judgement(Outcome.ERROR, str(error), context, series)


def _quantile(series: Gauge, bound: float, context: Context) -> Judgement:
    at, value = np.asarray(series.at, dtype=float), np.asarray(series.value, dtype=float)
    seen = at > max(context.deployed_at, context.begins)
    at, value = at[seen], value[seen]
    if len(at) < FEWEST:
        return not_yet(f"{len(at)} samples since the deploy; {FEWEST} are needed to judge", context, series, len(at))
    above = value > bound
    found = accumulated(signs(above.astype(float), worth_one(value)), starts(at, context), context.alpha)
    newest = value[-max(FEWEST // 2, math.ceil(len(value) / 6)) :]
    now = float(np.median(newest))
    limit = f"objective {show_duration(bound)}"
    if is_proven(found, above, at, context) and now > bound:
        over, of = int(above[found.start :].sum()), len(at) - found.start
        why = f"{show_duration(now)}, {limit}; above it in {over} of {of} samples"
        judged = judgement(Outcome.FAIL, why, context, series, value=now, sample=of, since=float(at[found.start]))
    elif now > bound:
        why = f"{show_duration(now)} of late, {limit}: above it, and not yet long enough to be no accident"
        judged = judgement(Outcome.NOT_YET, why, context, series, value=now, sample=len(at))
    else:
        why = f"{show_duration(now)} of late, {limit}"
        judged = judgement(Outcome.PASS, why, context, series, value=now, sample=len(at))
    return dataclasses.replace(judged, limit=bound, unit="seconds")


# ── against the stable version ───────────────────────────────────────────────────────────────────────────────


def histograms(canary: Histogram, stable: Histogram, context: Context) -> Judgement:
    """The shares of requests above each bound that both histograms have."""
    bounds = [b for b in canary.bounds if b in set(stable.bounds) and math.isfinite(b)]
    if not bounds:
        return not_yet("the histograms of the two versions have no bound in common", context, canary)
    at, tails, total, stable_tails, stable_total, known = _tails(canary, stable, bounds, context)
    few = too_few(float(total.sum()), float(stable_total.sum()), context, canary)
    if few:
        return few
    ours, theirs = ((t, n) for t, n in ((tails, total), (stable_tails, stable_total)))
    log_e = np.concatenate(
        [
            two_shares((ours[0][j], ours[1]), (theirs[0][j], theirs[1]), context.limit, worth_one(known[j]))
            for j in range(len(bounds))
        ]
    )
    found = accumulated(log_e, starts(at, context), context.alpha)
    row = found.row // len(RISES)
    usual = float(stable_tails[row].sum() / stable_total.sum())
    worse = tails[row] / total > (1 + context.limit) * usual
    proven = is_proven(found, worse, at, context)
    since = found.start if proven else 0
    slow, of = float(tails[row][since:].sum()), float(total[since:].sum())
    told = (
        f"{slow:,.0f} of {of:,.0f} requests took longer than {show_duration(bounds[row])} ({percent(slow / of)}), "
        f"{percent(float(stable_tails[row][since:].sum() / stable_total[since:].sum()))} on the stable version"
    )
    if proven:
        why = f"{told}; {no_chance(context)}"
        return against_stable(Outcome.FAIL, why, context, canary, slow / of, usual, of, float(at[since]))
    return open_or_passed(found, told, context, canary, slow / of, usual, of)


def _tails(
    canary: Histogram, stable: Histogram, bounds: list[float], context: Context
) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Of the canary's scrapes since the deploy that saw anything: times, how many requests were above each bound (a row
    each), all of them; of the stable version the same in the same time; and its share above each, ever."""
    ends = np.asarray(canary.at, dtype=float)
    edges = np.concatenate([[canary.since], ends])
    ours, n1 = _above(canary, bounds)
    theirs, n = _above(stable, bounds)
    same_time = [np.diff(spread_evenly(stable.since, stable.at, row, edges)) for row in (*theirs, n)]
    stable_tails, n2 = np.stack(same_time[:-1]), same_time[-1]
    seen = (ends > max(context.deployed_at, context.begins)) & (n1 > 0) & (n2 > 0)
    return ends[seen], ours[:, seen], n1[seen], stable_tails[:, seen], n2[seen], theirs / np.maximum(n, 1)


def _above(histogram: Histogram, bounds: list[float]) -> tuple[Floats, Floats]:
    """Requests above each of the bounds (rows) by scrape (columns), and all of them."""
    counts = np.asarray(histogram.counts, dtype=float).reshape(-1, len(histogram.bounds))
    up_to = np.cumsum(counts, axis=1)
    columns = [list(histogram.bounds).index(b) for b in bounds]
    return (up_to[:, -1:] - up_to[:, columns]).T, up_to[:, -1]
