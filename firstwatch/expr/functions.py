"""The functions of Argo's condition language, on plain values."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cmp_to_key
from statistics import median
from typing import Any

from firstwatch.expr.go import (
    GoError,
    NoData,
    as_float,
    as_int,
    equal,
    is_number,
    listed,
    number,
    printed,
    rounded,
    shown,
    text,
    truncated,
)

Ask = Callable[[int], Any]
"""The closure's answer on the item at an index."""


# ── with a closure ───────────────────────────────────────────────────────────────────────────────────────────


def _yes(answer: Any) -> bool:
    if not isinstance(answer, bool):
        raise GoError(f"{shown(answer)} is no yes or no")
    return answer


def _first(places: range, ask: Ask, wanted: bool) -> int | None:
    """The first place with the wanted answer. Items without data are told only if none has it."""
    missing: NoData | None = None
    for at in places:
        try:
            if _yes(ask(at)) is wanted:
                return at
        except NoData as e:
            missing = missing or e
    if missing is not None:
        raise missing
    return None


def _where(items: list[Any], ask: Ask) -> list[int]:
    return [at for at in range(len(items)) if _yes(ask(at))]


def _find(items: list[Any], ask: Ask, *, last: bool = False) -> int | None:
    """The place. What comes before it decides, so an item without data is told at once."""
    places = range(len(items))
    return next((at for at in (reversed(places) if last else places) if _yes(ask(at))), None)


def _found(items: list[Any], at: int | None) -> Any:
    return None if at is None else items[at]


def _sum(items: list[Any], ask: Ask) -> Any:
    total: int | float = 0
    for at in range(len(items)):
        total = number(ask(at), "sum()") + total  # one by one, as Go adds floats
    return total


CLOSED: dict[str, Callable[[list[Any], Ask], Any]] = {
    "all": lambda items, ask: _first(range(len(items)), ask, False) is None,
    "none": lambda items, ask: _first(range(len(items)), ask, True) is None,
    "any": lambda items, ask: _first(range(len(items)), ask, True) is not None,
    "one": lambda items, ask: len(_where(items, ask)) == 1,
    "filter": lambda items, ask: [items[at] for at in _where(items, ask)],
    "map": lambda items, ask: [ask(at) for at in range(len(items))],
    "count": lambda items, ask: len(_where(items, ask)),
    "sum": _sum,
    "find": lambda items, ask: _found(items, _find(items, ask)),
    "findLast": lambda items, ask: _found(items, _find(items, ask, last=True)),
    "findIndex": lambda items, ask: _find(items, ask),
    "findLastIndex": lambda items, ask: _find(items, ask, last=True),
    "reduce": lambda items, ask: None,  # evaluated by itself: its closure knows what came before
}


# ── on plain values ──────────────────────────────────────────────────────────────────────────────────────────


def _numbers(values: tuple[Any, ...], what: str) -> list[int | float]:
    """All numbers in the values, lists within lists included."""
    found: list[int | float] = []
    for value in values:
        found += _numbers(tuple(value), what) if isinstance(value, list) else [number(value, what)]
    return found


def _extreme(choose: Callable[..., Any], what: str) -> Callable[..., Any]:
    def chosen(*values: Any) -> Any:
        found = _numbers(values, what)
        if any(math.isnan(value) for value in found):
            return math.nan
        return choose(found) if found else None

    return chosen


def mean(*values: Any) -> float:
    total, found = 0.0, _numbers(values, "mean()")
    for value in found:
        total += value
    return total / len(found) if found else 0.0


def _median(*values: Any) -> float:
    found = _numbers(values, "median()")
    if any(math.isnan(value) for value in found):
        return math.nan
    return float(median(found)) if found else 0.0


def _whole(to: Callable[[float], float]) -> Callable[[Any], float]:
    return lambda value: float(to(v)) if math.isfinite(v := number(value, "rounding")) else float(v)


def _len(value: Any) -> int:
    if not isinstance(value, list | dict | str):
        raise GoError(f"{shown(value)} has no length")
    return len(value)


def _kind(value: Any) -> str:
    kinds = {bool: "bool", int: "int", float: "float", str: "string", list: "array", dict: "map"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), "nil")


