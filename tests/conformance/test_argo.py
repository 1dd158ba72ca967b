"""Argo Rollouts' own tests, and runs of its code, as vectors: we decide as it does, or as `DIFFERENCES` says, and why.

`python -m tests.conformance` prints the agreement; FIRSTWATCH_VECTORS names another directory.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from firstwatch.argo import limit_faults
from firstwatch.argo.limits import is_go_duration
from firstwatch.argo.template import Imported, import_templates
from firstwatch.conditions import ConditionError
from firstwatch.expr import GateCondition, GateJudged, compile_gate_condition, read_gate_condition
from firstwatch.expr.check import Items
from firstwatch.gate import Gate, judged
from firstwatch.model import Outcome, Values
from firstwatch.spec.canary import Canary, CanaryMetric
from firstwatch.spec.models import Objectives
from firstwatch.tally import Phase, Tally, assess, is_worse, worst

Vector = Mapping[str, Any]
DIRECTORY = Path(os.environ.get("FIRSTWATCH_VECTORS", Path(__file__).parent / "vectors"))


def load(name: str = "argo_vectors.json", key: str = "vectors") -> list[Vector]:
    path = DIRECTORY / name
    found: list[Vector] = json.loads(path.read_text())[key] if path.is_file() else []
    return found


# ── what we choose to say instead ────────────────────────────────────────────────────────────────────────────


class Difference(NamedTuple):
    """`applies` to these vectors, where we say `instead` (one of these; docs/canary-argo.md has the same table)."""

    name: str
    applies: Callable[[Vector], bool]
    instead: str
    reason: str


def _text(v: Vector) -> str:
    return f"{v.get('success', '')} {v.get('failure', '')}"


def _violated(v: Vector) -> int:
    """How many of the limits are exceeded."""
    limits = (("failed", "failureLimit", 0), ("inconclusive", "inconclusiveLimit", 0))
    found: int = sum(v["state"].get(n, 0) > (v["metric"].get(limit, usual)) >= 0 for n, limit, usual in limits)
    return found + int(v["state"].get("consecutiveError", 0) > v["metric"].get("consecutiveErrorLimit", 4))


def _ended_early(v: Vector) -> bool:
    return v["kind"] in ("state", "run") and bool(v.get("terminating") or v.get("terminateAfter"))


DIFFERENCES = (
    Difference(
        "NaN",
        lambda v: v["kind"] == "condition" and "NaN" in json.dumps(v["result"]) and "isNaN" not in _text(v),
        "Inconclusive",
        "NaN is a ratio of no requests: it proves neither health nor a fault. Argo takes it for a success where only a "
        "failureCondition is given, and for a failure where only a successCondition is.",
    ),
    Difference(
        "nothing",
        lambda v: v["kind"] == "condition" and _decoded(v["result"]) in (None, []),
        "Inconclusive",
        "An empty answer is no data (onNoData), not an error of the source: five of those would abort a healthy "
        "canary. And all(…) of nothing proves nothing.",
    ),
    Difference(
        "ended early",
        lambda v: _ended_early(v) and v["expect"] == "Successful",
        "Inconclusive",
        "What was ended before it had measured enough has not succeeded.",
    ),
    Difference(
        "no condition",
        lambda v: v["kind"] == "condition" and not _text(v).strip(),
        "Error",
        "Without a condition a metric can never fail: refused when the file is read.",
    ),
    Difference(
        "only dry runs",
        lambda v: v["kind"] == "aggregate" and all(m.get("dryRun") for m in v["metrics"]),
        "Inconclusive",
        "A gate in which every metric is a dry run can never fail: refused when the file is read.",
    ),
    Difference(
        "failed at once",
        lambda v: (
            v["kind"] == "aggregate" and "Running" in {m["phase"] for m in v["metrics"]} and v["expect"] == "Running"
        ),
        "Failed or Error or Inconclusive",
        "A metric that has failed ends the gate at once. Argo calls the run running until the others are stopped, and "
        "comes to the same then.",
    ),
    Difference(
        "several at once",
        lambda v: v["kind"] == "state" and _violated(v) > 1,
        "Failed or Inconclusive",
        "More failures than allowed are a failure, whatever else was exceeded. Argo names what it looks at last: "
        "inconclusive ones, or errors. A metric that is measured one by one cannot get there.",
    ),
    Difference(
        "retention",
        lambda v: v["kind"] == "aggregate" and "retention" in v["id"],
        "Inconclusive",
        "measurementRetention is not taken over: every measurement is kept. A rule without a match is named at import.",
    ),
)


def difference(vector: Vector) -> Difference | None:
    return next((d for d in DIFFERENCES if d.applies(vector)), None)


# ── what we decide ───────────────────────────────────────────────────────────────────────────────────────────


def decide(vector: Vector) -> Any:
    """Our answer to one vector, in the shape of what it expects."""
    return DECIDE[vector["kind"]](vector)


def agrees(vector: Vector, decided: Any) -> bool:
    """As Argo, or as a difference that applies."""
    if vector["kind"] == "run" and "expectTaken" in vector and decided[1] != vector["expectTaken"]:
        return False
    said = decided[0] if vector["kind"] == "run" else decided
    chosen = difference(vector)
    return said == _expected(vector) or (chosen is not None and said in chosen.instead.split(" or "))


def _expected(vector: Vector) -> Any:
    return vector["expectValid"] if vector["kind"] == "validate" else vector["expect"]


_SPECIAL = {"NaN": "nan", "+Inf": "inf", "-Inf": "-inf"}


def _decoded(value: Any) -> Any:
    """JSON numbers are floats to Go; a list is one of anything, but for the provider's list of floats."""
    match value:
        case {"$f": name}:
            return float(_SPECIAL[name])
        case {"$floats": items}:
            return [float(_decoded(item)) for item in items]
        case {"$nilptr": _}:
            return None
        case {"$ptr": inner}:
            return _decoded(inner)
        case {"$int": number}:
            return int(number)
        case dict():
            return {key: _decoded(inner) for key, inner in value.items()}
        case list():
            return Items(map(_decoded, value))
        case bool() | str() | None:
            return value
    return float(value)


