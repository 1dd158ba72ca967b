"""Is the service still there? Requests that came steadily, and then stopped while the source goes on working.

A silence counts only as far as the source is known to have worked in it (`context.alive`): a Prometheus that was
itself away proves nothing. It fails after a twelfth of the window (150 s of 30 minutes), and never before five
scrapes, which is longer than a restart or a scrape gap takes; and only where the requests were steady enough before
that so long a silence is no accident: at least `min_sample` requests, at a rate that lets 20 of them be expected, and
none half as long ever before. Without word of the source it cannot be told from a gap in the metrics: not yet.
"""

from __future__ import annotations

import numpy as np

from firstwatch.judges.base import Context, Floats, judgement, scrape_interval
from firstwatch.model import Counts, Judgement, Outcome, Series

EXPECTED = 20.0  # requests that should have come: a chance of e^-20, were they independent


def absence(series: Series, context: Context) -> Judgement:
    """PASS while requests come or their silence means nothing yet, NOT_YET when it may, FAIL when it is proven."""
    if not isinstance(series, Counts):
        raise TypeError("the absence judge needs counts of events")
    scraped, total = np.asarray(series.at, dtype=float), np.asarray(series.total, dtype=float)
    at = scraped[total > 0]
    interval = scrape_interval(scraped)
    if len(at) < 2:
        return judgement(Outcome.PASS, "too few requests to miss any", context, series)
    patience = max(5 * interval, context.window_s / 12)
    last = float(at[-1])
    silent = context.now - last
    began = max(series.since, float(scraped[0]) - interval)  # the history may reach back to before there was a service
    rate = total.sum() / max(last - began, interval)
    steady = total.sum() >= context.min_sample and _longest_lull(scraped, total) <= patience / 2 + interval
    if silent < patience or rate * patience < EXPECTED or not steady:
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


def _longest_lull(scraped: Floats, total: Floats) -> float:
    """The longest time between requests in which there were scrapes that saw none, in seconds. A scrape that is missing
    is no lull: what came meanwhile is in the next one's count."""
    busy = np.flatnonzero(total > 0)
    if len(busy) == busy[-1] - busy[0] + 1:
        return 0.0  # every scrape saw some: the usual case, and this is looked at often
    lulls = np.diff(scraped[busy])[np.diff(busy) > 1]
    return float(lulls.max(initial=0.0))


def _watched(alive: Floats, since: float, now: float, interval: float) -> float:
    """Seconds of since..now in which the source worked: between signs of life no more than three scrapes apart."""
    steps = np.diff(np.concatenate([[since], alive[(alive > since) & (alive <= now)], [now]]))
    return float(steps[steps <= 3 * interval].sum())
