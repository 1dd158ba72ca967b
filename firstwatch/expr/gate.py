"""A canary metric's condition: on one measurement it holds, does not hold, has no data, or cannot be evaluated.

A text is read in Argo's language first, with Argo's meaning, and in CEL if it is none. What either would make of
missing data is not taken: NaN, an empty result and no result are *no data* wherever the condition hangs on them, and
decide only where the author asks for them (`isNaN(x) || …`, `len(result) == 0 || …`, `default(result, 0)`).
Infinities are numbers, as in Argo: +Inf is not below any limit.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

from firstwatch.cel_text import Path, tokens_of
from firstwatch.conditions import GATE_NAMES, ConditionError, compile_expression, facts_of, run
from firstwatch.expr import tree as nodes
from firstwatch.expr.check import ANY, FLOAT, FLOATS, Type, check, type_of
from firstwatch.expr.go import NoData, shown
from firstwatch.expr.parse import parse
from firstwatch.expr.run import Run
from firstwatch.expr.to_cel import FUNCTIONS, to_cel

Kind = Literal["true", "false", "no data", "error"]
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_PLACEHOLDER = "0.5"  # stands for {{args.x}} in CEL, until it is filled in


class GateJudged(NamedTuple):
    """What a condition says of one result. `value` is None unless `kind` is "true" or "false"."""

    value: bool | None
    kind: Kind
    why: str


class GateCondition(Protocol):
    """A condition that was found usable."""

    @property
    def text(self) -> str:
        """As it was written."""

    @property
    def cel(self) -> str:
        """In CEL. Raises ConditionError if it cannot be said in CEL with the same meaning."""

    def judge(self, result: Any) -> GateJudged:
        """Judge one result: a number, a list of numbers, or (as other sources give them) any JSON value."""


# ── in Argo's language ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ExprCondition:
    """In Argo's language."""

    text: str
    tree: nodes.Node

    @property
    def cel(self) -> str:
        return to_cel(self.tree)

    def judge(self, result: Any) -> GateJudged:
        evaluation = Run(result)
        try:
            _check(self.tree, type_of(result))
            value = evaluation.of(self.tree)
        except NoData as e:
            return GateJudged(None, "no data", f"{self.text}: {e}")
        except ConditionError as e:
            if result is None or result == []:
                why = "there is no result" if result is None else "result is empty"
                return GateJudged(None, "no data", f"{self.text}: {why}")
            return GateJudged(None, "error", f"{self.text}: {e}")
        told = "; ".join(f"{name} is {fact}" for name, fact in evaluation.facts.items()) or f"result is {shown(result)}"
        if not isinstance(value, bool):
            return GateJudged(None, "error", f"{self.text}: gives {shown(value)}, which is neither true nor false")
        return GateJudged(value, "true" if value else "false", f"{self.text}: {told}")


@lru_cache(maxsize=4096)
def _check(tree: nodes.Node, result: Type) -> Type:
    return check(tree, result)


# ── in CEL ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class CelCondition:
    """In CEL, with functions of ours."""

    text: str
    paths: tuple[Path, ...]

    @property
    def cel(self) -> str:
        return self.text

    def judge(self, result: Any) -> GateJudged:
        if "{{" in self.text:
            return GateJudged(None, "error", f"{self.text}: its arguments were not filled in")
        value = run(self.text, {"result": result}, FUNCTIONS)
        missing = self._missing(result, isinstance(value, bool))
        if missing:
            return GateJudged(None, "no data", f"{self.text}: {missing}")
        told = facts_of(self.paths, {"result": result})
        if isinstance(value, bool):
            return GateJudged(value, "true" if value else "false", f"{self.text}: {told}")
        if isinstance(value, Exception):
            return GateJudged(None, "error", f"{self.text}: {_said(value)}; {told}")
        return GateJudged(None, "error", f"{self.text}: gives {shown(value)}, which is neither true nor false")

    def _missing(self, result: Any, decided: bool) -> str:
        """What is not there and matters. A guard that was written (size, default, isNaN) lets the rest decide."""
        words = {token.text for token in tokens_of(self.text)}
        if result is None:
            return "" if decided and words & {"default", "isNil", "null"} else "there is no result"
        if result == []:
            return "" if decided and "size" in words else "result is empty"
        if (where := self._nan(result)) and not (decided and ("isNaN" in words or not words & {"==", "=", "!=", "in"})):
            return f"{where} is NaN"
        return ""

    def _nan(self, result: Any) -> str:
        """Which value that the condition looks at is NaN."""
        for path in self.paths:
            looked_at, where = _at(path, result)
            values = looked_at if isinstance(looked_at, list) else [looked_at]
            if any(isinstance(value, float) and math.isnan(value) for value in values):
                return where
        return ""


