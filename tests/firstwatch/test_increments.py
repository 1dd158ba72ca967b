"""The arrays of firstwatch.increments say to the last bit what plain Python says, whatever the samples are."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwatch import series
from firstwatch.model import Counts, Histogram, Measurement, SourceError
from firstwatch.series import RawSeries
from tests.firstwatch import one_by_one

BOUNDS = ("0.1", "0.5", "1", "1.0", "2.5", "+Inf")
_scraped = st.tuples(st.integers(0, 20), st.sampled_from([2, 10]), st.integers(0, 9)).map(
    lambda three: list(range(three[0], three[0] + three[1] * three[2], three[1]))
)
_times = st.lists(st.integers(0, 40), max_size=14, unique=True).map(sorted) | _scraped
_count = st.one_of(
    st.integers(0, 30).map(float),
    st.floats(0, 1e6),  # not only whole numbers: sums depend on their order then
    st.sampled_from([math.nan, math.inf]),
)
_moments = st.tuples(st.integers(-2, 42), st.integers(0, 60)).map(lambda two: (float(two[0]), float(sum(two))))
_phases = st.sampled_from([0.0, 0.25, 0.1])
_watched = st.none() | st.floats(-5, 30)


@st.composite
def _series(draw: st.DrawFn, **labels: str) -> RawSeries:
    jitter = draw(st.booleans())
    at = [t + (draw(_phases) if jitter else 0.0) for t in draw(_times)]
    value = draw(st.lists(_count, min_size=len(at), max_size=len(at)))
    if draw(st.booleans()):  # as counters are, as a rule
        value.sort(key=lambda v: v if math.isfinite(v) else 1e9)
    return RawSeries({"__name__": "r", "instance": draw(st.sampled_from("abc")), **labels}, at, value)


@st.composite
def _buckets(draw: st.DrawFn) -> list[RawSeries]:
    """Histograms of up to three series: mostly of one grid and with the same buckets, sometimes of none."""
    found = []
    for pod in range(draw(st.integers(0, 3))):
        at = [float(t) for t in draw(_times)]
        for le in draw(st.lists(st.sampled_from(BOUNDS), max_size=5, unique=True)) + ["+Inf"] * draw(st.integers(0, 1)):
            own = at if draw(st.integers(0, 4)) else [t for t in at if draw(st.booleans())]
            value = draw(st.lists(_count, min_size=len(own), max_size=len(own)))
            if draw(st.booleans()):
                value.sort(key=lambda v: v if math.isfinite(v) else 1e9)
            found.append(RawSeries({"__name__": "b", "pod": str(pod), "le": le}, own, value))
    return found


def same(found: Measurement, expected: Measurement) -> None:
    """To the last bit, texts included; `single` too, which does not take part in a comparison."""
    assert found == expected
    if isinstance(found, Counts) and isinstance(expected, Counts):
        assert found.single == expected.single


@settings(max_examples=150, deadline=None)
@given(st.lists(_series(), max_size=4), st.lists(_series(), max_size=2), _moments, _watched)
def test_counts(
    total: list[RawSeries], bad: list[RawSeries], moments: tuple[float, float], watched: float | None
) -> None:
    for failed in (bad, total[:1], total, [*total]):
        found = series.counts(failed, total, *moments, "q", watched_from=watched)
        same(found, one_by_one.counts(failed, total, *moments, "q", watched_from=watched))


@settings(max_examples=200, deadline=None)
@given(_buckets(), _moments, st.sampled_from([0.05, 0.5, 0.7, 1.0, 2.0, 3.0]), _watched)
def test_histograms(
    buckets: list[RawSeries], moments: tuple[float, float], bound: float, watched: float | None
) -> None:
    found = series.slower_than(buckets, bound, *moments, "q", watched_from=watched)
    same(found, one_by_one.slower_than(buckets, bound, *moments, "q", watched_from=watched))
    found = series.histogram(buckets, *moments, "q", watched_from=watched)
    same(found, one_by_one.histogram(buckets, *moments, "q", watched_from=watched))
    if isinstance(found, Histogram):
        assert above(series, found, bound) == above(one_by_one, found, bound)


def above(judge: Any, measured: Histogram, bound: float) -> Counts | str:
    try:
        counted: Counts = judge.above(measured, bound)
        return counted
    except ValueError as error:
        return str(error)


@given(st.lists(_series(), max_size=3), _moments)
def test_gauges(gauges: list[RawSeries], moments: tuple[float, float]) -> None:
    assert series.gauge(gauges, *moments, "q") == one_by_one.gauge(gauges, *moments, "q")


def test_the_first_sample_that_cannot_say_is_the_one_that_is_told_of() -> None:
    """Its buckets end at 2.5s; later ones end at 1s and at 5s."""
    layouts = {"2.5": [0, 1, 2], "1": [3, 4], "5": [5, 6], "+Inf": [0, 1, 2, 3, 4, 5, 6]}
    buckets = [RawSeries({"le": le}, at, [float(t) for t in at]) for le, at in layouts.items()]
    found = series.slower_than(buckets, 7.0, -1, 10, "q")
    assert isinstance(found, SourceError) and "ends at 2.5s" in found.why
    same(found, one_by_one.slower_than(buckets, 7.0, -1, 10, "q"))


def test_the_ends_of_a_tick_and_of_the_time_in_which_a_target_is_not_yet_new() -> None:
    """Nine of ten seconds after its tick's first sample the next tick begins; at 15 s a target may be an old one."""
    one = RawSeries({"instance": "a"}, [0.0, 10, 20, 30, 40], [0.0, 1, 2, 3, 4])
    late = RawSeries({"instance": "b"}, [9.0, 19, 29, 39], [0.0, 10, 20, 30])
    new = RawSeries({"instance": "c"}, [15.0, 25, 35], [100.0, 101, 102])
    for more in ([late], [new], [late, new]):
        found = series.counts([], [one, *more], 0, 40)
        same(found, one_by_one.counts([], [one, *more], 0, 40))
        assert isinstance(found, Counts)
        assert sum(found.total) == 4 + 30 * (late in more) + 2 * (new in more)
    assert series.counts([], [one, late], 0, 40) == Counts(0, (10, 20, 30, 40), (0,) * 4, (1, 11, 11, 11))


