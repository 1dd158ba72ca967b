"""The JSON Schema of a service file, by which editors complete and check it."""

from __future__ import annotations

from typing import Any

from firstwatch.spec.models import Service

_FROM_ENVIRONMENT = {"type": "string", "pattern": r"\$\{", "description": "from the environment: ${NAME:-default}"}
_STRICTER_THAN_TEXT = {"integer", "number", "boolean"}


def schema() -> dict[str, Any]:
    """As plain JSON values. Every value may also be written as `${NAME:-default}`, the window and the locations as a
    plain list, a single clean-up step by itself, and what is done on inconclusive as a plain word."""
    made = Service.model_json_schema(by_alias=True)
    window = made["properties"]["window"]
    reference = window.pop("$ref", None) or window.pop("allOf")[0]["$ref"]
    checkpoints = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Checkpoint"}}
    window["anyOf"] = [checkpoints, {"$ref": reference}]
    policy = made["properties"]["on_inconclusive"]
    words = made["$defs"]["OnInconclusive"]["properties"]["do"]["enum"]
    policy["anyOf"].insert(0, {"type": "string", "enum": words})
    locations = made["$defs"]["Synthetic"]["properties"]["locations"]
    names = made["$defs"]["Locations"]["properties"]["names"]
    locations["anyOf"].insert(0, {key: part for key, part in names.items() if key not in ("title", "description")})
    cleanup = made["$defs"]["Journey"]["properties"]["cleanup"]
    cleanup["anyOf"] = [cleanup["items"], {"type": cleanup.pop("type"), "items": cleanup.pop("items")}]
    for model in (made, *made["$defs"].values()):
        model.pop("title", None)
        model["properties"] = {name: _property(part) for name, part in model.get("properties", {}).items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Firstwatch service file", **made}


def _property(part: dict[str, Any]) -> dict[str, Any]:
    """Without pydantic's titles (editors would show them for the description), open for `${…}`."""
    about = {key: part[key] for key in ("description", "default") if part.get(key) is not None}
    rest = {key: value for key, value in part.items() if key not in ("title", "description", "default", "anyOf")}
    choices = [_inside(choice) for choice in part.get("anyOf", [rest]) if choice.get("type") != "null"]
    if any(_is_stricter_than_text(choice) for choice in choices):
        choices.append(_FROM_ENVIRONMENT)
    return {**about, **choices[0]} if len(choices) == 1 else {**about, "anyOf": choices}


def _inside(choice: dict[str, Any]) -> dict[str, Any]:
    """The same for the items of a list and the values of a dictionary."""
    opened = {
        key: _property(choice[key]) for key in ("items", "additionalProperties") if isinstance(choice.get(key), dict)
    }
    if patterns := choice.get("patternProperties"):
        opened["patternProperties"] = {pattern: _property(part) for pattern, part in patterns.items()}
    return {**choice, **opened}


def _is_stricter_than_text(choice: dict[str, Any]) -> bool:
    return choice.get("type") in _STRICTER_THAN_TEXT or bool({"pattern", "enum"} & choice.keys())
