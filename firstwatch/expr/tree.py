"""The tree of a condition in Argo's language (expr-lang/expr 1.17), and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from firstwatch.conditions import ConditionError


@dataclass(frozen=True, slots=True)
class Node:
    """`at` is the column, from 1."""

    at: int

    def parts(self) -> Iterator[Node]:
        """The nodes right below this one."""
        for field in fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Node):
                    yield item

    def all(self) -> Iterator[Node]:
        """This node and everything below it."""
        yield self
        for part in self.parts():
            yield from part.all()


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """`{{args.limit}}`: a number that is filled in before the condition is judged."""

    text: str


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Item(Node):
    """`#`, `#index` and `#acc` within a closure; `.field` is a Member of it."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Unary(Node):
    sign: str  # not, - or +
    of: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Member(Node):
    """`of[key]` and `of.key`. Where `optional` is set and `of` is nil, the whole Chain around it is nil."""

    of: Node
    key: Node
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Chain(Node):
    of: Node


@dataclass(frozen=True, slots=True)
class Slice(Node):
    of: Node
    start: Node | None
    stop: Node | None


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function with its arguments; a closure is a Closure."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Closure(Node):
    body: Node


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`test ? yes : no`"""

    test: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Let(Node):
    name: str
    value: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Sequence(Node):
    """`a; b`: the last one counts."""

    steps: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Array(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Map(Node):
    keys: tuple[Node, ...]
    values: tuple[Node, ...]


class ExprError(ConditionError):
    """The text is no usable condition in Argo's language."""


class UnknownName(ExprError):
    """A name or function that Argo does not have; CEL may."""


def refuse(node: Node, message: str, hint: str = "") -> ExprError:
    return ExprError(message, hint, node.at)


def written(node: Node) -> str:
    """`result[0]`: a short way to name a value in a sentence; longer expressions are `the value`."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Item):
        return f"#{node.name}"
    if isinstance(node, Literal):
        return (
            "nil"
            if node.value is None
            else str(node.value).lower()
            if isinstance(node.value, bool)
            else str(node.value)
        )
    if isinstance(node, Argument):
        return node.text
    if isinstance(node, Member):
        key = written(node.key)
        return f"{written(node.of)}.{key}" if key.isidentifier() else f"{written(node.of)}[{key}]"
    if isinstance(node, Unary):
        return f"{node.sign.replace('not', 'not ')}{written(node.of)}"
    if isinstance(node, Call):
        return f"{node.name}({', '.join('…' if isinstance(a, Closure) else written(a) for a in node.arguments)})"
    if isinstance(node, Binary):
        return f"{written(node.left)} {node.sign} {written(node.right)}"
    return "the value"
