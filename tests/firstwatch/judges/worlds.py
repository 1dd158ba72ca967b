"""Series and contexts as a source and the timeline would give them, at any scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from firstwatch.judges import Context
from firstwatch.model import Counts, Gauge


def context(now: float, **changes: Any) -> Context:
    """Half an hour's window, deployed at 0, objective 1 %."""
    return Context(**{"now": now, "deployed_at": 0.0, "begins": 0.0, "window_s": 1800.0, "limit": 0.01, **changes})


def counts(bad: Sequence[float], total: Sequence[float] | float, step: float = 15.0, first: float = 0.0) -> Counts:
    """Scrapes every `step` seconds, the first interval from `first` on."""
    at = tuple(first + step * (i + 1) for i in range(len(bad)))
    each = (float(total),) * len(bad) if isinstance(total, int | float) else tuple(map(float, total))
    return Counts(first, at, tuple(map(float, bad)), each)


def gauge(value: Sequence[float], step: float = 15.0, first: float = 0.0) -> Gauge:
    return Gauge(tuple(first + step * (i + 1) for i in range(len(value))), tuple(map(float, value)))


def bursty(rng: np.random.Generator, total: float, share: float, n: int) -> list[float]:
    """Errors whose rate scatters from scrape to scrape (coefficient of variation 0.5)."""
    return [float(x) for x in rng.binomial(int(total), np.clip(share * rng.gamma(4, 0.25, n), 0, 1))]
