"""From classified metrics to a score, and from scores to a decision: as Kayenta does it, and the times it looks at.

Source: WeightedSumScorer, ThresholdScoreClassifier, GenerateCanaryAnalysisResultTask, MonitorCanaryTask and
SetupAndExecuteCanariesStage of github.com/spinnaker/kayenta at a69573b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from firstwatch.kayenta.classify import Label

TOO_MANY_NO_DATA = 0.5  # of the metrics without data, and the score is 0
_COUNTED = (Label.PASS, Label.HIGH, Label.LOW, Label.NO_REQUIRED_DATA)


@dataclass(frozen=True, slots=True)
class Scored:
    """One metric as it is scored."""

    label: Label
    groups: Sequence[str]
    critical: bool = False


def score(metrics: Sequence[Scored], weights: Mapping[str, float]) -> float:
    """The summary score, 0..100, to two decimals, as Kayenta computes it: a group without data counts as 100."""
    if any(m.critical and m.label is not Label.PASS for m in metrics):
        return 0.0
    if metrics and sum(m.label is Label.NO_DATA for m in metrics) >= TOO_MANY_NO_DATA * len(metrics):
        return 0.0
    effective = effective_weights([g for m in metrics for g in m.groups], weights)
    total = 0.0
    for group, weight in effective.items():
        found = group_score([m.label for m in metrics if group in m.groups])
        total += (100.0 if found is None else found) * (weight / 100)
    return rounded(total)


def group_score(labels: Sequence[Label]) -> float | None:
    """The share of passes, 0..100, among what was classified; None of a group in which nothing was."""
    counted = [label for label in labels if label in _COUNTED]
    return 100 * counted.count(Label.PASS) / len(counted) if counted else None


def effective_weights(groups: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """The weight of each group that has metrics: its own, or an even share of what the others leave of 100."""
    names = list(dict.fromkeys(groups))
    unweighted = [g for g in names if g not in weights]
    rest = (100 - sum(weights.values())) / len(unweighted) if unweighted else 0.0
    return {g: weights.get(g, rest) for g in names}


def rounded(value: float) -> float:
    """To two decimals, halves up, from the number as it prints."""
    return float(Decimal(repr(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────


def threshold(value: float, marginal: float, passing: float) -> str:
    """What the judge says of one score: "Pass", "Marginal" or "Fail"."""
    return "Pass" if value >= passing else "Marginal" if value >= marginal else "Fail"


def goes_on(value: float, marginal: float) -> bool:
    """Whether the analysis goes on after an interval's score. A score that equals `marginal` ends it."""
    return value > marginal


def passes(final: float, marginal: float | None, passing: float | None) -> bool:
    """Whether the last score passes the whole analysis. Without thresholds everything does."""
    return (marginal is None or final > marginal) and (passing is None or final >= passing)


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────


def window(
    judgement: int, interval: float, *, warm_up: float = 0.0, look_back: float = 0.0, end_given: bool = False
) -> tuple[float, float]:
    """(start, end) of what the n-th judgement (from 1) looks at, from the analysis' start, in the unit of `interval`.

    Growing from the start, or with `look_back` sliding. The warm-up is left out unless the end was given: then the
    data lie in the past.
    """
    shift = 0.0 if end_given else warm_up
    end = shift + interval * judgement
    return (end - look_back if look_back > 0 else shift), end


def windows(
    lifetime: float, interval: float, *, warm_up: float = 0.0, look_back: float = 0.0, end_given: bool = False
) -> list[tuple[float, float]]:
    """All judgements of an analysis; one where the interval is 0 or longer than the lifetime."""
    every = interval if 0 < interval <= lifetime else lifetime
    if every <= 0:
        return []
    count = int(lifetime // every)
    return [window(i + 1, every, warm_up=warm_up, look_back=look_back, end_given=end_given) for i in range(count)]
