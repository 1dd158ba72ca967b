"""Is the service still there? Requests that came steadily, and then stopped while the source goes on working.

A silence counts only as far as the source is known to have worked in it (`context.alive`): a Prometheus that was
itself away proves nothing. It fails after a twelfth of the window (150 s of 30 minutes), and never before five
scrapes, which is longer than a restart or a scrape gap takes; and only where the requests were steady enough before
that so long a silence is no accident: at least `min_sample` requests, at a rate, of late too, that lets 20 of them be
expected, and none half as long ever before. Less than a hundredth of the traffic just before is silence too. Without
word of the source it cannot be told from a gap in the metrics: not yet.

A crash loop is many short absences: at least three gaps within a third of the window, with the requests of that time
lost (a missed scrape loses none), that come to the same 150 s, and next to none before the deploy.
"""

from __future__ import annotations

import numpy as np

from firstwatch.judges.base import Context, Flags, Floats, interval_of, judgement
from firstwatch.model import Counts, Judgement, Outcome, Series

EXPECTED = 20.0  # requests that should have come: a chance of e^-20, were they independent
FAINT = 0.01  # of the traffic just before: so little is none (a hang lets the odd request through)
OUTAGES = 3  # gaps with lost requests that make a crash loop


def absence(series: Series, context: Context) -> Judgement:
    """PASS while requests come or their silence means nothing yet, NOT_YET when it may, FAIL when it is proven."""
    if not isinstance(series, Counts):
        raise TypeError("the absence judge needs counts of events")
    scraped, total = np.asarray(series.at, dtype=float), np.asarray(series.total, dtype=float)
    interval = interval_of(series)
    patience = max(5 * interval, context.window_s / 12)
    busy = total > FAINT * total[scraped > context.now - 3 * patience].max(initial=0.0)
    at = scraped[busy]
    if len(at) < 2:
        return judgement(Outcome.PASS, "too few requests to miss any", context, series)
    last = float(at[-1])
    silent = context.now - last
    if silent < patience:
        return _crash_loop(series, context, scraped, total, patience, interval)
    began = max(series.since, float(scraped[0]) - interval)  # the history may reach back to before there was a service
    # Traffic that dies away, as at night, is missed only as far as it still came of late.
    rate = min(_rate(scraped, total, began, last), _rate(scraped, total, max(began, last - 2 * patience), last))
    steady = total.sum() >= context.min_sample and _longest_lull(scraped, busy) <= patience / 2 + interval
    if rate * patience < EXPECTED or not steady:
        return judgement(Outcome.PASS, "requests come as they did", context, series, sample=float(total.sum()))
    what = "no sample" if scraped[-1] <= last else "no request"
    if context.alive is None:
        why = f"{what} for {silent:,.0f} s, and no word on whether the source worked: down, or a gap in the metrics"
        return judgement(Outcome.NOT_YET, why, context, series, since=last)
    watched = _watched(np.asarray(context.alive, dtype=float), last, context.now, interval)
    if watched < patience - interval:
        why = f"{what} for {silent:,.0f} s, of which the source itself worked {watched:,.0f} s"
        return judgement(Outcome.NOT_YET, why, context, series, since=last)
    why = f"{what} for {silent:,.0f} s while the source worked; before, {rate:,.2g} requests came every second"
    return judgement(Outcome.FAIL, why, context, series, value=0.0, sample=float(total.sum()), since=last)


def _rate(scraped: Floats, total: Floats, since: float, until: float) -> float:
    """Requests a second in (since, until]."""
    return float(total[(scraped > since) & (scraped <= until)].sum()) / max(until - since, 1e-9)


def _crash_loop(
    series: Counts, context: Context, scraped: Floats, total: Floats, patience: float, interval: float
) -> Judgement:
    """Requests come, but is the service gone again and again? A scrape that is missing loses no request, unless the
    process that counted died: what the next scrape counts less than came otherwise is time in which it was gone."""
    well = judgement(Outcome.PASS, "requests come as they did", context, series, sample=float(total.sum()))
    steps = scraped - np.concatenate([[series.since], scraped[:-1]])
    gaps = steps > 1.5 * interval
    recent = scraped > max(context.deployed_at, context.now - context.window_s / 3)
    if np.count_nonzero(gaps & recent) < OUTAGES:
        return well
    whole = recent & ~gaps if (recent & ~gaps).sum() > OUTAGES else ~gaps
    rate = float(total[whole].sum()) / max(float(steps[whole].sum()), 1e-9)
    lost = np.where(gaps, np.maximum(steps - total / max(rate, 1e-9), 0.0), 0.0)
    lost[(lost < interval) | (rate * steps < EXPECTED)] = 0.0  # what may be chance
    lost[:1] = 0.0
    gone, before = float(lost[recent].sum()), float(lost[scraped <= context.deployed_at].sum())
    times = int(np.count_nonzero(lost[recent]))
    if gone < patience or times < OUTAGES or before > gone / 4:
        return well
    why = f"gone {times} times, {gone:,.0f} s in all, with the requests of that time, since the deploy"
    since = float(scraped[recent][np.argmax(lost[recent] > 0)])
    return judgement(Outcome.FAIL, why, context, series, value=0.0, sample=float(total.sum()), since=since)


def _longest_lull(scraped: Floats, seen: Flags) -> float:
    """The longest time between requests in which there were scrapes that saw none, in seconds. A scrape that is missing
    is no lull: what came meanwhile is in the next one's count."""
    busy = np.flatnonzero(seen)
    if len(busy) == busy[-1] - busy[0] + 1:
        return 0.0  # every scrape saw some: the usual case, and this is looked at often
    lulls = np.diff(scraped[busy])[np.diff(busy) > 1]
    return float(lulls.max(initial=0.0))


def _watched(alive: Floats, since: float, now: float, interval: float) -> float:
    """Seconds of since..now in which the source worked: between signs of life no more than three scrapes apart."""
    steps = np.diff(np.concatenate([[since], alive[(alive > since) & (alive <= now)], [now]]))
    return float(steps[steps <= 3 * interval].sum())
