"""What a Prometheus says, as series and numbers: from the JSON of its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from firstwatch import series
from firstwatch.model import Gauge, Measurement, NoData, SourceError
from firstwatch.series import RawSeries
from tasks.prometheus_session import Refusal


def all_series(result: Any) -> list[RawSeries]:
    """A matrix → its series. Raises Refusal for anything else."""
    if not isinstance(result, list) or not all(isinstance(entry, dict) for entry in result):
        raise Refusal("the answer is a scalar or a string where series are expected")
    try:
        return [_one_series(entry) for entry in result]
    except (KeyError, TypeError, ValueError):
        raise Refusal("the answer holds no samples as numbers; native histograms cannot be read yet") from None


def _one_series(entry: Mapping[str, Any]) -> RawSeries:
    points = [(float(t), float(v)) for t, v in entry["values"]]
    return RawSeries(dict(entry["metric"]), [t for t, _ in points], [v for _, v in points])


def one_value(result: Any, promql: str) -> Measurement:
    """An instant query's result → a Gauge of one sample, or why it is none."""
    if result == []:
        return NoData("the query gives nothing", promql)
    try:
        if isinstance(result[0], dict):
            if len(result) > 1:
                found = [RawSeries(entry["metric"], (), ()) for entry in result]
                return SourceError(series.several(found), promql)
            at, value = map(float, result[0]["value"])
        else:
            at, value = map(float, result)  # a scalar
    except (KeyError, TypeError, ValueError):
        return SourceError("the query gives a range, a histogram or a text where one number is expected", promql)
    if not math.isfinite(value):
        return NoData(f"the query gives {value}", promql)
    return Gauge((at,), (value,), promql)


def numbers(result: Any) -> float | tuple[float, ...]:
    """An instant query's numbers: a scalar's, or those of all series in the server's order. Raises Refusal."""
    try:
        if result and not isinstance(result[0], dict):
            return float(result[1])
        return tuple(float(entry["value"][1]) for entry in result)
    except (KeyError, TypeError, ValueError, IndexError):
        raise Refusal("the query gives a range, a histogram or a text where numbers are expected") from None
