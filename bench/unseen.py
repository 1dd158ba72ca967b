"""Kinds of release that the judges were not built with: what a fair adversary would think of next.

Measured first, and looked at only for causes; whatever was mended was mended for a reason that is written where it was
mended. The `FINE` kinds are scraped every five seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bench.releases import (
    AFTER,
    BEFORE,
    BOUND,
    STEP,
    World,
    errors_at,
    late,
    leak_at,
    ramp,
    sawtooth,
    slow_at,
    wander,
    warm_up,
)

Bend = Callable[[World], None]


def pulses(w: World, every: float, length: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """True during a job of so many seconds that comes every so many, before the deploy and after."""
    return (w.t + float(w.rng.uniform(0, every))) % every < length


def busy(w: World, factor: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Load and connections by a factor."""
    w.rps = w.rps * factor
    w.pool = w.pool * factor


def quiet(w: World, low: float, high: float) -> None:
    w.rps *= float(np.exp(w.rng.uniform(math.log(low), math.log(high)))) / float(np.median(w.rps))


# ── healthy ──────────────────────────────────────────────────────────────────────────────────────────────────


def diurnal_slope(w: World) -> None:
    busy(w, np.linspace(0.6, 1.6, len(w.t))[:: int(w.rng.choice([-1, 1]))])
    w.memory *= 1 + 0.1 * (np.convolve(w.rps, np.ones(20) / 20)[: len(w.t)] / float(np.median(w.rps)) - 1)


def cron_latency(w: World) -> None:
    """A job every five minutes makes 45 seconds slow: p95 above its objective then, and not on average."""
    w.median *= np.where(pulses(w, 300, 45), w.p95_to(1.25), w.p95_to(0.6))


def cron_memory(w: World) -> None:
    w.memory *= np.where(pulses(w, 600, 90), float(w.rng.uniform(1.2, 1.8)), 1)


def cron_errors(w: World) -> None:
    """A job every ten minutes fails a few requests: 3 % for a minute."""
    w.p_err += np.where(pulses(w, 600, 60), 0.03, 0)


def hard_cron_errors(w: World) -> None:
    """Every ten minutes, before and after alike, a minute and a half of 10 %: over the objective, and not new."""
    w.p_err += np.where(pulses(w, 600, 90), 0.1, 0)


def slow_dependency(w: World) -> None:
    """Slow above the objective before the deploy and after it."""
    w.median *= w.p95_to(1.3) * np.exp(wander(w.rng, len(w.t), 0.05))


def deploy_gap(w: World) -> None:
    w.scraped &= ~((w.t > 0) & (w.t < 120))


def one_pod_restarts(w: World) -> None:
    s = float(w.rng.uniform(200, 1500))
    w.rps *= np.where((w.t > s) & (w.t < s + 45), 0.5, 1)
    w.memory *= np.where(w.t > s, 1 - 0.25 * np.exp(-np.maximum(w.t - s, 0) / 120), 1)


def cache_warm_up(w: World) -> None:
    """Ten minutes to fill; slower until then, and within the objective."""
    cold = np.where(w.after, np.exp(-np.maximum(w.t, 0) / 240), 0)
    warm_up(w, float(w.rng.uniform(0.2, 0.4)), 240)
    w.median *= 1 + cold * (w.p95_to(0.85) - 1) * (w.p95_to(0.85) > 1)


def jit_warm_up(w: World) -> None:
    """Slow over the objective for a minute and a half, then better and better."""
    w.median *= np.where(w.after, 1 + (max(w.p95_to(2), 1) - 1) * np.exp(-np.maximum(w.t, 0) / 45), 1)


def load_test(w: World) -> None:
    s = float(w.rng.uniform(200, 900))
    on = (w.t > s) & (w.t < s + 600)
    busy(w, np.where(on, 4.0, 1.0))
    w.median *= np.where(on, max(1.0, w.p95_to(0.8)), 1)
    w.memory *= np.where(on, 1.2, 1)


def traffic_away(w: World) -> None:
    busy(w, np.where(w.t > late(w), 0.2, 1))


def traffic_times_five(w: World) -> None:
    more = np.where(w.t > late(w), 5.0, 1.0)
    busy(w, more)
    w.memory *= 1 + 0.15 * np.convolve(more - 1, np.ones(12) / 12)[: len(w.t)] / 4


def bimodal_latency(w: World) -> None:
    """3.5 % of requests take a slow path, by design."""
    w.tail = np.full(len(w.t), 0.035)
    w.median *= min(1.0, w.p95_to(0.5))


