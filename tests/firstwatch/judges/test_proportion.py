from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import bdtrc

from firstwatch.judges import proportion
from firstwatch.model import Counts, Gauge, Outcome
from tests.firstwatch.judges.worlds import bursty, context, counts


def first_failure(series: Counts, **changes: Any) -> float | None:
    """When a live run would have failed it, looking at each scrape after the deploy."""
    for now in series.at:
        if now > 0 and proportion(series.until(now), context(now, **changes)).outcome is Outcome.FAIL:
            return now
    return None


def test_a_healthy_release_passes_with_its_numbers() -> None:
    judged = proportion(counts([1] * 40, 1000), context(600))
    assert judged.outcome is Outcome.PASS
    assert judged.why == "7 of the last 7,000 requests failed (0.1 %), objective 1 %"
    assert (judged.value, judged.limit, judged.sample) == (0.001, 0.01, 7000)


def test_a_failure_says_what_failed_and_how_sure_that_is() -> None:
    judged = proportion(counts([40] * 8, 1000), context(120))
    assert judged.outcome is Outcome.FAIL
    assert judged.why == (
        "320 of 8,000 requests failed (4 %), objective 1 %; chance of this on a healthy release < 1 in 5,000"
    )
    assert judged.since == 15


@pytest.mark.parametrize("share", [0.04, 0.2, 1.0])
@pytest.mark.parametrize("onset", [0, 60, 110])
def test_a_late_onset_is_found_as_fast_as_an_early_one(share: float, onset: int) -> None:
    errors = bursty(np.random.default_rng(1), 1000, 0.001, onset) + [1000 * share] * (120 - onset)
    failed = first_failure(counts(errors[:120], 1000))
    assert failed is not None and 90 <= failed - onset * 15 <= 120


@pytest.mark.parametrize("share", [0.06, 0.5, 1.0])
@pytest.mark.parametrize("scrapes", [2, 4, 5])
def test_a_disturbance_of_up_to_75_seconds_does_not_roll_back(share: float, scrapes: int) -> None:
    errors = [1.0] * 40 + [1000 * share] * scrapes + [1.0] * 40
    assert first_failure(counts(errors, 1000)) is None


def test_a_cold_start_is_over_when_latency_begins_to_be_watched() -> None:
    slow = [300.0] * 5 + [20.0] * 20
    assert first_failure(counts(slow, 1000), limit=0.05, begins=120) is None


def test_latency_that_was_bad_from_the_start_fails_when_it_begins_to_be_watched() -> None:
    assert proportion(counts([300] * 8, 1000), context(120, limit=0.05, begins=120)).outcome is Outcome.FAIL


def test_one_error_among_ten_requests_is_neither_failed_nor_passed() -> None:
    judged = proportion(counts([0, 1, 0, 0, 0], 2), context(75))
    assert judged.outcome is Outcome.NOT_YET
    assert judged.why == "10 requests since the deploy; 50 are needed to judge"


def test_too_many_errors_that_prove_nothing_are_not_passed() -> None:
    judged = proportion(counts([0] * 9 + [1], 6), context(150))
    assert judged.outcome is Outcome.NOT_YET and "not proven beyond chance" in judged.why


def test_what_was_as_bad_before_the_deploy_is_not_the_releases_doing() -> None:
    rng = np.random.default_rng(2)
    series = counts(bursty(rng, 1000, 0.03, 240), 1000, first=-1800)
    assert first_failure(series) is None
    assert proportion(series, context(1800)).outcome is Outcome.NOT_YET
    worse = counts(bursty(rng, 1000, 0.03, 120) + bursty(rng, 1000, 0.12, 120), 1000, first=-1800)
    assert first_failure(worse) is not None


