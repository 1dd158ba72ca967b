"""How long checks of healthy services take, round by round, day and night: what fools those who watch for slowness.

Each kind takes a generator and the times of the rounds, and gives seconds, NaN where there was no round. Everything is
seeded; a slow-down is a factor on top, so that a slow service is its healthy self, only slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
Kind = Callable[[np.random.Generator, Floats], Floats]
DAY = 86400.0


def wander(rng: np.random.Generator, t: Floats, sd: float, memory: float) -> Floats:
    """Autocorrelated noise, which forgets within `memory` seconds (Ornstein–Uhlenbeck)."""
    keep = math.exp(-(t[1] - t[0]) / memory)
    pushes = rng.normal(0, sd * math.sqrt(1 - keep**2), len(t))
    pushes[0] = rng.normal(0, sd)
    return np.asarray(lfilter([1.0], [1.0, -keep], pushes))


def jitter(rng: np.random.Generator, t: Floats, sd: float) -> Floats:
    return np.exp(rng.normal(0, sd, len(t)))


def base(rng: np.random.Generator) -> float:
    """Its median: 15 to 300 ms."""
    return float(np.exp(rng.uniform(math.log(0.015), math.log(0.3))))


def steady(rng: np.random.Generator, t: Floats) -> Floats:
    return base(rng) * jitter(rng, t, float(rng.uniform(0.05, 0.25)))


def heavy_tails(rng: np.random.Generator, t: Floats) -> Floats:
    """One in ten takes several times as long, now and then a hundred times."""
    tail = np.where(rng.random(len(t)) < 0.1, 1 + rng.pareto(1.3, len(t)), 1)
    return np.minimum(base(rng) * jitter(rng, t, 0.15) * tail, 30.0)


def outliers(rng: np.random.Generator, t: Floats) -> Floats:
    """A few a day take 20 times as long."""
    return base(rng) * jitter(rng, t, 0.1) * np.where(rng.random(len(t)) < 0.01, 20, 1)


def bursts(rng: np.random.Generator, t: Floats) -> Floats:
    """Eight times a day, all is up to three times as slow for 3 to 12 minutes."""
    slow = np.ones(len(t))
    for begin in rng.uniform(t[0], t[-1], rng.poisson(8 * (t[-1] - t[0]) / DAY)):
        slow[(t >= begin) & (t < begin + rng.uniform(180, 720))] = rng.uniform(1.3, 3)
    return base(rng) * jitter(rng, t, 0.12) * slow


def wandering(rng: np.random.Generator, t: Floats) -> Floats:
    """Moves by 12 % within half an hour, and by 6 % within a quarter of a day."""
    slow = wander(rng, t, 0.12, 1800) + wander(rng, t, 0.06, 6 * 3600)
    return base(rng) * jitter(rng, t, 0.15) * np.exp(slow)


def daily(rng: np.random.Generator, t: Floats) -> Floats:
    """Half as long at night as on average, half as much again by day."""
    phase = rng.uniform(0, 2 * math.pi)
    cycle = 1 + 0.5 * np.sin(2 * math.pi * t / DAY + phase)
    return base(rng) * jitter(rng, t, 0.12) * cycle * np.exp(wander(rng, t, 0.05, 3 * 3600))


def weekly(rng: np.random.Generator, t: Floats) -> Floats:
    """A daily course, and two days of the week are slower or faster by up to a sixth."""
    two = (t // DAY + rng.integers(0, 7)) % 7 < 2
    cycle = 1 + 0.3 * np.sin(2 * math.pi * t / DAY + rng.uniform(0, 2 * math.pi))
    return base(rng) * jitter(rng, t, 0.12) * cycle * np.where(two, rng.uniform(0.83, 1.17), 1)


def fast(rng: np.random.Generator, t: Floats) -> Floats:
    """3 ms, give or take 40 %."""
    return np.asarray(0.003 * rng.uniform(0.6, 1.4, len(t)))


def coarse_clock(rng: np.random.Generator, t: Floats) -> Floats:
    """Measured with a clock that ticks only each millisecond, or each 10."""
    tick, median = ((0.001, 0.0034), (0.01, 0.024), (0.001, 0.0005))[int(rng.integers(0, 3))]
    return np.asarray(np.floor(median * jitter(rng, t, 0.2) / tick + rng.random(len(t))) * tick)


def gaps(rng: np.random.Generator, t: Floats) -> Floats:
    """The checker is away for up to five hours each day, and cold when it is back; single rounds are lost too."""
    took = base(rng) * jitter(rng, t, 0.15)
    for begin in rng.uniform(t[0], t[-1], rng.poisson((t[-1] - t[0]) / DAY)):
        end = begin + rng.uniform(300, 5 * 3600)
        took[(t >= begin) & (t < end)] = np.nan
        cold = np.flatnonzero(t >= end)[:3]
        took[cold] *= (8, 3, 1.5)[: len(cold)]
    took[rng.random(len(t)) < 0.03] = np.nan
    return took


def nightly(rng: np.random.Generator, t: Floats) -> Floats:
    """A backup makes it a quarter slower for two hours each night, and not always at the same time."""
    late = np.repeat(rng.uniform(0, 1200, int(t[-1] // DAY) + 2), 1)[(t // DAY).astype(int)]
    backup = (t % DAY >= 2 * 3600 + late) & (t % DAY < 4 * 3600 + late)
    return base(rng) * jitter(rng, t, 0.12) * np.where(backup, 1.25, 1)


def all_at_once(rng: np.random.Generator, t: Floats) -> Floats:
    """Something of everything."""
    cycle = 1 + 0.3 * np.sin(2 * math.pi * t / DAY + rng.uniform(0, 2 * math.pi))
    slow = np.exp(wander(rng, t, 0.08, 1200) + wander(rng, t, 0.04, 6 * 3600))
    tail = np.where(rng.random(len(t)) < 0.04, 1 + rng.pareto(1.5, len(t)), 1)
    for begin in rng.uniform(t[0], t[-1], rng.poisson(3 * (t[-1] - t[0]) / DAY)):
        tail[(t >= begin) & (t < begin + rng.uniform(120, 600))] *= rng.uniform(1.3, 2)
    return np.minimum(base(rng) * jitter(rng, t, 0.15) * cycle * slow * tail, 30.0)


KINDS: dict[str, Kind] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        steady, heavy_tails, outliers, bursts, wandering, daily, weekly, fast, coarse_clock, gaps, nightly, all_at_once,
    )
}  # fmt: skip
