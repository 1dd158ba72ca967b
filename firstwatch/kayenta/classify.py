"""How Kayenta classifies one metric, exactly: what it would have said, for comparison and for the conformance suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from firstwatch.kayenta import statistics
from firstwatch.kayenta.config import EffectSize

TOLERANCE, CONFIDENCE = 0.25, 0.98  # literals of its judge


class Label(StrEnum):
    """Kayenta's classifications, as it writes them, and ours for too little data."""

    PASS = "Pass"
    HIGH = "High"
    LOW = "Low"
    NO_DATA = "Nodata"
    NO_REQUIRED_DATA = "NodataFailMetric"
    ERROR = "Error"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class Classified:
    """`critical`: this alone fails the canary. `deviation` is the ratio of the means; NaN where one of them is 0."""

    label: Label
    why: str
    deviation: float = 1.0
    critical: bool = False


def no_data(*, name: str, replace: bool, critical: bool, must_have_data: bool) -> Classified:
    """What it makes of a side without values. With `replace` that is a pass."""
    if replace:
        return Classified(Label.PASS, "")
    if must_have_data and not critical:
        return Classified(Label.NO_REQUIRED_DATA, f"Missing data for {name}")
    return Classified(Label.NO_DATA, f"Missing data for {name}", critical=critical)


def classify(
    control: Sequence[float],
    experiment: Sequence[float],
    *,
    name: str = "metric",
    direction: str = "either",
    replace_nan: bool = False,
    critical: bool = False,
    must_have_data: bool = False,
    effect: EffectSize | None = None,
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
) -> Classified:
    """MannWhitneyClassifier.classify, of values that are already cleaned."""
    if not len(control) or not len(experiment):
        return no_data(name=name, replace=replace_nan, critical=critical, must_have_data=must_have_data)
    if sorted(control) == sorted(experiment):
        return Classified(Label.PASS, "The Canary and Baseline data are identical")
    effect = effect or EffectSize()
    try:
        test = statistics.mann_whitney(experiment, control, confidence)
    except ValueError:
        return Classified(Label.ERROR, "Metric Classification Failed")
    deviation = statistics.mean_ratio(control, experiment)
    size = statistics.effect_size(effect.measure, control, experiment)
    margin = tolerance * abs(test.estimate)
    # Not "size >= allowed": where the size is NaN, it does not count.
    if direction != "decrease" and test.lower > margin and not size < effect.up:
        label, is_critical = Label.HIGH, not size < effect.critical_up
    elif direction != "increase" and test.upper < -margin and not size > effect.down:
        label, is_critical = Label.LOW, not size > effect.critical_down
    else:
        return Classified(Label.PASS, "", deviation)
    if critical and is_critical:
        return Classified(label, f"The metric {name} was classified as {label} (Critical)", deviation, True)
    return Classified(label, f"{name} was classified as {label}", deviation)


def mean_inequality(
    control: Sequence[float],
    experiment: Sequence[float],
    *,
    direction: str = "either",
    replace_nan: bool = False,
    critical: bool = False,
    must_have_data: bool = False,
) -> Classified:
    """MeanInequalityClassifier.classify: any difference of the means is one."""
    if not len(control) or not len(experiment):
        return no_data(name="metric", replace=replace_nan, critical=critical, must_have_data=must_have_data)
    c, e = sum(control) / len(control), sum(experiment) / len(experiment)
    if direction != "decrease" and e > c:
        why = "The Canary mean was greater than the Baseline mean"
        return Classified(Label.HIGH, why, statistics.mean_ratio(control, experiment), critical)
    if direction != "increase" and e < c:
        why = "The Canary mean was less than the Baseline mean"
        return Classified(Label.LOW, why, statistics.mean_ratio(control, experiment), critical)
    return Classified(Label.PASS, "")
