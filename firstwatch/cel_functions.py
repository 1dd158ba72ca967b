"""What conditions may call besides CEL's own functions: for answers that write numbers as text, and for text around
which a server leaves spaces.

They hold to the rule of conditions: what has no text or no number is an error, never an empty text or a zero.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+)")
_DECIMAL = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INT64 = range(-(2**63), 2**63)


def as_text(value: Any) -> str:
    """Text as it is; numbers, true and false, lists and objects as the shortest JSON (keys in order, no spaces).
    Raises ValueError for null, which has no text, and for what no JSON has."""
    if value is None:
        raise ValueError("null has no text")
    return value if isinstance(value, str) else _json(value)


def as_number(value: Any) -> int | float:
    """A number as it is, or the one that a text is: 12.5, 1e3, 0xff, 0o17, 0b11; spaces around it do not count.

    Raises ValueError for anything else. 007 is a code, no number, and what 64 bits cannot hold would be rounded.
    """
    if isinstance(value, str):
        value = _number_in(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("this is no number")
    if not math.isfinite(value) or (isinstance(value, int) and value not in _INT64):
        raise ValueError("this number is too large")
    return value


def trim(value: Any) -> str:
    """Text without the spaces and line ends around it. Raises ValueError for what is no text."""
    if not isinstance(value, str):
        raise ValueError("this is no text")
    return value.strip()


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"as_number": as_number, "as_text": as_text, "trim": trim}


def _number_in(text: str) -> int | float | None:
    if _WHOLE.fullmatch(text):
        return int(text, 0)
    return float(text) if _DECIMAL.fullmatch(text) else None


def _json(value: Any) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{_quoted(key)}:{_json(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case float() if math.isfinite(value):
            return _decimal(value)
        case str() | bool() | int() | None:
            return _quoted(value)
    raise ValueError("this has no text")


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _decimal(value: float) -> str:
    """As RFC 8785 has it: 1.0 is 1, and an exponent only where a number is very long."""
    if value == 0:
        return "0"
    if 1e-6 <= abs(value) < 1e21:
        plain = format(Decimal(repr(value)), "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return re.sub(r"e([+-])0*", r"e\1", repr(value).replace(".0e", "e"))
