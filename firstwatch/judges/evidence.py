"""Evidence that may be looked at as often as one likes; what the judges that compare two versions share.

An e-value has a mean of at most 1 on a healthy release, given what was seen before. The product of e-values from a
start to now is then a test supermartingale, and so is an average of such products over starts and alternatives; the
chance that it ever exceeds 1/α is at most α (Ville 1939; Shin, Ramdas, Rinaldo, arXiv 2203.03532, for the starts).
Neighbouring samples that are alike are less than two pieces of evidence: e is raised to the power of 1 over the number
of samples that are worth one, and its mean stays ≤ 1 (Jensen).
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from firstwatch.judges.base import Floats

DOUBT = 0.05  # what is suspected at this level does not pass
PROOFS = 4  # samples without which nothing is proven: the most that one of them may give is its part of the proof
RISES = np.array([1.6, 3.0, 10.0, 60.0])  # alternatives: so many times the odds that are all right
CV2, CV2_LEAST, CV2_MOST = 0.25, 0.1, 2.0  # squared coefficient of variation between scrapes: usual, and its bounds
CV2_WEIGHT = 10.0  # so much evidence (in squared counts) is the usual value worth
LAMBDAS = np.array([0.3, 1.0, 4.0])  # how much a large difference counts for more than a small one
FARTHEST = 1e12  # scales; farther is no further
MEMORY_MOST = 0.97  # the highest autocorrelation that is allowed for
SHORTEST = 4  # samples that have neighbours to be compared
ERRORS = 2.0  # so many standard errors of ρ are left open
BLOCKS, FEWEST_BLOCKS = (6, 12, 24), 6  # samples in a block, and blocks that show how blocks scatter


@dataclass(frozen=True, slots=True)
class Evidence:
    """Against the canary: the log of the e-value now, where it begins (an index), and which row says most."""

    log_e: float
    start: int
    row: int


def accumulated(log_e: Floats, starts: float, alpha: float) -> Evidence:
    """Of log e-values (one row an alternative, one column a sample): their average over the rows and all starts, half
    of the weight on the first. `starts`: how many starts the window could have."""
    cap = (math.log(1 / alpha) + math.log(2 * starts) + math.log(len(log_e))) / PROOFS
    since = np.cumsum(np.minimum(log_e, cap)[:, ::-1], axis=1)[:, ::-1]
    weight = np.full(log_e.shape[1], 0.5 / starts)
    weight[0] += 0.5
    each = since + np.log(weight / len(log_e))
    row, start = np.unravel_index(int(each.argmax()), each.shape)
    top = float(each[row, start])
    return Evidence(top + math.log(np.exp(each - top).sum()), int(start), int(row))


# ── two shares ───────────────────────────────────────────────────────────────────────────────────────────────


def two_shares(canary: tuple[Floats, Floats], stable: tuple[Floats, Floats], margin: float, worth: float) -> Floats:
    """Log e-values, one row for each of RISES, against "the canary's odds of a bad event are at most 1 + margin times
    the stable version's", from (bad, total) of both by scrape.

    Given how many bad events both had together, how many are the canary's is beta-binomial: binomial by the ratio of
    traffic, which may be anything, and what both suffer at once cancels out; its scatter is that of two rates whose
    coefficient of variation is estimated from how the scrapes scatter around their mean ratio. `worth` is
    how many scrapes are worth one. (Lindon, Malek, NeurIPS 2022, for the multinomial without the scatter.)
    """
    (b1, n1), (b2, n2) = canary, stable
    expected = n1 * (1 + margin) / (n1 * (1 + margin) + n2)
    size = 1 / (2 * _scatter(canary, stable) * expected * (1 - expected))
    odds = expected / (1 - expected)
    rows = [_beta_binomial(b1, b2, size, r * odds / (1 + r * odds)) for r in RISES]
    return np.asarray((np.stack(rows) - _beta_binomial(b1, b2, size, expected)) / worth)


def _beta_binomial(b1: Floats, b2: Floats, size: Floats, share: Floats) -> Floats:
    """Log of the chance, without the binomial coefficient, which cancels."""
    a, b = size * share, size * (1 - share)
    return np.asarray(betaln(b1 + a, b2 + b) - betaln(a, b))


def _scatter(canary: tuple[Floats, Floats], stable: tuple[Floats, Floats]) -> float:
    """cv² of the rates, by the method of moments from the scatter of the canary's part of the bad events."""
    (b1, n1), (b2, n2) = canary, stable
    ratio = (b1.sum() + 0.5) / n1.sum() / ((b2.sum() + 0.5) / n2.sum())
    part, both = n1 * ratio / (n1 * ratio + n2), b1 + b2
    spread = part * (1 - part)
    excess = float(((b1 - both * part) ** 2 - both * spread).sum())
    seen = float((2 * np.maximum(both**2 - both, 0) * spread**2).sum())
    return min(max((CV2 * CV2_WEIGHT + excess) / (CV2_WEIGHT + seen), CV2_LEAST), CV2_MOST)