def _at(path: Path, result: Any) -> tuple[Any, str]:
    """What stands at the path, as far as it leads."""
    if len(path) > 1 and isinstance(path[1], int) and isinstance(result, list) and path[1] < len(result):
        return result[path[1]], f"result[{path[1]}]"
    return result, "result"


def _said(error: Exception) -> str:
    if isinstance(error, TypeError):
        return "the types do not fit (a query gives a list: write result[0])"
    return str(error).partition("ValueError: ")[2] or str(error).partition(". Check")[0]


# ── before the first measurement ─────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def compile_gate_condition(text: str) -> GateCondition:
    """The condition, if a gate can use it. Raises ConditionError with a hint.

    Refused are unknown names, types that never fit the numbers that a query gives, and what is true, or false,
    whatever the result.
    """
    condition = read_gate_condition(text)
    if isinstance(condition, ExprCondition):
        _refuse_unfit(condition.tree)
    if "{{" not in text:
        _refuse_foregone(condition)
    return condition


@lru_cache(maxsize=1024)
def read_gate_condition(text: str) -> GateCondition:
    """The condition as it stands, whatever it may be worth, for any JSON result. Raises ConditionError."""
    tree = None
    try:
        tree = parse(text)
        _check(tree, ANY)
        return ExprCondition(text, tree)
    except ConditionError as e:
        if tree is not None and not isinstance(e, nodes.UnknownName):
            raise  # it is Argo's language, used wrongly
        refused = e
    try:
        return CelCondition(text, compile_expression(_filled(text), GATE_NAMES, FUNCTIONS))
    except ConditionError as e:
        cels = e
    raise cels if _looks_like_cel(text) else refused


def _filled(text: str) -> str:
    while "{{" in text and "}}" in (rest := text.partition("{{")[2]):
        text = f"{text.partition('{{')[0]}{_PLACEHOLDER}{rest.partition('}}')[2]}"
    return text


def _looks_like_cel(text: str) -> bool:
    words = {token.text for token in tokens_of(text)}
    return bool(words & {"size", "exists", "exists_one", "double", "has"})


def _refuse_unfit(tree: nodes.Node) -> None:
    """A query gives a number or a list of numbers: one of them must do."""
    refused: list[ConditionError] = []
    for result in (FLOATS, FLOAT):
        try:
            gives = check(tree, result)
        except ConditionError as e:
            refused.append(e)
            continue
        if gives.kind not in ("bool", "anything"):
            raise ConditionError(f"gives {gives}, which is neither true nor false", "compare it: … >= 0.99")
        return
    indexed = any(isinstance(node, nodes.Member | nodes.Closure) for node in tree.all())
    raise refused[0 if indexed else 1]


def _refuse_foregone(condition: GateCondition) -> None:
    kinds = set()
    for result in _samples(condition.text):
        kinds.add(condition.judge(result).kind)
        if {"true", "false"} <= kinds:
            return
    if "true" in kinds:
        raise ConditionError("this is true whatever the result is: it decides nothing", "compare result with a limit")
    if "false" in kinds and _is_simple(condition):
        raise ConditionError("this is false whatever the result is: it decides nothing", "compare result with a limit")
    if not kinds & {"true", "false"}:
        why = condition.judge([1.0]).why
        raise ConditionError(f"this can not be decided on numbers: {why.removeprefix(f'{condition.text}: ')}")


def _is_simple(condition: GateCondition) -> bool:
    """Are there only comparisons of one value with numbers, so that the samples leave nothing out?"""
    plain = (nodes.Literal, nodes.Name, nodes.Binary, nodes.Unary, nodes.Member)
    if not isinstance(condition, ExprCondition) or not all(isinstance(n, plain) for n in condition.tree.all()):
        return False
    return len({nodes.written(node) for node in condition.tree.all() if isinstance(node, nodes.Member)}) < 2