def _get(of: Any, key: Any) -> Any:
    if isinstance(of, dict):
        return of.get(key)
    if isinstance(of, list | str) and is_number(key) and -len(of) <= int(key) < len(of):
        return of[int(key)]
    return None


def _sorted(items: Any, order: str = "asc") -> list[Any]:
    if order not in ("asc", "desc"):
        raise GoError(f'sort() knows "asc" and "desc", not {shown(order)}')

    def compare(a: Any, b: Any) -> int:
        if is_number(a) is not is_number(b) or isinstance(a, str) is not isinstance(b, str):
            raise GoError(f"{shown(a)} and {shown(b)} cannot be sorted")
        if any(isinstance(value, float) and math.isnan(value) for value in (a, b)):
            raise NoData("a value to sort is NaN")
        return int(a > b) - int(a < b)

    return sorted(listed(items, "sort()"), key=cmp_to_key(compare), reverse=order == "desc")


def _unique(items: Any) -> list[Any]:
    kept: list[Any] = []
    for item in listed(items, "uniq()"):
        if not any(equal(item, one) for one in kept):
            kept.append(item)
    return kept


def _flat(items: Any) -> list[Any]:
    return [one for item in listed(items, "flatten()") for one in (_flat(item) if isinstance(item, list) else [item])]


def _split(of: Any, at: Any, limit: int = -1) -> list[str]:
    of, at = text(of, "split()"), text(at, "split()")
    if limit == 0:
        return []
    return of.split(at, limit - 1 if limit > 0 else -1) if at else list(of)


def _trim(of: Any, marks: Any = None) -> str:
    return text(of, "trim()").strip(None if marks is None else text(marks, "trim()"))


def _replace(of: Any, old: Any, new: Any, times: int = -1) -> str:
    return text(of, "replace()").replace(text(old, "replace()"), text(new, "replace()"), times)


def _fields(of: Any, what: str) -> dict[str, Any]:
    if not isinstance(of, dict):
        raise GoError(f"{what} needs an object, not {shown(of)}")
    return of


def _nan(value: Any) -> bool:
    return math.isnan(number(value, "isNaN()"))


def _inf(value: Any) -> bool:
    return math.isinf(number(value, "isInf()"))


PLAIN: dict[str, Callable[..., Any]] = {
    "asInt": as_int, "asFloat": as_float, "int": as_int, "float": as_float, "isNaN": _nan, "isInf": _inf,
    "len": _len, "type": _kind, "string": printed,
    "max": _extreme(max, "max()"), "min": _extreme(min, "min()"), "mean": mean, "median": _median,
    "abs": lambda value: abs(number(value, "abs()")),
    "ceil": _whole(math.ceil), "floor": _whole(math.floor),
    "round": lambda value: rounded(float(number(value, "round()"))),
    "first": lambda of: _get(of, 0), "last": lambda of: _get(of, -1), "get": _get,
    "take": lambda of, n: listed(of, "take()")[: truncated(n)],
    "reverse": lambda of: listed(of, "reverse()")[::-1], "sort": _sorted, "uniq": _unique, "flatten": _flat,
    "concat": lambda *lists: [item for one in lists for item in listed(one, "concat()")],
    "keys": lambda of: list(_fields(of, "keys()")), "values": lambda of: list(_fields(of, "values()").values()),
    "join": lambda of, by="": text(by, "join()").join(text(item, "join()") for item in listed(of, "join()")),
    "trim": _trim, "upper": lambda of: text(of, "upper()").upper(), "lower": lambda of: text(of, "lower()").lower(),
    "trimPrefix": lambda of, what=" ": text(of, "trimPrefix()").removeprefix(what),
    "trimSuffix": lambda of, what=" ": text(of, "trimSuffix()").removesuffix(what),
    "split": _split, "replace": _replace,
    "indexOf": lambda of, what: text(of, "indexOf()").find(text(what, "indexOf()")),
    "lastIndexOf": lambda of, what: text(of, "lastIndexOf()").rfind(text(what, "lastIndexOf()")),
    "hasPrefix": lambda of, what: text(of, "hasPrefix()").startswith(text(what, "hasPrefix()")),
    "hasSuffix": lambda of, what: text(of, "hasSuffix()").endswith(text(what, "hasSuffix()")),
}  # fmt: skip