# ── pairs ────────────────────────────────────────────────────────────────────────────────────────────────────


def pairs(difference: Floats, worth: float) -> Floats:
    """Log e-values, one row for each of LAMBDAS, against "the differences lie around 0 or below".

    Between two equal versions the sign of a difference is a coin's, whatever its size, so 1 + tanh(λ·d/s) has mean 1
    for any λ (the likelihood ratio e^λd / cosh λd of de la Peña 1999); tanh bounds what an outlier can say, s is the
    median size so far, and a great λ makes it the sign test. `worth` is how many pairs are worth one.
    """
    size = abs(difference)
    d = difference / np.maximum(_medians_so_far(size), np.maximum(size / FARTHEST, 1e-300))
    log_e = math.log(2) - np.logaddexp(0.0, -2 * LAMBDAS[:, None] * d)
    return np.asarray(log_e / worth)


def _medians_so_far(x: Floats) -> Floats:
    """The (upper) median of the first, of the first two, and so on."""
    known: list[float] = []
    medians = []
    for value in x.tolist():
        insort(known, value)
        medians.append(known[len(known) // 2])
    return np.array(medians)


def signs(above: Floats, worth: float) -> Floats:
    """Log e-values against "it is above in at most half of the samples"; `above` is 1 or 0."""
    bets = np.array([0.3, 0.6, 0.9])[:, None]
    return np.asarray(np.log1p(bets * (2 * above - 1)) / worth)


def worth_one(x: Floats, alike: Floats | None = None) -> float:
    """How many neighbouring samples are worth one: by how much their mean scatters more than that of independent ones.

    (1+ρ)/(1-ρ) by the correlation of neighbours; or more, by the means of longer blocks, less half the error of that
    (batch means): what counting hides of a slow drift shows there. The largest step is taken out first, for a change is
    no memory. A short series cannot show all its memory: where `alike`, a longer one that has at least as much, shows
    more, ρ is taken as large as x leaves open.
    """
    left = _without_step(x) if len(x) >= SHORTEST else np.zeros(1)
    rho = _correlation(left)
    if alike is not None:
        open_to = rho + ERRORS * math.sqrt((1 - rho**2) / len(left))
        rho = max(rho, min(open_to, MEMORY_MOST, _correlation(_without_step(alike)) if len(alike) > len(x) else 1.0))
    return max((1 + rho) / (1 - rho), *(_by_blocks(left, length) for length in BLOCKS))


def _correlation(left: Floats) -> float:
    """Of neighbours, 0 to 0.97, corrected for the bias that a short series has (Kendall 1954)."""
    squares = float(left @ left)
    rho = float(left[1:] @ left[:-1]) / squares if squares > 0 else 0.0
    return min(max(rho + (1 + 4 * rho) / len(left), 0.0), MEMORY_MOST) if squares > 0 else 0.0


def _by_blocks(left: Floats, length: int) -> float:
    blocks = len(left) // length
    if blocks < FEWEST_BLOCKS or not left.any():
        return 1.0
    means = left[: blocks * length].reshape(blocks, length).mean(axis=1)
    return float(length * means.var() / left.var() * (1 - math.sqrt(1 / (2 * blocks))))


def _without_step(x: Floats) -> Floats:
    """Less the mean before and after the point that parts it best; a change is no memory."""
    n = len(x)
    before = np.cumsum(x - x.mean())[:-1]
    first = np.arange(1, n)
    k = int((before**2 / (first * (n - first))).argmax()) + 1
    return np.concatenate([x[:k] - x[:k].mean(), x[k:] - x[k:].mean()])
