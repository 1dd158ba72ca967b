"""PromQL's plain vector selector, `name{label="value",…}`: read, matched against series, and written again.

Only the selector: anything with a function, operator, range, offset or @ is an expression, which needs a Prometheus.
Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, cast

Operator = Literal["=", "!=", "=~", "!~"]

_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<name> [A-Za-z_:][A-Za-z0-9_:]* )
  | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | `[^`]*` )
  | (?P<op> =~ | !~ | != | = | [{},] )
    )\s*""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_NOT_RE2 = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:[=!]|<[=!])|\\[1-9])")
_NOT_PYTHON = re.compile(r"\[\[:|(?<!\\)(?:\\\\)*\\(?:[pPzCQ])")


class SelectorError(ValueError):
    """The text is no plain selector; the message says where it stops being one."""


@dataclass(frozen=True, slots=True)
class Matcher:
    label: str
    op: Operator
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """A label that is not there is an empty one, as in Prometheus."""
        actual = labels.get(self.label, "")
        if self.op in ("=", "!="):
            return (actual == self.value) is (self.op == "=")
        return (_regex(self.value).fullmatch(actual) is not None) is (self.op == "=~")

    def __str__(self) -> str:
        label = self.label if _LABEL.fullmatch(self.label) else _quoted(self.label)
        return f"{label}{self.op}{_quoted(self.value)}"


@dataclass(frozen=True)
class Selector:
    """A metric's name and what its labels must be. Its text and its hash are worked out once: each look of each window
    asks for the same ones."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        return name == self.name and all(matcher.matches(labels) for matcher in self.matchers)

    def with_suffix(self, suffix: str) -> Selector:
        """The same labels of another metric of the family: `_bucket`, `_count`, `_sum`."""
        return replace(self, name=self.name + suffix)

    def with_matcher(self, label: str, op: Operator, value: str) -> Selector:
        """One matcher more. Raises SelectorError if `value` is a regular expression that is none."""
        if op in ("=~", "!~"):
            _regex(value)
        return replace(self, matchers=(*self.matchers, Matcher(label, op, value)))

    def __str__(self) -> str:
        return self._text

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.matchers))

    @cached_property
    def _text(self) -> str:
        inside = [str(matcher) for matcher in self.matchers]
        if not _NAME.fullmatch(self.name):
            return f"{{{','.join([_quoted(self.name), *inside])}}}"
        return f"{self.name}{{{','.join(inside)}}}" if inside else self.name


def parse(text: str) -> Selector:
    """The selector that the text is. Raises SelectorError for anything else."""
    tokens = list(_tokens(text))
    name = ""
    if tokens and tokens[0][0] == "name":
        name = tokens.pop(0)[1]
        if name.lower() in ("inf", "nan"):
            raise SelectorError(f"{name} is a number, not a metric")
    matchers: list[Matcher] = []
    if tokens:
        inner, matchers = _braces(tokens, text)
        if name and inner:
            raise SelectorError(f"{text!r} names two metrics, {name} and {inner}")
        name = name or inner
    for i, matcher in enumerate(matchers):
        if matcher.label == "__name__" and matcher.op == "=" and not name:
            name = matcher.value
            del matchers[i]
            break
    if not name or any(matcher.label == "__name__" for matcher in matchers):
        raise SelectorError(f"{text!r} does not name one metric")
    return Selector(name, tuple(matchers))


def is_plain(text: str) -> bool:
    """Is the text a plain selector (and not an expression, which needs a Prometheus)?"""
    try:
        parse(text)
    except SelectorError:
        return False
    return True


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            if not text[at:].strip():
                return
            raise SelectorError(f"{text!r} is not a plain selector (from column {at + 1}: {text[at : at + 20]!r})")
        yield str(match.lastgroup), match.group(str(match.lastgroup))
        at = match.end()


def _braces(tokens: list[tuple[str, str]], text: str) -> tuple[str, list[Matcher]]:
    """The quoted metric name inside (Prometheus 3), if any, and the matchers of `{…}`."""
    words = [word for _, word in tokens]
    if words[0] != "{" or words[-1] != "}" or len(words) == 1:
        raise SelectorError(f'{text!r} is not a plain selector, which is name{{label="value"}}')
    name, matchers, inside = "", [], tokens[1:-1]
    while inside:
        kind, word = inside[0]
        if kind == "string" and (len(inside) == 1 or inside[1][1] == ",") and not name:
            name, used = _unquoted(word), 1
        elif len(inside) >= 3 and kind != "op" and inside[1][1] in ("=", "!=", "=~", "!~") and inside[2][0] == "string":
            matchers.append(_matcher(kind, word, cast(Operator, inside[1][1]), _unquoted(inside[2][1])))
            used = 3
        else:
            raise SelectorError(f'{text!r} is not a plain selector (at {word!r}; labels are written as label="value")')
        inside = inside[used:]
        if inside and inside[0][1] != ",":
            raise SelectorError(f"{text!r} lacks a comma before {inside[0][1]!r}")
        inside = inside[1:]
    return name, matchers


def _matcher(kind: str, word: str, op: Operator, value: str) -> Matcher:
    label = _unquoted(word) if kind == "string" else word
    if kind == "name" and not _LABEL.fullmatch(word):
        raise SelectorError(f"{word!r} is not a label's name")
    if op in ("=~", "!~"):
        _regex(value)
    return Matcher(label, op, value)


@lru_cache(maxsize=512)
def _regex(pattern: str) -> re.Pattern[str]:
    """Prometheus' regular expressions are RE2, anchored at both ends, with `.` matching line breaks too."""
    if _NOT_RE2.search(pattern):
        raise SelectorError(f"{pattern!r}: look-around and back-references do not exist in Prometheus' RE2")
    if _NOT_PYTHON.search(pattern):
        raise SelectorError(f"{pattern!r}: write character classes out, as in [a-z0-9]")
    try:
        return re.compile(f"(?s:{pattern})", re.ASCII)
    except re.error as e:
        raise SelectorError(f"{pattern!r} is not a regular expression: {e}") from None


def _unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]

    def character(match: re.Match[str]) -> str:
        byte, short, long, octal, plain = match.groups()
        if byte or short or long:
            return chr(int(byte or short or long, 16))
        if octal:
            return chr(int(octal, 8))
        if plain == text[0]:
            return plain
        if plain in _PLAIN_ESCAPES:
            return _PLAIN_ESCAPES[plain]
        raise SelectorError(f"{text}: \\{plain} is not an escape")

    try:
        return _ESCAPE.sub(character, text[1:-1])
    except (ValueError, OverflowError):
        raise SelectorError(f"{text} holds a character that does not exist") from None


def _quoted(text: str) -> str:
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, escape)
    return f'"{text}"'
