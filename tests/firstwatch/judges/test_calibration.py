"""Releases that change nothing, through all five checkpoints and all looks: how many are rolled back by mistake?

Scraped once a minute and looked at every two, so that a thousand of them take seconds, with an hour of history as a
live look has. The rate of errors lies at the objective, wanders around half of it, or comes in bursts far above it,
every five minutes or every ten. What an hour does not show, a first burst after it, is beyond any judge.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from firstwatch.model import Counts, Gauge, Verdict
from firstwatch.spec.models import DEFAULT_CHECKPOINTS, Objectives, Window
from firstwatch.timeline import Measured, Watch, replay

STEP = 60.0
T = np.arange(-59, 34) * STEP  # an hour before the deploy, and half an hour after it with the grace
Rate = NDArray[np.float64]


def wander(rng: np.random.Generator, sd: float, memory: float) -> Rate:
    """Autocorrelated noise (AR(1)) of standard deviation `sd`."""
    pushes = rng.normal(0, sd * np.sqrt(1 - memory**2), len(T))
    pushes[0] = rng.normal(0, sd)
    return np.array([sum(pushes[: i + 1] * memory ** np.arange(i, -1, -1)) for i in range(len(T))])


def steady(rng: np.random.Generator, share: float) -> Rate:
    return np.full(len(T), share)


def bursty(rng: np.random.Generator, share: float) -> Rate:
    """Bursts of two to four minutes at two and a half times the objective, one every five minutes or so."""
    return bursts(rng, share, 0.2)


def rarely_bursty(rng: np.random.Generator, share: float) -> Rate:
    """The same, one every ten minutes or so."""
    return bursts(rng, share, 0.1)


def bursts(rng: np.random.Generator, share: float, chance: float) -> Rate:
    rate = np.full(len(T), 0.1 * share)
    for start in np.flatnonzero(rng.random(len(T)) < chance):
        rate[start : start + rng.integers(2, 5)] = 2.5 * share
    return rate


def wandering(rng: np.random.Generator, share: float) -> Rate:
    return 0.5 * share * np.exp(wander(rng, 0.5, 0.7))


NOISE = {"steady": steady, "bursty": bursty, "rarely bursty": rarely_bursty, "wandering": wandering}


def identical(seed: int, noise: str) -> Measured:
    """A release that changes nothing: errors, latency, memory with teeth, connections that follow the load."""
    rng = np.random.default_rng(seed)
    load = np.exp(wander(rng, 0.2, 0.8))
    total = rng.poisson(2000 * load)

    def counts(share: float) -> Counts:
        rate = NOISE[noise](rng, share) * rng.gamma(4, 0.25, len(T))
        bad = rng.binomial(total, np.clip(rate, 0, 1))
        return Counts(T[0] - STEP, tuple(T.tolist()), tuple(map(float, bad)), tuple(map(float, total)))

    def gauge(value: Rate) -> Gauge:
        return Gauge(tuple(T.tolist()), tuple(value.tolist()))

    teeth = 1 + float(rng.uniform(0, 0.2)) * (T % float(rng.uniform(100, 400)) / 400)
    memory = gauge(4e8 * teeth * np.exp(wander(rng, 0.02, 0.0 if noise == "steady" else 0.8)))
    pool = gauge(np.round(np.clip(8 * load + rng.normal(0, 1, len(T)), 0, 50)))
    signals = (counts(0.01), counts(0.05), memory, pool, memory)
    seen = dict(zip((c.name for c in DEFAULT_CHECKPOINTS), signals, strict=True))
    return Measured(seen, load=signals[0], alive=tuple(T.tolist()))


def rolled_back(releases: int, noise: str, alpha: float) -> int:
    window = Window(checkpoints=list(DEFAULT_CHECKPOINTS), look_every=2 * STEP, alpha=alpha)
    watch = Watch(window, Objectives(availability=0.99), 0.0)
    rulings = (replay(identical(seed, noise), watch, until=T[-1]).ruling for seed in range(releases))
    return sum(ruling.verdict is Verdict.UNHEALTHY for ruling in rulings)


def test_of_a_thousand_identical_releases_fewer_than_alpha_are_rolled_back() -> None:
    assert rolled_back(1000, "steady", alpha=0.01) <= 10


@pytest.mark.parametrize("noise", ["bursty", "rarely bursty", "wandering"])
def test_bursty_and_autocorrelated_noise_stays_under_twice_alpha(noise: str) -> None:
    assert rolled_back(200, noise, alpha=0.01) <= 4
