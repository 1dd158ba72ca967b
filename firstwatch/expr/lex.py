"""The words of a condition in Argo's language, as the lexer of expr-lang/expr 1.17 finds them."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from firstwatch.expr.tree import ExprError

OPERATOR_WORDS = frozenset(
    {"not", "in", "or", "and", "matches", "contains", "startsWith", "endsWith", "let", "if", "else"}
)
_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | //[^\n]* | /\*.*?\*/ )
  | (?P<argument> \{\{ [^{}]* \}\} )
  | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
  | (?P<raw> `(?:``|[^`])*` )
  | (?P<number> 0[xX][0-9a-fA-F_]+ | 0[oO][0-7_]+ | 0[bB][01_]+
              | (?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)? )
  | (?P<name> [^\W\d]\w* | \$\w* )
  | (?P<operator> \?\.|\?\?|\|\||&&|==|!=|<=|>=|\*\*|\.\.|::|[-+*/%^<>!?:;,.|=#] )
  | (?P<bracket> [][(){}] )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}")


class Token(NamedTuple):
    kind: str  # argument, string, number, name, operator, bracket or end
    text: str
    at: int  # column, from 1

    def is_(self, *texts: str) -> bool:
        return self.kind in ("operator", "bracket") and self.text in texts


def tokens_of(text: str) -> list[Token]:
    """The words, with an `end` after them. Strings are given without quotes. Raises ExprError."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text, at)
        kind, word = str(match.lastgroup), match.group()
        if kind == "number" and text[match.end() : match.end() + 1].isalnum():
            raise ExprError(f"{word}{text[match.end()]}… is no number", "", at + 1)
        if kind == "string":
            found.append(Token("string", _unquoted(word, at), at + 1))
        elif kind == "raw":
            found.append(Token("string", word[1:-1].replace("``", "`"), at + 1))
        elif kind == "name" and word in OPERATOR_WORDS:
            found.append(Token("operator", word, at + 1))
        elif kind != "space":
            found.append(Token(kind, word, at + 1))
        at = match.end()
    return [*found, Token("end", "the end", len(text) + 1)]


def _unreadable(text: str, at: int) -> ExprError:
    if text[at] in "\"'`":
        return ExprError("a text is not closed", f"close it with {text[at]}", at + 1)
    hint = "use && or and" if text[at] == "&" else ""
    return ExprError(f"{text[at]} cannot be read here", hint, at + 1)


def _unquoted(word: str, at: int) -> str:
    """Go's escapes are Python's, but for \\u{…}."""
    try:
        value = ast.literal_eval(_ESCAPE.sub(lambda m: f"\\U{int(m[1], 16):08x}", word))
    except (SyntaxError, ValueError):
        raise ExprError(f"{word} has an escape that is none", "write a backslash as \\\\", at + 1) from None
    return str(value)
