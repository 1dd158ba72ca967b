"""Kayenta's own tests and the cases that it gets wrong, as vectors: what it computes we compute, what it misjudges we
judge right. `python -m tests.conformance` prints the agreement; FIRSTWATCH_VECTORS names another directory."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from firstwatch.kayenta import classify, judge_metric, mean_inequality, score, statistics
from firstwatch.kayenta.classify import Label
from firstwatch.kayenta.config import Analysis, EffectSize, Thresholds, weighting_problems
from firstwatch.kayenta.judging import rule
from firstwatch.kayenta.scoring import Scored, goes_on, passes, threshold, window

Vector = Mapping[str, Any]
VECTORS = Path(os.environ.get("FIRSTWATCH_VECTORS", Path(__file__).parent / "vectors")) / "kayenta_vectors.json"
CHOSEN: dict[str, str] = {}  # differences that we choose: none; `challenge` and `degenerateScore` say what is right


def load() -> list[Vector]:
    found: list[Vector] = json.loads(VECTORS.read_text())["vectors"] if VECTORS.is_file() else []
    return found


# ── what we decide ───────────────────────────────────────────────────────────────────────────────────────────


def decide(vector: Vector) -> Any:
    """Our answer to one vector, in the shape of what it expects."""
    v = {k: _numbers(x) for k, x in vector.items()}
    return DECIDE[v["kind"]](v)


def _numbers(value: Any) -> Any:
    """With "NaN" as the number that JSON has not."""
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return math.nan if value == "NaN" else value


def _classify(v: Vector) -> dict[str, Any]:
    same = {
        "direction": v.get("direction", "either"),
        "replace_nan": v.get("nanStrategy") == "replace",
        "critical": v.get("criticalMetric", False),
        "must_have_data": v.get("isDataRequired", v.get("mustHaveData", False)),
    }
    control, experiment = (_cleaned(v[side], v) for side in ("control", "experiment"))
    if v.get("classifier") == "MeanInequality":
        found = mean_inequality(control, experiment, **same)
    else:
        given = {re.sub("[A-Z]", lambda m: "_" + m[0].lower(), k): x for k, x in (v.get("effectSize") or {}).items()}
        effect = EffectSize(**{"measure": v.get("effectSizeMeasure", "meanRatio"), **given})
        more = {"tolerance": v.get("tolerance", 0.25), "confidence": v.get("confLevel", 0.98)}
        found = classify(control, experiment, effect=effect, **same, **more)
    reason = "non-empty" if found.why else ""
    return {"expect": str(found.label), "expectCritical": found.critical, "expectDeviation": found.deviation,
            "expectReason": reason}  # fmt: skip


def _cleaned(values: list[float], v: Vector) -> list[float]:
    return statistics.nan_as_zero(values) if v.get("nanStrategy") == "replace" else statistics.without_nan(values)


def _mann_whitney(v: Vector) -> dict[str, float]:
    found = statistics.mann_whitney(v["experiment"], v["control"], v["confLevel"])
    return {"ciLower": found.lower, "ciUpper": found.upper, "estimate": found.estimate}


def _scored(metrics: list[Vector]) -> list[Scored]:
    return [Scored(Label(m["classification"]), tuple(m["groups"]), m.get("critical", False)) for m in metrics]


def _window(v: Vector) -> tuple[float, float]:
    more = {"warm_up": v["warmupMin"], "look_back": v["lookbackMin"], "end_given": v["endTimeGiven"]}
    return window(v["judgement"], v["intervalMin"], **more)


def _challenge(v: Vector) -> str:
    given = {k: v[k] for k in ("direction", "nanStrategy", "critical", "mustHaveData", "effectSize") if k in v}
    analysis = Analysis.model_validate(given)
    return str(judge_metric(v["control"], v["experiment"], analysis).label)


def _degenerate(v: Vector) -> str:
    names = {str(i): tuple(m["groups"]) for i, m in enumerate(v["metrics"])}
    critical = {str(i) for i, m in enumerate(v["metrics"]) if m.get("critical")}
    weights = v.get("groupWeights", {})
    if weighting_problems(names, weights, critical):
        return "reject"
    return rule(_scored(v["metrics"]), weights, Thresholds())[1]


DECIDE: dict[str, Any] = {
    "classify": _classify,
    "mannWhitney": _mann_whitney,
    "challenge": _challenge,
    "degenerateScore": _degenerate,
    "score": lambda v: score(_scored(v["metrics"]), v["groupWeights"]),
    "scoreClass": lambda v: threshold(v["score"], v["marginal"], v["pass"]),
    "finalJudgement": lambda v: passes(v["finalScore"], v["marginal"], v["pass"]),
    "intervalJudgement": lambda v: "continue" if goes_on(v["score"], v["marginal"]) else "stop",
    "window": _window,
    "removeNaN": lambda v: statistics.without_nan(v["input"]),
    "replaceNaN": lambda v: statistics.nan_as_zero(v["input"]),
    "iqrOutliers": lambda v: [
        bool(x) for x in statistics.iqr_outliers(v["input"], v["factor"], reduced=v.get("reduceSensitivity", False))
    ],
    "kSigmaOutliers": lambda v: [bool(x) for x in statistics.k_sigma_outliers(v["input"], v["k"])],
    "percentileR7": lambda v: statistics.percentile(v["input"], v["p"]),
    "meanRatio": lambda v: statistics.mean_ratio(v["control"], v["experiment"]),
    "cohenD": lambda v: statistics.cohen_d(v["control"], v["experiment"]),
    "cles": lambda v: statistics.cles(v["control"], v["experiment"]),
}


# ── what is expected ─────────────────────────────────────────────────────────────────────────────────────────

_EXPECTED = ("expect", "expectSummaryScore", "expectPassed", "expectOutlier", "userExpects", "better")


def agrees(vector: Vector, decided: Any) -> bool:
    """Whether our answer is the expected one, to the vector's own tolerance."""
    v = {k: _numbers(x) for k, x in vector.items()}
    if v["kind"] == "classify":
        return all(_same(decided[k], v[k]) for k in decided if k in v)
    if v["kind"] == "mannWhitney":
        near = v.get("tolerance", {})
        return all(_same(decided[k], x, near.get(k, near.get("ci", 1e-6))) for k, x in v["expect"].items())
    if v["kind"] == "window":
        return bool(decided == (v["expectStartMin"], v["expectEndMin"]))
    expected = next(v[k] for k in _EXPECTED if k in v)
    if v["kind"] in ("challenge", "degenerateScore"):
        return str(decided).lower() in re.findall(r"[a-z]+", str(expected).split("(")[0].lower())
    return _same(decided, expected, v.get("tolerance", 1e-9))


def _same(ours: Any, theirs: Any, near: float = 1e-6) -> bool:
    if isinstance(theirs, float) and isinstance(ours, float) and (math.isnan(theirs) or math.isnan(ours)):
        return math.isnan(theirs) and math.isnan(ours)
    if isinstance(theirs, int | float) and not isinstance(theirs, bool):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=near)
    return bool(ours == theirs)


@pytest.mark.parametrize("vector", load(), ids=lambda v: v["id"])
def test_each_vector_is_decided_as_expected(vector: Vector) -> None:
    decided = decide(vector)
    assert agrees(vector, decided), decided
