"""Kinds of release, simulated: what happens to a service after a deploy, and whether it is bad from when on.

A release is an hour before the deploy and 36 minutes after it, scraped every 15 s. The deploy is at time 0.
Healthy kinds hold what fools naive gates; bad kinds hold faults of all sizes, from the deploy on or later. Each kind is
a few lines that bend the arrays of `World`. The `OTHER` kinds were thought of when the judges had been built; those of
gauges and the long cold start were looked at while tuning, on other seeds, the rest were not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP, BEFORE, AFTER = 15.0, 3600.0, 2160.0
BOUND = 0.5  # seconds: the latency objective, p95
Floats = NDArray[np.float64]


def wander(rng: np.random.Generator, n: int, sd: float, memory: float = 0.9) -> Floats:
    """Autocorrelated noise (AR(1)) of standard deviation `sd`."""
    x, out = rng.normal(0, sd), np.empty(n)
    for i in range(n):
        x = memory * x + rng.normal(0, sd * math.sqrt(1 - memory**2))
        out[i] = x
    return out


Traffic = Callable[[np.random.Generator, int], Floats]
"""A slow curve of load over so many samples, about 1."""


def invented(rng: np.random.Generator, n: int) -> Floats:
    knots = np.exp(rng.normal(0, float(rng.choice([0.1, 0.3, 0.5])), 12))
    return np.interp(np.linspace(0, 11, n), np.arange(12), knots)


@dataclass
class World:
    """A healthy service, sample by sample. A kind changes it in place and sets `onset` if it makes it bad."""

    rng: np.random.Generator
    t: Floats
    rps: Floats
    p_err: Floats
    median: Floats  # of the latency, seconds
    sigma: float  # of its logarithm
    tail: Floats  # share of requests that take 2 s besides
    memory: Floats
    base: float  # bytes
    pool: Floats
    scraped: NDArray[np.bool_]
    reset: float = 0.0
    onset: float | None = None

    @classmethod
    def healthy(cls, rng: np.random.Generator, traffic: Traffic = invented, step: float = STEP) -> World:
        t = np.arange(-BEFORE, AFTER + 1, step)
        n = len(t)
        rate = float(rng.choice([3, 20, 120, 600]))
        # Real traffic moves: a slow curve and a wandering on top of it.
        load = np.clip(traffic(rng, n), 0.3, 3) * np.exp(wander(rng, n, 0.09))
        sigma, median = float(rng.uniform(0.5, 0.75)), float(rng.uniform(0.04, 0.12))
        base = float(rng.uniform(150, 900)) * 1e6
        fill, tau = float(rng.uniform(0.03, 0.1)), float(rng.uniform(60, 200))
        w = cls(
            rng, t, rate * load, np.full(n, float(rng.choice([0, 0.0003, 0.002]))),
            median * np.exp(rng.normal(0, 0.05, n)), sigma, np.zeros(n),
            base * (1 + rng.normal(0, 0.004, n)), base, load * 6 + rng.normal(0, 1, n), np.ones(n, bool),
        )  # fmt: skip
        warm_up(w, fill, tau)
        if rng.random() < 0.3:
            sawtooth(w)
        return w

    @property
    def after(self) -> NDArray[np.bool_]:
        return self.t > 0

    def since(self, onset: float) -> NDArray[np.bool_]:
        self.onset = onset
        return self.t > onset

    def p95_to(self, factor: float) -> float:
        """What the latency must be multiplied by for a p95 of `factor` times the objective."""
        return factor * BOUND / (float(np.median(self.median)) * math.exp(1.645 * self.sigma))


def warm_up(w: World, share: float, tau: float) -> None:
    w.memory *= np.where(w.after, 1 - share * np.exp(-np.maximum(w.t, 0) / tau), 1)


def sawtooth(w: World) -> None:
    period, height = float(w.rng.uniform(60, 400)), float(w.rng.uniform(0.05, 0.2))
    w.memory *= 1 + height * ((w.t % period) / period - 0.5)


def ramp(w: World, onset: float, seconds: float) -> Floats:
    """0 before the onset, rising to 1 within so many seconds."""
    w.onset = onset
    return np.clip((w.t - onset) / seconds, 0, 1)


def late(w: World) -> float:
    return float(w.rng.uniform(240, 1200))


# ── healthy kinds ────────────────────────────────────────────────────────────────────────────────────────────


def plain(w: World) -> None: ...


def cold_start(w: World) -> None:
    w.median *= np.where(w.after & (w.t <= 75), w.p95_to(1.8), 1)


def blip(w: World) -> None:
    s = float(w.rng.uniform(60, 1500))
    w.p_err += np.where((w.t >= s) & (w.t < s + 30), 0.06, 0)


def big_warm_up(w: World) -> None:
    warm_up(w, float(w.rng.uniform(0.15, 0.5)), float(w.rng.uniform(60, 200)))


def tall_sawtooth(w: World) -> None:
    sawtooth(w)


def traffic_ramp(w: World) -> None:
    grow = np.interp(w.t, [-BEFORE, 0, AFTER], [0.6, 1, 2.4])
    w.rps *= grow
    w.pool *= grow


def traffic_drop(w: World) -> None:
    down = np.where((w.t > 300) & (w.t < 900), 0.25, 1)
    w.rps *= down
    w.pool *= down


def scrape_gap(w: World) -> None:
    s = float(w.rng.choice([-15, -15, w.rng.uniform(200, 1500)]))
    w.scraped &= ~((w.t >= s) & (w.t < s + 75))


def one_in_ten(w: World) -> None:
    """So little traffic that one unlucky error is a large share."""
    w.rps *= float(w.rng.choice([0.15, 0.4])) / float(np.median(w.rps))
    w.p_err[:] = 0
    w.p_err[w.rng.choice(np.flatnonzero(w.after)[:40])] = 0.3


def noisy_dependency(w: World) -> None:
    for _ in range(14):
        s = w.rng.integers(0, len(w.t) - 4)
        w.p_err[s : s + w.rng.integers(1, 4)] += w.rng.uniform(0.004, 0.012)


def bursts_before_and_after(w: World) -> None:
    """Bursts of 3 % for 15 to 45 s, every ten minutes or so, long before the deploy and after it."""
    for s in np.flatnonzero(w.rng.random(len(w.t)) < 1 / 40):
        w.p_err[s : s + w.rng.integers(1, 4)] += 0.03


def memory_step(w: World) -> None:
    w.memory *= np.where(w.t > w.rng.uniform(200, 1500), float(w.rng.uniform(1.2, 1.6)), 1)


def load_memory(w: World) -> None:
    """Half of the memory follows the requests in flight."""
    w.memory *= 0.5 + 0.5 * w.rps / float(np.median(w.rps))


def restart(w: World) -> None:
    """The process restarts in mid-window: away for a minute, counters from zero, memory fresh."""
    w.reset = float(w.rng.uniform(200, 1500))
    w.scraped &= ~((w.t > w.reset) & (w.t <= w.reset + 60))


def worse_but_allowed(w: World) -> None:
    w.p_err = np.where(w.after, 0.005, 0.0005)
    w.median *= np.where(w.after, w.p95_to(0.85), w.p95_to(0.6))


def long_blip(w: World) -> None:
    s = float(w.rng.uniform(120, 1500))
    w.p_err += np.where((w.t >= s) & (w.t < s + 60), 0.1, 0)


def slow_warm_up(w: World) -> None:
    warm_up(w, float(w.rng.uniform(0.15, 0.35)), float(w.rng.uniform(200, 350)))


def daily_wave(w: World) -> None:
    """The flank of a day: load, connections and, slowly, a part of the memory with it."""
    wave = 1 + 0.6 * np.sin(2 * math.pi * (w.t / 7200 + w.rng.random()))
    w.rps *= wave
    w.pool *= wave
    recent = np.convolve(w.rps, np.ones(12) / 12)[: len(w.t)]
    w.memory *= 1 + 0.15 * (recent / float(np.median(w.rps)) - 1)


def long_cold_start(w: World) -> None:
    w.median *= np.where(w.after & (w.t <= 105), w.p95_to(2.5), 1)


def bad_before_too(w: World) -> None:
    """A dependency that was broken for an hour is no doing of the release."""
    w.p_err[:] = 0.03


def traffic_moves_here(w: World) -> None:
    """Another region fails over: four times the load from one moment on."""
    more = np.where(w.t > late(w), 4, 1)
    w.rps *= more
    w.pool *= more
    w.onset = None


def memory_wander(w: World) -> None:
    w.memory *= np.exp(wander(w.rng, len(w.t), 0.03, 0.95))


# ── bad kinds ────────────────────────────────────────────────────────────────────────────────────────────────


def errors_at(share: float) -> Callable[[World], None]:
    def kind(w: World) -> None:
        w.p_err += np.where(w.since(0), share, 0)

    return kind


def errors_late(w: World) -> None:
    w.p_err += np.where(w.since(late(w)), 0.05, 0)


def slow_at(factor: float) -> Callable[[World], None]:
    def kind(w: World) -> None:
        w.median *= np.where(w.since(0), w.p95_to(factor), 1)

    return kind


def slow_late(w: World) -> None:
    w.median *= np.where(w.since(late(w)), w.p95_to(2), 1)


def slow_tail(w: World) -> None:
    w.tail = np.where(w.since(0), 0.09, 0)


def leak_at(per_minute: float) -> Callable[[World], None]:
    def kind(w: World) -> None:
        w.memory += np.where(w.since(0), w.t / 60 * w.base * per_minute, 0)

    return kind


def pool_leak(w: World) -> None:
    w.pool = w.pool + np.where(w.since(0), w.t / 60 * float(w.rng.uniform(0.6, 2)), 0)


def down(w: World) -> None:
    w.scraped &= ~w.since(float(w.rng.integers(0, 20)) * STEP)


def flapping(w: World) -> None:
    """A broken replica comes and goes: 10 % for half of each two minutes."""
    w.p_err += np.where(w.since(float(w.rng.uniform(0, 600))) & ((w.t // 60) % 2 == 0), 0.1, 0)


def error_ramp(w: World) -> None:
    w.p_err += 0.06 * ramp(w, float(w.rng.uniform(0, 600)), 600)
    w.onset = float(w.t[np.argmax(w.p_err > 0.01)])


def latency_creeps(w: World) -> None:
    w.median *= 1 + (w.p95_to(2.5) - 1) * ramp(w, 0, 1200)
    p95 = w.median * math.exp(1.645 * w.sigma)
    w.onset = float(w.t[np.argmax((p95 > BOUND) & w.after)])


def partial_outage(w: World) -> None:
    w.p_err += np.where(w.since(late(w)), 0.25, 0)


def late_leak(w: World) -> None:
    onset = float(w.rng.uniform(240, 600))
    w.memory += np.where(w.since(onset), (w.t - onset) / 60 * w.base * 0.02, 0)


def leak_under_sawtooth(w: World) -> None:
    sawtooth(w)
    leak_at(0.015)(w)


def leak_in_steps(w: World) -> None:
    """A job every three minutes leaks 4 %."""
    w.memory += np.where(w.since(0), (w.t // 180) * w.base * 0.04, 0)


def broken_at_low_traffic(w: World) -> None:
    w.rps *= 0.5 / float(np.median(w.rps))
    w.p_err += np.where(w.since(0), 0.3, 0)


def everything_fails(w: World) -> None:
    w.p_err[w.since(late(w))] = 1


def no_requests_come(w: World) -> None:
    w.rps[w.since(late(w))] = 0


def slow_half(w: World) -> None:
    """One replica of two is three times too slow."""
    w.tail = np.where(w.since(late(w)), 0.5, 0)


HEALTHY: dict[str, Callable[[World], None]] = {k.__name__: k for k in (
    plain, cold_start, blip, big_warm_up, tall_sawtooth, traffic_ramp, traffic_drop, scrape_gap, one_in_ten,
    noisy_dependency, bursts_before_and_after, memory_step, load_memory, restart, worse_but_allowed,
)}  # fmt: skip
BAD: dict[str, Callable[[World], None]] = {
    "errors_1.5": errors_at(0.015), "errors_4": errors_at(0.04), "errors_20": errors_at(0.2),
    "errors_late": errors_late,
    "slow_1.4": slow_at(1.4), "slow_3": slow_at(3), "slow_late": slow_late, "slow_tail": slow_tail,
    "leak_fast": leak_at(0.03), "leak_slow": leak_at(0.006), "pool_leak": pool_leak, "down": down,
    "flapping": flapping, "error_ramp": error_ramp, "late_leak": late_leak,
}  # fmt: skip
OTHER_HEALTHY: dict[str, Callable[[World], None]] = {k.__name__: k for k in (
    long_blip, slow_warm_up, daily_wave, long_cold_start, bad_before_too, traffic_moves_here, memory_wander,
)}  # fmt: skip
OTHER_BAD: dict[str, Callable[[World], None]] = {k.__name__: k for k in (
    latency_creeps, partial_outage, leak_under_sawtooth, leak_in_steps, broken_at_low_traffic, everything_fails,
    no_requests_come, slow_half,
)}  # fmt: skip