def test_what_is_as_bad_with_the_stable_version_is_not_the_releases_doing() -> None:
    """A dependency breaks for all at the deploy; the canary had no history of its own."""
    rng = np.random.default_rng(4)
    canary, stable = (counts(bursty(rng, 1000, 0.03, 120), 1000) for _ in range(2))
    assert first_failure(canary) is not None
    assert first_failure(canary, stable=stable) is None
    sound = counts(bursty(rng, 1000, 0.001, 120), 1000)
    assert first_failure(canary, stable=sound) is not None


def test_a_burst_as_long_as_before_the_deploy_is_no_failure_and_a_longer_one_is() -> None:
    def burst(scrapes: int) -> list[float]:
        return [1.0] * 30 + [40.0] * scrapes + [1.0] * (30 - scrapes)

    assert first_failure(counts(burst(12) * 2 + burst(12) * 2, 1000, first=-1800)) is None
    assert first_failure(counts(burst(3) * 2 + [1.0] * 20 + [40.0] * 40, 1000, first=-900)) is not None


def test_history_makes_a_small_breach_provable() -> None:
    """1.8 % instead of 0.1 %, at three requests a second: the change is certain long before the breach alone is."""
    errors = bursty(np.random.default_rng(3), 45, 0.018, 120)
    with_history = first_failure(counts([0.0] * 120 + errors, 45, first=-1800))
    without = first_failure(counts(errors, 45))
    assert with_history is not None and (without is None or with_history < without)


@pytest.mark.parametrize(("window_s", "step"), [(60.0, 0.25), (60.0, 1.0), (1800.0, 15.0), (3600.0, 60.0)])
def test_any_scale_works(window_s: float, step: float) -> None:
    errors = [0.0] * 20 + [10.0] * 40
    series = counts(errors, 50, step)
    failed = first_failure(series, window_s=window_s)
    assert failed is not None and failed - 20 * step <= max(window_s / 12, 6 * step)


def test_resets_and_gaps_are_only_missing_samples() -> None:
    whole = counts([1] * 60, 1000)
    keep = [i for i in range(60) if not 20 <= i < 25]
    gappy = Counts(0.0, *(tuple(x[i] for i in keep) for x in (whole.at, whole.bad, whole.total)))
    assert first_failure(gappy) is None
    assert proportion(gappy, context(900)).outcome is Outcome.PASS


def test_a_gauge_is_refused() -> None:
    with pytest.raises(TypeError, match="counts"):
        proportion(Gauge((1.0,), (1.0,)), context(15))


def failed_of(releases: int, alpha: float, before: int, make: object) -> int:
    """How many of so many identical releases fail at any of 60 looks."""
    failed = 0
    for seed in range(releases):
        errors = make(np.random.default_rng(seed), before + 60)  # type: ignore[operator]
        series = counts(errors, 2000, 30.0, first=-30.0 * before)
        failed += first_failure(series, alpha=alpha) is not None
    return failed


def likely(releases: int, alpha: float) -> int:
    """So many failures or fewer have a chance of at least 99.9 % where each has a chance of alpha."""
    return next(k for k in range(releases) if bdtrc(k, releases, alpha) < 0.001)


def test_calibration_identical_releases_at_the_very_objective_stay_under_alpha() -> None:
    """A/A: 300 releases that just honour the objective, scattered as assumed, looked at 60 times each."""
    failed = failed_of(300, 0.01, 0, lambda rng, n: bursty(rng, 2000, 0.01, n))
    assert failed <= likely(300, 0.01)


def test_calibration_bursts_that_last_stay_under_twice_alpha() -> None:
    """Bursts of half a minute to one and a half, before and after alike, 0.5 % on average."""

    def errors(rng: np.random.Generator, n: int) -> list[float]:
        rate = np.full(n, 0.002)
        for start in np.flatnonzero(rng.random(n) < 0.07):
            rate[start : start + rng.integers(1, 4)] += 0.02
        return [float(x) for x in rng.binomial(2000, np.clip(rate * rng.gamma(4, 0.25, n), 0, 1))]

    assert failed_of(200, 0.01, 60, errors) <= likely(200, 0.02)