def _condition(v: Vector) -> str:
    result, success, failure = _decoded(v["result"]), v.get("success") or "", v.get("failure") or ""
    if _is_of_a_gate(result) and all(_compiles(text) for text in (success, failure) if text) and (success or failure):
        return _by_gate(result, success, failure)
    try:
        said = {
            role: read_gate_condition(text).judge(result)
            for role, text in (("failure", failure), ("success", success))
            if text
        }
    except ConditionError:
        return "Error"
    return _phase(said)


def _phase(said: Mapping[str, GateJudged]) -> str:
    """What the gate makes of conditions; for results that no gate has (JSON), and conditions that it refuses."""
    kinds = {role: judged.kind for role, judged in said.items()}
    if not kinds or "error" in kinds.values():
        return "Error"
    if kinds.get("failure") == "true":
        return "Failed"
    if "no data" in kinds.values():
        return "Inconclusive"
    if kinds.get("success", "true") == "true":
        return "Successful"
    return "Inconclusive" if "failure" in kinds else "Failed"


def _is_of_a_gate(result: Any) -> bool:
    return (
        result is None
        or isinstance(result, float)
        or (type(result) is list and all(isinstance(i, float) for i in result))
    )


def _compiles(text: str) -> bool:
    try:
        compile_gate_condition(text)
    except ConditionError:
        return False
    return True


_PHASES = {Outcome.PASS: "Successful", Outcome.FAIL: "Failed", Outcome.ERROR: "Error"}


def _by_gate(result: Any, success: str, failure: str) -> str:
    metric = CanaryMetric(name="m", success_condition=success, failure_condition=failure)
    given = tuple(result) if isinstance(result, list) else result
    said = judged(Gate(Canary(metrics=[metric]), 0.0), Objectives(), metric, Values(0.0, given), 0.0)
    return _PHASES.get(said.outcome, "Inconclusive")


