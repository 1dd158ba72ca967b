"""Is the share of bad events above what the objective allows? A sequential test on counts, for looking often.

Assumptions. Of `n` events in a scrape, `b` are bad; the rate within a scrape scatters around its mean (errors come
in bursts), with a coefficient of variation `cv` that is estimated from before the deploy, or taken as 0.5. A scrape
is one piece of evidence, however many requests it holds.

Formula. With μ = q·n allowed and k = 1/cv², the likelihood ratio of a negative binomial of mean (1+r)·μ to one of
mean μ, both of shape k,

    e(b) = [(1+r)(μ+k) / ((1+r)μ+k)]^b · [(μ+k) / ((1+r)μ+k)]^k

has mean ≤ 1 for every distribution with mean ≤ μ that scatters no more (e is convex and grows with b). The product
of the e from a start s to now is therefore a test supermartingale, and so is its average over excesses r and, to
find a late onset as well, over starts s (half the weight on the deploy, the rest even over the window). It exceeds
1/α at any look with a chance of at most α (Ville's inequality): no correction for repeated looks is needed.
Sources: Ville 1939; Shin, Ramdas, Rinaldo, "E-detectors" (arXiv 2203.03532) for the restarts; Lindon, Malek,
"Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022).

Bursts that last make neighbouring scrapes alike. By how much is learnt from before the deploy, too (the integrated
autocorrelation), and e is raised to the power of 1 over the number of scrapes that are worth one; by Jensen's
inequality its mean stays ≤ 1. Heavy tails are met without a model: a failure must also stand out, at odds of 20 to 1,
from the worst stretch of the same length before the deploy. What never happened in the history that is known cannot be
allowed for: a burst longer than the persistence below, of a sort that comes once an hour, is taken for the release's.

Rule. It fails when the objective is proven broken (1/α), or when the release is proven worse than before the deploy
(1/α) and the objective is broken beyond reasonable doubt (1/20). So an unchanged release fails with a chance of at
most α, and one that got worse and only just honours the objective with at most 5 %. Besides, a failure must persist:
six samples of 15 s (as many as a disturbance of 75 s can touch) above the limit, the newest one and the newest three
together too, and no single sample gives more than a sixth of the proof. What was as bad before the deploy, or is with
the stable version at the same time (`context.stable`), is not the release's doing: then what is usual is the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

import numpy as np
from scipy.special import gammaincinv

from firstwatch.judges.absence import absence
from firstwatch.judges.base import Context, Floats, judgement, median, percent, scrape_interval
from firstwatch.model import Counts, Judgement, Outcome, Series

EXCESS = np.array([0.4, 1.0, 3.0, 9.0])  # r: 1.4, 2, 4 and 10 times what is allowed
DOUBT = 0.05  # beyond reasonable doubt, where the change itself is proven to alpha
CV2, CV2_LEAST, CV2_MOST = 0.25, 0.1, 2.0  # squared coefficient of variation between scrapes: usual, and its bounds
CV2_WEIGHT = 100.0  # at least so much evidence (in squared expected counts) is the usual value worth


@dataclass(frozen=True, slots=True)
class Before:
    """What was usual before the deploy, or is with the stable version: scatter, how many scrapes in a row are worth one
    (bursts last), an upper bound of the share, whether it broke the objective, and the counts themselves."""

    cv2: float
    burst: float
    upper: float | None
    was_bad: bool
    bad: Floats
    total: Floats

    def worst(self, scrapes: int) -> float:
        """The greatest share of bad events in so many scrapes in a row (at most in half of them all), less what chance
        alone makes of it: two errors of a count."""
        length = min(scrapes, len(self.total) // 2)
        if self.upper is None or length < 1:
            return 0.0
        sums = (np.concatenate([[0.0], np.cumsum(x)]) for x in (self.bad, self.total))
        bad, total = (x[length:] - x[:-length] for x in sums)
        return float(((bad - 2 * np.sqrt(bad)) / total).max(initial=0.0))


def proportion(series: Series, context: Context) -> Judgement:
    """Judges `Counts` against `context.limit`, the share of bad events that is allowed (0..1). Never raises on data."""
    if not isinstance(series, Counts):
        raise TypeError("the proportion judge needs counts of bad and of all events")
    gone = absence(series, context)
    if gone.outcome is not Outcome.PASS:
        return gone
    at, bad, total = samples(series)
    return _decide(series, context, at, bad, total, baseline(at, bad, total, context), scrape_interval(at))


def baseline(at: Floats, bad: Floats, total: Floats, context: Context) -> Before:
    """What is usual: with the stable version, where that is given and saw enough since the deploy; or before it."""
    if isinstance(context.stable, Counts):
        scraped, failed, every = samples(context.stable)
        now = (scraped > context.deployed_at) & (scraped <= context.now)
        found = usual(failed[now], every[now], context)
        if found.upper is not None:
            return found
    then = at <= context.deployed_at
    return usual(bad[then], total[then], context)


def samples(series: Counts) -> tuple[Floats, Floats, Floats]:
    """Times, bad and all events of the scrapes that saw any event; bad ≤ total, as two counters may be read apart."""
    at, bad, total = (np.asarray(x, dtype=float) for x in (series.at, series.bad, series.total))
    some = total > 0
    return at[some], np.clip(bad[some], 0, total[some]), total[some]


def persistence(window_s: float, interval: float) -> int:
    """How many samples must speak against the release: as many as a disturbance of 75 s (of a 30-minute window) can
    touch, and never fewer than three."""
    return max(3, math.ceil(min(75.0, window_s / 24) / interval - 1e-6) + 1) if interval > 0 else 4


def usual(bad: Floats, total: Floats, context: Context) -> Before:
    """Learns from before the deploy; with too little of it, the usual scatter and no bound."""
    return _usual(bad.tobytes(), total.tobytes(), context.limit, context.min_sample, context.alpha)


@lru_cache(maxsize=4096)  # what was before the deploy is the same at each look
def _usual(bads: bytes, totals: bytes, limit: float, min_sample: float, alpha: float) -> Before:
    bad, total = np.frombuffer(bads), np.frombuffer(totals)
    events = total.sum()
    if len(total) < 10 or events < min_sample:
        return Before(CV2, 1.0, None, False, bad, total)
    share = bad.sum() / events
    expected = share * total
    # Method of moments: Var(b) = μ + cv²·μ². What was seen far below the limit tells little of how rates scatter at the
    # limit: the usual value stands for the rest, and for what counts are too small to tell.
    excess, seen = ((bad - expected) ** 2 - expected).sum(), (expected**2).sum()
    rest = max(CV2_WEIGHT, ((limit * total) ** 2).sum() - seen)
    cv2 = float((CV2 * rest + excess) / (rest + seen))
    burst = burst_length(bad / total - share)
    # Variance over mean, of as many scrapes as are worth one: so many bad events count as one.
    clumps = 1 + max(0.0, excess) * burst / max(expected.sum(), 1.0)
    upper = float(gammaincinv(bad.sum() / clumps + 1, 1 - alpha / 2) * clumps / events)
    was_bad = median(bad / total) > limit
    return Before(min(max(cv2, CV2_LEAST), CV2_MOST), burst, upper, was_bad, bad, total)


def burst_length(left: Floats) -> float:
    """How many scrapes in a row are worth one: 1 + 2·(ρ₁ + ρ₂ + …), the integrated autocorrelation, summed up to the
    first lag whose correlation is within its error (Sokal, "Monte Carlo Methods in Statistical Mechanics", 1997)."""
    n, squares = len(left), max(float(left @ left), 1e-18)
    correlations = (float(left[lag:] @ left[:-lag]) / squares - 1 / math.sqrt(n) for lag in range(1, n // 4 + 1))
    length = 1 + 2 * sum(takewhile(lambda rho: rho > 0, correlations))
    return length / max(1 - 2 * length / n, 0.25)  # short series show too little of it, by about 2·length / n


def evidence(bad: Floats, total: Floats, limit: float, before: Before, starts: float, cap: float) -> tuple[float, int]:
    """Log of the e-value against "the share is at most `limit`" now, and the index where its evidence begins.

    `starts`: how many starts the window could have; `cap`: the most that one sample may add.
    """
    mean, k = limit * total, 1 / before.cv2
    rise = EXCESS[:, None] + 1
    log_e = bad * np.log(rise * (mean + k) / (rise * mean + k)) + k * np.log((mean + k) / (rise * mean + k))
    since = np.cumsum(np.minimum(log_e / before.burst, cap)[:, ::-1], axis=1)[:, ::-1]
    weight = np.full(len(bad), 0.5 / starts)
    weight[0] += 0.5
    each = since + np.log(weight / len(EXCESS))
    top = float(each.max())
    return top + math.log(np.exp(each - top).sum()), int(np.unravel_index(each.argmax(), each.shape)[1])


def _decide(
    series: Counts, context: Context, at: Floats, bad: Floats, total: Floats, before: Before, interval: float
) -> Judgement:
    after = at > context.deployed_at
    persist = persistence(context.window_s, interval)
    # What begins at T+2m has seen enough by then to speak at once, and nothing of a cold start before that.
    seen = at > max(context.deployed_at, context.begins - (persist - 0.5) * interval)
    sample = float(total[after].sum())
    if sample < context.min_sample or not seen.any():
        why = f"{sample:,.0f} requests since the deploy; {context.min_sample:,} are needed to judge"
        return judgement(Outcome.NOT_YET, why, context, series, sample=sample)
    limit = max(context.limit, before.upper) if before.was_bad and before.upper else context.limit
    starts = max(len(at), context.window_s / max(interval, 1e-9))
    alpha = context.alpha if before.upper is None else context.alpha / 2
    cap = (math.log(1 / alpha) + math.log(2 * starts) + math.log(len(EXCESS))) / persist
    b, n, t = bad[seen], total[seen], at[seen]
    against, start = evidence(b, n, limit, before, starts, cap)
    proven = against >= math.log(1 / alpha)
    if not proven and before.upper is not None and before.upper < limit and against >= math.log(1 / DOUBT):
        proven = evidence(b, n, before.upper, before, starts, cap)[0] >= math.log(1 / alpha)
    if proven and (worst := before.worst(len(b) - start)) > limit:
        limit = worst
        proven = evidence(b, n, limit, before, starts, cap)[0] >= math.log(1 / DOUBT)
    above = b / n > limit
    newest = slice(-math.ceil(persist / 2), None)
    still = above[-1] and b[newest].sum() > limit * n[newest].sum()
    if proven and above[start:].sum() >= persist and still:
        return _failed(series, context, b[start:].sum(), n[start:].sum(), float(t[start]), limit)
    suspect = proven or against >= math.log(1 / DOUBT)
    return _not_failed(series, context, bad[after], total[after], limit, suspect)


def _failed(series: Counts, context: Context, bad: float, total: float, since: float, limit: float) -> Judgement:
    usual_was = "" if limit == context.limit else f" (up to {percent(limit)} was usual before the deploy)"
    why = (
        f"{bad:,.0f} of {total:,.0f} {context.words} ({percent(bad / total)}), objective {percent(context.limit)}"
        f"{usual_was}; chance of this on a healthy release < 1 in {1 / context.alpha:,.0f}"
    )
    return judgement(Outcome.FAIL, why, context, series, value=bad / total, sample=total, since=since)


def _not_failed(series: Counts, context: Context, bad: Floats, total: Floats, limit: float, suspect: bool) -> Judgement:
    """PASS if the recent state honours the objective and nothing speaks against it; otherwise what is missing."""
    # Recent: the newest sixth of what was seen, or more where that is too few requests to estimate the share from.
    enough = int(np.searchsorted(np.cumsum(total[::-1]), max(context.min_sample, 2 / limit))) + 1
    newest = slice(-max(enough, math.ceil(len(total) / 6)), None)
    b, n = float(bad[newest].sum()), float(total[newest].sum())
    found = f"{b:,.0f} of the last {n:,.0f} {context.words} ({percent(b / n)}), objective {percent(context.limit)}"
    if b / n > context.limit:
        outcome, why = Outcome.NOT_YET, f"{found}: above it, and not proven beyond chance"
    elif suspect:
        outcome, why = Outcome.NOT_YET, f"{found}; bad earlier, and not yet long enough well again to pass"
    else:
        outcome, why = Outcome.PASS, found
    return judgement(outcome, why, context, series, value=b / n, sample=n)
