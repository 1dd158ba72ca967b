"""Our judgement of a Kayenta configuration: its groups, weights and thresholds, with another test of each metric.

What is otherwise than in Kayenta, and why:

- A difference counts if it is proven to be larger than a twentieth of the stable version's value (or what `effectSize`
  says). Kayenta's tolerance is a part of the *estimated difference*: on tight data any shift, however small, is High.
- Values that the stable version never shows are looked for in the tail too: errors in 5 of 30 minutes are High.
- Fewer than five values a side are Inconclusive, neither a pass nor a failure.
- `nanStrategy: replace` does not make a pass of two sides without a single value.
- What was not classified (Error, Inconclusive, a group without data) may have been good or bad: the ruling is given
  only if it is the same either way, otherwise it is inconclusive. Kayenta counts a group without data as 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from firstwatch.judges.base import percent
from firstwatch.judges.ranks import ENOUGH, Shift, higher
from firstwatch.kayenta import statistics
from firstwatch.kayenta.classify import Classified, Label, classify
from firstwatch.kayenta.config import Analysis, CanaryConfig, Metric, Outliers, Thresholds
from firstwatch.kayenta.scoring import TOO_MANY_NO_DATA, Scored, score, threshold

MARGIN = 0.05  # of the stable version's value: a smaller difference does not matter, where the metric does not say
Ruling = Literal["pass", "marginal", "fail", "inconclusive"]
Values = tuple[Sequence[float], Sequence[float]]  # control, experiment
_UNKNOWN = (Label.ERROR, Label.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric: our classification and why, and what Kayenta's own judge would have said."""

    name: str
    classified: Classified
    kayenta: Classified


@dataclass(frozen=True, slots=True)
class KayentaResult:
    """`score` is 0..100, with what is not known left out as Kayenta does; the ruling takes it into account."""

    score: float
    ruling: Ruling
    why: str
    metrics: tuple[MetricResult, ...]


def judge(config: CanaryConfig, values: Mapping[str, Values]) -> KayentaResult:
    """Judges all metrics from their values, by name: (control, experiment), each in time's order, NaN for a gap. A
    metric without values is one without data."""
    metrics = tuple(_judged(m, *values.get(m.name, ((), ()))) for m in config.metrics)
    analyses = [(m, r.classified) for m, r in zip(config.metrics, metrics, strict=True) if not m.analysis.muted]
    scored = [Scored(c.label, m.groups, c.critical) for m, c in analyses]
    worth, ruling, why = rule(scored, config.classifier.group_weights, config.classifier.score_thresholds)
    critical = [f"{m.name}: {c.why}" for m, c in analyses if c.critical and c.label in (Label.HIGH, Label.LOW)]
    return KayentaResult(worth, ruling, f"{why}; critical: {'; '.join(critical)}" if critical else why, metrics)


def rule(metrics: Sequence[Scored], weights: Mapping[str, float], thresholds: Thresholds) -> tuple[float, Ruling, str]:
    """The score, the ruling and why; inconclusive where what is not known could change the ruling."""
    worth = score(metrics, weights)
    least = score([_if_known(m, metrics, Label.HIGH) for m in metrics], weights)
    most = score([_if_known(m, metrics, Label.PASS) for m in metrics], weights)
    worst, best = (threshold(s, thresholds.marginal, thresholds.passing) for s in (least, most))
    limits = f"pass from {thresholds.passing:g}, marginal from {thresholds.marginal:g}"
    if worst == best:
        ruling: Ruling = "pass" if best == "Pass" else "marginal" if best == "Marginal" else "fail"
        return worth, ruling, f"score {worth:g} of 100 ({limits})"
    unknown = sum(_is_unknown(m, metrics) for m in metrics)
    why = f"{unknown} of {len(metrics)} metrics could not be told: the score lies between {least:g} and {most:g}"
    return worth, "inconclusive", f"{why} ({limits})"


def _if_known(metric: Scored, metrics: Sequence[Scored], as_what: Label) -> Scored:
    if not _is_unknown(metric, metrics):
        return metric
    return Scored(as_what, metric.groups, metric.critical)


def _is_unknown(metric: Scored, metrics: Sequence[Scored]) -> bool:
    """What was not told; and what had no data, if it is critical, nothing else of one of its groups was told, or so
    much had none that Kayenta would fail the canary for that."""
    if metric.label in _UNKNOWN:
        return True
    silent = sum(m.label is Label.NO_DATA for m in metrics) >= TOO_MANY_NO_DATA * len(metrics)
    alone = any(all(m.label is Label.NO_DATA for m in metrics if g in m.groups) for g in metric.groups)
    return metric.label is Label.NO_DATA and (metric.critical or alone or silent)


