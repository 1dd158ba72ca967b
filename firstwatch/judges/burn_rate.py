"""Does the service burn its error budget too fast? Several windows at once, as the Google SRE workbook has them.

Formula. The burn rate over a window is the share of bad events in it divided by the share that the objective allows
(`context.limit`): at 1 the budget of a month lasts a month. It is too fast at 14.4 over an hour (2 % of a month's
budget), at 6 over six hours (5 %), at 3 over a day and at 1 over three days (10 %), each only while a twelfth of that
window, its newest part, is as bad: so it ends as soon as the trouble does.
Source: "The Site Reliability Workbook" (2018), chapter 5, alerting method 6, table 5-8.

What was not seen. Where the history is shorter than a window, the time that is missing counts as time without an error
and with the usual traffic: a short history never makes a burn look faster than it can be shown to be.

Chance. A few errors among few requests are no burn. So it fails only if besides the objective is proven broken, by the
same anytime-valid test as the proportion judge (negative binomial likelihood ratio, see there for formula and
assumptions): with a chance of at most alpha on a service that honours its objective, however often it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firstwatch.judges.base import Context, Floats, judgement, percent, scrape_interval
from firstwatch.judges.evidence import CV2, accumulated, worth_one
from firstwatch.judges.versions import not_yet, starts
from firstwatch.model import Counts, Judgement, Outcome, Series
from firstwatch.units import show_duration

HOUR = 3600.0
EXCESS = np.array([0.4, 1.0, 3.0, 9.0])[:, None]  # r: 1.4, 2, 4 and 10 times what is allowed


@dataclass(frozen=True, slots=True)
class BurnRule:
    """Too fast at `factor` over both `long` and `short` (seconds)."""

    factor: float
    long: float
    short: float


RULES = (
    BurnRule(14.4, HOUR, HOUR / 12),
    BurnRule(6.0, 6 * HOUR, HOUR / 2),
    BurnRule(3.0, 24 * HOUR, 2 * HOUR),
    BurnRule(1.0, 72 * HOUR, 6 * HOUR),
)


@dataclass(frozen=True, slots=True)
class BurnRate:
    """One rule at one time. `long` and `short` are the burn rates over its two windows, `seen` how many seconds of the
    long one there are measurements of, `sample` the requests in the short one."""

    rule: BurnRule
    long: float
    short: float
    seen: float
    sample: float

    @property
    def too_fast(self) -> bool:
        return self.long >= self.rule.factor and self.short >= self.rule.factor

    def __str__(self) -> str:
        part = "" if self.seen >= 0.99 * self.rule.long else f" (of which {show_duration(round(self.seen))} were seen)"
        long, short = show_duration(self.rule.long), show_duration(self.rule.short)
        return f"{self.long:.2g} times the budget over {long}{part} and {self.short:.2g} over {short}"


def burn_rates(series: Counts, budget: float, now: float, rules: Sequence[BurnRule] = RULES) -> list[BurnRate]:
    """The burn rate of each rule at `now`; `budget` is the share of bad events that is allowed (> 0)."""
    at, bad, total = (np.asarray(x, dtype=float) for x in (series.at, series.bad, series.total))
    began = np.concatenate([[series.since], at[:-1]]) if len(at) else at
    found = []
    for rule in rules:
        long, seen, _ = _burn(at, began, np.minimum(bad, total), total, now, rule.long, budget)
        short, _, sample = _burn(at, began, np.minimum(bad, total), total, now, rule.short, budget)
        found.append(BurnRate(rule, long, short, seen, sample))
    return found


def _burn(
    at: Floats, began: Floats, bad: Floats, total: Floats, now: float, length: float, budget: float
) -> tuple[float, float, float]:
    """Burn rate, seconds seen and requests of the window that ends now. An interval that reaches beyond its beginning
    counts by the part inside."""
    inside = np.clip((at - np.maximum(began, now - length)) / np.maximum(at - began, 1e-9), 0, 1) * (at <= now)
    events, seen = float((total * inside).sum()), float(((at - began) * inside).sum())
    if events <= 0 or seen <= 0 or budget <= 0:
        return 0.0, seen, events
    return float((bad * inside).sum()) / events / budget * min(1.0, seen / length), seen, events


def burn_rate(series: Series, context: Context) -> Judgement:
    """Judges `Counts` against the budget `context.limit`, over windows of up to three days. Never raises on data."""
    if not isinstance(series, Counts):
        raise TypeError("the burn rate judge needs counts of bad and of all events")
    rates = burn_rates(series, context.limit, context.now)
    sample = float(np.asarray(series.total, dtype=float)[np.asarray(series.at, dtype=float) <= context.now].sum())
    if sample < context.min_sample:
        return not_yet(f"{sample:,.0f} requests; {context.min_sample:,} are needed to judge", context, series, sample)
    fast = [r for r in rates if r.too_fast]
    top = max(fast or rates, key=lambda r: min(r.long, r.short) / r.rule.factor)
    told, limit = str(top), f"{top.rule.factor:g} is too fast (objective {percent(context.limit)})"
    value = top.short * context.limit
    if not fast:
        recovers = any(r.long >= r.rule.factor for r in rates)
        why = f"{told}, {limit}" + ("; it burned too fast before, and recovers" if recovers else "")
        return judgement(Outcome.PASS, why, context, series, value=value, sample=sample)
    if not any(r.sample >= context.min_sample for r in fast):
        why = f"{told}, {limit}; but only {top.sample:,.0f} requests, {context.min_sample:,} are needed"
        return judgement(Outcome.NOT_YET, why, context, series, value=value, sample=top.sample)
    if not _proven(series, context):
        why = f"{told}, {limit}; not proven beyond chance"
        return judgement(Outcome.NOT_YET, why, context, series, value=value, sample=top.sample)
    why = f"{told}, {limit}; chance of this on a service that honours it < 1 in {1 / context.alpha:,.0f}"
    return judgement(Outcome.FAIL, why, context, series, value=value, sample=top.sample)


def _proven(series: Counts, context: Context) -> bool:
    """Whether the objective is broken beyond chance, since whenever."""
    at, bad, total = (np.asarray(x, dtype=float) for x in (series.at, series.bad, series.total))
    seen = (total > 0) & (at <= context.now)
    at, bad, total = at[seen], np.minimum(bad, total)[seen], total[seen]
    mean, k, rise = context.limit * total, 1 / CV2, EXCESS + 1
    log_e = bad * np.log(rise * (mean + k) / (rise * mean + k)) + k * np.log((mean + k) / (rise * mean + k))
    found = accumulated(log_e / worth_one(bad / total), max(starts(at, context), len(at)), context.alpha)
    lasting = len(at) - found.start >= 4 and scrape_interval(at) > 0
    return lasting and found.log_e >= math.log(1 / context.alpha)
