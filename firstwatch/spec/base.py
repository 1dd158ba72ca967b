"""What every model of the service file is made of: durations, shares, secrets by name, and no unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from firstwatch.units import parse_duration, parse_percent

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["500ms", "2m", "1h30m"]},
                {"type": "number", "minimum": 0, "description": "seconds"},
            ]
        }
    ),
]
Ratio = Annotated[
    float,
    BeforeValidator(parse_percent),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\d+(\.\d+)?%$", "examples": ["99%"]},
                {"type": "number", "minimum": 0, "maximum": 1},
            ]
        }
    ),
]


def _secret_name(text: str) -> str:
    """`secret:shop-password` → `shop-password`; anything else is refused, so that no secret stands in a file."""
    prefix, _, name = text.partition(":")
    if prefix != "secret" or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(
            "a secret is named, not written; use secret:NAME (a Prefect Secret block, or the environment variable NAME)"
        )
    return name


SecretName = Annotated[
    str,
    AfterValidator(_secret_name),
    WithJsonSchema({"type": "string", "pattern": "^secret:[A-Za-z0-9_-]+$", "examples": ["secret:shop-password"]}),
]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
