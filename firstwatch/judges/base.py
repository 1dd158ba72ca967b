"""What a judge is: one function type, and what it is told besides the measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firstwatch.conditions import Condition
from firstwatch.model import Counts, Judgement, Outcome, Series

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Context:
    """What a judge knows besides the series: the time, the window and what is allowed.

    `limit` is the share of bad events that the objective allows (proportion), or the growth over the whole window,
    relative to the level, that is still all right (trend, creep). `alpha` is this checkpoint's share of the chance
    that a healthy release is rolled back. All constants of the judges are ratios of `window_s` or of the scrape
    interval, so that a window scaled to a minute is judged as one of half an hour is.
    """

    now: float
    deployed_at: float
    begins: float  # deployed_at + the checkpoint's `at`
    window_s: float
    limit: float
    alpha: float = 0.0002
    min_sample: int = 50
    words: str = "requests failed"  # what a bad event is, or what the gauge shows
    unit: str = "ratio"
    load: Counts | None = None  # the requests, for signals that follow the load
    alive: Sequence[float] | None = None  # when the source itself is known to have worked; None: not known
    condition: Condition | None = None  # the checkpoint's own, on `value`
    stable: Series | None = None  # the same signal of the version that the canary is compared with
    worse: Literal["higher", "lower", "either"] = "higher"  # which way a gauge differs from the stable one's is bad
    bound: float | None = None  # what a latency may be, in the series' own unit (seconds)


Judge = Callable[[Series, Context], Judgement]


def judgement(
    outcome: Outcome,
    why: str,
    context: Context,
    series: Series,
    *,
    value: float | None = None,
    sample: float | None = None,
    since: float | None = None,
) -> Judgement:
    """A judgement on `series` now, with the parts that follow from the context filled in."""
    return Judgement(
        outcome=outcome,
        why=why,
        at=context.now,
        value=value,
        limit=context.limit,
        unit=context.unit,
        sample=None if sample is None else round(sample),
        since=since,
        query=series.query,
    )


def scrape_interval(at: Floats) -> float:
    """The usual distance of two samples in seconds (the median, so that a gap does not count); 0 for fewer than two."""
    return median(at[1:] - at[:-1]) if len(at) > 1 else 0.0


def interval_of(series: Series) -> float:
    """The series' scrape interval, in seconds. Each judge asks for it, and all series of a service have the same."""
    return _interval(tuple(series.at))


@lru_cache(maxsize=1024)
def _interval(at: tuple[float, ...]) -> float:
    return scrape_interval(np.asarray(at, dtype=float))


def median(x: Floats) -> float:
    """As np.median, for the short arrays of a look, where its bookkeeping costs more than the sorting."""
    x, half = x.copy(), len(x) // 2
    x.sort()
    return float(x[half]) if len(x) % 2 else float((x[half - 1] + x[half]) / 2)


def percent(ratio: float) -> str:
    """0.0178 → `1.8 %`; small shares keep two digits."""
    return f"{100 * ratio:.2g} %" if abs(ratio) < 0.1 else f"{100 * ratio:.0f} %"
