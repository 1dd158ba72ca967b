"""Reading a CEL condition as text: its tokens, and the paths into the answer that it looks at.

The library compiles and runs conditions but does not show their structure, and a `why` that names the actual values
needs it. Anything that is not a plain path ends it early, so that a path never claims more than is there.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

Path = tuple[str | int, ...]
"""The way to a value: ("json", "items", 0, "name")."""

_TOKEN = re.compile(
    r"""
    (?P<string> [rRbB]{0,2} (?: \"\"\".*?\"\"\" | '''.*?''' | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
  | (?P<comment> //[^\n]* )
  | (?P<number> 0[xX][0-9a-fA-F]+[uU]? | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[uU]? )
  | (?P<name> [A-Za-z_]\w* )
  | (?P<space> \s+ )
  | (?P<op> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BINDERS = frozenset({"all", "exists", "exists_one", "map", "filter"})


class Token(NamedTuple):
    kind: str  # string, number, name or op
    text: str
    start: int


def tokens_of(text: str) -> list[Token]:
    found = (Token(str(m.lastgroup), m.group(), m.start()) for m in _TOKEN.finditer(text))
    return [token for token in found if token.kind not in ("space", "comment")]


def bound_names(tokens: list[Token]) -> frozenset[str]:
    """The `x` of `json.items.all(x, x.price > 0)`."""
    return frozenset(
        name.text
        for binder, paren, name in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if binder.text in _BINDERS and paren.text == "(" and name.kind == "name"
    )


def paths_in(tokens: list[Token], names: frozenset[str]) -> tuple[Path, ...]:
    """The paths that start with one of `names`, in order, each once."""
    return tuple(dict.fromkeys(path for path, _ in _spans(tokens, names)))


def paths_of_all(tokens: list[Token], names: frozenset[str]) -> tuple[Path, ...]:
    """The lists that the condition asks `all(…)` of."""
    ends = [(path, [token.text for token in tokens[end : end + 3]]) for path, end in _spans(tokens, names)]
    return tuple(path for path, following in ends if following == [".", "all", "("])


def _spans(tokens: list[Token], names: frozenset[str]) -> list[tuple[Path, int]]:
    """Each path with the number of the token that follows it."""
    return [
        _path_at(tokens, i)
        for i, token in enumerate(tokens)
        if token.kind == "name" and token.text in names and (i == 0 or tokens[i - 1].text != ".")
    ]


def _path_at(tokens: list[Token], at: int) -> tuple[Path, int]:
    path: list[str | int] = [tokens[at].text]
    at += 1
    while len(rest := tokens[at : at + 3]) >= 2:
        if rest[0].text == "." and rest[1].kind == "name" and not (len(rest) > 2 and rest[2].text == "("):
            path.append(rest[1].text)
            at += 2
        elif rest[0].text == "[" and len(rest) > 2 and rest[2].text == "]" and (key := _literal(rest[1])) is not None:
            path.append(key)
            at += 3
        else:
            break
    return tuple(path), at


def _literal(token: Token) -> str | int | None:
    if token.kind == "number" and token.text.isdigit():
        return int(token.text)
    if token.kind == "string":
        try:
            value = ast.literal_eval(token.text)  # CEL's escapes are Python's
        except (SyntaxError, ValueError):
            return None
        return value if isinstance(value, str) else None
    return None


def show_path(path: Path) -> str:
    """As it is written: json.items[0].name, headers["content-type"]."""
    shown = str(path[0]) if path else "the answer"
    for step in path[1:]:
        if isinstance(step, int):
            shown += f"[{step}]"
        else:
            shown += f".{step}" if step.isidentifier() else f'["{step}"]'
    return shown
