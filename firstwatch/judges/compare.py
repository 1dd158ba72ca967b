"""Is the canary worse than the stable version, now, on the same signal? For counts, gauges and histograms.

Formula. Counts: given the bad events of both in a scrape, the canary's part is compared with its part of the traffic
by a beta-binomial likelihood ratio. Gauges: the difference of two samples of one moment is as often above 0 as below,
and its size says how much to bet on that. Both are e-values, multiplied over the scrapes since the deploy (`evidence`
has formulas and sources), so it may be looked at every 15 s: a canary that is no worse fails with a chance of at most
alpha. Histograms: see `distribution`.

Assumptions. Both versions get like requests at the same time, in whatever proportion; what troubles both at once (a
dependency, the load) cancels out. Their rates scatter alike, and a scrape depends on the one before as the stable
version's do.

Rule. `context.limit` is by how much worse, relative to the stable version, is still all right (0.25: a quarter); what
is tested is that the canary is worse than that, so a shift that does not matter never fails, however tight the data.
No single scrape gives more than a quarter of the proof, and the scrapes that speak against the canary must span a
twentieth of the window (90 s of 30 minutes). It passes with enough of both versions and no suspicion (1/20), once
something has been learnt: while what is seen looks worse, and its e-value is still near 1, nothing is proven.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from firstwatch.judges.absence import absence
from firstwatch.judges.base import Context, Floats, percent, scrape_interval
from firstwatch.judges.distribution import distribution
from firstwatch.judges.evidence import DOUBT, accumulated, pairs, two_shares, worth_one
from firstwatch.judges.versions import (
    against_stable,
    is_proven,
    no_chance,
    not_yet,
    open_or_passed,
    side_by_side,
    starts,
    too_few,
    worst,
)
from firstwatch.model import Counts, Gauge, Histogram, Judgement, Outcome, Series

NEW = 3  # scrapes with what the stable version never had, and it is no accident
FEWEST_PAIRS = 8  # samples of both versions without which a gauge says nothing


def compare(series: Series, context: Context) -> Judgement:
    """Judges the canary's series against `context.stable`, of the same kind. Never raises on data."""
    stable = context.stable
    if stable is None or not len(stable.at):
        return not_yet("no data of the stable version to compare with", context, series)
    if isinstance(series, Histogram) and isinstance(stable, Histogram):
        return distribution(series, dataclasses.replace(context, bound=None))
    if isinstance(series, Counts) and isinstance(stable, Counts):
        return shares(series, stable, context)
    if isinstance(series, Gauge) and isinstance(stable, Gauge):
        return gauges(series, stable, context)
    raise TypeError("the compare judge needs two series of one kind")


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────


def shares(canary: Counts, stable: Counts, context: Context) -> Judgement:
    """The share of bad events of both."""
    gone = absence(canary, context)
    if gone.outcome is not Outcome.PASS:
        return gone
    at, (b1, n1), (b2, n2) = side_by_side(canary, stable, context)
    few = too_few(float(n1.sum()), float(n2.sum()), context, canary)
    if few:
        return few
    share = np.asarray(stable.bad, dtype=float) / np.maximum(np.asarray(stable.total, dtype=float), 1)
    worth = max(worth_one(share), worth_one(b1 / n1, share))
    log_e = two_shares((b1, n1), (b2, n2), context.limit, worth)
    found = accumulated(log_e, starts(at, context), context.alpha)
    usual = float(b2.sum() / n2.sum())
    worse = b1 / n1 > (1 + context.limit) * usual
    if is_proven(found, worse, at, context):
        since = found.start
        bad, total = float(b1[since:].sum()), float(n1[since:].sum())
        told = _of_both(bad, total, float(b2[since:].sum()), float(n2[since:].sum()), context)
        why = f"{told}; {no_chance(context)}"
        return against_stable(Outcome.FAIL, why, context, canary, bad / total, usual, total, float(at[since]))
    bad, total = float(b1.sum()), float(n1.sum())
    told = _of_both(bad, total, float(b2.sum()), float(n2.sum()), context)
    if is_new(b1, total, stable):
        why = f"{told}: the stable version has none at all, and a few more would prove it"
        return against_stable(Outcome.NOT_YET, why, context, canary, bad / total, usual, total)
    return open_or_passed(found, told, context, canary, bad / total, usual, total)


