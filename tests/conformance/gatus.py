"""Gatus' conditions, translated into ours: `translate("[BODY].status == UP")` is `as_text(json.status) == "UP"`.

The translation is exact: it decides as Gatus does wherever that is a decision about what was observed. People would
write the shorter conditions of docs/monitoring-gatus.md. What Gatus reads and we refuse is refused here by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from firstwatch.conditions import HTTP_NAMES
from tests.conformance.gatus_literals import (
    DURATION,
    INTEGER,
    Refused,
    glob,
    number,
    quoted,
    spellings,
    whole,
)

NAMES = HTTP_NAMES | {"ip", "connected", "dns_rcode", "certificate_expires_in", "domain_expires_in", "saved"}
"""Besides an answer's: what other checks of ours look at (seconds), and what a journey has saved."""


class Kind(Enum):
    NUMBER = "number"
    SECONDS = "seconds"
    FLAG = "true or false"
    WORD = "word"  # text that never is a number
    TEXT = "text"
    VALUE = "value of unknown type"


class Literal(NamedTuple):
    text: str


class Glob(NamedTuple):
    pattern: str


class AnyOf(NamedTuple):
    options: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """Something that was observed. `guard` is what must hold for a FLAG that is false to be one."""

    cel: str
    kind: Kind
    guard: str = ""
    steps: tuple[str | int, ...] | None = None  # where a VALUE or FLAG lies in the body, or in what was saved

    @property
    def value(self) -> str:
        """In Gatus' unit: times are whole milliseconds."""
        return f"int({self.cel} * 1000.0 + 0.001)" if self.kind is Kind.SECONDS else self.cel

    @property
    def text(self) -> str:
        if self.kind in (Kind.WORD, Kind.TEXT):
            return self.cel
        return f"{'string' if self.kind in (Kind.NUMBER, Kind.SECONDS) else 'as_text'}({self.value})"

    @property
    def number(self) -> str:
        """The number rule; a text may be a duration."""
        if self.kind in (Kind.FLAG, Kind.WORD):
            raise Refused("no number", f"{self.cel} is no number")
        if self.kind in (Kind.NUMBER, Kind.SECONDS):
            return self.value
        is_duration = f"{self.text}.matches({quoted(DURATION)})"
        return f"({is_duration} ? duration({self.text}).getMilliseconds() : as_number({self.cel}))"


Side = Literal | Glob | AnyOf | Term


# ── a condition ──────────────────────────────────────────────────────────────────────────────────────────────

_OPERATORS = ("==", "!=", "<=", ">=", ">", "<")  # in the order in which Gatus looks for them


def translate(condition: str, *, context: bool = False) -> str:
    """The condition in CEL over NAMES; `context` says whether it stands in a suite, which has a [CONTEXT].

    Raises Refused for one that does not compare what was observed.
    """
    left, operator, right = parts(condition)
    sides = side(left, context=context), side(right, context=context)
    if not any(isinstance(each, Term) for each in sides):
        raise Refused("constant", f"{condition} looks at nothing of the answer")
    if operator in ("==", "!="):
        return _equality(*sides, equal=operator == "==")
    return _order(*sides, operator)


def parts(condition: str) -> tuple[str, str, str]:
    operator = next((each for each in _OPERATORS if f" {each} " in condition), None)
    if operator is None:
        raise Refused("not a condition", f"{condition} has no comparison with a space on each side")
    parts = [part.strip() for part in condition.split(f" {operator} ")]
    for part in parts:
        if not _inside("pat", part) and re.search(r"(^| )(==|!=|<=|>=|<|>|&&|\|\|)( |$)", part):
            raise Refused("several comparisons", f"{condition} compares more than once; write two conditions")
    if len(parts) > 2:
        raise Refused("several comparisons", f"of {condition}, Gatus compares the first two parts only")
    return parts[0], operator, parts[1]


