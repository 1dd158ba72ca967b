"""What a query measures, as far as can be told: a share of good requests, a share of bad ones, or something else.

So a success rate that is accepted at 0.05, and an error rate at 0.95, can be named: a condition that looks the wrong
way passes the worst release there is.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import promql_parser as promql

Kind = Literal["good", "bad"]
_STATUS_LABEL = re.compile(r"code|status|class|result|outcome", re.IGNORECASE)
_BAD_VALUE = re.compile(r"\W*(?:[45]|err|fail|server_error)", re.IGNORECASE)
_GOOD_VALUE = re.compile(r"\W*(?:[123]|ok\b|succe)", re.IGNORECASE)
_BAD_NAME = re.compile(r"error|fail|5xx|4xx|(?<![a-z])bad(?![a-z])", re.IGNORECASE)
_GOOD_NAME = re.compile(r"success|availab|(?<![a-z])(?:good|healthy)(?![a-z])", re.IGNORECASE)
_HALF = 0.5  # nobody accepts more bad requests, or fewer good ones, on purpose


class Share(NamedTuple):
    kind: Kind
    scale: float  # what the whole is: 1, or 100 for percent


def share_of(query: Any, name: str) -> Share | None:
    """The share that a parsed query gives; None if it is none, or if it cannot be told which."""
    match query:
        case promql.ParenExpr():
            return share_of(query.expr, name)
        case promql.AggregateExpr() if str(query.op) in ("sum", "avg", "min", "max"):
            return share_of(query.expr, name)
        case promql.Call() if query.args:
            return share_of(query.args[0], name)
        case promql.BinaryExpr():
            return _of_two(query, name)
    return None


def _of_two(query: Any, name: str) -> Share | None:
    sign = str(query.op)
    if sign == "or":
        return share_of(query.lhs, name)
    if sign == "/" and not _number(query.rhs):
        part, factor = _without_factor(query.lhs)
        kind = _ratio(part, query.rhs, name)
        return Share(kind, factor) if kind else None
    if sign == "*":
        number = _number(query.lhs) or _number(query.rhs)
        inner = share_of(query.rhs if _number(query.lhs) else query.lhs, name)
        return Share(inner.kind, inner.scale * number) if inner and number else None
    if sign == "/" and (number := _number(query.rhs)):
        inner = share_of(query.lhs, name)
        return Share(inner.kind, inner.scale / number) if inner else None
    if sign == "-" and (number := _number(query.lhs)):
        # The name speaks of the difference, and says nothing of the share within.
        inner = share_of(query.rhs, "")
        return Share("good" if inner.kind == "bad" else "bad", inner.scale) if inner else None
    return None


def _without_factor(query: Any) -> tuple[Any, float]:
    """`100 * part`, as in `100 * part / whole`."""
    if isinstance(query, promql.BinaryExpr) and str(query.op) == "*":
        for number, part in ((query.lhs, query.rhs), (query.rhs, query.lhs)):
            if _number(number):
                return part, _number(number)
    return query, 1.0


def _number(query: Any) -> float:
    while isinstance(query, promql.ParenExpr):
        query = query.expr
    return float(query.val) if isinstance(query, promql.NumberLiteral) else 0.0


def _ratio(part: Any, whole: Any, name: str) -> Kind | None:
    parts, wholes = _selectors(part), _selectors(whole)
    common = set.intersection(*(_matchers(s) for s in wholes)) if wholes else set()
    kinds = {_kind(selector, common) for selector in parts}
    if len(kinds) != 1:
        return None
    found = kinds.pop()
    if found is None and {s.name for s in parts} == {s.name for s in wholes}:
        return None  # part and whole are told apart by something else
    return found or _kind_of_name(name)


def _kind(selector: Any, common: set[tuple[str, str, str]]) -> Kind | None:
    """By the label that makes it a part of the whole, else by the series' own name."""
    for label, operator, value in sorted(_matchers(selector) - common):
        if not _STATUS_LABEL.search(label):
            continue
        bad, good = bool(_BAD_VALUE.match(value)), bool(_GOOD_VALUE.match(value))
        if bad is not good:
            return "bad" if bad is (operator in ("=", "=~")) else "good"
    return _kind_of_name(selector.name or "")


def _kind_of_name(name: str) -> Kind | None:
    bad, good = bool(_BAD_NAME.search(name)), bool(_GOOD_NAME.search(name))
    return None if bad is good else "bad" if bad else "good"


def _matchers(selector: Any) -> set[tuple[str, str, str]]:
    signs = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    return {(m.name, signs.get(str(m.op).rpartition(".")[2], "="), m.value) for m in selector.matchers.matchers}


def _selectors(query: Any) -> list[Any]:
    found = []
    for inner in ("expr", "lhs", "rhs", "vector_selector"):
        if hasattr(query, inner):
            found += _selectors(getattr(query, inner))
    for argument in getattr(query, "args", []):
        found += _selectors(argument)
    return [query] if isinstance(query, promql.VectorSelector) else found


def wrong_way(share: Share, sign: str, limit: float, *, success: bool) -> str:
    """Why a condition accepts what nobody can mean; empty if it is in order. `success`: is it the successCondition?"""
    accepts_above = (sign in (">", ">=")) is success
    if sign not in ("<", "<=", ">", ">="):
        return ""
    share_of_whole = limit / share.scale
    shown = f"{100 * share_of_whole:g} %"
    if share.kind == "bad":
        if accepts_above:
            return f"it accepts any share of failed requests above {shown}"
        return f"it accepts up to {shown} failed requests" if share_of_whole > _HALF else ""
    if not accepts_above:
        return f"it accepts any share of good requests below {shown}"
    if share_of_whole > 1:
        return f"a share of requests is never above {shown} (is the query in percent?)"
    return f"it accepts a success rate of {shown}" if share_of_whole < _HALF else ""
