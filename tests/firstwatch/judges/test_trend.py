from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from firstwatch.judges import trend
from firstwatch.model import Counts, Gauge, Outcome
from tests.firstwatch.judges.worlds import context, counts, gauge

T = np.arange(-119, 121) * 15.0  # half an hour before the deploy and after it
MINUTES = np.maximum(T, 0) / 60


def noisy(shape: np.ndarray, seed: int = 0) -> Gauge:
    """Around 400 MB, with the noise of a real process."""
    rng = np.random.default_rng(seed)
    return gauge(4e8 * shape * (1 + rng.normal(0, 0.004, len(shape))), first=-1800)


def first_failure(series: Gauge, begins: float = 300, limit: float = 0.25, **changes: Any) -> float | None:
    for now in series.at:
        told = context(now, begins=begins, limit=limit, words="memory", **changes)
        if now >= begins and trend(series.until(now), told).outcome is Outcome.FAIL:
            return now
    return None


def tooth(period: float, height: float) -> np.ndarray:
    return 1 + height * ((T % period) / period - 0.5)


def test_a_fast_leak_is_found_and_said_in_plain_words() -> None:
    series = noisy(1 + 0.03 * MINUTES)
    failed = first_failure(series)
    assert failed == 1500  # until then it may be a cache that fills
    waits = trend(series.until(900), context(900, limit=0.25))
    assert waits.outcome is Outcome.NOT_YET and waits.why.endswith("more, and a cache that fills looks the same")
    judged = trend(series.until(failed), context(failed, limit=0.25, words="memory"))
    assert judged.why.startswith("memory grew by ") and "steadily and without slowing: " in judged.why
    assert judged.why.endswith("in a window, 25 % is all right")


def test_what_has_doubled_is_not_waited_for() -> None:
    failed = first_failure(noisy(1 + 0.1 * MINUTES))
    assert failed is not None and failed <= 900


def test_a_cache_that_fills_evenly_and_is_full_after_twenty_minutes_passes() -> None:
    assert first_failure(noisy(1 + 0.4 * np.minimum(MINUTES / 20, 1))) is None


def test_what_stands_far_above_all_that_it_was_fails_and_a_smaller_step_does_not() -> None:
    assert first_failure(noisy(np.where(T > 200, 1.8, 1.0))) is None
    series = noisy(np.where(T > 200, 3.0, 1.0))
    failed = first_failure(series)
    assert failed is not None and failed <= 510
    why = trend(series.until(failed), context(failed, limit=0.25, words="memory")).why
    assert why.startswith("memory stands at 3.0 times the most that it was before the deploy, for ")


def test_what_stands_high_for_more_load_passes() -> None:
    load = np.where(T > 200, 5.0, 1.0)
    assert first_failure(pool(load), begins=600, limit=0.5, load=requests(load)) is None


def test_a_pool_that_stands_still_at_its_ceiling_is_exhausted() -> None:
    load = np.ones(len(T))
    taken = np.minimum(np.asarray(pool(load).value) + 8 * MINUTES, 14)
    series = gauge(taken, first=-1800)
    failed = first_failure(series, begins=600, limit=0.5, load=requests(load))
    assert failed is not None and failed <= 750
    told = context(failed, begins=600, limit=0.5, load=requests(load), words="db pool")
    assert trend(series.until(failed), told).why.startswith("db pool stands still at 14, its maximum, ")
    idle = np.where(T > 200, 0.0, 1.0)  # nobody asks: it stands still because nothing happens
    assert first_failure(series, begins=600, limit=9.0, load=requests(idle)) is None
    always = gauge(np.where(T > 200, 14.0, 10.0), first=-1800)  # it never moved before either
    assert first_failure(always, begins=600, limit=0.5, load=requests(load)) is None


def test_a_slow_leak_is_found_as_creep_at_the_end() -> None:
    assert first_failure(noisy(1 + 0.006 * MINUTES), begins=1800, limit=0.1) == 1800


@pytest.mark.parametrize("seed", range(4))
def test_a_leak_under_a_sawtooth_is_found_by_its_floor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (1 + 0.015 * MINUTES) * tooth(rng.uniform(60, 400), rng.uniform(0.05, 0.2))
    assert first_failure(noisy(shape, seed)) is not None


HEALTHY = {
    "flat": np.ones(240),
    "warm-up": np.where(T > 0, 1 - 0.5 * np.exp(-np.maximum(T, 0) / 150), 1),
    "slow warm-up": np.where(T > 0, 1 - 0.3 * np.exp(-np.maximum(T, 0) / 300), 1),
    "sawtooth": tooth(390, 0.2),
    "step": np.where(T > 700, 1.4, 1.0),
    "two steps": np.where(T > 500, 1.2, 1.0) + np.where(T > 1100, 0.2, 0.0),
    "fall": np.where(T > 500, 0.6, 1.0),
    "wave": 1 + 0.1 * np.sin(T / 200),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("limit", [0.1, 0.25])
def test_what_only_looks_like_a_leak_passes(name: str, limit: float) -> None:
    series = noisy(HEALTHY[name])
    assert first_failure(series, limit=limit) is None
    assert trend(series, context(1800, limit=limit)).outcome is Outcome.PASS


def test_what_grew_as_fast_before_the_deploy_is_not_the_releases_doing() -> None:
    assert first_failure(noisy(1 + 0.3 * (T + 1800) / 1800)) is None


def pool(load: np.ndarray, leak: float = 0.0) -> Gauge:
    rng = np.random.default_rng(5)
    used = 6 * load + leak * MINUTES + rng.normal(0, 1, len(load))
    return gauge(np.clip(np.round(used), 0, 50), first=-1800)


def requests(load: np.ndarray) -> Counts:
    return counts([0] * 240, np.random.default_rng(6).poisson(20 * 15 * load).astype(float), first=-1800)


WAVE = np.exp(0.2 * np.sin(T / 130)) * (1 + np.maximum(T, 0) / 1400)


def test_connections_that_follow_a_growing_load_pass() -> None:
    failed = first_failure(pool(WAVE), begins=600, limit=0.5, load=requests(WAVE))
    assert failed is None


def test_connections_that_leak_under_a_moving_load_are_found() -> None:
    failed = first_failure(pool(WAVE, leak=1.0), begins=600, limit=0.5, load=requests(WAVE))
    assert failed is not None and failed <= 1500


def test_without_history_it_waits_for_half_a_window() -> None:
    series = noisy(1 + 0.05 * MINUTES)
    since = Gauge(series.at[120:], series.value[120:])
    failed = first_failure(since)
    assert failed == 1500
    early = trend(since.until(600), context(600, limit=0.25))
    assert early.outcome is Outcome.NOT_YET and "too short a time" in early.why


@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
def test_a_window_of_a_minute_works(step: float) -> None:
    n = round(60 / step)
    leak = gauge([4e8 * (1 + 0.9 * i / n) for i in range(n + 1)], step)
    for now in leak.at:
        if trend(leak.until(now), context(now, window_s=60.0, limit=0.25)).outcome is Outcome.FAIL:
            assert now <= 50
            return
    pytest.fail("not found")


def test_constant_and_zero_gauges_pass() -> None:
    for value in (0.0, 5.0):
        judged = trend(gauge([value] * 240, first=-1800), context(1800, limit=0.5))
        assert judged.outcome is Outcome.PASS and judged.value is not None and math.isclose(judged.value, 0)


def test_counts_are_refused() -> None:
    with pytest.raises(TypeError, match="gauge"):
        trend(counts([0], 1), context(15))