def _equality(left: Side, right: Side, *, equal: bool) -> str:
    if isinstance(left, Term) and isinstance(right, Term):
        guards = [each.guard for each in (left, right) if each.guard]
        return " && ".join([*guards, _signed(f"({_same(left, right)})" if guards else _same(left, right), equal)])
    term, other = (left, right) if isinstance(left, Term) else (right, left)
    assert isinstance(term, Term)
    match other:
        case Glob(pattern):
            if not pattern.strip("*") and term.kind is not Kind.VALUE:
                raise Refused("constant", f"pat({pattern}) is like everything")
            return _signed(f"{term.text}.matches({quoted(glob(pattern))})", equal)
        case AnyOf(options):
            return _signed(_one_of(term, options), equal)
        case Literal(text):
            return _is(term, text, equal)
    raise AssertionError(other)


def _signed(cel: str, equal: bool) -> str:
    return cel if equal else f"!({cel})"


def _same(a: Term, b: Term) -> str:
    numbers = (Kind.NUMBER, Kind.SECONDS)
    if a.kind in numbers and b.kind in numbers:
        return f"{a.value} == {b.value}"
    integers = " && ".join(f"{each.text}.matches({quoted(INTEGER)})" for each in (a, b))
    return f"{a.text} == {b.text} || ({integers} && as_number({a.text}) == as_number({b.text}))"


def _one_of(term: Term, options: tuple[str, ...]) -> str:
    if term.kind is Kind.NUMBER and all(str(whole(option)) == option for option in options):
        return f"{term.cel} in [{', '.join(options)}]"
    return f"{term.text} in [{', '.join(map(quoted, options))}]"


def _is(term: Term, text: str, equal: bool) -> str:
    n = whole(text)
    if term.kind is Kind.FLAG and text in ("true", "false"):
        holds = (text == "true") is equal
        return term.cel if holds else " && ".join(filter(None, (term.guard, f"!({term.cel})")))
    if term.kind in (Kind.NUMBER, Kind.SECONDS) and n is not None:
        return f"{term.value} {'==' if equal else '!='} {n}"
    if term.kind in (Kind.NUMBER, Kind.SECONDS, Kind.FLAG) and not equal:
        raise Refused("constant", f"{term.cel} is never {text or 'nothing'}, so this can never fail")
    if n is None or term.kind in (Kind.NUMBER, Kind.SECONDS, Kind.FLAG, Kind.WORD):
        return _signed(f"{term.text} == {quoted(text)}", equal)
    return _signed(f"{term.text}.matches({quoted(spellings(n))})", equal)


def _order(left: Side, right: Side, operator: str) -> str:
    kinds = [each.kind for each in (left, right) if isinstance(each, Term)]
    seconds = kinds == [Kind.SECONDS]  # against a literal: in our own unit
    return f"{_number(left, seconds)} {operator} {_number(right, seconds)}"


def _number(given: Side, seconds: bool) -> str:
    match given:
        case Literal(text):
            value = number(text) / 1000 if seconds else number(text)
            return str(int(value)) if value == int(value) else repr(float(value))
        case Term():
            return given.cel if seconds else given.number
    raise Refused("no number", "pat(…) and any(…) are compared with == and != only")


# ── one side ─────────────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = {
    "[STATUS]": Term("status", Kind.NUMBER),
    "[IP]": Term("ip", Kind.WORD),
    "[RESPONSE_TIME]": Term("elapsed", Kind.SECONDS),
    "[DNS_RCODE]": Term("dns_rcode", Kind.WORD),
    "[CONNECTED]": Term("connected", Kind.FLAG),
    "[CERTIFICATE_EXPIRATION]": Term("certificate_expires_in", Kind.SECONDS),
    "[DOMAIN_EXPIRATION]": Term("domain_expires_in", Kind.SECONDS),
    "[BODY]": Term("text.trim()", Kind.TEXT),
}
_ANY_PLACEHOLDER = re.compile(rf"{'|'.join(re.escape(name) for name in (*_PLAIN, '[CONTEXT]'))}", re.IGNORECASE)


def side(text: str, *, context: bool) -> Side:
    """What one side of a comparison is. Raises Refused for a placeholder or a function that is none."""
    if (inner := _inside("pat", text)) is not None:
        return Glob(inner)
    if (inner := _inside("any", text)) is not None:
        return AnyOf(tuple(option.strip() for option in inner.split(",")))
    if (inner := _inside("has", text)) is not None:
        return _has(inner, context=context)
    if (inner := _inside("len", text)) is not None:
        return _length(inner, context=context)
    if found := _placeholder(text, context=context):
        return found
    if _ANY_PLACEHOLDER.search(text) or re.match(r"\[[A-Za-z][A-Za-z_]*\]|(len|has|pat|any)\(", text):
        raise Refused("unknown placeholder", f"{text} is no placeholder or function, so it stands for itself")
    return Literal(text)