def _samples(text: str) -> Iterator[Any]:
    """Numbers on both sides of every one in the text, and far away; alone and in lists, also of special lengths."""
    numbers = {float(t.text) for t in tokens_of(text) if t.kind == "number" and _is_float(t.text)}
    near = sorted(
        {s * n + d for n in numbers for d in (0, -0.001, 0.001, -1, 1) for s in (1, -1)} | {0.0, 0.5, 1e9, -1e9}
    )
    special = [math.nan, math.inf, -math.inf]
    lengths = sorted({1, 2, 3} | {int(n) + d for n in numbers if 0 < n < 50 and n == int(n) for d in (0, 1)})
    for value in (*near, *special):
        yield [value]
        yield value
    for length in lengths[1:]:
        yield from ([value] * length for value in (*near, *special))
    pairs = itertools.islice(itertools.product([*near, math.nan], repeat=2), 400)
    yield from ([a, b, *[a] * (lengths[-1] - 2)] for a, b in pairs)
    yield from ([], None)


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# ── what charts and back tests read from it ──────────────────────────────────────────────────────────────────


_EACH = re.compile(r"result\.(?:all|exists)\((\w+), (.+)\)")  # in CEL
_GUARDS = frozenset({"isNaN", "isInf", "isNil", "len"})


def limit_of(text: str) -> tuple[str, float] | None:
    """The sign and the number of a comparison of one value with one number: `result[0] >= 0.99` → (">=", 0.99).

    None for anything else. A guard beside it (`isNaN(result) || …`) does not count, and `all(result, # < 3)` is `<`.
    """
    if each := _EACH.fullmatch(text.replace("size(", "len(").strip()):
        text = re.sub(rf"\b{each[1]}\b", "result", each[2])
    try:
        return _limit(parse(text.replace("size(", "len(")))
    except ConditionError:
        return None


def with_limit(text: str, number: float) -> str:
    """The same condition with another number in the place of the one that `limit_of` tells.

    Raises ConditionError if it tells none.
    """
    compared = limit_of(text)
    if compared and compared[1] == number:
        return text
    for changed in _with_each_number_changed(text, number) if compared else ():
        if compared and limit_of(changed) == (compared[0], number):
            return changed
    raise ConditionError("this is not one comparison with a number", "compare it: result[0] >= 0.99")


def _with_each_number_changed(text: str, number: float) -> Iterator[str]:
    """One after another, with its sign and without."""
    for token in tokens_of(text):
        if token.kind == "number":
            before, after = text[: token.start], text[token.start + len(token.text) :]
            for kept in dict.fromkeys((re.sub(r"-\s*$", "", before), before)):
                yield f"{kept}{number!r}{after}"


def _limit(node: nodes.Node) -> tuple[str, float] | None:
    if isinstance(node, nodes.Call) and node.name in ("all", "any"):
        return _limit(node.arguments[1])
    if isinstance(node, nodes.Closure):
        return _limit(node.body)
    if not isinstance(node, nodes.Binary):
        return None
    if node.sign in ("and", "or"):
        rest = [side for side in (node.left, node.right) if not _is_guard(side)]
        return _limit(rest[0]) if len(rest) == 1 else None
    if node.sign not in _FLIPPED:
        return None
    for side, other, sign in ((node.right, node.left, node.sign), (node.left, node.right, _FLIPPED[node.sign])):
        value = _constant(side)
        if value is not None and any(isinstance(part, nodes.Name | nodes.Item) for part in other.all()):
            counts = any(isinstance(part, nodes.Call) and part.name in ("len", "count") for part in other.all())
            return None if counts else (sign, value)
    return None


def _is_guard(node: nodes.Node) -> bool:
    """Does it ask whether there is a value, rather than what it is?"""
    return any(isinstance(part, nodes.Call) and part.name in _GUARDS for part in node.all())


def _constant(node: nodes.Node) -> float | None:
    if isinstance(node, nodes.Unary) and node.sign == "-":
        value = _constant(node.of)
        return None if value is None else -value
    if isinstance(node, nodes.Literal) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    return None