def is_new(bad: Floats, total: float, stable: Counts) -> bool:
    """Whether the canary had bad events in several scrapes and the stable version, as long as it is known, in none;
    and that so few of so many requests had it by chance is doubtful."""
    if any(stable.bad):
        return False
    scrapes = int((bad > 0).sum())
    return scrapes >= NEW and (total / (total + sum(stable.total))) ** scrapes <= DOUBT


def _of_both(bad: float, total: float, stable_bad: float, stable_total: float, context: Context) -> str:
    theirs = f"{stable_bad:,.0f} of {stable_total:,.0f} ({percent(stable_bad / stable_total)}) on the stable version"
    return f"{bad:,.0f} of {total:,.0f} {context.words} ({percent(bad / total)}), {theirs}"


# ── gauges ───────────────────────────────────────────────────────────────────────────────────────────────────


def gauges(canary: Gauge, stable: Gauge, context: Context) -> Judgement:
    """The values of both at the same times; `context.worse` says which way is bad."""
    if context.worse == "either":
        half = dataclasses.replace(context, alpha=context.alpha / 2)
        sides = [dataclasses.replace(half, worse="higher"), dataclasses.replace(half, worse="lower")]
        return worst([gauges(canary, stable, side) for side in sides])
    at, x, y = paired(canary, stable, context)
    if len(at) < FEWEST_PAIRS:
        why = f"{len(at)} samples of both versions at the same time since the deploy"
        return not_yet(f"{why}: not enough, {FEWEST_PAIRS} are needed", context, canary, len(at))
    sign = 1.0 if context.worse == "higher" else -1.0
    difference = sign * (x - y) - context.limit * abs(y)
    worth = worth_one(difference, np.asarray(stable.value, dtype=float))
    found = accumulated(pairs(difference, worth), starts(at, context), context.alpha)
    ours, theirs = float(np.median(x[found.start :])), float(np.median(y[found.start :]))
    if is_proven(found, difference > 0, at, context):
        told = _values(ours, theirs, context)
        since = float(at[found.start])
        why = f"{told} in {len(at) - found.start} samples; {no_chance(context)}"
        return against_stable(Outcome.FAIL, why, context, canary, ours, theirs, len(at) - found.start, since)
    ours, theirs = float(np.median(x)), float(np.median(y))
    told = f"{_values(ours, theirs, context)} in {len(at)} samples"
    return open_or_passed(found, told, context, canary, ours, theirs, len(at))


def paired(canary: Gauge, stable: Gauge, context: Context) -> tuple[Floats, Floats, Floats]:
    """The canary's samples since the deploy with the stable version's nearest ones, at most an interval away."""
    at, x = np.asarray(canary.at, dtype=float), np.asarray(canary.value, dtype=float)
    times, y = np.asarray(stable.at, dtype=float), np.asarray(stable.value, dtype=float)
    after = np.searchsorted(times, at).clip(max=len(times) - 1)
    before = (after - 1).clip(min=0)
    nearest = np.where(abs(times[before] - at) < abs(times[after] - at), before, after)
    near = abs(times[nearest] - at) <= max(scrape_interval(at), scrape_interval(times))
    seen = near & (at > max(context.deployed_at, context.begins))
    return at[seen], x[seen], y[nearest][seen]


def _values(canary: float, stable: float, context: Context) -> str:
    relative = f" ({(canary - stable) / abs(stable):+.0%})".replace("%", " %") if stable else ""
    return f"{context.words}: median {canary:.4g}, {stable:.4g} on the stable version{relative}"
