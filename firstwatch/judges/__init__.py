"""The judges: pure functions from measurements and time to pass, fail or not yet, each with its evidence.

A new judge is a function of type `Judge` in a file of its own and a line in `JUDGES`; nothing else knows its name.
"""

from __future__ import annotations

from firstwatch.judges.absence import absence
from firstwatch.judges.base import Context, Judge
from firstwatch.judges.burn_rate import burn_rate
from firstwatch.judges.compare import compare
from firstwatch.judges.condition import condition
from firstwatch.judges.distribution import distribution
from firstwatch.judges.proportion import proportion
from firstwatch.judges.trend import trend

JUDGES: dict[str, Judge] = {
    "proportion": proportion,
    "trend": trend,
    "creep": trend,  # the same test; what makes it creep is when it looks and how little it allows
    "condition": condition,
    "compare": compare,
    "distribution": distribution,
    "burn_rate": burn_rate,
}

__all__ = [
    "JUDGES",
    "Context",
    "Judge",
    "absence",
    "burn_rate",
    "compare",
    "condition",
    "distribution",
    "proportion",
    "trend",
]
