"""What a service answered, as conditions see it; or that it did not answer, and why."""

from __future__ import annotations

import codecs
import email.utils
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firstwatch.model import Outcome, Phases


@dataclass(frozen=True, slots=True)
class Way:
    """How an answer came, as far as that is known: `HTTP/1.1`; 4 or 6; `TLSv1.3`, or nothing where it was in clear."""

    http_version: str = ""
    ip_protocol: int | None = None
    tls_version: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names are lower-case. `elapsed` counts seconds from connect to last byte, over all redirects, without the
    wait for the budget, and `phases` are its parts; `bytes` are the body's on the wire; `cached` says which cache
    answered, if one did; `way` is that of the last hop."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any
    json_why: str  # why `json` is absent; empty if it is there
    elapsed: float
    bytes: int
    redirected_from: tuple[str, ...] = ()  # redacted URLs
    cached: str = ""
    phases: Phases | None = None
    way: Way = Way()

    def names(self) -> dict[str, Any]:
        """The values that conditions see. A body that is not JSON leaves `json` out."""
        values = {"status": self.status, "headers": self.headers, "text": self.text, "elapsed": self.elapsed}
        return values if self.json_why else {**values, "json": self.json}


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """FAIL if the service owes an answer, ERROR if the request was never sent. `why` is redacted; `phases` are the
    parts until it was given up."""

    outcome: Outcome
    why: str
    elapsed: float | None = None
    phases: Phases | None = None


class NotJson(ValueError):
    """The body is no JSON, and why."""


def read_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    charset: str,
    elapsed: float,
    wire_bytes: int,
    phases: Phases | None = None,
) -> Answer:
    """The answer with its decoded body. `charset` is the one that the answer names; one that is unknown, or that no
    text on the web is written in, is read as UTF-8."""
    value, why = None, ""
    try:
        value = parse_json(body)
    except NotJson as not_json:
        why = str(not_json)
    return Answer(
        status, headers, _text(body, charset), value, why, elapsed, wire_bytes, cached=cache_of(headers), phases=phases
    )


# Python knows these too. A megabyte of punycode takes ten minutes; others fail, or make halves of characters.
_NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"})


def _text(body: bytes, charset: str) -> str:
    try:
        if codecs.lookup(charset).name.replace("_", "-") not in _NO_CHARSETS:
            return body.decode(charset, "replace")
    except (LookupError, ValueError):
        pass
    return body.decode("utf-8", "replace")


def parse_json(body: bytes) -> Any:
    """JSON as RFC 8259 has it. Raises NotJson for what parsers let through: NaN, infinities, a name given twice, bytes
    that are not UTF-8, halves of a character."""
    try:
        text = body.decode("utf-8")
        if not text.strip():
            raise NotJson("the body is empty")
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except NotJson:
        raise
    except json.JSONDecodeError as wrong:
        raise NotJson(f"the body is not JSON: {wrong.msg} at line {wrong.lineno}, column {wrong.colno}") from None
    except UnicodeError:
        raise NotJson("the body is not JSON: it is not UTF-8") from None
    except (ValueError, RecursionError):
        raise NotJson("the body is not JSON that can be read: a number is too long or it is nested too deep") from None


def _no_constant(name: str) -> None:
    raise NotJson(f"the body is not JSON: it holds {name}")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise NotJson("the body is not JSON that can be read: a number is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise NotJson(f"the body is not JSON: the name {twice[:60]!r} stands twice in one object")
    return found


def cache_of(headers: Mapping[str, str]) -> str:
    """How the answer tells that a cache gave it (RFC 9111: Age above 0), or ""."""
    age = headers.get("age", "").strip()
    if age.isdecimal() and age.strip("0"):  # as text: it may have more digits than int() reads
        return f"Age: {age[:20]}"
    for name in ("x-cache", "cf-cache-status"):
        if "hit" in headers.get(name, "").lower():
            return f"{name}: {headers[name][:60]}"
    return ""


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110: seconds or a date); 0 without one. `now` is Unix time."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return 0.0
