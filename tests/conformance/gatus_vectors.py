"""Gatus' vectors, and our answer to each: its conditions, translated and judged by our engine on what was observed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from firstwatch.answer import read_answer
from firstwatch.cel_functions import as_text
from firstwatch.conditions import HTTP_NAMES, Condition, ConditionError, compile_condition, evaluate
from tests.conformance.gatus import NAMES, Term, side, translate
from tests.conformance.gatus_literals import Refused, glob, quoted

Vector = Mapping[str, Any]
DIRECTORY = Path(os.environ.get("FIRSTWATCH_VECTORS", Path(__file__).parent / "vectors"))
KINDS = ("well_formed", "conditions", "expressions", "patterns", "paths", "fail_closed_cases")
REFUSED, NOT_APPLICABLE = "reject-at-load", "not-applicable"


def load() -> list[Vector]:
    path = DIRECTORY / "gatus_vectors.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return [_filled(vector, kind, found) for kind in KINDS for vector in found.get(kind, [])]


def _filled(vector: dict[str, Any], kind: str, found: Mapping[str, Any]) -> Vector:
    """With its kind, and with the observation and context that it names."""
    named = {"observed": found.get("observations", {}), "context": found.get("contexts", {})}
    filled = {key: named[key][vector[key]] for key in named if isinstance(vector.get(key), str)}
    return {**vector, **filled, "kind": kind}


# ── what we decide ───────────────────────────────────────────────────────────────────────────────────────────


def decide(vector: Vector) -> Any:
    """Our answer to one vector, in the shape of what it expects."""
    return DECIDE[vector["kind"]](vector)


def observed_values(observed: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What our conditions see of it. What the observation leaves out is zero or empty, as in Gatus."""
    body = str(observed.get("body", "")).encode("utf-8")
    elapsed = observed.get("response_time_ms", 0) / 1000
    answer = read_answer(
        observed.get("status", 0), {}, body, charset="utf-8", elapsed=elapsed, wire_bytes=len(body)
    ).names()
    answer |= {name: observed.get(name, "") for name in ("ip", "dns_rcode")}
    answer |= {"connected": observed.get("connected", False)}
    for name in ("certificate", "domain"):
        answer[f"{name}_expires_in"] = observed.get(f"{name}_expiration_ms", 0) / 1000
    return answer if context is None else {**answer, "saved": context}


def compiled(v: Vector) -> Condition:
    """Raises Refused or ConditionError for what we refuse before anything is asked."""
    return compile_condition(translate(v["condition"], context=v.get("context") is not None), NAMES)


def _condition(v: Vector) -> bool | str:
    try:
        condition = compiled(v)
    except (Refused, ConditionError):
        return REFUSED
    observed = v["observed"]
    if observed.get("error"):
        return False  # a check without an answer has failed before its conditions are asked
    if has_no_certificate(v):
        return NOT_APPLICABLE
    return condition.holds(observed_values(observed, v.get("context"))).held


def has_no_certificate(v: Vector) -> bool:
    return "[CERTIFICATE_EXPIRATION]" in v["condition"].upper() and v["observed"].get("tls") is False


def _well_formed(v: Vector) -> bool:
    try:
        compiled(v)
    except (Refused, ConditionError):
        return False
    return True


def _valued(cel: str, values: Mapping[str, Any]) -> tuple[str, Any] | None:
    """A value as Gatus writes it, and itself. None where there is none."""
    try:
        value = evaluate(cel, values)
    except ConditionError:
        return None
    return None if value is None else (written(value), value)


def written(value: Any) -> str:
    """As Gatus' language prints it: lists with spaces between their items."""
    if isinstance(value, list):
        return f"[{' '.join('<nil>' if item is None else written(item) for item in value)}]"
    return as_text(value)


def _cel_of(text: str, *, context: bool) -> str | None:
    try:
        found = side(text, context=context)
    except Refused:
        return None
    return found.value if isinstance(found, Term) else quoted(text)


def _expression(v: Vector) -> str | None:
    cel = _cel_of(v["expression"], context=v.get("context") is not None)
    found = _valued(cel, observed_values(v["observed"], v.get("context"))) if cel else None
    return found[0] if found else None


def _pattern(v: Vector) -> bool:
    try:
        condition = compile_condition(f"text.matches({quoted(glob(v['pattern']))})", HTTP_NAMES)
    except Refused:
        return False
    return condition.holds(observed_values({"body": v["text"]})).held


def _path(v: Vector) -> Any:
    """The text that stands at the path and its length. "no value" where there is none."""
    values, path = observed_values({"body": v["document"]}), v["path"]
    expression = f"[BODY]{path}" if path.startswith("[") else f"[BODY].{path}"
    whole = 'text.matches("(?s)^\\\\[.*\\\\]$") ? json : text'  # a list is one, anything else is as it came
    cel = _cel_of(expression, context=False) if path else whole
    length = _cel_of(f"len({expression})" if path else "len([BODY])", context=False)
    found, measured = (_valued(each, values) if each else None for each in (cel, length))
    return (found[0], measured[1]) if found and measured else "no value"


DECIDE: dict[str, Callable[[Vector], Any]] = {
    "well_formed": _well_formed,
    "conditions": _condition,
    "expressions": _expression,
    "patterns": _pattern,
    "paths": _path,
    "fail_closed_cases": _condition,
}


# ── what is expected ─────────────────────────────────────────────────────────────────────────────────────────


def expected(v: Vector) -> Any:
    match v["kind"]:
        case "conditions":
            return v["expect"]["pass"]
        case "expressions":
            return None if _is_unresolved(v["expression"], v["value"]) else v["value"]
        case "paths":
            return "no value" if v["error"] else (v["text"], v["length"])
        case "well_formed" | "patterns":
            return v[{"well_formed": "well_formed", "patterns": "match"}[v["kind"]]]
    return v.get("better_outcome")


def _is_unresolved(expression: str, value: str) -> bool:
    """Gatus gives what it cannot resolve back as it is, or marked."""
    return value == f"{expression} (INVALID)" or (value == expression and "[" in expression)
