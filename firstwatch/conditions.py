"""Conditions: CEL expressions that hold, or say why they do not.

Fail-closed: a missing value, a missing key, a wrong type, NaN, a number that CEL would round, or a result that is
not true or false means *not held*. What can be known without an answer (unknown names, a condition that can never
fail) is found by `compile_condition`, before the first byte is sent.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from firstwatch.cel_facts import Found, cut, find, leaves, show
from firstwatch.cel_facts import facts_of as facts_of
from firstwatch.cel_functions import FUNCTIONS
from firstwatch.cel_text import Path, Token, bound_names, paths_in, paths_of_all, show_path, tokens_of

# `import cel` would load its own command line too (rich, typer, prompt_toolkit: 0.3 s); a stand-in keeps it out.
_stand_in = sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
import cel  # noqa: E402

if not _stand_in.__doc__ and not hasattr(_stand_in, "__file__"):
    del sys.modules["cel.cli"]
logging.getLogger("cel").setLevel(logging.CRITICAL)  # what it warns of it raises too; the values are no log's business

HTTP_NAMES = frozenset({"status", "headers", "json", "text", "elapsed"})
"""Of an answer: status (number), headers (lower-case names), json, text, elapsed (seconds)."""
QUERY_NAMES = frozenset({"value"})
"""Of a window's query: its value (number)."""
GATE_NAMES = frozenset({"result"})
"""Of a canary metric's query: a number, or the list of all its numbers. Only firstwatch.expr gives it functions."""

_TYPES = frozenset(
    {"bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "string", "timestamp", "type", "uint"}
)
_FUNCTIONS = frozenset(
    {"contains", "endsWith", "matches", "size", "startsWith", "type", "int", "uint", "double", "string", "bytes", "dyn"}
)
_TIME_FUNCTIONS = frozenset(
    {
        "timestamp", "duration", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
        "getHours", "getMinutes", "getSeconds", "getMilliseconds",
    }
)  # fmt: skip
_MACROS = ("has", "all", "exists", "exists_one", "map", "filter")
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "status": int, "elapsed": (int, float), "value": (int, float), "headers": dict, "text": str,
}  # fmt: skip
_NUMBERS = frozenset({"status", "elapsed", "value"})
_INSTEAD = {
    "response": "an answer's values stand alone: status, headers, json, text, elapsed",
    "body": "write json for a parsed body, text for the body as it is",
    "code": "write status",
    "time": "write elapsed (seconds)", "duration_ms": "write elapsed (seconds)",
    "not": "write !(…)", "len": "write size(…)",
    "True": "write true", "False": "write false", "None": "write null",
}  # fmt: skip
_INT64 = range(-(2**63), 2**63)


