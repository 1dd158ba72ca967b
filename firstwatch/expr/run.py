"""Evaluating a condition in Argo's language on a result, with one addition: a value that is not there is *no data*.

What Argo would silently make a yes or no of (NaN compared with anything, `all` or `any` of an empty result, nothing
equal to a number) raises NoData; what is an error there (`result[0]` of an empty result) is one here, and who judges
tells it as no data. `and`, `or` and the closures are three-valued about it, as in SQL: a part that
decides alone decides, whatever the missing part would have been. So a guard that the author wrote (`isNaN(result) ||
…`, `len(result) == 0 || …`, `default(result, 0)`) means what it says.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from firstwatch.expr import functions
from firstwatch.expr.go import (
    GoError,
    NoData,
    divided,
    equal,
    is_number,
    listed,
    number,
    power,
    remainder,
    shown,
    text,
    truncated,
    within,
)
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
    written,
)

_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_LONGEST = 1_000_000  # items of a range
_ALSO_OF_NOTHING = ("len", "type", "string", "first", "last", "get", "max", "min")
"""Functions that say of an empty result what it is; what compares their nil is an error in Argo, too."""


class _Nil(Exception):
    """An optional link met nil: the chain around it is nil."""


class Run:
    """One evaluation. Afterwards `facts` names the values that were compared, as `result[0]` → `0.953`."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self._missing = result is None or result == []
        self._names: dict[str, Any] = {"result": result}
        self._items: list[dict[str, Any]] = []
        self.facts: dict[str, str] = {}

    def of(self, node: Node) -> Any:
        """The value. Raises NoData, or GoError for what stops Argo, too."""
        method: Callable[[Any], Any] = getattr(self, f"_{type(node).__name__.lower()}")
        return method(node)

    def _literal(self, node: Literal) -> Any:
        return node.value

    def _argument(self, node: Argument) -> Any:
        raise GoError(f"{node.text} was not filled in")

    def _name(self, node: Name) -> Any:
        return self._names[node.name]

    def _item(self, node: Item) -> Any:
        return self._items[-1][node.name]

    def _unary(self, node: Unary) -> Any:
        value = self.of(node.of)
        if node.sign == "not":
            return not self._yes_or_no(value)
        return value if node.sign == "+" else -number(value, "-")

    @staticmethod
    def _yes_or_no(value: Any) -> bool:
        if not isinstance(value, bool):
            raise GoError(f"{shown(value)} is no yes or no")
        return value

    def _binary(self, node: Binary) -> Any:
        if node.sign in ("and", "or"):
            return self._logic(node)
        left = self.of(node.left)
        if node.sign == "??":
            return self.of(node.right) if left is None else left
        right = self.of(node.right)
        if node.sign in ("==", "!=", "<", "<=", ">", ">=", "in"):
            self._remember(node, left, right)
            return self._compare(node, left, right)
        if node.sign in ("matches", "contains", "startsWith", "endsWith"):
            self._remember(node, left, right)
            return self._match(node.sign, left, right)
        return _calculate(node.sign, left, right)

    def _logic(self, node: Binary) -> Any:
        """One part decides alone if it can, even beside one without data."""
        deciding = node.sign == "or"
        missing = None
        try:
            if self._yes_or_no(self.of(node.left)) is deciding:
                return deciding
        except NoData as e:
            missing = e
        right = self.of(node.right)
        if missing is not None and right is not deciding:
            raise missing
        return right

    def _compare(self, node: Binary, left: Any, right: Any) -> bool:
        if node.sign == "in":
            return self._holds(node, left, right)
        if node.sign in _ORDER:
            if not (is_number(left) and is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
                raise GoError(f"{shown(left)} {node.sign} {shown(right)} cannot be compared")
            self._refuse_nan(node, left, right)
            return bool(_ORDER[node.sign](left, right))
        literal_nil = any(isinstance(side, Literal) and side.value is None for side in (node.left, node.right))
        if self._missing and not literal_nil and (left is None or right is None):
            raise NoData("result is empty" if self._result == [] else "there is no result")
        self._refuse_nan(node, left, right)
        return equal(left, right) is (node.sign == "==")

    def _holds(self, node: Binary, item: Any, among: Any) -> bool:
        self._refuse_empty(among)
        if among is None:
            return False
        if isinstance(among, dict):
            return text(item, "in an object") in among
        if any(equal(item, one) for one in listed(among, "in")):
            return True
        self._refuse_nan(node, item, *among)
        return False

    def _refuse_nan(self, node: Binary, *values: Any) -> None:
        if any(isinstance(value, float) and math.isnan(value) for value in values):
            side = node.right if node.sign == "in" or (is_number(values[0]) and values[0] == values[0]) else node.left
            raise NoData(f"{self._label(side)} is NaN")

    def _refuse_empty(self, value: Any) -> None:
        if self._missing and value is self._result:
            raise NoData("there is no result" if value is None else "result is empty")

    @staticmethod
    def _match(sign: str, left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        left, right = text(left, sign), text(right, sign)
        if sign == "matches":
            return re.search(right, left) is not None
        return bool(
            {"contains": str.__contains__, "startsWith": str.startswith, "endsWith": str.endswith}[sign](left, right)
        )

    # ── parts of values ──────────────────────────────────────────────────────────────────────────────────────

    def _chain(self, node: Chain) -> Any:
        try:
            return self.of(node.of)
        except _Nil:
            return None

    def _member(self, node: Member) -> Any:
        base = self.of(node.of)
        if node.optional and base is None:
            raise _Nil
        key = self.of(node.key)
        if isinstance(base, dict):
            return base.get(key)
        if isinstance(base, list) and is_number(key):
            at = int(key)
            if not -len(base) <= at < len(base):
                raise GoError(f"{written(node.of)} has {len(base)} item(s), so there is no {written(node)}")
            return base[at]
        raise GoError(f"{written(node.of)} is {shown(base)}, which has no {written(node.key)}")

    def _slice(self, node: Slice) -> Any:
        of = self.of(node.of)
        if not isinstance(of, list | str):
            raise GoError(f"{shown(of)} cannot be cut")
        self._refuse_empty(of)
        start = 0 if node.start is None else truncated(number(self.of(node.start), "a cut"))
        stop = len(of) if node.stop is None else truncated(number(self.of(node.stop), "a cut"))
        return of[start:stop]

    def _array(self, node: Array) -> Any:
        return [self.of(item) for item in node.items]

    def _map(self, node: Map) -> Any:
        return {text(self.of(key), "a key"): self.of(value) for key, value in zip(node.keys, node.values, strict=True)}

    # ── control ──────────────────────────────────────────────────────────────────────────────────────────────

    def _choice(self, node: Choice) -> Any:
        return self.of(node.yes if self._yes_or_no(self.of(node.test)) else node.no)

    def _let(self, node: Let) -> Any:
        self._names[node.name] = self.of(node.value)
        return self.of(node.body)

    def _sequence(self, node: Sequence) -> Any:
        return [self.of(step) for step in node.steps][-1]

    # ── functions ────────────────────────────────────────────────────────────────────────────────────────────

    def _call(self, node: Call) -> Any:
        if node.name in functions.CLOSED:
            return self._closed(node)
        values = [self.of(argument) for argument in node.arguments]
        if node.name == "isNil":  # Argo asks this of the result, whatever the argument is
            return self._result is None
        if node.name == "default":
            return values[1] if self._result is None else self._result
        if node.name not in _ALSO_OF_NOTHING:
            for value in values:
                self._refuse_empty(value)
        return functions.PLAIN[node.name](*values)

    def _closed(self, node: Call) -> Any:
        over, *rest = node.arguments
        items = self.of(over)
        self._refuse_empty(items)
        items = listed(items, f"{node.name}()")
        if not rest:
            return functions.CLOSED[node.name](items, items.__getitem__)
        if node.name == "reduce":
            return self._reduce(items, rest)
        asked: dict[int, bool] = {}
        label = written(over)

        def ask(at: int) -> Any:
            answer = self._within(rest[0], {"": items[at], "index": at}, f"{label}[{at}]")
            asked[at] = answer is True
            return answer

        kept = dict(self.facts)
        whole = functions.CLOSED[node.name](items, ask)
        self.facts = kept
        decisive = next((at for at, yes in asked.items() if yes is not (node.name == "all")), None)
        if node.name in ("all", "any", "none") and whole is (node.name == "any") and decisive is not None:
            self.facts[f"{label}[{decisive}]"] = shown(items[decisive])
        else:
            self.facts[label] = shown(items)
        return whole

    def _reduce(self, items: list[Any], rest: list[Node]) -> Any:
        if len(rest) < 2 and not items:
            raise GoError("reduce of an empty list with no initial value")
        start = 0 if len(rest) > 1 else 1
        acc = self.of(rest[1]) if len(rest) > 1 else items[0]
        for at in range(start, len(items)):
            acc = self._within(rest[0], {"": items[at], "index": at, "acc": acc}, f"item {at}")
        return acc

    def _within(self, closure: Node, variables: dict[str, Any], label: str) -> Any:
        self._items.append({**variables, "label": label})
        try:
            return self.of(closure)
        finally:
            self._items.pop()

    def _closure(self, node: Closure) -> Any:
        return self.of(node.body)

    # ── words ────────────────────────────────────────────────────────────────────────────────────────────────

    def _label(self, node: Node) -> str:
        name = written(node)
        return name.replace("#", self._items[-1]["label"]) if self._items and name.startswith("#") else name

    def _remember(self, node: Binary, left: Any, right: Any) -> None:
        for side, value in ((node.left, left), (node.right, right)):
            if any(isinstance(part, Name | Item) for part in side.all()):
                self.facts[self._label(side)] = shown(value)


def _calculate(sign: str, left: Any, right: Any) -> Any:
    if sign == "+" and isinstance(left, str) and isinstance(right, str):
        return left + right
    if sign == "..":
        first, last = truncated(number(left, "..")), truncated(number(right, ".."))
        if last - first > _LONGEST:
            raise GoError("this range is too long")
        return list(range(first, last + 1))
    a, b = number(left, sign), number(right, sign)
    if sign == "/":
        return divided(a, b)
    if sign == "**":
        return power(a, b)
    if sign == "%":
        if not isinstance(a, int) or not isinstance(b, int):
            raise GoError("% needs whole numbers", "write asInt(…) % …")
        return remainder(a, b)
    made = {"+": operator.add, "-": operator.sub, "*": operator.mul}[sign](a, b)
    return within(made) if isinstance(made, int) else made
