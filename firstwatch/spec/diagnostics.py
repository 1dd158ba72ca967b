"""What is wrong with a service file, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One fault. Lines and columns count from 1; `path` is written as in `smoke.checks[0].expect[1]`."""

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{hint}"


class Finding(NamedTuple):
    """A fault found in the models, whose place in the file is still to be looked up.

    `loc` is the way to it, as pydantic writes it: ("smoke", "checks", 0, "get"). `needs` names the sections that the
    finding also rests on; where one of those is broken itself, the finding would mislead and is left out.
    """

    loc: tuple[str | int, ...]
    message: str
    hint: str = ""
    needs: tuple[str, ...] = ()


class SpecError(ValueError):
    """A service file that cannot be used. The text lists every diagnostic, one a line."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(map(str, self.diagnostics)))


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """`did you mean smoke?`, or the words there are."""
    words = sorted(known)
    close = get_close_matches(str(word).lower(), words, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(words)}"
