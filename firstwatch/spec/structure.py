"""A tree of values → the models, and what does not fit them, in the words of the file.

What does not fit is taken out and the rest is validated again, so that one misspelt key does not hide what is wrong
elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from firstwatch.spec.diagnostics import Finding, did_you_mean
from firstwatch.spec.models import Service
from firstwatch.spec.source import Node

Loc = tuple[str | int, ...]

_LATER: tuple[tuple[str, ...], ...] = (("smoke", "pytest"),)
_PLACEHOLDERS = {"service": "unnamed", "base_url": "http://unknown.invalid"}
_FREE = frozenset({"json", "parameters"})  # what is sent on as it is, null or not
_HINTS = {
    "service": "for example service: shop",
    "base_url": "for example base_url: https://shop.example.com",
    "because": "say why the request does no harm in production",
    "name": "people read it in the report",
    "checks": "- {name: health, get: /health, expect: [status == 200]}",
    "checkpoints": "leave window out for the five usual checkpoints",
}
_PATTERN_HINTS = {
    "repository": "write owner/name",
    "save": "lower-case letters, digits and _, for example token",
    "locations": "letters, digits, - and _ only",
    "start": "for example 02:30",
}


class Fitted(NamedTuple):
    """What of the file fits: the service made of it, the tree of that, and the sections that lost something."""

    service: Service | None
    tree: Node
    broken: frozenset[str]


def fit(tree: Node) -> tuple[Fitted, list[tuple[Node, Finding]]]:
    """The models, and each fault with the node where it stands. Takes what does not fit out of `tree`."""
    faults = [(node, Finding((), f"`{key}` is empty", "give it a value, or take it out")) for key, node in _empty(tree)]
    told = {id(node) for node, _ in faults}
    broken: set[str] = set()
    while True:
        try:
            return Fitted(Service.model_validate(tree.data()), tree, frozenset(broken)), faults
        except ValidationError as e:
            errors = e.errors(include_url=False)
        for error in errors:
            node = tree.at(error["loc"])
            if not node.damaged and id(node) not in told:
                faults.append((node, Finding(error["loc"], *_said(error))))
            broken.update(str(step) for step in error["loc"][:1])
        filled = [error for error in errors if _fill(tree, error)]
        culprits = [(found, error) for error in errors if error not in filled and (found := _culprit(tree, error))]
        if not culprits and not filled:
            return Fitted(None, tree, frozenset(broken)), faults
        for found, error in culprits:
            _remove(*found, error)


def _empty(tree: Node) -> Iterator[tuple[str, Node]]:
    """Keys without a value: a section that is commented out must not pass for one that is not wanted."""
    for key, node in tree.value.items() if isinstance(tree.value, dict) else enumerate(tree.value):
        if node.value is None:
            yield str(key), node
        elif isinstance(node.value, dict | list) and key not in _FREE:
            yield from _empty(node)


def _culprit(tree: Node, error: ErrorDetails) -> tuple[Node, str | int, Node] | None:
    """The smallest thing without which the error goes away: what holds it, its key there, and itself."""
    trail: list[tuple[str | int, Node]] = [("", tree), *tree.trail(error["loc"])]
    return (trail[-2][1], *trail[-1]) if len(trail) > 1 else None


def _remove(holder: Node, key: str | int, culprit: Node, error: ErrorDetails) -> None:
    holder.damaged = holder.damaged or error["type"] != "extra_forbidden"
    if isinstance(holder.value, dict):
        holder.value.pop(str(key), None)
    else:
        holder.value[:] = [item for item in holder.value if item is not culprit]


def _fill(tree: Node, error: ErrorDetails) -> bool:
    """A stand-in for what a file cannot be without, so that the rest of it is looked at all the same."""
    key = str(error["loc"][0]) if len(error["loc"]) == 1 else ""
    if error["type"] != "missing" or key not in _PLACEHOLDERS:
        return False
    tree.value[key] = Node(_PLACEHOLDERS[key], tree.line, tree.column, key)
    return True


# ── in the words of the file ─────────────────────────────────────────────────────────────────────────────────


def _said(error: ErrorDetails) -> tuple[str, str]:
    """Message and hint. The value is only shown where it cannot be a secret."""
    loc, kind, given = _plain(error["loc"]), error["type"], error.get("input")
    key = f"`{loc[-1]}`" if loc else "the file"
    if isinstance(loc[-1] if loc else None, int):
        key = f"`{loc[-2]}` no. {int(loc[-1]) + 1}" if len(loc) > 1 else "an item"
    names = tuple(step for step in loc if isinstance(step, str))
    if kind == "extra_forbidden":
        return _unknown(names, loc)
    if loc[-1:] == ("expect",) and kind in ("missing", "too_short"):
        return "a check without an expectation can never fail", "add expect: [status == 200]"
    if kind == "missing":
        field = _fields(loc).get(str(loc[-1]))
        hint = _HINTS.get(str(loc[-1])) or (field.description if field and field.description else "")
        return f"{key} is missing", hint
    if kind == "too_short":
        return f"{key} is empty", _HINTS.get(str(loc[-1]), "give it at least one item, or take it out")
    if kind == "string_too_short":
        return f"{key} is too short", _HINTS.get(str(loc[-1]), "")
    if kind == "string_type":
        return f"{key} must be text, not {_kind(given)}", "put it in quotes"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"{key} must be a mapping, not {_kind(given)}", "write key: value lines below it"
    if kind == "list_type":
        return f"{key} must be a list, not {_kind(given)}", "write [a, b], or - items below it"
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
        return f"{key} cannot be {_shown(given)}", did_you_mean(given, known)
    if kind == "string_pattern_mismatch":
        return _pattern(loc, key, given)
    if kind == "value_error":
        message, _, hint = error["msg"].removeprefix("Value error, ").partition("; ")
        return f"{key}: {message}" if loc else message, hint
    message = error["msg"].replace("Input should", "should")
    return f"{key} {message}" + (f", not {_shown(given)}" if isinstance(given, int | float) else ""), ""


def _unknown(names: tuple[str, ...], loc: Loc) -> tuple[str, str]:
    for later in _LATER:
        if names == later:
            key = ".".join(later)
            return f"this version of Firstwatch does not have `{key}` yet", "take it out until a version has it"
    fields = _fields(loc)
    return f"unknown key `{loc[-1]}`", did_you_mean(loc[-1], fields)


def _pattern(loc: Loc, key: str, given: Any) -> tuple[str, str]:
    if loc[:2] == ("objectives", "latency"):
        return f"{_shown(given)} is not a quantile", "write p50, p95, p99 or p999"
    if loc == ("service",):
        return f"{key} cannot be {_shown(given)}", "letters, digits, - _ and . only"
    hint = next((hint for step, hint in _PATTERN_HINTS.items() if step in loc), "write flow/deployment")
    return f"{key} cannot be {_shown(given)}", hint


def _plain(loc: Loc) -> Loc:
    """Without what pydantic adds for the keys of dictionaries."""
    return tuple(step for step in loc if step != "[key]")


def _fields(loc: Loc) -> dict[str, FieldInfo]:
    """What may stand beside the last step of `loc`, by the name that a file uses."""
    model: type[BaseModel] | None = Service
    for step in loc[:-1]:
        if isinstance(step, str) and model is not None:
            field = _by_alias(model).get(step)
            model = _model_in(field.annotation) if field else None
    return _by_alias(model) if model else {}


def _by_alias(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)


def _kind(value: Any) -> str:
    """The kind only: the value could be a secret in the wrong place."""
    kinds = {str: "text", bool: "true or false", dict: "a mapping", list: "a list"}
    return kinds.get(type(value), "a number")


def _shown(value: Any) -> str:
    if not isinstance(value, str):
        return str(value) if isinstance(value, int | float) else _kind(value)
    return repr(value if len(value) <= 40 else f"{value[:39]}…")