class ConditionError(ValueError):
    """The text is no usable condition; `hint` says what to write, `column` (from 1) where it is wrong if known."""

    def __init__(self, message: str, hint: str = "", column: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.column = column


class Judged(NamedTuple):
    """Did the condition hold, and with which actual values."""

    held: bool
    why: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was found usable. `paths` are the values it looks at, e.g. ("json", "status")."""

    text: str
    paths: tuple[Path, ...]

    def holds(self, values: Mapping[str, Any]) -> Judged:
        """Judge the values of one answer. A body that is no JSON is told by leaving out `json`."""
        try:
            result = _execute(self.text, self.paths, values)
        except ConditionError as e:
            return Judged(False, f"{self.text}: {e}")
        facts = facts_of(self.paths, values)
        if result is True and (empty := _all_of_nothing(self.text, values)):
            return Judged(False, f"{self.text}: {empty} is empty, so all() of it proves nothing")
        if not isinstance(result, bool):
            return Judged(False, f"{self.text}: gives {show(result)}, which is neither true nor false; {facts}")
        return Judged(result, f"{self.text}: {facts}")


# ── before the first byte ────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)  # the file is checked with it, and each check is judged with it
def compile_condition(text: str, names: frozenset[str]) -> Condition:
    """The condition, if it can be one. Raises ConditionError with a hint.

    `names` are the values it may look at: HTTP_NAMES or QUERY_NAMES.
    """
    paths = compile_expression(text, names)
    if not paths or run(text, {}) is True:
        raise ConditionError("this condition can never fail", f"compare something of {_listed(names)}")
    _refuse_nan(text, {path[0] for path in paths})
    _refuse_foregone(text, paths)
    return Condition(text, paths)


def compile_expression(text: str, names: frozenset[str], functions: Iterable[str] = FUNCTIONS) -> tuple[Path, ...]:
    """The paths that a CEL expression looks at. Raises ConditionError for bad syntax and unknown names.

    `functions` are those that it may call besides CEL's own.
    """
    program = _program(text)
    tokens = tokens_of(text)
    bound = bound_names(tokens)
    for name in sorted(bound & names):
        raise ConditionError(
            f"{name} is used as a variable of all, exists, map or filter", "give that variable another name"
        )
    for name in program.variables():
        if name not in names | bound | _TYPES:
            raise ConditionError(f"unknown name {name}", _hint_for(name, names), _column(tokens, name))
    for name in program.functions():
        if name.isidentifier() and name not in _FUNCTIONS | _TIME_FUNCTIONS | {*functions}:
            known = {*_FUNCTIONS, *functions}
            hint = _INSTEAD.get(name) or _closest(name, known) or f"functions here: {_listed({*_MACROS, *known})}"
            raise ConditionError(f"unknown function {name}()", hint, _column(tokens, name))
    _refuse_bad_patterns(tokens)
    paths = paths_in(tokens, names)
    for root, key in (path[:2] for path in paths if len(path) > 1):
        if root == "headers" and (lower := str(key).lower()) != str(key):
            raise ConditionError(f"header names are lower-case here: {key} is never found", f'write headers["{lower}"]')
    return paths


def evaluate(text: str, values: Mapping[str, Any]) -> Any:
    """The value of an expression such as `json.version`. Raises ConditionError if there is none."""
    paths = compile_expression(text, frozenset(values) | HTTP_NAMES)
    try:
        return _execute(text, paths, values)
    except ConditionError as e:
        raise ConditionError(f"{text}: {e}", e.hint) from None


@lru_cache(maxsize=1024)
def _program(text: str) -> cel.Program:
    try:
        return cel.compile(text)
    except BaseException as e:
        _reraise_if_not_cels(e)
        raise _syntax_error(text, str(e)) from None


def _syntax_error(text: str, message: str) -> ConditionError:
    first = message.partition("ERROR: <input>:")[2].partition("\n")[0]
    place, _, said = first.partition(": ")
    column = int(place.rpartition(":")[2]) if place.rpartition(":")[2].isdigit() else None
    said = said.removeprefix("Syntax error: ").partition(" expecting ")[0].replace("'<EOF>'", "the end")
    for wrong, right in (("=", "=="), ("and", "&&"), ("or", "||"), ("not", "!"), ("&", "&&"), ("|", "||")):
        if _stands_alone(tokens_of(text), wrong):
            hint = f"use {right}"
            break
    else:
        hint = 'conditions are CEL, for example status == 200 or json.status == "ok"'
        if text.count('"') % 2:
            hint = "a list of conditions was cut at a comma or bracket: put this condition in quotes"
    if not text.strip():
        return ConditionError("an empty condition", hint)
    where = f" (column {column})" if column else ""
    return ConditionError(f"not a condition{where}: {said or 'cannot be read'}", hint, column)


def _stands_alone(tokens: list[Token], sign: str) -> bool:
    """Is there a `sign` that is not half of ==, !=, <=, >=, && or ||?"""
    joined = "=!<>&|"
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if token.text == sign and token.kind != "string":
            neighbours = [n for n in (before, after) if n and n.text in joined and _touch(n, token)]
            if sign.isalpha() or not neighbours:
                return True
    return False


def _touch(a: Token, b: Token) -> bool:
    return a.start + len(a.text) == b.start or b.start + len(b.text) == a.start


def _refuse_bad_patterns(tokens: list[Token]) -> None:
    for name, paren, pattern in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if name.text == "matches" and paren.text == "(" and pattern.kind == "string":
            said = run(f'"".matches({pattern.text})', {})
            if isinstance(said, Exception):
                raise ConditionError(f"{pattern.text} is not a regular expression", "RE2 syntax", pattern.start + 1)


def _refuse_nan(text: str, names: set[str | int]) -> None:
    """0.0 / 0.0 is NaN, and NaN != anything: a negated comparison of it would hold."""
    makes_nan = {"_/_", "double"} & set(_program(text).functions())
    if makes_nan and names != {"status"} and any(t.kind == "op" and t.text in "!?" for t in tokens_of(text)):
        raise ConditionError(
            "a division or double() can give NaN, of which every `!=` holds", "compare with <, <=, >, >= or == only"
        )


def _refuse_foregone(text: str, paths: tuple[Path, ...]) -> None:
    """Refuse what is no yes or no, and, where only numbers are looked at, what holds for every or for no status."""
    names = {str(path[0]) for path in paths}
    samples = _samples(text, names) if names <= _NUMBERS else iter([_blank(paths)])
    results = []
    for values in samples:
        result = run(text, values)
        if not isinstance(result, bool | BaseException):
            raise ConditionError(f"gives {show(result)}, which is neither true nor false", f"compare it: {text} == …")
        results.append(result)
    if names <= _NUMBERS and all(result is True for result in results):
        raise ConditionError("this condition can never fail", f"it holds for every {' and '.join(sorted(names))}")
    if names == {"status"} and not any(result is True for result in results):
        raise ConditionError("this condition can never hold", "status is a whole number from 100 to 599")


def _samples(text: str, names: set[str]) -> Iterator[dict[str, float]]:
    """Values on both sides of every number in the text, and far away from them all."""
    numbers = {float(t.text.rstrip("uU")) for t in tokens_of(text) if t.kind == "number" and _is_float(t.text)}
    near = {n + d for n in numbers for d in (-1, -0.001, 0, 0.001, 1)} | {0.0, 1e-6, 1e9, 1e15}
    ranges: dict[str, Iterable[float]] = {
        "status": range(100, 600) if len(names) == 1 else sorted({int(n) for n in near if 100 <= n < 600} | {100, 599}),
        "elapsed": sorted(n for n in near if n >= 0),
        "value": sorted(near | {-n for n in near}),
    }
    ordered = sorted(names)
    for combination in itertools.islice(itertools.product(*(ranges[name] for name in ordered)), 5000):
        yield dict(zip(ordered, combination, strict=True))


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text.rstrip("uU")))
    except ValueError:
        return False


def _blank(paths: tuple[Path, ...]) -> dict[str, Any]:
    headers = {str(path[1]): "" for path in paths if path[0] == "headers" and len(path) > 1}
    return {"status": 200, "elapsed": 0.1, "value": 1.0, "text": "", "json": {}, "headers": headers}


# ── with an answer ───────────────────────────────────────────────────────────────────────────────────────────


def _execute(text: str, paths: tuple[Path, ...], values: Mapping[str, Any]) -> Any:
    """The expression's value. Raises ConditionError with the actual values if it has none that can be trusted."""
    for name in sorted({str(path[0]) for path in paths}):
        _refuse_value(name, values)
    for path in paths:
        found = find(path, values)
        if isinstance(found, Found) and (where := _out_of_range(found.value)) is not None:
            raise ConditionError(f"{show_path(path)}{where} is a whole number beyond 64 bits, which CEL would round")
    names = {str(path[0]) for path in paths}
    result = run(text, {name: values[name] for name in names & values.keys()})
    if not isinstance(result, BaseException):
        return result
    if names - values.keys():
        raise ConditionError("the answer is not JSON")
    facts = facts_of(paths, values)
    if isinstance(result, KeyError | IndexError):
        missing = f"there is no {result.args[0]}" if isinstance(result, KeyError) else str(result)
        told = any(not isinstance(find(path, values), Found) for path in paths)
        raise ConditionError(facts if told else f"{missing}; {facts}")
    if isinstance(result, TypeError):
        raise ConditionError(f"the types do not fit: {facts_of(paths, values, kinds=True)}")
    raise ConditionError(f"{cut(_said(result))}; {facts}")


_OURS = re.compile(r"Function '(\w+)' error: Python function call failed: ValueError: ")


def _said(e: BaseException) -> str:
    return _OURS.sub(r"\1(): ", str(e)).partition(". Check")[0]


def _refuse_value(name: str, values: Mapping[str, Any]) -> None:
    if name not in values:
        if name == "json":
            return  # `status == 204 || json.ok` is proven without; whatever hangs on it finds that it is not there
        raise ConditionError(f"there is no {name}")
    value = values[name]
    if name in _KINDS and (not isinstance(value, _KINDS[name]) or isinstance(value, bool)):
        raise ConditionError(f"there is no {name} to compare, only {show(value)}")
    for where, leaf in leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise ConditionError(f"{name}{where} is {leaf}, which proves nothing")


def _out_of_range(value: Any) -> str | None:
    return next((w for w, leaf in leaves(value) if isinstance(leaf, int) and leaf not in _INT64), None)


def _all_of_nothing(text: str, values: Mapping[str, Any]) -> str:
    """The empty list that the condition asks all() of, unless it speaks of size() too and so has thought of it."""
    tokens = tokens_of(text)
    if any(token.text == "size" for token in tokens):
        return ""
    found = ((path, find(path, values)) for path in paths_of_all(tokens, frozenset(values)))
    return next((show_path(path) for path, at in found if isinstance(at, Found) and at.value in ([], {})), "")


def run(text: str, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] = FUNCTIONS) -> Any:
    """The result, or the exception that CEL raised (returned, not raised). `functions` are ours besides CEL's own."""
    try:
        return _program(text).execute(cel.Context(dict(values), dict(functions)))
    except BaseException as e:
        _reraise_if_not_cels(e)
        return e


def _reraise_if_not_cels(e: BaseException) -> None:
    """A panic in CEL's Rust code is a BaseException of its own; it must not take the flow run down."""
    if not isinstance(e, Exception) and type(e).__name__ != "PanicException":
        raise e


def _hint_for(name: str, names: frozenset[str]) -> str:
    if name in _INSTEAD and (names >= HTTP_NAMES or name.istitle()):
        return _INSTEAD[name]
    return _closest(name, names) or f"names here: {_listed(names)}"


def _closest(name: str, known: Iterable[str]) -> str:
    lower = {word.lower(): word for word in known}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.7)
    return f"did you mean {lower[close[0]]}?" if close else ""


def _column(tokens: list[Token], name: str) -> int | None:
    return next((token.start + 1 for token in tokens if token.kind == "name" and token.text == name), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
