"""Does the checkpoint's own condition hold? For a PromQL query with an `expect`.

It fails when the condition is false for the newest three samples in a row: one false sample may be a scrape at a bad
moment. It passes when the newest sample meets it. No statistics: the condition is the user's own word.
"""

from __future__ import annotations

from firstwatch.judges.base import Context, judgement
from firstwatch.model import Gauge, Judgement, Outcome, Series

IN_A_ROW = 3


def condition(series: Series, context: Context) -> Judgement:
    """Judges a `Gauge`, the query's value over time, by `context.condition`."""
    if not isinstance(series, Gauge) or context.condition is None:
        raise TypeError("the condition judge needs values and a condition")
    recent = [v for t, v in zip(series.at, series.value, strict=True) if t > context.deployed_at][-IN_A_ROW:]
    if not recent:
        return judgement(Outcome.NOT_YET, "no value since the deploy", context, series, sample=0)
    judged = [context.condition.holds({"value": v}) for v in recent]
    broken, why, value = sum(not j.held for j in judged), judged[-1].why, recent[-1]
    if judged[-1].held:
        return judgement(Outcome.PASS, why, context, series, value=value, sample=1)
    if broken == IN_A_ROW:
        return judgement(Outcome.FAIL, f"{why}; {IN_A_ROW} in a row", context, series, value=value, sample=IN_A_ROW)
    why = f"{why}; it fails after {IN_A_ROW} samples in a row"
    return judgement(Outcome.NOT_YET, why, context, series, value=value, sample=len(recent))
