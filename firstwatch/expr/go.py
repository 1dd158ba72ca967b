"""Go's notions of numbers and texts, where they are not Python's."""

from __future__ import annotations

import math
import re
from typing import Any

from firstwatch.conditions import ConditionError

_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)|nan", re.IGNORECASE | re.ASCII)
_INT = re.compile(r"[+-]?\d+", re.ASCII)
_INT64 = range(-(2**63), 2**63)


class GoError(ConditionError):
    """What stops a condition in Argo, too: types that do not fit, an index out of range, a text that is no number."""


class NoData(Exception):
    """The condition hangs on a value that is not there; the text says which."""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def equal(a: Any, b: Any) -> bool:
    """Numbers by value, whole or not; anything else only if it is of one kind."""
    if is_number(a) and is_number(b):
        return bool(a == b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and bool(a == b)


def number(value: Any, what: str) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise GoError(f"{what} needs a number, not {shown(value)}")
    return value


def text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise GoError(f"{what} needs a text, not {shown(value)}")
    return value


def listed(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise GoError(f"{what} needs a list, not {shown(value)}")
    return value


def within(value: int) -> int:
    if value not in _INT64:
        raise GoError(f"{value} is beyond 64 bits")
    return value


def truncated(value: float) -> int:
    if math.isnan(value):
        raise NoData("a value is NaN, which is no whole number")
    if not math.isfinite(value):
        raise GoError(f"{shown(value)} is no whole number")
    return within(int(value))


def as_int(value: Any) -> int:
    if is_number(value):
        return truncated(value)
    if not _INT.fullmatch(text(value, "asInt()")):
        raise GoError(f"asInt(): {shown(value)} is no whole number")
    return within(int(value))


def as_float(value: Any) -> float:
    if is_number(value):
        return float(value)
    if not _FLOAT.fullmatch(text(value, "asFloat()")):
        raise GoError(f"asFloat(): {shown(value)} is no number")
    found = float(value)
    if math.isinf(found) and "inf" not in value.lower():
        raise GoError(f"asFloat(): {value} is too large")
    return found


def divided(a: float, b: float) -> float:
    """Division as of floats: 1/0 is +Inf, 0/0 is NaN."""
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def remainder(a: int, b: int) -> int:
    """With the sign of `a`."""
    if not b:
        raise GoError("division by zero")
    return int(math.copysign(abs(a) % abs(b), a)) if abs(a) < 2**53 else a - b * int(a / b)


def power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:  # a negative number's root, or 0 to a negative power
        return math.inf if a == 0 else math.nan


def rounded(value: float) -> float:
    """Half away from zero."""
    if not math.isfinite(value) or value == math.trunc(value):
        return value
    whole = math.trunc(value)
    return float(whole + math.copysign(1, value)) if abs(value - whole) >= 0.5 else math.copysign(float(whole), value)


def printed(value: Any) -> str:
    """As Go prints it with %v."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return "NaN" if math.isnan(value) else f"{value:+}".title()
        return f"{value:.0f}" if value == int(value) and abs(value) < 1e21 else repr(value)
    if value is None:
        return "<nil>"
    if isinstance(value, list):
        return f"[{' '.join(map(printed, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{printed(value[key])}' for key in sorted(value))}]"
    return str(value)


def shown(value: Any) -> str:
    """A value in a sentence for people: 0.953, "ok", [1, 2, 3, … (12)]."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | str):
        return f'"{value[:60]}"' if isinstance(value, str) else str(value).lower()
    if isinstance(value, list):
        first = ", ".join(map(shown, value[:5]))
        return f"[{first}, … ({len(value)})]" if len(value) > 5 else f"[{first}]"
    if is_number(value):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else f"{value:+}".title()
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return "an object"