def _metric(v: Vector) -> CanaryMetric:
    return CanaryMetric.model_validate({"name": "m", **v["metric"]})


def _state(v: Vector) -> str:
    if v.get("lastMeasurement") == "Running":
        return "Running"  # a measurement of ours is never seen half-way
    if v.get("lastMeasurement", "") is None and not v["terminating"]:
        return "Pending"  # as Argo calls it before the first measurement
    counted = {re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", key): number for key, number in v["state"].items()}
    return str(assess(_metric(v), Tally(**counted), v["terminating"]))


_OUTCOMES = {
    "Successful": Outcome.PASS,
    "Failed": Outcome.FAIL,
    "Inconclusive": Outcome.NOT_YET,
    "Error": Outcome.ERROR,
}


def _run(v: Vector) -> tuple[str, int]:
    metric, tally, taken = _metric(v), Tally(), 0
    for phase in v["measurements"]:
        tally, taken = tally.after(_OUTCOMES[phase]), taken + 1
        if assess(metric, tally) is not Phase.RUNNING:
            break
    phase = str(assess(metric, tally, v["terminateAfter"]))
    return phase if taken or v["terminateAfter"] else "Pending", taken


def _validate(v: Vector) -> bool:
    m = v["metric"]
    units = [m[key] for key in ("interval", "initialDelay") if m.get(key)]
    return all(map(is_go_duration, units)) and not limit_faults(
        count=m.get("count") or 0,
        failure=m.get("failureLimit") or 0,
        inconclusive=m.get("inconclusiveLimit") or 0,
        success_row=m.get("consecutiveSuccessLimit") or 0,
        error_row=m.get("consecutiveErrorLimit"),
        interval=bool(m.get("interval")),
    )


def _aggregate(v: Vector) -> str:
    phases = [
        Phase.RUNNING if m["phase"] == "Pending" else Phase(m["phase"]) for m in v["metrics"] if not m.get("dryRun")
    ]
    if not phases or "retention" in v["id"]:
        return "Inconclusive"
    return str(worst(phases))


DECIDE: dict[str, Callable[[Vector], Any]] = {
    "condition": _condition,
    "state": _state,
    "run": _run,
    "validate": _validate,
    "aggregate": _aggregate,
    "isWorse": lambda v: is_worse(Phase(v["current"]), Phase(v["new"])),
}


# ── their vectors ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vector", load(), ids=lambda v: v["id"])
def test_each_vector_is_decided_as_by_argo_or_as_we_chose(vector: Vector) -> None:
    decided = decide(vector)
    assert agrees(vector, decided), decided


UNSEEN: tuple[Vector, ...] = (  # differences that none of their vectors has, as analysis.go decides them
    {"id": "none", "kind": "condition", "success": "", "failure": "", "result": 1, "expect": "Successful"},
    {
        "id": "failed-beside-running",
        "kind": "aggregate",
        "metrics": [{"phase": "Failed"}, {"phase": "Running"}],
        "expect": "Running",
    },
    {
        "id": "failed-and-inconclusive",
        "kind": "state",
        "metric": {"interval": "1m"},
        "state": {"failed": 1, "inconclusive": 1, "count": 2},
        "lastMeasurement": "Failed",
        "terminating": False,
        "expect": "Inconclusive",
    },
)


@pytest.mark.parametrize("chosen", DIFFERENCES, ids=lambda d: d.name)
def test_each_chosen_difference_is_seen_in_a_vector_and_told_in_the_docs(chosen: Difference) -> None:
    differing = [v for v in (*load(), *UNSEEN) if difference(v) is chosen and decide(v) != _expected(v)]
    assert all(agrees(v, decide(v)) for v in differing)
    assert differing or "FIRSTWATCH_VECTORS" in os.environ
    docs = Path(__file__).parents[2] / "docs" / "canary-argo.md"
    assert f"**{chosen.name}**" in docs.read_text(encoding="utf-8")


def test_nothing_that_argo_fails_is_a_success_here() -> None:
    for vector in load():
        if vector["kind"] in ("condition", "state", "run") and vector["expect"] != "Successful":
            said = decide(vector)
            assert "Successful" not in (said[0] if isinstance(said, tuple) else said), vector["id"]


def _finite_conditions() -> Iterator[tuple[Vector, GateCondition]]:
    for vector in load():
        if vector["kind"] == "condition" and not re.search("NaN|null|nilptr", json.dumps(vector["result"])):
            for text in (vector["success"], vector["failure"]):
                if text and _is_of_a_gate(_decoded(vector["result"])) and _compiles(text):
                    yield vector, compile_gate_condition(text)


def test_translated_conditions_decide_the_same_on_finite_data_and_when_read_again() -> None:
    translated = 0
    for vector, condition in _finite_conditions():
        result = _decoded(vector["result"])
        kind = condition.judge(result).kind
        if kind in ("true", "false") and result != []:
            assert compile_gate_condition(condition.cel).judge(result).kind == kind, condition.cel
            translated += 1
    assert translated > 30 or "FIRSTWATCH_VECTORS" in os.environ


# ── their templates ──────────────────────────────────────────────────────────────────────────────────────────


def as_template(metric: Vector) -> str:
    """A published metric as the file that it stands in, its arguments declared."""
    keys = ("interval", "initialDelay", "count", "successCondition", "failureCondition", "failureLimit")
    query = {"query": metric["query"]} if metric["query"] else {}
    made = {"name": metric["metric"] or "success-rate", **{key: metric[key] for key in keys if key in metric}}
    made["provider"] = {"prometheus": {**metric["provider"], **query}}
    names = dict.fromkeys([*metric.get("args", []), *re.findall(r"args\.([\w-]+)", json.dumps(made))])
    spec: dict[str, Any] = {"args": [{"name": name} for name in names], "metrics": [made]}
    spec |= {"dryRun": [{"metricName": rule} for rule in metric["dryRun"]]} if "dryRun" in metric else {}
    kind = "AnalysisTemplate" if metric["kind"] == "fragment" else metric["kind"]
    out = io.StringIO()
    YAML().dump({"kind": kind, "metadata": {"name": metric["template"] or "part"}, "spec": spec}, out)
    return out.getvalue()


def decide_template(metric: Vector) -> Imported:
    return import_templates(as_template(metric), "template.yaml")


UNFIT = ("analysis.md:216", "prometheus.md:216", "bad-server.yaml:1")  # parts with neither query nor condition


def template_agrees(metric: Vector, imported: Imported) -> bool:
    """Sound ones are taken over whole, flagged ones are left out with what is wrong."""
    unfit = f"{metric['path']}:{metric['line']}".endswith(UNFIT)
    if "defect" in metric or unfit:
        words = (
            "PromQL"
            if "PromQL" in metric.get("defect", "")
            else "accepts"
            if "rate" in metric.get("defect", "")
            else ""
        )
        return not imported.taken and words in " ".join(map(str, imported.diagnostics))
    return imported.taken == 1 and not imported.diagnostics


@pytest.mark.parametrize("metric", load("argo_templates.json", "metrics"), ids=lambda m: f"{m['path']}:{m['line']}")
def test_sound_templates_are_taken_over_and_defects_named(metric: Vector) -> None:
    imported = decide_template(metric)
    assert template_agrees(metric, imported), imported


# ── more conditions, run through Argo's own code ─────────────────────────────────────────────────────────────


def test_recorded_conditions_are_decided_as_by_argo_or_as_we_chose() -> None:
    recorded = json.loads((Path(__file__).parent / "vectors" / "argo_recorded.json").read_text())["vectors"]
    wrong = {
        v["id"]: (v["success"], v["result"], v["expect"], said) for v in recorded if not agrees(v, said := decide(v))
    }
    assert not wrong
    assert not [v["id"] for v in recorded if decide(v) == "Successful" != v["expect"]]
