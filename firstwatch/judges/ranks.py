"""Two samples, looked at once: does the one lie higher than the other, by more than does not matter?

For metrics that come as a handful of values a side, as Kayenta's do. Three questions, each at its own level:

- *location*: do the canary's values lie higher than the stable version's raised by the margin? Mann–Whitney's rank
  sum, ties and continuity corrected, its error widened for autocorrelation by √((1+ρ)/(1-ρ)) (Hamed, Rao 1998), ρ at
  most 0.8: it is told from a handful of values. Where ρ is higher, a distance of the means of four of their errors,
  with ρ up to 0.95, counts as well: ranks cannot say how far apart two samples lie.
- *tail*: do the largest values all come from the canary? The chance that the k largest of m + n values all are of the
  canary's m is C(m,k)/C(m+n,k) (Rosenbaum 1954). Values that follow one another count once, as far as the stable
  version's depend on one another too. It finds what a rank sum does not: errors in some minutes, a second mode, a
  wider spread.
- *novelty*: where the stable version never varied at all (no error, ever), any other value is new. Then the same
  question is asked at 1 in 10 rather than 1 in 100, of at least three values: a sample of zeros has no noise that could
  have made them.

Assumptions: the values of a side are exchangeable, apart from the autocorrelation that is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, ndtr

from firstwatch.judges.base import Floats

ENOUGH = 5  # values a side; with fewer not even a complete separation is beyond chance
LEVEL, NEW_LEVEL = 0.01, 0.1
NEW_VALUES = 3
FAR = 4.0  # standard errors


@dataclass(frozen=True, slots=True)
class Shift:
    """How the canary's values lie to the stable version's: `proof` is the question that was answered with yes, empty
    for none; `chance` of that on two equal versions; `beyond` values of the canary are larger than all stable ones."""

    proof: str
    chance: float
    canary: float  # medians
    stable: float
    beyond: int


def higher(canary: Sequence[float], stable: Sequence[float], margin: float) -> Shift:
    """Whether the canary lies higher by more than `margin`, relative to the stable values. One value a side or more."""
    x, y = np.asarray(canary, dtype=float), np.asarray(stable, dtype=float)
    raised = y + margin * abs(y)
    over = x > raised.max()
    beyond = int(over.sum())
    constant = bool(np.ptp(y) == 0)
    episodes = int((over & ~np.concatenate([[False], over[:-1]])).sum())
    independent = beyond if constant else max(episodes, beyond / widening(y, 0.95) ** 2)
    tail = _all_of_one(independent, len(x), len(y))
    location = _rank_sum(x, raised)
    proof, chance = "", min(tail, location)
    if constant and beyond >= NEW_VALUES and tail <= NEW_LEVEL:
        proof, chance = "novelty", tail
    elif location <= LEVEL:
        proof, chance = "location", location
    elif tail <= LEVEL:
        proof, chance = "tail", tail
    elif _distance(x, raised) >= FAR:
        proof, chance = "location", float(ndtr(-FAR))
    return Shift(proof, chance, float(np.median(x)), float(np.median(y)), beyond)


def ranks_of(values: Floats) -> Floats:
    """Ranks from 1, ties by their mean: as scipy.stats.rankdata, which takes most of a second to import."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    mean = np.cumsum(count) - (count - 1) / 2
    return np.asarray(mean[which], dtype=float)


def _rank_sum(x: Floats, y: Floats) -> float:
    """The chance of so high a rank sum of x among both, were they alike."""
    m, n = len(x), len(y)
    ranks = ranks_of(np.concatenate([x, y]))
    ties = np.unique(ranks, return_counts=True)[1].astype(float)
    variance = m * n / 12 * (m + n + 1 - float((ties**3 - ties).sum()) / ((m + n) * (m + n - 1)))
    surplus = float(ranks[:m].sum()) - m * (m + 1) / 2 - m * n / 2
    if variance <= 0 or surplus <= 0:
        return 1.0
    wide = max(widening(x, 0.8), widening(y, 0.8))
    return float(ndtr(-(surplus - 0.5) / math.sqrt(variance) / wide))


def _distance(x: Floats, y: Floats) -> float:
    """How far the mean of x lies above that of y, in its standard errors, widened for autocorrelation."""
    error = math.sqrt(x.var() / len(x) * widening(x, 0.95) ** 2 + y.var() / len(y) * widening(y, 0.95) ** 2)
    far = float(x.mean() - y.mean())
    return far / error if error > 0 else math.inf if far > 0 else 0.0


def _all_of_one(k: float, m: int, n: int) -> float:
    """C(m, k) / C(m + n, k), for any k ≤ m."""
    return math.exp(gammaln(m + 1) - gammaln(m - k + 1) - gammaln(m + n + 1) + gammaln(m + n - k + 1))


def widening(x: Floats, most: float) -> float:
    """√((1+ρ)/(1-ρ)), by how much autocorrelation widens the error of a mean; ρ of neighbours; where it is more
    than its own error, corrected for the bias that few values have (Kendall 1954)."""
    left, n = x - x.mean(), len(x)
    squares = float(left @ left)
    rho = float(left[1:] @ left[:-1]) / squares if squares > 0 else 0.0
    rho += (1 + 3 * rho) / n if rho > 1 / math.sqrt(n) else 0.0
    rho = min(max(rho, 0.0), most)
    return math.sqrt((1 + rho) / (1 - rho))
