"""Findings that several sections of the service file have in common: URLs, hosts, conditions, times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from firstwatch.conditions import HTTP_NAMES, ConditionError, compile_condition, compile_expression
from firstwatch.hosts import is_address, split_host
from firstwatch.spec.diagnostics import Finding

Loc = tuple[str | int, ...]

_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")  # with `_`, which names of services and keys have


def url(loc: Loc, text: str, *, query: bool = False) -> Iterator[Finding]:
    """A URL must be http(s) and plain. The URL itself is not shown: it may hold a password."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    name = f"`{loc[-1]}`"
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in text):
        yield Finding(loc, f"{name} is not an http or https URL", "for example https://shop.example.com")
    elif "@" in parts.netloc:
        yield Finding(loc, f"{name} carries a user name or password", "take it out; secrets are named as secret:NAME")
    elif not query and (parts.query or parts.fragment):
        yield Finding(loc, f"{name} carries a query or fragment", "take out what stands from ? or # on")


def is_host(text: str) -> bool:
    """Is it a host, host:port or an address, and nothing else?"""
    try:
        host, _ = split_host(text, 443)
    except ValueError:
        return False
    return is_address(host) or is_domain_name(host)


def is_domain_name(text: str) -> bool:
    """Is it a name that DNS may be asked for: labels of letters, digits, `-` and `_`, with or without a last dot?"""
    name = text.removesuffix(".")
    return 0 < len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def condition(loc: Loc, text: str, names: frozenset[str] = HTTP_NAMES) -> Iterator[Finding]:
    """A condition must be able to hold and to fail."""
    try:
        compile_condition(text, names)
    except ConditionError as e:
        yield Finding(loc, f"{text}: {e}", e.hint)


def expression(loc: Loc, text: str) -> Iterator[Finding]:
    """An expression must look at something of an answer."""
    try:
        paths = compile_expression(text, HTTP_NAMES)
    except ConditionError as e:
        yield Finding(loc, f"{text}: {e}", e.hint)
        return
    if not paths:
        yield Finding(loc, f"{text}: looks at nothing of the answer", "for example json.version, or text")


def passes(loc: Loc, seconds: float | None, hint: str = "leave it out for the usual one") -> Iterator[Finding]:
    """A time, where there is one, must be longer than nothing."""
    if seconds is not None and seconds <= 0:
        yield Finding(loc, f"`{loc[-1]}` must be longer than 0s", hint)
