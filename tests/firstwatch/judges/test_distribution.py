"""Latency: histograms and quantiles against the objective, histograms of a canary against the stable version's."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from firstwatch.judges import distribution
from firstwatch.model import Counts, Gauge, Histogram, Judgement, Outcome, Series
from tests.firstwatch.judges.worlds import context, gauge

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, math.inf)


def last(series: Series, now: float = 1800, **more: Any) -> Judgement:
    return distribution(series, context(now, **{"limit": 0.25, **more}))


def latencies(
    rng: np.random.Generator, rate: float, slower: Any = 1.0, tail: float = 0.0, n: int = 120, first: float = 0.0
) -> Histogram:
    """Log-normal around 80 ms times `slower`; of `tail` of the requests a second more."""
    slower, rows = np.broadcast_to(slower, n), []
    for i in range(n):
        took = rng.lognormal(math.log(0.08 * slower[i]), 0.8, rng.poisson(rate * 15))
        took = np.where(rng.random(len(took)) < tail, took + 1, took)
        rows.append(tuple(np.bincount(np.searchsorted(BOUNDS, took), minlength=len(BOUNDS)).astype(float)))
    return Histogram(first, tuple(first + 15.0 * (i + 1) for i in range(n)), BOUNDS, tuple(rows), "latency")


def first_failure(canary: Histogram, stable: Histogram, every: int = 60, **more: Any) -> float | None:
    for now in range(every, 1801, every):
        if last(canary.until(now), now, stable=stable.until(now), **more).outcome is Outcome.FAIL:
            return float(now)
    return None


# ── canary against stable ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("change", "by"), [({"slower": 1.6}, 600), ({"tail": 0.03}, 480)])
def test_a_shift_and_a_slow_tail_are_found_in_minutes(change: dict[str, Any], by: float) -> None:
    rng = np.random.default_rng(1)
    canary, stable = latencies(rng, 5, **change), latencies(rng, 20, n=180, first=-900)
    at = first_failure(canary, stable)
    assert at is not None
    assert at <= by
    judged = last(canary.until(at), at, stable=stable.until(at))
    assert "requests took longer than" in judged.why
    assert "on the stable version; 25 % worse is all right; chance of this" in judged.why
    assert judged.query == "latency"


def test_what_is_hardly_slower_passes() -> None:
    rng = np.random.default_rng(2)
    judged = last(latencies(rng, 20, slower=1.02), stable=latencies(rng, 80))
    assert judged.outcome is Outcome.PASS
    assert "no difference that matters" in judged.why


def test_what_slows_both_is_not_the_canarys_doing() -> None:
    rng = np.random.default_rng(3)
    slow = np.where(np.arange(120) > 60, 3.0, 1.0)
    assert first_failure(latencies(rng, 5, slow), latencies(rng, 20, slow)) is None


def test_equal_versions_fail_no_more_often_than_alpha() -> None:
    """With a latency that wanders by a fifth, on each version for itself; alpha is large, so that 40 runs tell."""
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(40):
        wander = [np.exp(0.2 * np.convolve(rng.normal(size=183), [0.5] * 4, "valid")) for _ in range(2)]
        canary = latencies(rng, 5, wander[0][60:])
        failed += first_failure(canary, latencies(rng, 20, wander[1], n=180, first=-900), 300, alpha=0.05) is not None
    assert failed / 40 <= 0.05


def test_too_little_or_nothing_to_compare_is_not_yet() -> None:
    rng = np.random.default_rng(5)
    canary = latencies(rng, 0.1, n=8)
    other = Histogram(0, (15.0,), (0.3, math.inf), ((5.0, 0.0),))
    for stable in (None, canary, other, gauge([1] * 9), Histogram(0, (), BOUNDS, ())):
        assert last(canary, 120, stable=stable).outcome is Outcome.NOT_YET
    assert "not enough" in last(canary, 120, stable=canary).why
    assert "no bound in common" in last(canary, 120, stable=other).why
    assert last(Histogram(0, (), BOUNDS, ()), 120, stable=canary).outcome is Outcome.NOT_YET


# ── against the objective ────────────────────────────────────────────────────────────────────────────────────


def test_a_histogram_is_held_against_the_objective_as_counts_are() -> None:
    """p95 ≤ 500 ms: 5 % of the requests may take longer."""
    rng = np.random.default_rng(6)
    more: dict[str, Any] = {"limit": 0.05, "bound": 0.5, "words": "requests took longer than 500ms"}
    assert last(latencies(rng, 20), **more).outcome is Outcome.PASS
    judged = last(latencies(rng, 20, tail=0.2), **more)
    assert judged.outcome is Outcome.FAIL
    assert "requests took longer than 500ms" in judged.why
    assert last(latencies(rng, 20), bound=60).outcome is Outcome.ERROR
    assert "add a bucket at 60" in last(latencies(rng, 20), bound=60).why


def test_a_canary_within_the_objective_and_slower_than_the_stable_version_fails_and_the_other_way_round() -> None:
    rng = np.random.default_rng(7)
    fast, slow = latencies(rng, 20), latencies(rng, 20, slower=2)
    assert last(slow, limit=0.05, bound=2.5, stable=fast).outcome is Outcome.FAIL
    assert last(slow, limit=0.05, bound=0.1, stable=slow).outcome is Outcome.FAIL
    assert last(fast, limit=0.05, bound=0.5, stable=fast).outcome is Outcome.PASS


def test_a_quantile_is_above_the_objective_only_if_it_stays_there() -> None:
    above, below = gauge([0.7, 0.8] * 60), gauge([0.3, 0.4] * 60)
    judged = last(above, bound=0.5)
    assert judged.outcome is Outcome.FAIL
    assert "objective 500ms; above it in" in judged.why
    assert (judged.limit, judged.unit) == (0.5, "seconds")
    assert last(below, bound=0.5).outcome is Outcome.PASS
    spike = dataclasses.replace(below, value=[9.0 if 50 <= i < 54 else 0.3 for i in range(120)])
    assert all(last(spike.until(now), now, bound=0.5).outcome is not Outcome.FAIL for now in range(120, 1801, 15))
    assert last(gauge([0.9, 0.9]), 30, bound=0.5).outcome is Outcome.NOT_YET
    assert last(gauge([0.9] * 9), 135).outcome is Outcome.NOT_YET  # no objective, nothing to compare with


def test_counts_of_slow_requests_are_the_proportion_judges() -> None:
    slow = Counts(0, tuple(15.0 * i for i in range(1, 121)), (60.0,) * 120, (300.0,) * 120)
    assert last(slow, limit=0.05).outcome is Outcome.FAIL
    assert isinstance(last(Gauge((), ()), bound=1), Judgement)
