"""Raw samples to measurements: resets, new series, several targets, histograms. Expected values are counted by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch import series
from firstwatch.model import Counts, Gauge, Histogram, NoData, SourceError
from firstwatch.series import RawSeries


def raw(at: Sequence[float], value: Sequence[float], **labels: str) -> RawSeries:
    return RawSeries({"__name__": "requests_total", **labels}, at, value)


def counted(bad: list[RawSeries], total: list[RawSeries], since: float, until: float, **more: Any) -> Counts:
    measured = series.counts(bad, total, since, until, **more)
    assert isinstance(measured, Counts), measured
    return measured


def slower(buckets: list[RawSeries], bound: float, since: float = 0, until: float = 100) -> Counts:
    measured = series.slower_than(buckets, bound, since, until)
    assert isinstance(measured, Counts), measured
    return measured


# ── counts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_increments_by_interval() -> None:
    found = counted([raw([0, 10, 20], [1, 1, 3], status="500")], [raw([0, 10, 20], [5, 9, 19])], 0, 20)
    assert (found.since, found.at, found.bad, found.total) == (0, (10, 20), (0, 2), (4, 10))


def test_what_cannot_be_placed_after_since_is_left_out() -> None:
    found = counted([], [raw([0, 10, 20, 30], [0, 7, 9, 12])], 5, 25)
    assert (found.since, found.at, found.total) == (10, (20,), (2,))


def test_a_restart_counts_its_new_value_from_zero_even_across_since() -> None:
    found = counted([], [raw([0, 10, 20, 30], [100, 4, 9, 2])], 5, 30)
    assert (found.since, found.at, found.total) == (5, (10, 20, 30), (4, 5, 2))


def test_each_series_is_reset_for_itself() -> None:
    good, bad = raw([0, 10, 20], [50, 60, 3], status="200"), raw([0, 10, 20], [1, 2, 3], status="500")
    found = counted([bad], [good, bad], 0, 20)
    assert (found.bad, found.total) == ((1, 1), (11, 4))


def test_the_first_error_ever_is_an_error() -> None:
    good, bad = raw([0, 10, 20], [5, 6, 7], status="200"), raw([10, 20], [1, 2], status="500")
    found = counted([bad], [good, bad], 0, 20)
    assert (found.bad, found.total) == ((1, 1), (2, 2))


def test_the_first_samples_of_a_scraping_that_just_began_are_only_a_base() -> None:
    found = counted([], [raw([10, 20], [500, 501])], 0, 20)
    assert (found.since, found.at, found.total) == (10, (20,), (1,))


def test_the_source_may_know_that_it_watched_before_the_first_series() -> None:
    found = counted([], [raw([10, 20], [3, 4])], 0, 20, watched_from=0)
    assert (found.at, found.total) == ((10, 20), (3, 1))


def test_a_new_pod_counts_from_zero_unless_all_scraping_just_began() -> None:
    old = raw([0, 10, 20, 30, 40], [10, 20, 30, 40, 50], instance="a")
    new = raw([33, 43], [4, 6], instance="b")
    assert sum(counted([], [old, new], 0, 45).total) == 40 + 6
    neighbour = raw([5, 15, 25], [700, 701, 703], instance="b")
    assert sum(counted([], [old, neighbour], 0, 45).total) == 40 + 3


def test_no_error_series_is_no_error_and_no_request_series_is_no_data() -> None:
    assert counted([], [raw([0, 10], [0, 4])], 0, 10).bad == (0,)
    assert isinstance(series.counts([], [], 0, 10), NoData)


def test_idle_intervals_are_there_with_nothing_in_them() -> None:
    assert counted([], [raw([0, 10, 20, 30], [2, 2, 2, 2])], 0, 30).total == (0, 0, 0)


def test_one_sample_or_only_old_ones_are_no_data_that_says_so() -> None:
    one, old = series.counts([], [raw([10], [4])], 0, 20), series.counts([], [raw([0, 10], [1, 2])], 100, 190)
    assert isinstance(one, NoData)
    assert "needs two" in one.why
    assert isinstance(old, NoData)
    assert "3m old" in old.why


def test_a_series_that_ended_is_still_evidence() -> None:
    assert counted([], [raw([0, 10], [0, 4])], 0, 5000).total == (4,)


def test_errors_that_are_no_requests_are_a_mistake_in_the_file() -> None:
    found = series.counts([raw([0, 10], [0, 9])], [raw([0, 10], [0, 4])], 0, 10)
    assert isinstance(found, SourceError)
    assert "9 errors but only 4 requests" in found.why


def test_nan_is_no_sample() -> None:
    assert counted([], [raw([0, 10, 20, 30], [1, math.nan, 4, math.inf])], 0, 30).at == (20,)


def test_several_targets_share_one_grid() -> None:
    a = raw([0, 10, 20, 30], [0, 1, 2, 3], instance="a")
    b = raw([4, 14.1, 24, 34], [0, 10, 20, 30], instance="b")
    found = counted([], [a, b], 0, 35)
    assert found.at == (14.1, 24, 34)
    assert found.total == (11, 11, 11)


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8), min_size=1, max_size=4
    )
)
def test_however_often_it_restarts_every_visible_event_is_counted_once(lives: list[list[tuple[int, int]]]) -> None:
    """Each life is a process, sampled after each step of (good, bad) events; what a restart hides is left out."""
    good: list[float] = [0]
    bad: list[float] = [0]
    expected_good = expected_bad = 0
    for life in lives:
        g = b = 0
        for more_good, more_bad in life:
            g, b = g + more_good, b + more_bad
            expected_good += g if g < good[-1] else g - int(good[-1])
            expected_bad += b if b < bad[-1] else b - int(bad[-1])
            good.append(g)
            bad.append(b)
    at = [float(15 * i) for i in range(len(good))]
    errors = raw(at, bad, status="500")
    found = counted([errors], [raw(at, good, status="200"), errors], 0, at[-1])
    assert sum(found.bad) == expected_bad
    assert sum(found.total) == expected_good + expected_bad
    assert list(found.at) == sorted(set(found.at))


# ── histograms ───────────────────────────────────────────────────────────────────────────────────────────────


def histogram(at: Sequence[float], **by_le: Sequence[float]) -> list[RawSeries]:
    """Buckets from le_0_5=[…] style names; `le_inf` is +Inf."""
    bounds = {name: name.removeprefix("le_").replace("_", ".").replace("inf", "+Inf") for name in by_le}
    return [raw(at, values, path="/products", le=bounds[name]) for name, values in by_le.items()]


def test_requests_above_a_boundary() -> None:
    buckets = histogram([0, 10], le_0_25=[0, 4], le_0_5=[1, 9], le_1_0=[1, 10], le_inf=[1, 11])
    assert (slower(buckets, 0.5).bad, slower(buckets, 0.5).total) == ((2,), (10,))
    assert slower(buckets, 1).bad == (1,)


def test_a_bound_inside_a_bucket_is_interpolated_as_histogram_quantile_does() -> None:
    buckets = histogram([0, 10], le_1=[0, 10], le_2=[0, 20], le_inf=[0, 20])
    assert slower(buckets, 1.5).bad == (5,)
    assert slower(buckets, 0.25).bad == (17.5,)


def test_a_restart_is_one_for_all_buckets() -> None:
    """+Inf overtakes its old value, le=1 does not: bucket by bucket there would be 10 requests, 20 of them fast."""
    found = slower(histogram([0, 10], le_1=[50, 20], le_inf=[50, 60]), 1)
    assert (found.bad, found.total) == ((40,), (60,))


def test_a_new_layout_of_buckets_is_a_new_process() -> None:
    old = histogram([0, 10], le_1=[5, 6], le_inf=[5, 7])
    new = histogram([20, 30], le_0_5=[1, 2], le_inf=[9, 11])
    both = [*old[:1], new[0], raw([0, 10, 20, 30], [5, 7, 9, 11], path="/products", le="+Inf")]
    found = slower(both, 0.5)
    assert found.total == (2, 9, 2)
    assert found.bad[1:] == (8, 1)


@pytest.mark.parametrize(
    ("buckets", "bound", "said"),
    [
        (histogram([0, 10], le_1=[0, 1], le_2_5=[0, 1], le_inf=[0, 1]), 3, "last finite bucket ends at 2.5s"),
        (histogram([0, 10], le_1=[0, 1]), 1, "no le=\"+Inf\""),
        ([raw([0, 10], [0, 1], le="one")], 1, "label le is not a number"),
        ([raw([0, 10], [0, 1])], 1, "label le is not a number"),
    ],
)  # fmt: skip
def test_histograms_that_cannot_say(buckets: list[RawSeries], bound: float, said: str) -> None:
    found = series.slower_than(buckets, bound, 0, 100)
    assert isinstance(found, SourceError)
    assert said in found.why


def test_buckets_over_time_are_increments_bucket_by_bucket() -> None:
    buckets = histogram([0, 10, 20], le_0_25=[0, 4, 4], le_0_5=[1, 9, 12], le_inf=[1, 11, 15])
    found = series.histogram(buckets, 0, 20, "latency")
    counts = ((4, 4, 2), (0, 3, 1))
    assert found == Histogram(0, (10, 20), (0.25, 0.5, math.inf), counts, "latency")
    assert found.until(10) == Histogram(0, (10,), (0.25, 0.5, math.inf), counts[:1], "latency")


def test_above_is_what_slower_than_counts() -> None:
    buckets = histogram([0, 10, 20], le_1=[0, 10, 12], le_2=[0, 20, 30], le_inf=[0, 20, 31])
    found = series.histogram(buckets, 0, 20)
    assert isinstance(found, Histogram)
    for bound in (0.25, 1, 1.5, 2):
        assert series.above(found, bound) == slower(buckets, bound, 0, 20)
    with pytest.raises(ValueError, match="ends at 2s"):
        series.above(found, 3)


def test_histograms_of_two_layouts_share_the_bounds_that_both_have() -> None:
    fine = [raw([0, 10], v, pod="a", le=le) for le, v in (("1", [0, 2]), ("2", [0, 5]), ("+Inf", [0, 6]))]
    coarse = [raw([0, 10], v, pod="b", le=le) for le, v in (("2", [0, 3]), ("4", [0, 4]), ("+Inf", [0, 4]))]
    found = series.histogram([*fine, *coarse], 0, 20)
    assert found == Histogram(0, (10,), (2, math.inf), ((8, 2),))
    other = [raw([0, 10], v, pod="b", le=le) for le, v in (("8", [0, 3]), ("+Inf", [0, 4]))]
    nothing = series.histogram([*fine, *other], 0, 20)
    assert isinstance(nothing, SourceError)
    assert "in common" in nothing.why
    assert isinstance(series.histogram([], 0, 10), NoData)


# ── gauges ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gauge_is_its_finite_samples_in_the_time() -> None:
    assert series.gauge([raw([0, 10, 20, 30], [1, 2, math.nan, 4])], 5, 30) == Gauge((10, 30), (2, 4))


def test_a_gauge_is_one_series() -> None:
    found = series.gauge([raw([1], [1], instance=name) for name in "abcde"], 0, 10)
    assert isinstance(found, SourceError)
    assert 'requests_total{instance="a"}' in found.why
    assert "and 2 more" in found.why
    assert "sum(…)" in found.why


def test_a_series_from_before_is_not_a_second_one() -> None:
    old, new = raw([0, 10], [1, 2], version="v1"), raw([20, 30], [3, 4], version="v2")
    assert series.gauge([old, new], 15, 30) == Gauge((20, 30), (3, 4))


def test_no_number_is_no_data() -> None:
    assert isinstance(series.gauge([], 0, 10), NoData)
    nothing = series.gauge([raw([1, 2], [math.nan, math.inf])], 0, 10)
    assert isinstance(nothing, NoData)
    assert "NaN" in nothing.why


# ── a late answer and an early one ───────────────────────────────────────────────────────────────────────────


def test_what_was_measured_later_and_is_cut_is_what_would_have_been_measured_then() -> None:
    """Three targets scraped at different phases and a reset; one gauge, and later a second one."""
    requests = [
        RawSeries(
            {"__name__": "r", "instance": str(i)},
            at := [phase + 15.0 * k for k in range(40)],
            [float((k if k < 25 else k - 25) * (i + 2)) for k in range(len(at))],
        )
        for i, phase in enumerate((0.0, 4.0, 11.0))
    ]
    errors = [dataclasses.replace(one, value=[v // 3 for v in one.value]) for one in requests[1:]]
    gauges = [
        RawSeries({"pod": pod}, [t for t in map(float, range(0, 600, 15)) if lo <= t], [1.0] * (40 - lo // 15))
        for pod, lo in (("a", 0), ("b", 300))
    ]

    def upto(all_series: list[RawSeries], until: float) -> list[RawSeries]:
        cut = [(s, n) for s in all_series if (n := sum(t <= until for t in s.at))]
        return [dataclasses.replace(s, at=s.at[:n], value=s.value[:n]) for s, n in cut]

    late = series.counts(errors, requests, 30, 600, "q")
    late_gauge = series.gauge(gauges, 30, 600, "q")
    assert isinstance(late, Counts) and isinstance(late_gauge, SourceError)
    for now in range(60, 601, 5):
        assert late.until(now) == series.counts(upto(errors, now), upto(requests, now), 30, now, "q")
        early = series.gauge(upto(gauges, now), 30, now, "q")
        if now < 300:
            assert late_gauge.until(now) == early
        else:
            assert isinstance(early, SourceError) and late_gauge.until(now) == late_gauge
