"""What is wrong with a condition before it is judged: unknown names, and types that can never fit.

Argo compiles a condition anew for each result, with the type of that result, and a type error is an error even in a
branch that would not be reached. So does `check`, with the rules of expr-lang/expr 1.17 (checker.go).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from firstwatch.expr.parse import CLOSURES
from firstwatch.expr.tree import (
    Argument,
    Array,
    Binary,
    Call,
    Chain,
    Choice,
    Closure,
    Item,
    Let,
    Literal,
    Map,
    Member,
    Name,
    Node,
    Sequence,
    Slice,
    Unary,
    UnknownName,
    refuse,
    written,
)


class Type(NamedTuple):
    """What is known of a value before there is one: its kind, and of a list what it holds (None: anything)."""

    kind: str
    of: str = "anything"

    def __str__(self) -> str:
        words = {"int": "a whole number", "float": "a number", "nil": "nothing", "bool": "true or false"}
        return words.get(
            self.kind, {"string": "a text", "list": "a list", "map": "an object"}.get(self.kind, self.kind)
        )


ANY, NIL, BOOL, INT, FLOAT, STRING, MAP = map(Type, ("anything", "nil", "bool", "int", "float", "string", "map"))
ANYS, FLOATS = Type("list"), Type("list", "float")
_NUMBERS = ("int", "float")
_INDEXED = ("map", "reduce")  # closures that know #index
_UNSUPPORTED = frozenset(
    {
        "now", "date", "duration", "timezone", "toJSON", "fromJSON", "toBase64", "fromBase64", "groupBy", "sortBy",
        "toPairs", "fromPairs", "repeat", "splitAfter", "bitand", "bitor", "bitxor", "bitnand", "bitnot", "bitshl",
        "bitshr", "bitushr",
    }
)  # fmt: skip
_WORDS = {
    "results": "the value is called result", "value": "the value is called result", "res": "the value is called result",
    "null": "write nil", "None": "write nil", "True": "write true", "False": "write false",
    "size": "write len(…)", "avg": "write mean(…)", "average": "write mean(…)", "exists": "write any(…)",
    "$env": "write result",
}  # fmt: skip

# What functions take (as many types as arguments; those after | may be left out) and give.
_SIGNATURES: dict[str, tuple[str, Type]] = {
    "asInt": ("any", INT), "asFloat": ("any", FLOAT), "isNaN": ("number", BOOL), "isInf": ("number", BOOL),
    "isNil": ("any", BOOL), "default": ("any any", ANY),
    "len": ("sized", INT), "type": ("any", STRING), "string": ("any", STRING),
    "abs": ("number", FLOAT), "ceil": ("number", FLOAT), "floor": ("number", FLOAT), "round": ("number", FLOAT),
    "int": ("number-or-text", INT), "float": ("number-or-text", FLOAT),
    "first": ("list", ANY), "last": ("list", ANY), "get": ("listed any", ANY), "take": ("list int", ANYS),
    "reverse": ("list", ANYS), "uniq": ("list", ANYS), "flatten": ("list", ANYS), "sort": ("list | text", ANYS),
    "keys": ("map", ANYS), "values": ("map", ANYS), "join": ("list | text", STRING),
    "trim": ("text | text", STRING), "trimPrefix": ("text | text", STRING), "trimSuffix": ("text | text", STRING),
    "upper": ("text", STRING), "lower": ("text", STRING), "split": ("text text | int", Type("list", "string")),
    "replace": ("text text text | int", STRING), "indexOf": ("text text", INT), "lastIndexOf": ("text text", INT),
    "hasPrefix": ("text text", BOOL), "hasSuffix": ("text text", BOOL),
}  # fmt: skip
_AGGREGATES = ("max", "min", "mean", "median")
_FITS: dict[str, tuple[str, ...]] = {
    "number": _NUMBERS, "int": ("int",), "sized": ("list", "map", "string"), "number-or-text": (*_NUMBERS, "string"),
    "list": ("list",), "listed": ("list", "map"), "text": ("string",), "map": ("map",),
}  # fmt: skip
FUNCTIONS = frozenset({*_SIGNATURES, *_AGGREGATES, *CLOSURES, "concat"}) - _UNSUPPORTED


class Items(list[Any]):
    """A list out of JSON: one of anything, even where all of it are numbers."""


def type_of(result: Any) -> Type:
    """As Argo's provider would hand it over: a list of floats is one of numbers, another list holds anything."""
    if isinstance(result, Items):
        return ANYS
    if isinstance(result, list):
        return FLOATS if all(isinstance(item, float) for item in result) else ANYS
    kinds = {bool: BOOL, int: INT, float: FLOAT, str: STRING, dict: MAP, type(None): NIL}
    return kinds.get(type(result), ANY)


def check(tree: Node, result: Type) -> Type:
    """The type of the whole. Raises ExprError, with the column, for what can not be evaluated with such a result."""
    return _Checker(result).of(tree)