# ── one metric ───────────────────────────────────────────────────────────────────────────────────────────────


def _judged(metric: Metric, control: Sequence[float], experiment: Sequence[float]) -> MetricResult:
    a = metric.analysis
    kayenta = classify(
        cleaned(control, a),
        cleaned(experiment, a),
        name=metric.name,
        direction=a.direction,
        replace_nan=a.nan_strategy == "replace",
        critical=a.critical,
        must_have_data=a.must_have_data,
        effect=a.effect_size,
    )
    return MetricResult(metric.name, judge_metric(control, experiment, a), kayenta)


def cleaned(values: Sequence[float], analysis: Analysis) -> list[float]:
    """Without NaN, or with 0 in its place, and without outliers, as the metric says."""
    kept = statistics.nan_as_zero(values) if analysis.nan_strategy == "replace" else statistics.without_nan(values)
    return _without_outliers(kept, analysis.outliers)


def _without_outliers(values: list[float], outliers: Outliers) -> list[float]:
    if outliers.strategy == "keep" or not values:
        return values
    drop = statistics.iqr_outliers(values, outliers.outlier_factor, reduced=True)
    return [v for v, out in zip(values, drop, strict=True) if not out]


def judge_metric(control: Sequence[float], experiment: Sequence[float], analysis: Analysis) -> Classified:
    """Our classification of one metric; never raises on data."""
    seen = [sum(map(math.isfinite, side)) for side in (control, experiment)]
    stable, canary = ([v for v in cleaned(side, analysis) if math.isfinite(v)] for side in (control, experiment))
    if not stable or not canary or not any(seen):
        return _missing(analysis, not canary or not seen[1])
    if min(len(stable), len(canary)) < ENOUGH:
        why = f"{len(canary)} values of the canary and {len(stable)} of the stable version; {ENOUGH} each are needed"
        return Classified(Label.INCONCLUSIVE, why, critical=analysis.critical)
    deviation, effect = statistics.mean_ratio(stable, canary), analysis.effect_size
    size = statistics.effect_size(effect.measure, stable, canary)
    up = higher(canary, stable, MARGIN if effect.allowed_increase is None else 0.0)
    if analysis.direction != "decrease" and up.proof and not _less(size, effect.allowed_increase):
        critical = analysis.critical and not _less(size, effect.critical_increase)
        return Classified(Label.HIGH, _why(up, "higher", len(canary)), deviation, critical)
    mirrored = [-v for v in canary], [-v for v in stable]
    down = higher(*mirrored, MARGIN if effect.allowed_decrease is None else 0.0)
    if analysis.direction != "increase" and down.proof and not _more(size, effect.allowed_decrease):
        critical = analysis.critical and not _more(size, effect.critical_decrease)
        return Classified(Label.LOW, _why(down, "lower", len(canary), -1), deviation, critical)
    why = f"median {up.canary:g}, {up.stable:g} on the stable version{_relative(up.canary, up.stable)}"
    return Classified(Label.PASS, f"{why}: no difference that matters is proven", deviation)


def _less(size: float, limit: float | None) -> bool:
    """Whether the effect is smaller than the metric's own limit; a size that is NaN does not count, as in Kayenta."""
    return limit is not None and size < limit


def _more(size: float, limit: float | None) -> bool:
    return limit is not None and size > limit


def _missing(analysis: Analysis, of_canary: bool) -> Classified:
    why = f"no data of the {'canary' if of_canary else 'stable version'}"
    if analysis.must_have_data and not analysis.critical:
        return Classified(Label.NO_REQUIRED_DATA, why)
    return Classified(Label.NO_DATA, why, critical=analysis.critical)


def _why(shift: Shift, way: str, sample: int, sign: int = 1) -> str:
    canary, stable = sign * shift.canary + 0.0, sign * shift.stable + 0.0  # + 0.0: no "-0"
    chance = f"chance of this without a difference 1 in {max(1, round(1 / max(shift.chance, 1e-9))):,}"
    if shift.proof == "location":
        return f"{way}: median {canary:g}, {stable:g} on the stable version{_relative(canary, stable)}; {chance}"
    if shift.proof == "novelty":
        return f"{shift.beyond} of {sample} values are {way}, the stable version's are always {stable:g}; {chance}"
    return f"{shift.beyond} of {sample} values are {way} than any of the stable version's; {chance}"


def _relative(canary: float, stable: float) -> str:
    return f" ({'+' if canary > stable else ''}{percent((canary - stable) / abs(stable))})" if stable else ""
