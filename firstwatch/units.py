"""What people write for durations and percentages, as numbers."""

from __future__ import annotations

import re
from typing import Any

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(value: Any) -> float:
    """`500ms`, `2m`, `1h30m` or a number of seconds → seconds. Raises ValueError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value < float("inf"):
            raise ValueError(f"a duration is a time that passes, not {value}")
        return float(value)
    text = str(value).strip()
    if not text or _PART.sub("", text):
        raise ValueError(f"{value!r} is not a duration; write it as 500ms, 30s, 2m, 1h30m or 21d")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(text))


def parse_percent(value: Any) -> float:
    """`99%` → 0.99; a number of 0..1 is taken as it is. Raises ValueError for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value.strip()):
        number = float(value.strip()[:-1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        raise ValueError(f"{value!r} is not a percentage; write it as 99% or 99.9%")
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r} lies outside 0% … 100%")
    return number


def show_duration(seconds: float) -> str:
    """Seconds as people read them: 0s, 450ms, 2m, 1h30m."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds != int(seconds) and seconds < 60:
        return f"{seconds:.1f}s"
    rest, parts = round(seconds), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