def low_traffic(w: World) -> None:
    quiet(w, 0.15, 1)
    w.p_err[:] = 0
    w.p_err[w.rng.choice(np.flatnonzero(w.after), 2)] = 0.3


def quiet_night(w: World) -> None:
    """Traffic dies away to nothing, as on every night."""
    w.rps *= np.exp(-6 * np.clip((w.t + BEFORE) / (BEFORE + AFTER), 0, 1) ** 1.5)
    w.rps[w.rps < 0.05] = 0
    w.pool = w.pool * np.exp(-2 * np.clip((w.t + BEFORE) / (BEFORE + AFTER), 0, 1))


def errors_go_away(w: World) -> None:
    w.p_err += np.where(w.t <= 0, 0.03, 0)


def long_bursts(w: World) -> None:
    """Bursts of two to four minutes at 2 %, one every eight minutes or so, all the time."""
    for s in np.flatnonzero(w.rng.random(len(w.t)) < STEP / 480):
        w.p_err[s : s + w.rng.integers(8, 17)] += 0.015


def wandering_errors(w: World) -> None:
    w.p_err = 0.004 * np.exp(wander(w.rng, len(w.t), 0.5, 0.9) - 0.125)


def memory_plateau(w: World) -> None:
    """A cache that fills evenly for twenty minutes and is full then."""
    w.memory *= 1 + float(w.rng.uniform(0.2, 0.5)) * np.clip(w.t / 1200, 0, 1)


def heap_to_a_cap(w: World) -> None:
    """Teeth that grow with the heap, until it has reached its cap."""
    period, full = float(w.rng.uniform(60, 200)), float(w.rng.uniform(600, 1200))
    size = np.clip(w.t / full, 0, 1)
    w.memory *= 1 + 0.3 * size * (0.5 + ((w.t % period) / period))


def batch_job_memory(w: World) -> None:
    s = float(w.rng.uniform(200, 1200))
    w.memory *= np.where((w.t > s) & (w.t < s + 400), float(w.rng.uniform(1.3, 2)), 1)


def lagging_pool(w: World) -> None:
    """Connections follow the load two minutes late, under a growing load."""
    grow = np.interp(w.t, [-BEFORE, 0, AFTER], [0.7, 1, 2.2])
    busy(w, grow)
    w.pool = np.convolve(w.pool, np.ones(9) / 9)[: len(w.t)]
    w.pool[:9] = w.pool[9]


def scrape_30(w: World) -> None:
    w.scraped &= w.t % 30 == 0


def scrape_60(w: World) -> None:
    w.scraped &= w.t % 60 == 0


def scrape_60_noisy(w: World) -> None:
    scrape_60(w)
    long_bursts(w)
    sawtooth(w)


def slower_within_objective(w: World) -> None:
    """A CPU fault slows everything by 60 %. The objectives hold, so it is healthy: they are the user's word."""
    w.median *= min(1.0, w.p95_to(0.55))
    w.median *= np.where(w.after, 1.6, 1)


def flaky_scrapes(w: World) -> None:
    w.scraped &= (w.rng.random(len(w.t)) > 0.15) | (w.t < -BEFORE + 60)


# ── bad ──────────────────────────────────────────────────────────────────────────────────────────────────────