def _inside(function: str, text: str) -> str | None:
    if text.startswith(f"{function}(") and text.endswith(")"):
        return text[len(function) + 1 : -1]
    return None


def _placeholder(text: str, *, context: bool) -> Term | None:
    """The term; None for what is no placeholder."""
    if plain := _PLAIN.get(text.upper()):
        return plain
    if (steps := _steps(text, context=context)) is None:
        return None
    root = _root(text)
    return Term(_chain(root, steps), Kind.VALUE, steps=steps)


def _root(text: str) -> str:
    return "json" if text.upper().startswith("[BODY]") else "saved"


def _steps(text: str, *, context: bool) -> tuple[str | int, ...] | None:
    """The way to a value: ("users", 0, "name") for [BODY].users[0].name. None for what is no path."""
    found = re.match(r"\[BODY\](?=[.\[])|\[CONTEXT\](?=[.\[]|$)", text, re.IGNORECASE)
    if not found or (_root(text) == "saved" and not context):
        return None
    steps: list[str | int] = []
    for key in re.split(r"\.(?![^\[]*\])", text[found.end() :].removeprefix(".")):
        name, indexed, indexes = key.partition("[")
        steps += [name] if name else []
        if (indexed and not re.fullmatch(r"(\d+\]\[)*\d+\]", indexes)) or not (name or indexed):
            raise Refused("index", f"{text} names no place: an index is a whole number from 0")
        if indexed and _root(text) == "saved":
            raise Refused("index", f"{text}: Gatus finds no index in what was saved")
        steps += [int(index) for index in re.findall(r"\d+", indexes)]
    return tuple(steps)


_RESERVED = (
    r"as|break|const|continue|else|false|for|function|if|import|in|let|loop|package|namespace|null|return|true|var|void"
    r"|while"
)


def _member(of: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{of}[{step}]"
    plain = re.fullmatch(rf"(?!({_RESERVED})$)[A-Za-z_][A-Za-z0-9_]*", step)
    return f"{of}.{step}" if plain else f"{of}[{quoted(step)}]"


def _chain(root: str, steps: tuple[str | int, ...]) -> str:
    for step in steps:
        root = _member(root, step)
    return root


def _has(inner: str, *, context: bool) -> Term:
    """Is there a value, and is it not null? A way that ends early has none, but what it starts from must be there."""
    plain = _PLAIN.get(inner.upper())
    if plain:
        return Term("true" if plain.kind not in (Kind.WORD, Kind.TEXT) else f'{plain.cel} != ""', Kind.FLAG)
    steps = _steps(inner, context=context)
    if not steps:
        return Term("false", Kind.FLAG)
    at, ways = _root(inner), []
    for step in steps:
        there = f"size({at}) > {step}" if isinstance(step, int) else f"{quoted(step)} in {at}"
        ways.append((f"type({at}) == {'list' if isinstance(step, int) else 'map'}", there))
        at = _member(at, step)
    whole_way = " && ".join(part for way in ways for part in way)
    return Term(f"{whole_way} && {at} != null", Kind.FLAG, guard=ways[0][0], steps=steps)


def _length(inner: str, *, context: bool) -> Term:
    """Items of a list; of anything else, the bytes of its text. An object that was saved has its keys counted."""
    term = _placeholder(inner, context=context)
    if term is None:
        raise Refused("unknown placeholder", f"len({inner}) has nothing to measure")
    if inner.upper() == "[BODY]":
        return Term('(text.matches("(?s)^\\\\[.*\\\\]$") ? size(json) : size(bytes(text)))', Kind.NUMBER)
    if term.kind is not Kind.VALUE:
        return Term(f"size({term.text})", Kind.NUMBER)
    counted = f"type({term.cel}) == list" + (f" || type({term.cel}) == map" if _root(inner) == "saved" else "")
    return Term(f"({counted} ? size({term.cel}) : size(bytes({term.text})))", Kind.NUMBER, steps=term.steps)
