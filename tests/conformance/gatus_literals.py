"""What stands in a Gatus condition as it is: whole numbers with a base, durations, patterns.

Gatus (v5, 08c46354) compares text. What we read here is what that text can mean; what it cannot mean is refused by
name, because Gatus takes it for 0, or for a text that no answer ever has.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal

from firstwatch.cel_functions import as_number


class Refused(ValueError):
    """The condition is no use to anybody; `name` says which of our chosen differences refuses it."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────────

_MS = {"ns": "1e-6", "us": "1e-3", "µs": "1e-3", "μs": "1e-3", "ms": "1", "s": "1000", "m": "60000", "h": "3600000"}
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
DURATION = rf"^[+-]?({_PART})+$"
"""A text that the number rule reads as a duration."""
OCTAL = re.compile(r"[+-]?0_?[0-7]+")
"""A code to people, a number of base 8 to Go."""
INTEGER = r"^[+-]?(0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+)$"
"""A text that the equality rule reads as a number."""


def whole(text: str) -> int | None:
    """The whole number that a text is, with the prefix of its base if it has one."""
    if not re.match(INTEGER, text):
        return None
    number = int(text, 0)
    return number if -(2**63) <= number < 2**63 else None


def milliseconds(text: str) -> Decimal | None:
    """What a duration comes to. None for what is none."""
    if not re.match(DURATION, text):
        return None
    total = sum((Decimal(number) * Decimal(_MS[unit]) for number, unit in re.findall(_PART, text)), Decimal(0))
    return -total if text.startswith("-") else total


def number(text: str) -> Decimal:
    """The number rule's number; a fraction stays one. Raises Refused for what Gatus takes for 0."""
    if OCTAL.fullmatch(text):
        raise Refused("octal", f"{text} is a code, or a number of base 8")
    if (duration := milliseconds(text)) is not None:
        return duration
    try:
        return Decimal(str(as_number(text)))
    except ValueError:
        raise Refused("no number", f"{text or 'nothing'} is no number to compare with") from None


def spellings(n: int) -> str:
    """The regular expression of the texts that are this whole number."""
    bare, sign = abs(n), "-" if n < 0 else r"\+?" if n else "[+-]?"
    return f"(?i)^{sign}({bare}|0x0*{bare:x}|0o0*{bare:o}|0b0*{bare:b})$"


# ── patterns ─────────────────────────────────────────────────────────────────────────────────────────────────


def glob(pattern: str) -> str:
    """A pat(…) as a regular expression of the whole text; slashes count, and * passes over them.

    Raises Refused for one that Go calls malformed, which matches nothing.
    """
    made, at = "", 0
    while at < len(pattern):
        match pattern[at]:
            case "*":
                made, at = made + ".*", at + 1
            case "?":
                made, at = made + ".", at + 1
            case "[":
                part, at = _class(pattern, at + 1)
                made += part
            case _:
                literal, at = _character(pattern, at)
                made += re.escape(literal)
    return f"(?s)^{made}$"


def _character(pattern: str, at: int) -> tuple[str, int]:
    """One character, which a backslash before it takes for itself."""
    if pattern[at : at + 1] == "\\":
        at += 1
    if at >= len(pattern):
        raise Refused("malformed pattern", f"pat({pattern}) ends too soon")
    return pattern[at], at + 1


def _class(pattern: str, at: int) -> tuple[str, int]:
    """[a-z] and [^a-z]; `at` is behind the bracket."""
    negated = pattern[at : at + 1] == "^"
    ranges: list[tuple[str, str]] = []
    at += negated
    while pattern[at : at + 1] != "]" or not ranges:
        if pattern[at : at + 1] in ("-", "]"):
            raise Refused("malformed pattern", f"pat({pattern}) has a set without characters")
        low, at = _character(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            if pattern[at + 1 : at + 2] in ("-", "]"):
                raise Refused("malformed pattern", f"pat({pattern}) has a range without an end")
            high, at = _character(pattern, at + 1)
        ranges.append((low, high))
    # a range from high to low holds nothing
    inner = "".join(f"{_in_class(low)}-{_in_class(high)}" for low, high in ranges if low <= high)
    if not inner:
        return ("." if negated else r"[^\s\S]"), at + 1
    return f"[{'^' if negated else ''}{inner}]", at + 1


def _in_class(character: str) -> str:
    return f"\\{character}" if character in r"\]^-[&~" else character


def quoted(text: str) -> str:
    """As a CEL string."""
    return json.dumps(text, ensure_ascii=False)