def every_third_minute(w: World) -> None:
    w.p_err += np.where(w.since(float(w.rng.uniform(0, 600))) & ((w.t // 60) % 3 == 0), 0.1, 0)


def small_errors(w: World) -> None:
    w.p_err += np.where(w.since(0), float(w.rng.uniform(0.012, 0.02)), 0)


def one_instance_of_four(w: World) -> None:
    w.p_err += np.where(w.since(late(w)), 0.25 * float(w.rng.uniform(0.2, 1)), 0)


def latency_ramp(w: World) -> None:
    w.median *= 1 + (w.p95_to(3) - 1) * ramp(w, float(w.rng.uniform(0, 600)), 600)
    w.onset = float(w.t[np.argmax((w.median * math.exp(1.645 * w.sigma) > BOUND) & w.after)])


def one_slow_endpoint(w: World) -> None:
    """A tenth of the requests become slow; the others stay as they are."""
    w.tail = np.where(w.since(late(w)), 0.1, 0)


def errors_at_the_end(w: World) -> None:
    w.p_err += np.where(w.since(float(w.rng.uniform(1200, 1620))), float(w.rng.uniform(0.04, 0.2)), 0)


def slow_at_the_end(w: World) -> None:
    w.median *= np.where(w.since(float(w.rng.uniform(1200, 1620))), w.p95_to(2), 1)


def leak_after_ten(w: World) -> None:
    onset = float(w.rng.uniform(600, 720))
    w.memory += np.where(w.since(onset), (w.t - onset) / 60 * w.base * 0.03, 0)


def staircase_leak(w: World) -> None:
    every = float(w.rng.choice([60, 90, 120]))
    w.memory += np.where(w.since(0), (w.t // every) * w.base * 0.02 * every / 60, 0)


def leak_under_teeth(w: World) -> None:
    sawtooth(w)
    leak_at(0.02)(w)


def pool_to_exhaustion(w: World) -> None:
    w.pool = w.pool + np.where(w.since(0), w.t / 60 * float(w.rng.uniform(5, 12)), 0)


def late_pool_leak(w: World) -> None:
    onset = float(w.rng.uniform(240, 600))
    w.pool = w.pool + np.where(w.since(onset), (w.t - onset) / 60 * float(w.rng.uniform(1, 2)), 0)


def crash_loop(w: World) -> None:
    """The process dies every minute and takes half of it to be back."""
    gone = w.since(float(w.rng.uniform(0, 600))) & (w.t % 60 < 30)
    w.rps[gone] = 0
    w.scraped &= ~gone


def down_at_five(w: World) -> None:
    w.scraped &= ~w.since(300)


def hang(w: World) -> None:
    """It answers the scrape, and no request is ever finished again; one in a hundred still is."""
    w.rps[w.since(late(w))] *= float(w.rng.choice([0, 0, 0.003]))


def errors_and_gaps(w: World) -> None:
    flaky_scrapes(w)
    errors_at(0.05)(w)


def worse_than_bad(w: World) -> None:
    """Bursts were usual; now it is bad all the time."""
    long_bursts(w)
    w.p_err += np.where(w.since(late(w)), 0.06, 0)


def errors_4_scrape_60(w: World) -> None:
    scrape_60(w)
    errors_at(0.04)(w)


def slow_2_scrape_30(w: World) -> None:
    scrape_30(w)
    slow_at(2)(w)


def leak_scrape_60(w: World) -> None:
    scrape_60(w)
    leak_at(0.03)(w)


def down_scrape_60(w: World) -> None:
    scrape_60(w)
    w.scraped &= ~w.since(late(w))


def low_traffic_down(w: World) -> None:
    quiet(w, 0.5, 2)
    w.scraped &= ~w.since(late(w))


def low_traffic_errors(w: World) -> None:
    quiet(w, 0.7, 2)
    w.p_err += np.where(w.since(0), 0.15, 0)


# ── scraped every five seconds ───────────────────────────────────────────────────────────────────────────────


def fine(bend: Bend) -> Bend:
    """The same, scraped every five seconds."""

    def finer(w: World) -> None:
        bend(w)

    finer.step = 5.0  # type: ignore[attr-defined]
    return finer


def _named(*kinds: Bend) -> dict[str, Bend]:
    return {k.__name__: k for k in kinds}


UNSEEN_HEALTHY = _named(
    diurnal_slope, cron_latency, cron_memory, cron_errors, hard_cron_errors, slow_dependency, deploy_gap,
    one_pod_restarts, cache_warm_up, jit_warm_up, load_test, traffic_away, traffic_times_five, bimodal_latency,
    low_traffic, quiet_night, errors_go_away, long_bursts, wandering_errors, memory_plateau, heap_to_a_cap,
    batch_job_memory, lagging_pool, scrape_30, scrape_60, scrape_60_noisy, slower_within_objective, flaky_scrapes,
)  # fmt: skip
UNSEEN_BAD = _named(
    every_third_minute, small_errors, one_instance_of_four, latency_ramp, one_slow_endpoint, errors_at_the_end,
    slow_at_the_end, leak_after_ten, staircase_leak, leak_under_teeth, pool_to_exhaustion, late_pool_leak, crash_loop,
    down_at_five, hang, errors_and_gaps, worse_than_bad, errors_4_scrape_60, slow_2_scrape_30, leak_scrape_60,
    down_scrape_60, low_traffic_down, low_traffic_errors,
)  # fmt: skip
FINE_HEALTHY = {
    "fine_plain": fine(lambda w: None), "fine_teeth": fine(sawtooth), "fine_bursts": fine(long_bursts),
}  # fmt: skip
FINE_BAD = {
    "fine_errors_4": fine(errors_at(0.04)), "fine_slow_2": fine(slow_at(2)), "fine_leak": fine(leak_at(0.03)),
}  # fmt: skip
