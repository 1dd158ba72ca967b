"""A Kayenta configuration's metrics, asked of a Prometheus for the canary and for the stable version, and scored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

from firstwatch.kayenta import CanaryConfig, Label, Pair, judge, parse, queries
from firstwatch.model import Judgement, Outcome, SourceError
from firstwatch.series import several
from firstwatch.spec.canary import Kayenta
from tasks.prometheus import PrometheusSource

_OUTCOMES = {"pass": Outcome.PASS, "fail": Outcome.FAIL}  # what lies between is not yet proven either way


def read_config(given: Kayenta) -> CanaryConfig:
    """The configuration, with the service file's own thresholds. Raises ConfigError, and OSError for a lost file."""
    text = Path(given.config).read_text(encoding="utf-8") if isinstance(given.config, str) else given.config
    config = parse(text)
    own = {key: value for key, value in (("marginal", given.marginal), ("passing", given.pass_)) if value is not None}
    thresholds = config.classifier.score_thresholds.model_copy(update=own)
    classifier = config.classifier.model_copy(update={"score_thresholds": thresholds})
    return config.model_copy(update={"classifier": classifier})


async def score(
    source: PrometheusSource, given: Kayenta, config: CanaryConfig, start: float, at: float, deadline: float | None
) -> Judgement:
    """The score at `at` of all values since `start`, or of the time that it looks back (Unix seconds).

    Raises ConfigError for queries that cannot be written, ValueError for one that is not answered with one series.
    """
    since = max(start, at - given.lookback) if given.lookback else start
    pairs = queries(config, given.canary_scope, given.stable_scope, given.location)

    async def both(pair: Pair) -> tuple[Sequence[float], Sequence[float]]:
        asked = (_values(source, promql, since, at, given.step, deadline) for promql in (pair.stable, pair.canary))
        stable, canary = await asyncio.gather(*asked)
        return stable, canary

    values = dict(zip(pairs, await asyncio.gather(*map(both, pairs.values())), strict=True))
    result = judge(config, values)
    noted = [f"{m.name}: {m.classified.why}" for m in result.metrics if m.classified.label is not Label.PASS]
    return Judgement(
        _OUTCOMES.get(result.ruling, Outcome.NOT_YET),
        "; ".join([result.why, *noted]),
        at,
        value=result.score,
        limit=config.classifier.score_thresholds.passing,
        sample=sum(math.isfinite(value) for _, canary in values.values() for value in canary),
    )


async def _values(
    source: PrometheusSource, promql: str, since: float, until: float, step: float, deadline: float | None
) -> Sequence[float]:
    """The one series' values, a step apart, NaN where there is none."""
    found = await source.values_over(promql, since, until, step, deadline=deadline)
    if isinstance(found, SourceError):
        raise ValueError(found.why)
    if len(found) > 1:
        raise ValueError(several(found))
    points = zip(found[0].at, found[0].value, strict=True) if found else ()
    known = {round((at - since) / step): value for at, value in points}
    return [known.get(i, math.nan) for i in range(int((until - since) / step) + 1)]
