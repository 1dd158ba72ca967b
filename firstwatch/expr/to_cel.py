"""Argo's conditions as CEL, for the result of a Prometheus query: a number, or the list of all its numbers.

CEL does not mix whole numbers and others in arithmetic, divides whole numbers without a rest and has no aggregates, so
types are followed through, and what CEL lacks is called as a function of ours (`FUNCTIONS`). What cannot be said with
the same meaning is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from firstwatch.expr import functions
from firstwatch.expr.check import FLOAT, FLOATS, check
from firstwatch.expr.go import listed, number, power, truncated
from firstwatch.expr.tree import (
    Argument,
    Array,
    Binary,
    Call,
    Choice,
    Closure,
    ExprError,
    Item,
    Let,
    Literal,
    Member,
    Name,
    Node,
    Sequence,
    Slice,
    Unary,
    refuse,
    written,
)

_LONGEST_RANGE = 50
_SAME = (
    "asFloat", "asInt", "isNaN", "isInf", "max", "min", "mean", "median", "abs", "ceil", "floor", "round", "first",
    "last", "sort", "reverse", "take",
)  # fmt: skip


def _cut(items: Any, start: Any, stop: Any = None) -> list[Any]:
    ends = truncated(number(stop, "slice()")) if stop is not None else None
    return listed(items, "slice()")[truncated(number(start, "slice()")) : ends]


def _sum(items: Any) -> Any:
    given = listed(items, "sum()")
    return functions.CLOSED["sum"](given, given.__getitem__)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: functions.PLAIN[name] for name in _SAME},
    "isNil": lambda value: value is None,
    "default": lambda value, instead: instead if value is None else value,
    "sum": _sum,
    "pow": lambda a, b: power(number(a, "pow()"), number(b, "pow()")),
    "slice": _cut,
}
"""What a gate's condition in CEL may call besides CEL's own functions."""


class Cel(NamedTuple):
    text: str
    type: str  # bool, int, float, string, argument, or "list of …" one of these
    binds: int = 4  # how strongly: 4 a value, 3 arithmetic, 2 a comparison, 1 && and ||, 0 a choice
    sign: str = ""


_GIVES = {
    "asFloat": "float", "asInt": "int", "isNaN": "bool", "isInf": "bool", "isNil": "bool", "mean": "float",
    "median": "float", "ceil": "float", "floor": "float", "round": "float", "int": "int", "float": "float",
}  # fmt: skip
_MACROS = {"all": "all", "any": "exists", "one": "exists_one", "none": "exists", "filter": "filter", "map": "map"}
_HINT = "such a condition cannot be carried over; write it with comparisons of result"


def to_cel(tree: Node) -> str:
    """The condition as CEL. Raises ExprError, with the column, for what cannot be said with the same meaning."""
    refused: list[ExprError] = []
    for result in (FLOATS, FLOAT):
        try:
            check(tree, result)
        except ExprError as e:
            refused.append(e)
        else:
            return _Writer("list of float" if result == FLOATS else "float").of(tree).text
    # The one that says more: result is a list where an index stands, and a number elsewhere.
    indexed = any(isinstance(node, Member | Closure) for node in tree.all())
    raise refused[0 if indexed else 1]


class _Writer:
    def __init__(self, result: str) -> None:
        self._names = {"result": Cel("result", result)}
        self._items: list[Cel] = []

    def of(self, node: Node) -> Cel:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise refuse(node, f"{written(node)} has no counterpart in CEL", _HINT)
        cel: Cel = method(node)
        return cel

    def _literal(self, node: Literal) -> Cel:
        if node.value is None:
            raise refuse(node, "nil has no counterpart here", "a query that gives nothing is no data: see onNoData")
        if isinstance(node.value, str):
            return Cel(json.dumps(node.value, ensure_ascii=False), "string")
        if isinstance(node.value, bool):
            return Cel(str(node.value).lower(), "bool")
        return Cel(repr(node.value), "float" if isinstance(node.value, float) else "int")

    def _argument(self, node: Argument) -> Cel:
        return Cel(node.text, "argument")

    def _name(self, node: Name) -> Cel:
        return self._names[node.name]

    def _item(self, node: Item) -> Cel:
        if node.name:
            raise refuse(node, f"#{node.name} has no counterpart in CEL", _HINT)
        return self._items[-1]

    def _unary(self, node: Unary) -> Cel:
        of = self.of(node.of)
        sign = {"not": "!", "-": "-", "+": ""}[node.sign]
        if not sign:
            return of
        return Cel(f"{sign}{_bracketed(of)}", of.type, 4 if sign == "!" else 3)

    def _binary(self, node: Binary) -> Cel:
        if node.sign == "??":
            return self._instead(node)
        if node.sign == "..":
            return self._range(node)
        left, right = self.of(node.left), self.of(node.right)
        if node.sign in ("and", "or"):
            sign = "&&" if node.sign == "and" else "||"
            return Cel(f"{_in_logic(left, sign)} {sign} {_in_logic(right, sign)}", "bool", 1, sign)
        if node.sign in ("==", "!=", "<", "<=", ">", ">=", "in"):
            if {"list" in side.type for side in (left, right)} == {True} and node.sign != "in":
                raise refuse(node, "lists are compared with nothing", "compare their items")
            return Cel(f"{_bracketed(left, 3)} {node.sign} {_bracketed(right, 3)}", "bool", 2)
        if node.sign in ("matches", "contains", "startsWith", "endsWith"):
            return Cel(f"{_bracketed(left)}.{node.sign}({right.text})", "bool")
        return self._arithmetic(node, left, right)

    def _arithmetic(self, node: Binary, left: Cel, right: Cel) -> Cel:
        for side in (left, right):
            if side.type not in ("int", "float", "argument"):
                raise refuse(node, f"{node.sign} of {side.text} cannot be carried over", _HINT)
        if node.sign == "**":
            return Cel(f"pow({left.text}, {right.text})", "float")
        if {left.type, right.type} == {"int"} and node.sign != "/":
            return Cel(f"{_bracketed(left)} {node.sign} {_bracketed(right)}", "int", 3)
        if node.sign == "%":
            raise refuse(node, "% needs whole numbers", "write asInt(…) % …")
        return Cel(f"{_as_float(left)} {node.sign} {_as_float(right)}", "float", 3)

    def _instead(self, node: Binary) -> Cel:
        """`result ?? 1`: a Prometheus query never gives nil, but for nothing at all."""
        if not isinstance(node.left, Name):
            raise refuse(node, f"{written(node.left)} ?? … has no counterpart in CEL", _HINT)
        left, right = self.of(node.left), self.of(node.right)
        return Cel(f"default({left.text}, {right.text})", left.type)

    def _range(self, node: Binary) -> Cel:
        ends = [side.value for side in (node.left, node.right) if isinstance(side, Literal)]
        if len(ends) < 2 or not all(isinstance(end, int) for end in ends):
            raise refuse(node, "a range of computed ends has no counterpart in CEL", _HINT)
        first, last = int(ends[0] or 0), int(ends[1] or 0)
        if last - first >= _LONGEST_RANGE:
            raise refuse(node, f"{first}..{last} is too long a range", f"write x >= {first} && x <= {last}")
        return Cel(f"[{', '.join(map(str, range(first, last + 1)))}]", "list of int")

    def _member(self, node: Member) -> Cel:
        of = self.of(node.of)
        if not of.type.startswith("list of ") or node.optional:
            raise refuse(
                node, f"{written(node.of)} has no {written(node.key)}", "result is a number or a list of numbers"
            )
        gives = of.type.removeprefix("list of ")
        if isinstance(node.key, Unary) and isinstance(node.key.of, Literal) and node.key.sign == "-":
            return Cel(f"{_bracketed(of)}[size({of.text}) - {node.key.of.value}]", gives)
        key = self.of(node.key)
        return Cel(f"{_bracketed(of)}[{key.text}]", gives)

    def _slice(self, node: Slice) -> Cel:
        of = self.of(node.of)
        start = self.of(node.start).text if node.start else "0"
        stop = f", {self.of(node.stop).text}" if node.stop else ""
        return Cel(f"slice({of.text}, {start}{stop})", of.type)

    def _array(self, node: Array) -> Cel:
        items = [self.of(item) for item in node.items]
        kinds = {item.type for item in items}
        kind = "float" if kinds == {"int", "float"} else kinds.pop() if len(kinds) == 1 else "anything"
        return Cel(f"[{', '.join(item.text for item in items)}]", f"list of {kind}")

    def _choice(self, node: Choice) -> Cel:
        test, yes, no = self.of(node.test), self.of(node.yes), self.of(node.no)
        if {yes.type, no.type} == {"int", "float"}:
            yes, no = Cel(_as_float(yes), "float"), Cel(_as_float(no), "float")
        elif yes.type != no.type:
            raise refuse(node, f"{yes.text} and {no.text} are of different kinds", _HINT)
        return Cel(f"{_bracketed(test)} ? {_bracketed(yes)} : {_bracketed(no)}", yes.type, 0)

    def _let(self, node: Let) -> Cel:
        """CEL has no variables: what it stands for is written out."""
        self._names[node.name] = self.of(node.value)
        return self.of(node.body)

    def _sequence(self, node: Sequence) -> Cel:
        return self.of(node.steps[-1])

    def _call(self, node: Call) -> Cel:
        first = self.of(node.arguments[0])
        if len(node.arguments) > 1 and isinstance(node.arguments[1], Closure):
            return self._closed(node, first, node.arguments[1])
        given = [first, *map(self.of, node.arguments[1:])]
        if node.name == "len":
            return Cel(f"size({first.text})", "int")
        if node.name == "count":
            return self._counted(first, Cel("x", "bool"), "x")
        name = {"int": "asInt", "float": "asFloat"}.get(node.name, node.name)
        if name not in FUNCTIONS:
            raise refuse(
                node, f"{node.name}() has no counterpart here", f"functions here: {', '.join(sorted(FUNCTIONS))}"
            )
        return Cel(f"{name}({', '.join(argument.text for argument in given)})", self._gives(node, given))

    @staticmethod
    def _gives(node: Call, given: list[Cel]) -> str:
        if node.name in _GIVES:
            return _GIVES[node.name]
        if node.name == "default" or "list" not in given[0].type:
            kinds = {cel.type for cel in given} if node.name in ("max", "min") else {given[0].type}
            return "float" if kinds >= {"float"} else kinds.pop()
        if node.name in ("sort", "reverse", "take"):
            return given[0].type
        return given[0].type.removeprefix("list of ")  # max, min, sum, first, last

    def _closed(self, node: Call, over: Cel, closure: Closure) -> Cel:
        variable = "xyzuvw"[len(self._items)] if len(self._items) < 6 else ""
        if not variable or not over.type.startswith("list of "):
            raise refuse(node, f"{node.name}() over {over.text} has no counterpart in CEL", _HINT)
        self._items.append(Cel(variable, over.type.removeprefix("list of ")))
        body = self.of(closure.body)
        self._items.pop()
        of = _bracketed(over)
        if node.name in _MACROS:
            sign = "!" if node.name == "none" else ""
            gives = {"map": f"list of {body.type}", "filter": over.type}.get(node.name, "bool")
            return Cel(f"{sign}{of}.{_MACROS[node.name]}({variable}, {body.text})", gives)
        if node.name == "count":
            return self._counted(over, body, variable)
        if node.name == "sum":
            return Cel(f"sum({of}.map({variable}, {body.text}))", body.type)
        if node.name in ("find", "findLast"):
            end = "first" if node.name == "find" else "last"
            return Cel(f"{end}({of}.filter({variable}, {body.text}))", over.type.removeprefix("list of "))
        raise refuse(node, f"{node.name}() has no counterpart in CEL", _HINT)

    @staticmethod
    def _counted(over: Cel, body: Cel, variable: str) -> Cel:
        return Cel(f"size({_bracketed(over)}.filter({variable}, {body.text}))", "int")


def _bracketed(cel: Cel, from_: int = 4) -> str:
    return cel.text if cel.binds >= from_ else f"({cel.text})"


def _in_logic(cel: Cel, sign: str) -> str:
    """A part of `a && b`: && within ||, and the other way round, gets brackets, so that nobody has to know."""
    return cel.text if cel.binds > 1 or cel.sign == sign else f"({cel.text})"


def _as_float(cel: Cel) -> str:
    """As an operand of floating arithmetic; a whole literal is written with a point."""
    if cel.type == "float":
        return _bracketed(cel)
    return f"{cel.text}.0" if cel.text.lstrip("-").isdigit() else f"double({cel.text})"