class _Checker:
    def __init__(self, result: Type) -> None:
        self._names = {"result": result}
        self._items: list[dict[str, Type]] = []  # of the closures around: "", "index" and "acc"

    def of(self, node: Node) -> Type:
        method: Callable[[Any], Type] = getattr(self, f"_{type(node).__name__.lower()}")
        return method(node)

    def _literal(self, node: Literal) -> Type:
        return type_of(node.value)

    def _argument(self, node: Argument) -> Type:
        return FLOAT

    def _name(self, node: Name) -> Type:
        if node.name in self._names:
            return self._names[node.name]
        close = get_close_matches(node.name.lower(), ["result"], n=1, cutoff=0.7)
        hint = _WORDS.get(node.name) or ("did you mean result?" if close else "")
        if node.name in FUNCTIONS:
            raise refuse(node, f"{node.name} is a function", f"write {node.name}(…)")
        raise UnknownName(f"unknown name {node.name}", hint or "a condition looks at result", node.at)

    def _item(self, node: Item) -> Type:
        if not self._items:
            raise refuse(node, f"#{node.name} outside a closure", "all(result, # > 1)")
        if node.name not in self._items[-1]:
            raise refuse(node, f"unknown #{node.name}", "# is the item")
        return self._items[-1][node.name]

    def _unary(self, node: Unary) -> Type:
        of = self.of(node.of)
        if node.sign == "not" and of in (BOOL, ANY):
            return BOOL
        if node.sign != "not" and (of.kind in _NUMBERS or of == ANY):
            return of
        raise refuse(node, f"{node.sign} does not go with {of}")

    def _binary(self, node: Binary) -> Type:
        left, right = self.of(node.left), self.of(node.right)
        kinds = {left.kind, right.kind}
        if node.sign in ("==", "!=") and _comparable(left, right):
            return BOOL
        if node.sign in ("and", "or") and kinds <= {"bool", "anything"}:
            return BOOL
        if node.sign in ("<", ">", "<=", ">=") and _fit(kinds, _NUMBERS, ("string",)):
            return BOOL
        if node.sign in ("-", "*", "/", "**") and _fit(kinds, _NUMBERS):
            return FLOAT if node.sign in ("/", "**") else _promoted(kinds)
        if node.sign == "%" and _fit(kinds, ("int",)):
            return INT
        if node.sign == "+" and _fit(kinds, _NUMBERS, ("string",)):
            return STRING if kinds == {"string"} else _promoted(kinds)
        if node.sign == "in" and self._may_hold(node, left, right):
            return BOOL
        if node.sign in ("matches", "contains", "startsWith", "endsWith") and _fit(kinds, ("string",)):
            self._check_pattern(node)
            return BOOL
        if node.sign == ".." and _fit(kinds, ("int",)):
            return Type("list", "int")
        if node.sign == "??":
            return right if left == NIL else left if right in (NIL, left) else ANY
        raise refuse(node, f"{node.sign} does not go with {left} and {right}", _hint(node, left, right))

    def _may_hold(self, node: Binary, left: Type, right: Type) -> bool:
        if right == MAP:
            return left in (ANY, STRING)
        if right.kind == "list":
            return _comparable(left, Type(right.of))
        return right == ANY or (left == ANY and right == STRING)

    @staticmethod
    def _check_pattern(node: Binary) -> None:
        if node.sign == "matches" and isinstance(node.right, Literal):
            try:
                re.compile(str(node.right.value))
            except re.error as e:
                raise refuse(node.right, f"{node.right.value} is not a regular expression: {e}", "RE2 syntax") from None

    def _chain(self, node: Chain) -> Type:
        return self.of(node.of)

    def _member(self, node: Member) -> Type:
        base, key = self.of(node.of), self.of(node.key)
        if base == ANY:
            return ANY
        if base == MAP and key in (STRING, ANY):
            return ANY
        if base.kind == "list" and key in (INT, ANY):
            return Type(base.of)
        name = written(node.of)
        if base.kind in _NUMBERS and key == INT:
            raise refuse(node, f"{name} is {base} here, which has no {written(node)}", f"write {name}")
        hint = f"write {name}[0]" if base.kind == "list" else ""
        raise refuse(node, f"{name} is {base} here, which has no {written(node.key)}", hint)

    def _slice(self, node: Slice) -> Type:
        of = self.of(node.of)
        for bound in (node.start, node.stop):
            if bound is not None and self.of(bound) not in (INT, ANY):
                raise refuse(bound, "a list is cut at whole numbers")
        if of != ANY and of.kind not in ("list", "string"):
            raise refuse(node, f"{written(node.of)} is {of} here, which cannot be cut")
        return of

    def _closure(self, node: Closure) -> Type:
        return self.of(node.body)

    def _choice(self, node: Choice) -> Type:
        if (test := self.of(node.test)) not in (BOOL, ANY):
            raise refuse(node.test, f"{test} is no yes or no")
        yes, no = self.of(node.yes), self.of(node.no)
        return no if yes == NIL else yes if no in (NIL, yes) else ANY

    def _let(self, node: Let) -> Type:
        if node.name in self._names or node.name in FUNCTIONS:
            raise refuse(node, f"{node.name} is taken already", "give that variable another name")
        self._names[node.name] = self.of(node.value)
        body = self.of(node.body)
        del self._names[node.name]
        return body

    def _sequence(self, node: Sequence) -> Type:
        return [self.of(step) for step in node.steps][-1]

    def _array(self, node: Array) -> Type:
        kinds = {self.of(item).kind for item in node.items}
        return Type("list", kinds.pop() if len(kinds) == 1 else "anything")

    def _map(self, node: Map) -> Type:
        for part in node.parts():
            self.of(part)
        return MAP

    # ── functions ────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, node: Call) -> Type:
        if node.name in _UNSUPPORTED:
            raise refuse(node, f"{node.name}() is not supported here", "decide on result with comparisons")
        if node.name in CLOSURES:
            return self._closed(node)
        given = [self.of(argument) for argument in node.arguments]
        if node.name in _AGGREGATES:
            return self._aggregate(node, given)
        if node.name == "concat" and given:
            return ANYS
        if node.name not in _SIGNATURES:
            close = get_close_matches(node.name, FUNCTIONS, n=1, cutoff=0.7)
            hint = _WORDS.get(node.name) or (f"did you mean {close[0]}?" if close else "")
            known = f"functions here: {', '.join(sorted(FUNCTIONS))}"
            raise UnknownName(f"unknown function {node.name}()", hint or known, node.at)
        takes, gives = _SIGNATURES[node.name]
        self._check_arguments(node, takes, given)
        if node.name in ("first", "last") and given[0].kind == "list":
            return Type(given[0].of)
        if node.name == "get":
            return Type(given[0].of) if given[0].kind == "list" else ANY
        return given[0] if node.name in ("abs", "take") else gives

    def _check_arguments(self, node: Call, takes: str, given: list[Type]) -> None:
        needed, _, optional = takes.partition("|")
        wanted = [*needed.split(), *optional.split()]
        if not len(needed.split()) <= len(given) <= len(wanted):
            raise refuse(node, f"{node.name}() takes {len(needed.split())} argument(s), not {len(given)}")
        for argument, want, has in zip(node.arguments, wanted, given, strict=False):
            if want != "any" and has != ANY and has.kind not in _FITS[want]:
                name = written(argument)
                hint = f"write {name}[0], or all({name}, …)" if has.kind == "list" else ""
                raise refuse(argument, f"{node.name}() does not take {has}, which {name} is here", hint)

    def _aggregate(self, node: Call, given: list[Type]) -> Type:
        if not given:
            raise refuse(node, f"{node.name}() of nothing", f"write {node.name}(result)")
        for argument, has in zip(node.arguments, given, strict=True):
            if has == ANY or has.kind == "list":
                return ANY
            if has.kind not in _NUMBERS:
                raise refuse(argument, f"{node.name}() does not take {has}, which {written(argument)} is here")
        return given[0]

    def _closed(self, node: Call) -> Type:
        over = self.of(node.arguments[0])
        if over != ANY and over.kind != "list":
            name = written(node.arguments[0])
            raise refuse(node.arguments[0], f"{node.name}() goes over a list, and {name} is {over} here")
        item = Type(over.of) if over.kind == "list" else ANY
        if len(node.arguments) == 1:
            return INT if node.name == "count" else item
        variables = {"": item}
        if node.name in _INDEXED:
            variables["index"] = INT
        if node.name == "reduce":
            variables["acc"] = ANY
        self._items.append(variables)
        gives = self.of(node.arguments[1])
        self._items.pop()
        for extra in node.arguments[2:]:
            self.of(extra)
        if node.name in ("map", "sum", "reduce"):
            return Type("list", gives.kind) if node.name == "map" else gives
        if gives not in (BOOL, ANY):
            raise refuse(node.arguments[1], f"{node.name}() asks each item a yes or no, and this gives {gives}")
        whole = {"filter": Type("list", item.kind), "find": item, "findLast": item}
        return whole.get(node.name, INT if node.name in ("count", "findIndex", "findLastIndex") else BOOL)


def _comparable(left: Type, right: Type) -> bool:
    kinds = {left.kind, right.kind}
    return bool(kinds & {"anything", "nil"}) or kinds <= set(_NUMBERS) or len(kinds) == 1


def _fit(kinds: set[str], *groups: tuple[str, ...]) -> bool:
    """Are both of one group, as far as is known?"""
    return any(kinds <= {*group, "anything"} for group in groups)


def _promoted(kinds: set[str]) -> Type:
    return ANY if "anything" in kinds else FLOAT if "float" in kinds else INT


def _hint(node: Binary, left: Type, right: Type) -> str:
    for side, has in ((node.left, left), (node.right, right)):
        if has.kind == "list" and node.sign not in ("in",):
            name = written(side)
            return f"a query gives a list: write {name}[0], or all({name}, # {node.sign} …)"
    return ""
