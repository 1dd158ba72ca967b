"""The statistics of Kayenta's judge, computed as it computes them, so that a configuration scores what it scored there.

Source: github.com/spinnaker/kayenta at a69573b (NetflixACAJudge, MannWhitney, BrentSolver, EffectSizes, IQRDetector,
KSigmaDetector). The one difference: where Kayenta adds unseeded noise to constant series, so that the same data may
get another verdict, the noise here is the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from firstwatch.judges.base import Flags, Floats
from firstwatch.judges.ranks import ranks_of

_NOISE = 1e-5  # of the value, where both series are constant
_TOLERANCE, _MOST_STEPS, _EPSILON = 1e-4, 1001, 2.220446049250313e-16  # of the search for a root


@dataclass(frozen=True, slots=True)
class MannWhitney:
    """The confidence interval of the shift (experiment less control) and the Hodges–Lehmann estimate of it."""

    lower: float
    upper: float
    estimate: float


def mann_whitney(experiment: Sequence[float], control: Sequence[float], confidence: float) -> MannWhitney:
    """The two-sided test by its normal approximation, with ties and continuity corrected, as R's wilcox.test inverts
    it. Raises ValueError where all values are the same, or one is not finite."""
    x, y = np.asarray(experiment, dtype=float), np.asarray(control, dtype=float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a value is not a finite number")
    if len(set(x)) == 1 and len(set(y)) == 1:
        rng = np.random.default_rng(0)
        x, y = (v + rng.standard_normal(len(v)) * v[0] * _NOISE for v in (x, y))
    least, most = float(x.min() - y.max()), float(x.max() - y.min())

    def root(z: float) -> float:
        below, above = _deviate(least, x, y) - z, _deviate(most, x, y) - z
        if below <= 0:
            return least
        if above >= 0:
            return most
        return brent(least, most, below, above, lambda mu: _deviate(mu, x, y) - z)

    z = float(ndtri((1 - confidence) / 2))
    lowest, highest = _deviate(least, x, y), _deviate(most, x, y)
    estimate = brent(least, most, lowest, highest, lambda mu: _deviate(mu, x, y))
    return MannWhitney(root(-z), root(z), estimate)


def _deviate(mu: float, x: Floats, y: Floats) -> float:
    """The standard normal deviate of the rank sum of x - mu among both."""
    m, n = len(x), len(y)
    ranks = ranks_of(np.concatenate([x - mu, y]))
    ties = np.unique(ranks, return_counts=True)[1].astype(float)
    surplus = float(ranks[:m].sum()) - m * (m + 1) / 2 - m * n / 2
    variance = m * n / 12 * (m + n + 1 - float((ties**3 - ties).sum()) / ((m + n) * (m + n - 1)))
    if variance <= 0:
        raise ValueError("all values are the same")
    return float((surplus - np.sign(surplus) * 0.5) / math.sqrt(variance))


def brent(a: float, b: float, fa: float, fb: float, f: Callable[[float], float]) -> float:
    """A root of `f` between a and b by Brent's method, to 1e-4, step for step as Kayenta searches for it: on a
    function with steps, such as this one, another search ends at another point."""
    if fa == 0:
        return a
    if fb == 0:
        return b
    c, fc = a, fa
    for _ in range(_MOST_STEPS):
        before = b - a
        if abs(fc) < abs(fb):
            a, b, c, fa, fb, fc = b, c, b, fb, fc, fb
        close = 2 * _EPSILON * abs(b) + _TOLERANCE / 2
        step = (c - b) / 2
        if abs(step) <= close or fb == 0:
            return b
        if abs(before) >= close and abs(fa) > abs(fb):
            step = _interpolated(a, b, c, fa, fb, fc, before, close, step)
        if abs(step) < close:
            step = close if step > 0 else -close
        a, fa = b, fb
        b += step
        fb = f(b)
        if fb > 0 < fc or fb < 0 > fc:
            c, fc = a, fa
    return b


def _interpolated(
    a: float, b: float, c: float, fa: float, fb: float, fc: float, before: float, close: float, half: float
) -> float:
    """The step by inverse quadratic (or, of two points, linear) interpolation, where it is a good one."""
    width = c - b
    if a == c:
        t = fb / fa
        p, q = width * t, 1 - t
    else:
        q, t, u = fa / fc, fb / fc, fb / fa
        p, q = u * (width * q * (q - t) - (b - a) * (t - 1)), (q - 1) * (t - 1) * (u - 1)
    p, q = (p, -q) if p > 0 else (-p, q)
    good = p < 0.75 * width * q - abs(close * q) / 2 and p < abs(before * q / 2)
    return p / q if good else half


# ── effect sizes ─────────────────────────────────────────────────────────────────────────────────────────────


def mean_ratio(control: Sequence[float], experiment: Sequence[float]) -> float:
    """mean(experiment) / mean(control); NaN where either is 0."""
    c, e = _mean(control), _mean(experiment)
    return math.nan if c == 0 or e == 0 else e / c


def cles(control: Sequence[float], experiment: Sequence[float]) -> float:
    """The share of pairs in which the experiment's value is the higher one, ties half (Vargha, Delaney 2000)."""
    m, n = len(experiment), len(control)
    ranks = ranks_of(np.concatenate([np.asarray(experiment, dtype=float), np.asarray(control, dtype=float)]))
    return float((2 * ranks[:m].sum() - m * (m + 1)) / (2 * n * m))


def cohen_d(control: Sequence[float], experiment: Sequence[float]) -> float:
    """The distance of the means in pooled standard deviations."""
    c, e = np.asarray(control, dtype=float), np.asarray(experiment, dtype=float)
    pooled = ((len(e) - 1) * e.var(ddof=1) + (len(c) - 1) * c.var(ddof=1)) / (len(c) + len(e) - 2)
    return float(abs(e.mean() - c.mean()) / math.sqrt(pooled)) if pooled > 0 else math.nan


def effect_size(measure: str, control: Sequence[float], experiment: Sequence[float]) -> float:
    return cles(control, experiment) if measure == "cles" else mean_ratio(control, experiment)


# ── cleaning ─────────────────────────────────────────────────────────────────────────────────────────────────


def without_nan(values: Sequence[float]) -> list[float]:
    return [v for v in values if not math.isnan(v)]


def nan_as_zero(values: Sequence[float]) -> list[float]:
    return [0.0 if math.isnan(v) else v for v in values]


def percentile(values: Sequence[float], p: float) -> float:
    """The p-th percentile (0..100) by Hyndman and Fan's estimate R-7; NaN of nothing."""
    return float(np.percentile(np.asarray(values, dtype=float), p)) if len(values) else math.nan


def iqr_outliers(values: Sequence[float], factor: float, *, reduced: bool = False) -> Flags:
    """Which values lie beyond the quartiles by more than `factor` interquartile ranges; `reduced`: and beyond the
    first and the 99th percentile too."""
    low, high = percentile(values, 25), percentile(values, 75)
    lowest, highest = low - factor * (high - low), high + factor * (high - low)
    if reduced:
        lowest, highest = min(lowest, percentile(values, 1)), max(highest, percentile(values, 99))
    v = np.asarray(values, dtype=float)
    return np.asarray((v > highest) | (v < lowest))


def k_sigma_outliers(values: Sequence[float], k: float) -> Flags:
    """Which values are more than `k` (population) standard deviations from the mean."""
    v = np.asarray(values, dtype=float)
    return np.asarray(abs(v - v.mean()) > v.std() * k) if len(v) else np.zeros(0, dtype=bool)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
