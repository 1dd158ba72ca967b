"""Two versions laid side by side: the same scrapes of both, what is too little of them, and what is said of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from firstwatch.judges.base import Context, Flags, Floats, judgement, percent, scrape_interval
from firstwatch.judges.evidence import DOUBT, Evidence
from firstwatch.model import Counts, Judgement, Outcome, Series

SPAN = 1 / 20  # of the window: how long a canary must have been worse
UNTOLD = 0.7  # an e-value near 1 has learnt nothing: until it falls below, what looks worse has not passed


def side_by_side(
    canary: Counts, stable: Counts, context: Context
) -> tuple[Floats, tuple[Floats, Floats], tuple[Floats, Floats]]:
    """The canary's scrapes since the deploy that saw anything, as (times, its (bad, total), the stable version's in the
    same time). Scrapes of the two need not coincide: events are taken to be spread evenly between two."""
    ends = np.asarray(canary.at, dtype=float)
    edges = np.concatenate([[canary.since], ends])
    bad, total = np.asarray(canary.bad, dtype=float), np.asarray(canary.total, dtype=float)
    b2, n2 = (np.diff(spread_evenly(stable.since, stable.at, x, edges)) for x in (stable.bad, stable.total))
    seen = (ends > max(context.deployed_at, context.begins)) & (total > 0) & (n2 > 0)
    b1, b2 = np.minimum(bad, total)[seen], np.minimum(b2, n2)[seen]
    return ends[seen], (b1, total[seen]), (b2, n2[seen])


def spread_evenly(since: float, at: object, increments: object, edges: Floats) -> Floats:
    """How many of the increments had come by each of the edges."""
    times = np.concatenate([[since], np.asarray(at, dtype=float)])
    so_far = np.concatenate([[0.0], np.cumsum(np.asarray(increments, dtype=float))])
    return np.asarray(np.interp(edges, times, so_far), dtype=float)


def too_few(canary: float, stable: float, context: Context, series: Series) -> Judgement | None:
    """What to say of a side that has seen too little; None where both are enough."""
    if min(canary, stable) >= context.min_sample:
        return None
    why = f"{canary:,.0f} requests to the canary and {stable:,.0f} to the stable version since the deploy"
    return not_yet(f"{why}: not enough, {context.min_sample:,} each are needed", context, series, canary)


def starts(at: Floats, context: Context) -> float:
    return max(len(at), context.window_s / max(scrape_interval(at), 1e-9)) if len(at) > 1 else 1.0


def is_proven(found: Evidence, worse: Flags, at: Floats, context: Context) -> bool:
    """Whether the evidence is beyond alpha, and has lasted."""
    if found.log_e < math.log(1 / context.alpha):
        return False
    when = at[found.start :][worse[found.start :]]
    return len(when) > 0 and float(when[-1] - when[0]) >= SPAN * context.window_s - 1.5 * scrape_interval(at)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────


def no_chance(context: Context) -> str:
    allowed = f"{percent(context.limit)} worse is all right" if context.limit else "no worse is all right"
    return f"{allowed}; chance of this on a canary that is < 1 in {1 / context.alpha:,.0f}"


def not_yet(why: str, context: Context, series: Series, sample: float = 0.0) -> Judgement:
    return judgement(Outcome.NOT_YET, why, context, series, sample=sample)


def worst(judgements: Sequence[Judgement]) -> Judgement:
    """Of several judgements of one signal the one that decides: a failure, then an error, then what is open."""
    order = (Outcome.FAIL, Outcome.ERROR, Outcome.NO_DATA, Outcome.NOT_YET, Outcome.PASS)
    return min(judgements, key=lambda j: order.index(j.outcome))


def open_or_passed(
    found: Evidence, told: str, context: Context, series: Series, value: float, usual: float, sample: float
) -> Judgement:
    if found.log_e >= math.log(1 / DOUBT):
        why = f"{told}: perhaps worse by more than {percent(context.limit)}, and not proven beyond chance"
        return against_stable(Outcome.NOT_YET, why, context, series, value, usual, sample)
    passed = against_stable(Outcome.PASS, f"{told}: no difference that matters", context, series, value, usual, sample)
    assert passed.limit is not None
    looks_worse = value < passed.limit if context.worse == "lower" else value > passed.limit
    if looks_worse and found.log_e > math.log(UNTOLD):
        why = f"{told}: worse by more than {percent(context.limit)}, and too little to tell from chance"
        return dataclasses.replace(passed, outcome=Outcome.NOT_YET, why=why)
    return passed


def against_stable(
    outcome: Outcome,
    why: str,
    context: Context,
    series: Series,
    value: float,
    usual: float,
    sample: float,
    since: float | None = None,
) -> Judgement:
    """With what the stable version's value allows as the limit."""
    judged = judgement(outcome, why, context, series, value=value, sample=sample, since=since)
    sign = -1 if context.worse == "lower" else 1
    return dataclasses.replace(judged, limit=usual + sign * context.limit * abs(usual))
