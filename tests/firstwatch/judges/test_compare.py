"""Canary against stable: what is proven, what is not, and how often it errs when looked at again and again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.judges import Context, compare
from firstwatch.model import Counts, Gauge, Judgement, Outcome, Series
from tests.firstwatch.judges.worlds import context, counts, gauge

Floats = Any
LOOKS = range(15, 1801, 15)
HISTORY = 60  # scrapes of the stable version before the deploy


def last(canary: Series, stable: Series | None, now: float = 1800, **more: Any) -> Judgement:
    return compare(canary, context(now, **{"limit": 0.25, "stable": stable, **more}))


def first_failure(canary: Series, stable: Series, looks: Any = LOOKS, **more: Any) -> float | None:
    """When the first look of a watch fails."""
    for now in looks:
        if last(canary.until(now), stable.until(now), now, **more).outcome is Outcome.FAIL:
            return float(now)
    return None


def served(rng: np.random.Generator, rate: float, share: float | Floats, n: int = 120, first: float = 0.0) -> Counts:
    """Requests as they come, of which a share fails."""
    total = rng.poisson(rate * 15, n)
    return counts(rng.binomial(total, np.clip(share, 0, 1)), total, first=first)  # type: ignore[arg-type]


def slow_noise(rng: np.random.Generator, n: int, rho: float, sd: float) -> Floats:
    """Noise around 0 that depends on what it was before."""
    out, value = np.empty(n), rng.normal()
    for i in range(n):
        value = rho * value + math.sqrt(1 - rho**2) * rng.normal()
        out[i] = sd * value
    return out


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_three_times_the_errors_are_proven_in_minutes_whatever_the_traffic() -> None:
    for rate in (20, 380):
        rng = np.random.default_rng(1)
        canary, stable = served(rng, 20, 0.03), served(rng, rate, 0.01, 180, -900)
        at = first_failure(canary, stable)
        assert at is not None
        assert at <= 600
        judged = last(canary.until(at), stable.until(at), at)
        assert "requests failed" in judged.why
        assert "on the stable version" in judged.why
        assert "25 % worse is all right; chance of this on a canary that is < 1 in 5,000" in judged.why
        assert judged.limit == pytest.approx(0.0125, rel=0.3)
        assert judged.value is not None
        assert judged.sample is not None
        assert judged.limit is not None
        assert judged.value > judged.limit


def test_a_late_onset_is_found_as_fast() -> None:
    rng = np.random.default_rng(2)
    canary = served(rng, 20, np.where(np.arange(120) < 80, 0.01, 0.05))
    at = first_failure(canary, served(rng, 380, 0.01, 180, -900))
    assert at is not None
    assert 1200 < at <= 1500


def test_a_few_errors_that_the_stable_version_never_has_are_found() -> None:
    """In 5 of 30 minutes, one each: proven where the stable version has most of the traffic, never passed elsewhere."""
    bad = np.zeros(120)
    bad[[12, 36, 56, 80, 108]] = 1
    small = counts(bad, 75)  # type: ignore[arg-type]
    assert last(small, counts([0] * 180, 1425, first=-900)).outcome is Outcome.FAIL
    judged = last(small, counts([0] * 120, 75))
    assert judged.outcome is Outcome.NOT_YET
    assert "the stable version has none at all" in judged.why


def test_what_is_worse_by_less_than_matters_passes_however_tight_the_data() -> None:
    canary, stable = counts([1100] * 120, 100_000), counts([10_000] * 120, 1_000_000)
    judged = last(canary, stable)
    assert judged.outcome is Outcome.PASS
    assert "no difference that matters" in judged.why
    much = counts([3000] * 120, 100_000)
    assert last(much, stable).outcome is Outcome.FAIL


def test_what_both_suffer_is_not_the_canarys_doing() -> None:
    rng = np.random.default_rng(3)
    share = 0.01 * np.exp(slow_noise(rng, 120, 0.9, 1.0))
    assert first_failure(served(rng, 5, share), served(rng, 95, share)) is None


def test_a_canary_that_is_better_passes() -> None:
    assert last(counts([0] * 120, 300), counts([30] * 120, 300)).outcome is Outcome.PASS


def test_a_blip_of_half_a_minute_proves_nothing() -> None:
    bad = np.full(120, 3.0)
    bad[50:52] = 300
    assert first_failure(counts(bad, 300), counts([3] * 180, 300, first=-900)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.1, 10])
def test_it_scales_with_the_window(scale: float) -> None:
    rng = np.random.default_rng(1)
    canary, stable = served(rng, 20, 0.03), served(rng, 20, 0.01)

    def scaled(series: Counts) -> Counts:
        return dataclasses.replace(series, since=series.since * scale, at=[t * scale for t in series.at])

    for now in (60, 300, 900):
        plain = last(canary.until(now), stable.until(now), now)
        other = last(
            scaled(canary).until(now * scale), scaled(stable).until(now * scale), now * scale, window_s=1800 * scale
        )
        assert plain.outcome is other.outcome


# ── too little ───────────────────────────────────────────────────────────────────────────────────────────────


def test_too_little_is_not_yet() -> None:
    canary = counts([3] * 10, 4)
    for stable in (None, counts([], 1), counts([0] * 10, 4), counts([0] * 10, 0), counts([0] * 10, 300, first=-900)):
        judged = last(canary, stable, 150)
        assert judged.outcome is Outcome.NOT_YET, stable
        assert "not enough" in judged.why or "no data of the stable version" in judged.why
    two = last(gauge([103, 104]), gauge([100, 101]), 30)
    assert two.outcome is Outcome.NOT_YET
    assert "not enough, 8 are needed" in two.why


def test_two_kinds_of_series_cannot_be_compared() -> None:
    with pytest.raises(TypeError, match="one kind"):
        last(counts([0] * 9, 9), gauge([1] * 9))


_numbers = st.floats(0, 1e9, allow_nan=False) | st.sampled_from([0.0, 1.0])


@given(st.lists(st.tuples(_numbers, _numbers), max_size=20), st.lists(st.tuples(_numbers, _numbers), max_size=20))
def test_whatever_was_counted_it_does_not_raise(canary: list[Any], stable: list[Any]) -> None:
    both = [counts([b for b, _ in rows], [n for _, n in rows]) for rows in (canary, stable)]
    judged = last(both[0], both[1], 300)
    assert judged.outcome in set(Outcome)
    assert judged.value is None or math.isfinite(judged.value)
    values = [gauge([b for b, _ in rows]) for rows in (canary, stable)]
    assert last(values[0], values[1], 300).outcome in set(Outcome)


# ── gauges ───────────────────────────────────────────────────────────────────────────────────────────────────


def around(rng: np.random.Generator, level: float, n: int = 120, first: float = 0.0, rho: float = 0.0) -> Gauge:
    return gauge(level * (1 + slow_noise(rng, n, rho, 0.1)), first=first)


def test_a_gauge_that_lies_higher_is_proven_and_says_by_how_much() -> None:
    rng = np.random.default_rng(4)
    canary, stable = around(rng, 150), around(rng, 100, 180, -900)
    at = first_failure(canary, stable, words="memory", unit="bytes")
    assert at is not None
    assert at <= 600
    judged = last(canary.until(at), stable.until(at), at, words="memory", unit="bytes")
    assert "memory: median 1" in judged.why
    assert "on the stable version (+" in judged.why


def test_which_way_is_bad_can_be_said() -> None:
    rng = np.random.default_rng(5)
    low, high = around(rng, 100), around(rng, 160)
    assert last(low, high).outcome is Outcome.PASS
    assert last(low, high, worse="lower").outcome is Outcome.FAIL
    assert last(low, high, worse="either").outcome is Outcome.FAIL
    assert last(high, high, worse="either").outcome is Outcome.PASS


def test_a_tight_shift_that_does_not_matter_passes() -> None:
    canary, stable = gauge([100.5 + i % 7 / 100 for i in range(120)]), gauge([100 + i % 5 / 100 for i in range(120)])
    assert last(canary, stable, limit=0.05).outcome is Outcome.PASS
    assert last(canary, stable, limit=0.0).outcome is Outcome.FAIL


def test_constant_series_are_decided_the_same_each_time() -> None:
    same, higher = gauge([5] * 120), gauge([9] * 120)
    assert last(same, same).outcome is Outcome.PASS
    assert last(higher, same).outcome is Outcome.FAIL
    assert last(gauge([0] * 120), gauge([0] * 120)).outcome is Outcome.PASS
    assert last(higher, same) == last(higher, same)


def test_one_outlier_proves_nothing() -> None:
    rng = np.random.default_rng(6)
    canary, stable = around(rng, 100), around(rng, 100)
    value = list(canary.value)
    value[40] = 1e9
    assert first_failure(dataclasses.replace(canary, value=value), stable) is None


def test_samples_need_not_coincide_but_must_be_of_one_time() -> None:
    rng = np.random.default_rng(7)
    canary, stable = around(rng, 150), around(rng, 100)
    assert last(canary, dataclasses.replace(stable, at=[t + 6 for t in stable.at])).outcome is Outcome.FAIL
    long_ago = dataclasses.replace(stable, at=[t - 3600 for t in stable.at])
    assert last(canary, long_ago).outcome is Outcome.NOT_YET


# ── calibration ──────────────────────────────────────────────────────────────────────────────────────────────

ALPHA = 0.05  # large, so that a few hundred runs tell
Pair = tuple[Series, Series]


def independent(rng: np.random.Generator) -> Pair:
    return served(rng, 20, 0.01), served(rng, 20, 0.01, 180, -900)


def in_bursts(rng: np.random.Generator) -> Pair:
    rates = [0.01 * np.exp(slow_noise(rng, 180, 0.6, 0.5)) for _ in range(2)]
    return served(rng, 5, rates[0][HISTORY:]), served(rng, 95, rates[1], 180, -900)


def gauges(rng: np.random.Generator) -> Pair:
    return around(rng, 100), around(rng, 100, 180, -900)


def slow_gauges(rng: np.random.Generator) -> Pair:
    return around(rng, 100, rho=0.8), around(rng, 100, 180, -900, rho=0.8)


def runs(make: Callable[[np.random.Generator], Pair], count: int) -> Iterator[Pair]:
    rng = np.random.default_rng(12)
    return (make(rng) for _ in range(count))


@pytest.mark.parametrize(
    ("make", "most"), [(independent, ALPHA), (in_bursts, 2 * ALPHA), (gauges, ALPHA), (slow_gauges, 2 * ALPHA)]
)
def test_equal_versions_fail_no_more_often_than_alpha(make: Callable[[np.random.Generator], Pair], most: float) -> None:
    """Looked at often at first and then every two minutes of half an hour."""
    looks, count = [30, 45, 60, 90, *range(120, 1801, 120)], 60
    failed = sum(first_failure(*pair, looks=looks, alpha=ALPHA, limit=0.0) is not None for pair in runs(make, count))
    assert failed / count <= most


def test_what_looks_worse_has_not_passed_while_nothing_is_known() -> None:
    """3 of 80 against 0 of 76 is one chance in eight: neither a failure nor a pass."""
    at = tuple(float(i) for i in range(1, 11))
    bad = (0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    canary, stable = Counts(0.0, at, bad, (8.0,) * 10), Counts(0.0, at, (0.0,) * 10, (7.6,) * 10)
    context = Context(now=10.0, deployed_at=0.0, begins=0.0, window_s=60.0, limit=0.25, alpha=0.001, stable=stable)
    judged = compare(canary, context)
    assert judged.outcome is Outcome.NOT_YET and "3 of 80 requests failed" in judged.why
