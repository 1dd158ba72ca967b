"""A service file's text → a tree of values that know their place, with `${NAME:-default}` filled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode
from ruamel.yaml.scanner import Scanner, ScannerError
from ruamel.yaml.tokens import ScalarToken

from firstwatch.spec.diagnostics import Diagnostic

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_ENVIRONMENT_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
_SAVED_VALUE = re.compile(r"[a-z][a-z0-9_]*")
_MAY_HOLD_SAVED_VALUES = re.compile(
    r"synthetic\.journeys\[\d+]\.(steps|cleanup)(\[\d+])?\."
    r"(get|head|options|post|put|patch|delete|headers|json|form|body)(?![a-z])"
    r"|rules\.allow\[\d+]\.request$"
)
"""What a step of a journey sends, and the requests that are allowed: there `${token}` is what an earlier step saved."""
_TAG = "tag:yaml.org,2002:"
_TYPED = {f"{_TAG}{kind}" for kind in ("int", "float", "bool", "null")}
_TEXT = {f"{_TAG}{kind}" for kind in ("str", "timestamp", "binary", "value")}


@dataclass(slots=True)
class Node:
    """A value of the file. `line` and `column` (from 1) are those of its key, or its own if it has none."""

    value: Any  # a dict[str, Node], a list[Node], or a scalar
    line: int
    column: int
    path: str
    damaged: bool = False  # something that did not fit was taken out of it

    def data(self) -> Any:
        """The value as plain Python data."""
        if isinstance(self.value, dict):
            return {key: inner.data() for key, inner in self.value.items()}
        if isinstance(self.value, list):
            return [inner.data() for inner in self.value]
        return self.value

    def trail(self, loc: tuple[str | int, ...]) -> list[tuple[str | int, Node]]:
        """The steps of `loc` that are in the file, each with its node; what is not in the file is skipped."""
        found: list[tuple[str | int, Node]] = []
        at = self
        for step in loc:
            inner = at.value
            if isinstance(inner, dict) and step in inner:
                at = inner[str(step)]
            elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                at = inner[step]
            else:
                continue
            found.append((step, at))
        return found

    def at(self, loc: tuple[str | int, ...]) -> Node:
        """The node at `loc`, or the nearest one on the way there."""
        trail = self.trail(loc)
        return trail[-1][1] if trail else self


def read(text: str, file: str, environ: Mapping[str, str]) -> tuple[Node | None, list[Diagnostic]]:
    """The tree of a service file (None if the text is no YAML mapping) and what is wrong with it."""
    return _read(text, file, environ, "a service file is a mapping", "start it with service: NAME")


def read_plain(text: str, file: str) -> tuple[Node | None, list[Diagnostic]]:
    """The same for any other YAML file that is a mapping, in which `${…}` means nothing to us."""
    return _read(text, file, None, "the file is not a mapping", "it is made of keys and values")


def _read(
    text: str, file: str, environ: Mapping[str, str] | None, no_mapping: str, hint: str
) -> tuple[Node | None, list[Diagnostic]]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as e:
        unclosed = str(e.problem).startswith("expected ','")  # told where it was opened
        mark = (e.context_mark if unclosed else e.problem_mark) or e.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return None, [Diagnostic(file, line, column, "", f"not YAML: {e.problem or e.context}", _yaml_hint(e))]
    except YAMLError as e:
        return None, [Diagnostic(file, 1, 1, "", f"not YAML: {str(e).splitlines()[0]}", "save the file as plain UTF-8")]
    if not isinstance(root, MappingNode):
        return None, [Diagnostic(file, 1, 1, "", no_mapping, hint)]
    reader = _Reader(yaml, file, environ, {} if environ is None else dict(_defaults(root)))
    return reader.node(root, "", root), reader.diagnostics


class _Scanner(Scanner):
    """YAML, with brackets allowed inside plain words of a flow list or mapping.

    `[type(json) in [list, map]]` and `{url: ${SHOP_URL}}` are errors in YAML, which wants them quoted: after a plain
    word no bracket may follow. So nothing that is YAML changes its meaning, and conditions read as they should.
    """

    def scan_plain(self) -> Any:
        token = super().scan_plain()
        value, end = str(token.value), token.end_mark
        while self.flow_level and self.reader.peek() in "[{" and end.line == self.reader.line:
            gap = " " * (self.reader.column - end.column)
            value += gap + self._bracketed()
            end = self.reader.get_mark()
            spaces = 0
            while self.reader.peek(spaces) == " ":
                spaces += 1
            if self.reader.peek(spaces) in "\0\r\n,]}#":
                break
            self.reader.forward(spaces)
            rest = super().scan_plain()
            value, end = f"{value}{' ' * spaces}{rest.value}", rest.end_mark
        return ScalarToken(value, True, token.start_mark, end)

    def _bracketed(self) -> str:
        """From an opening bracket to the one that closes it."""
        text, depth, quote = "", 0, ""
        while True:
            character = str(self.reader.peek())
            if character in "\0\r\n":
                raise ScannerError(problem="a bracket is not closed on its line", problem_mark=self.reader.get_mark())
            if quote:
                quote = "" if character == quote else quote
            elif character in "\"'":
                quote = character
            else:
                depth += (character in "[{(") - (character in "]})")
            text += character
            self.reader.forward()
            if depth == 0:
                return text


def _yaml_hint(e: MarkedYAMLError) -> str:
    problem = str(e.problem)
    if "\\t" in problem:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "put text with `: ` in it in quotes"
    return "put text with special characters in quotes"


def _defaults(node: YamlNode, seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, str]]:
    """The defaults that the file gives; reversed by dict(), so that the first one of a name must come last."""
    if id(node) in seen:
        return
    if isinstance(node, ScalarNode):
        for body, _ in reversed(_REFERENCE.findall(node.value)):
            name, has_default, default = body.partition(":-")
            if has_default:
                yield name, default
        return
    inner = [part for pair in node.value for part in pair] if isinstance(node, MappingNode) else node.value
    for part in reversed(inner):
        yield from _defaults(part, seen | {id(node)})


class _Reader:
    """YAML's nodes → ours. Without `environ`, `${…}` is left as it is."""

    def __init__(self, yaml: YAML, file: str, environ: Mapping[str, str] | None, defaults: Mapping[str, str]) -> None:
        self._yaml = yaml
        self._file = file
        self._environ = environ
        self._defaults = defaults
        self._open: set[int] = set()
        self.diagnostics: list[Diagnostic] = []

    def node(self, node: YamlNode, path: str, place: YamlNode) -> Node:
        line, column = place.start_mark.line + 1, place.start_mark.column + 1
        made = Node(None, line, column, path)
        if id(node) in self._open:
            self._say(made, "an anchor that contains itself", "write the value out")
            return made
        self._open.add(id(node))
        if isinstance(node, MappingNode):
            made.value = self._mapping(node, path)
        elif isinstance(node, SequenceNode):
            made.value = [self.node(item, f"{path}[{i}]", item) for i, item in enumerate(node.value)]
        else:
            made.value = self._scalar(cast(ScalarNode, node), made)
        self._open.discard(id(node))
        return made

    def _mapping(self, node: MappingNode, path: str) -> dict[str, Node]:
        made: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, ScalarNode) else "?"
            inner = self.node(value_node, f"{path}.{key}" if path else key, key_node)
            if key in made:
                self._say(inner, f"`{key}` stands here twice, first on line {made[key].line}", "keep one of them")
            else:
                made[key] = inner
        return made

    def _scalar(self, node: ScalarNode, made: Node) -> Any:
        tag = str(node.tag)
        if tag in _TYPED:
            return self._yaml.constructor.construct_object(node)
        if tag not in _TEXT:
            self._say(made, f"{tag.removeprefix(_TAG)} is a YAML tag here, not text", "put the text in quotes")
        environ, text = self._environ, str(node.value)
        return text if environ is None else _REFERENCE.sub(lambda match: self._expanded(match, made, environ), text)

    def _expanded(self, match: re.Match[str], made: Node, environ: Mapping[str, str]) -> str:
        if match[0] == "$${":
            return "${"
        name, has_default, default = match[1].partition(":-")
        if not match[2]:
            self._say(made, "`${` is not closed", "write ${NAME} or ${NAME:-default}, and $${ for a plain ${")
        elif _SAVED_VALUE.fullmatch(match[1]) and _MAY_HOLD_SAVED_VALUES.match(made.path):
            return match[0]
        elif not _ENVIRONMENT_NAME.fullmatch(name):
            self._say(
                made,
                f"`${{{name}}}` is not the name of an environment variable",
                "those are written in capitals: ${NAME:-default}; write $${ for a plain ${",
            )
        elif value := environ.get(name):
            return value
        elif has_default:
            return default
        elif name in self._defaults:
            return self._defaults[name]
        elif name not in environ:
            self._say(made, f"the environment has no {name}", f"set it, or give a default: ${{{name}:-…}}")
        else:
            return ""
        return match[0]

    def _say(self, node: Node, message: str, hint: str) -> None:
        self.diagnostics.append(Diagnostic(self._file, node.line, node.column, node.path, message, hint))