# ── the size of a real look ──────────────────────────────────────────────────────────────────────────────────


def served(pods: int, minutes: float, resets: Sequence[int] = ()) -> tuple[list[RawSeries], list[RawSeries]]:
    """(requests by status, latency buckets) of so many pods, scraped every 15 s at phases of their own."""
    rng = random.Random(5)
    requests, buckets = [], []
    for pod in range(pods):
        at = [1.7e9 + 4.3 * pod + 15.0 * k + rng.choice((0.0, 0.001, -0.001)) for k in range(int(4 * minutes))]
        for name, key, shares in (
            ("requests", "status", {"200": 9.7, "404": 0.2, "500": 0.1}),
            ("buckets", "le", {"0.1": 4.1, "0.25": 7.0, "0.5": 9.1, "1": 9.9, "+Inf": 10.0}),
        ):
            for text, share in shares.items():
                value, now = [], 0.0
                for k in range(len(at)):
                    now = 0.0 if k in resets else now + share * (1 + k % 7)
                    value.append(now)
                labels = {"__name__": name, "job": "shops", "instance": str(pod), key: text}
                (requests if name == "requests" else buckets).append(RawSeries(labels, at, value))
    return requests, buckets


@pytest.mark.parametrize(("pods", "resets"), [(1, ()), (1, (200, 301)), (3, (150,)), (12, ())])
def test_a_look_at_ninety_minutes(pods: int, resets: Sequence[int]) -> None:
    requests, buckets = served(pods, 90, resets)
    errors = [s for s in requests if s.labels["status"] == "500"]
    since, until = 1.7e9 + 310, 1.7e9 + 5390
    same(series.counts(errors, requests, since, until), one_by_one.counts(errors, requests, since, until))
    for bound in (0.5, 0.3):
        found = series.slower_than(buckets, bound, since, until)
        same(found, one_by_one.slower_than(buckets, bound, since, until))
    same(series.histogram(buckets, since, until), one_by_one.histogram(buckets, since, until))
