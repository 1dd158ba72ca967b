"""Argo's condition language, read as the parser of expr-lang/expr 1.17 reads it (operators, precedence, closures)."""

from __future__ import annotations

from firstwatch.expr.lex import OPERATOR_WORDS, Token, tokens_of
from firstwatch.expr.tree import (
    Argument,
    Array,
    Binary,
    Call,
    Chain,
    Choice,
    Closure,
    ExprError,
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
)

_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
_BINARY = {
    "|": 0, "or": 10, "||": 10, "and": 15, "&&": 15,
    "==": 20, "!=": 20, "<": 20, ">": 20, ">=": 20, "<=": 20,
    "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20,
    "..": 25, "+": 30, "-": 30, "*": 60, "/": 60, "%": 60, "**": 100, "^": 100, "??": 500,
}  # fmt: skip
_RIGHT = ("**", "^")
_COMPARISONS = ("<", ">", ">=", "<=")
_NEGATED = ("contains", "matches", "startsWith", "endsWith", "in")  # `not in`, …
_SAME = {"||": "or", "&&": "and", "!": "not", "^": "**"}
_INT64 = range(-(2**63), 2**63)
CLOSURES: dict[str, int] = {
    "all": 2, "none": 2, "any": 2, "one": 2, "filter": 2, "map": 2, "find": 2, "findIndex": 2, "findLast": 2,
    "findLastIndex": 2, "groupBy": 2, "sortBy": 2, "reduce": 2, "count": 1, "sum": 1,
}  # fmt: skip
"""Functions whose second argument is a closure, with how many arguments they need at least."""
_THIRD = ("sortBy", "reduce")  # these may have an ordinary third one
_DEEPEST = 100  # brackets within brackets; a condition is no program


def parse(text: str) -> Node:
    """The tree of a condition. Raises ExprError with the column."""
    parser = _Parser(tokens_of(text))
    return parser.whole()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._closures = 0
        self._depth = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def whole(self) -> Node:
        if self._token.kind == "end":
            raise ExprError("an empty condition", "for example result[0] >= 0.99")
        node = self._sequence()
        if self._token.kind != "end":
            raise self._unexpected()
        return node

    # ── words ────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self) -> Token:
        token = self._token
        if token.kind != "end":
            self._next += 1
        return token

    def _takes(self, text: str) -> bool:
        """Is the next word `text`? Then it is taken."""
        if self._token.is_(text):
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> Token:
        if not self._token.is_(text):
            raise self._unexpected(f"expected {text}")
        return self._take()

    def _name(self) -> Token:
        if self._token.kind != "name":
            raise self._unexpected("expected a name")
        return self._take()

    def _unexpected(self, hint: str = "") -> ExprError:
        if self._token.is_("="):
            hint = "use =="
        return ExprError(f"{self._token.text} was not expected here", hint, self._token.at)

    # ── expressions ──────────────────────────────────────────────────────────────────────────────────────────

    def _sequence(self) -> Node:
        steps = [self._expression()]
        while self._takes(";") and self._token.kind != "end":
            steps.append(self._expression())
        return steps[0] if len(steps) == 1 else Sequence(steps[0].at, tuple(steps))

    def _expression(self, precedence: int = 0) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ExprError("this condition is nested too deeply", "", self._token.at)
        try:
            if precedence == 0 and self._token.is_("let"):
                return self._let()
            if precedence == 0 and self._token.is_("if"):
                return self._if()
            left = self._operations(self._primary(), precedence)
            return self._choice(left) if precedence == 0 else left
        finally:
            self._depth -= 1

    def _operations(self, left: Node, precedence: int) -> Node:
        before = ""
        while self._token.kind == "operator":
            start = self._next
            negated = self._takes("not")
            sign = self._token
            if negated and sign.text not in _NEGATED:
                raise self._unexpected()
            if sign.kind != "operator" or _BINARY.get(sign.text, -1) < precedence:
                self._next = start
                break
            self._take()
            if before == "??" and sign.text not in ("??", "|"):
                raise ExprError(f"{sign.text} beside ?? needs brackets", "write (a ?? b)", sign.at)
            if sign.text == "|":
                left = self._call(self._name(), (left,))
            elif sign.text in _COMPARISONS:
                left = self._comparisons(left, sign)
            else:
                strength = _BINARY[sign.text]
                right = self._expression(strength if sign.text in _RIGHT else strength + 1)
                left = Binary(sign.at, _SAME.get(sign.text, sign.text), left, right)
            if negated:
                left = Unary(sign.at, "not", left)
            before = sign.text
        return left

    def _comparisons(self, left: Node, sign: Token) -> Node:
        """`1 < x < 3` is `1 < x && x < 3`."""
        whole: Node | None = None
        while True:
            right = self._expression(_BINARY[sign.text] + 1)
            one = Binary(sign.at, sign.text, left, right)
            whole = one if whole is None else Binary(sign.at, "and", whole, one)
            if not self._token.is_(*_COMPARISONS):
                return whole
            left, sign = right, self._take()

    def _choice(self, test: Node) -> Node:
        while self._token.is_("?"):
            at = self._take().at
            if self._takes(":"):
                yes = test
            else:
                yes = self._expression()
                self._expect(":")
            test = Choice(at, test, yes, self._expression())
        return test

    def _let(self) -> Node:
        self._take()
        name = self._name()
        self._expect("=")
        value = self._expression()
        self._expect(";")
        return Let(name.at, name.text, value, self._sequence())

    def _if(self) -> Node:
        at = self._take().at
        test = self._expression()
        yes = self._block()
        self._expect("else")
        return Choice(at, test, yes, self._if() if self._token.is_("if") else self._block())

    def _block(self) -> Node:
        self._expect("{")
        node = self._sequence()
        self._expect("}")
        return node

    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────

    def _primary(self) -> Node:
        token = self._token
        if token.kind == "operator" and token.text in _UNARY:
            self._take()
            of = self._expression(_UNARY[token.text])
            return self._postfix(Unary(token.at, _SAME.get(token.text, token.text), of))
        if self._takes("("):
            node = self._sequence()
            self._expect(")")
            return self._postfix(node)
        if self._closures and token.is_("#", "."):
            return self._postfix(self._item())
        if self._takes("::"):
            return self._postfix(self._call(self._name(), ()))
        return self._value()

    def _item(self) -> Node:
        at = self._token.at
        name = ""
        if self._takes("#"):
            follows = self._token.kind == "name" and self._token.at == at + 1
            name = self._take().text if follows else ""
        return Item(at, name)

    def _value(self) -> Node:
        token = self._take()
        if token.kind == "name":
            if token.text in ("true", "false", "nil"):
                return Literal(token.at, {"true": True, "false": False, "nil": None}[token.text])
            return self._postfix(self._call(token, ()) if self._token.is_("(") else Name(token.at, token.text))
        if token.kind == "number":
            return Literal(token.at, _number(token))
        if token.kind == "string":
            return self._postfix(Literal(token.at, token.text))
        if token.kind == "argument":
            return Argument(token.at, token.text)
        if token.is_("["):
            return self._postfix(Array(token.at, self._listed("]")))
        if token.is_("{"):
            return self._postfix(self._map(token))
        self._next -= token.kind != "end"
        raise self._unexpected()

    def _map(self, opened: Token) -> Node:
        keys: list[Node] = []
        values: list[Node] = []
        while not self._token.is_("}"):
            if keys:
                self._expect(",")
                if self._token.is_("}"):
                    break
            keys.append(self._key())
            self._expect(":")
            values.append(self._expression())
        self._expect("}")
        return Map(opened.at, tuple(keys), tuple(values))

    def _key(self) -> Node:
        if self._token.kind in ("number", "string", "name"):
            token = self._take()
            return Literal(token.at, token.text)
        if self._token.is_("("):
            return self._expression()
        raise self._unexpected("a key is a text, a number or a name")

    def _listed(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._token.is_(closing):
            if items:
                self._expect(",")
                if self._token.is_(closing):
                    break
            items.append(self._expression())
        self._expect(closing)
        return tuple(items)

    def _call(self, name: Token, first: tuple[Node, ...]) -> Node:
        self._expect("(")
        if name.text not in CLOSURES:
            return Call(name.at, name.text, (*first, *self._listed(")")))
        arguments = list(first)
        while not self._token.is_(")"):
            if len(arguments) > len(first):
                self._expect(",")
                if self._token.is_(")"):
                    break
            if len(arguments) > 1 and (len(arguments) > 2 or name.text not in _THIRD):
                raise self._unexpected(f"{name.text} takes a list and a closure")
            arguments.append(self._closure() if len(arguments) == 1 else self._expression())
        self._expect(")")
        if len(arguments) < CLOSURES[name.text]:
            raise ExprError(f"{name.text} needs a list and a closure", f"{name.text}(result, # > 1)", name.at)
        return Call(name.at, name.text, tuple(arguments))

    def _closure(self) -> Node:
        at = self._token.at
        braces = self._takes("{")
        self._closures += 1
        body = self._sequence() if braces else self._expression()
        self._closures -= 1
        if braces:
            self._expect("}")
        return Closure(at, body)

    def _postfix(self, node: Node) -> Node:
        while self._token.is_(".", "?.", "["):
            token = self._take()
            optional = token.text == "?."
            if token.text == "[" or (optional and self._takes("[")):
                node = self._index(node, token.at, optional)
            else:
                node = self._field(node, token.at, optional)
        return node

    def _field(self, node: Node, at: int, optional: bool) -> Node:
        name = self._take()
        if name.kind != "name" and name.text not in OPERATOR_WORDS:
            raise ExprError("expected a name after the dot", "", name.at)
        if self._token.is_("("):
            raise ExprError(
                f".{name.text}() cannot be called", "functions stand before their argument: len(x)", name.at
            )
        chained = isinstance(node, Chain)
        member = Member(at, node.of if isinstance(node, Chain) else node, Literal(name.at, name.text), optional)
        return Chain(at, member) if chained or optional else member

    def _index(self, node: Node, at: int, optional: bool) -> Node:
        start = None if self._token.is_(":") else self._expression()
        if self._takes(":"):
            stop = None if self._token.is_("]") else self._expression()
            self._expect("]")
            return Slice(at, node, start, stop)
        self._expect("]")
        assert start is not None  # without a colon there is one
        member = Member(at, node, start, optional)
        return Chain(at, member) if optional else member


def _number(token: Token) -> int | float:
    text = token.text.replace("_", "").lower()
    try:
        if text[:2] in ("0x", "0b", "0o"):
            value: int | float = int(text, 0)
        else:
            value = float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        raise ExprError(f"{token.text} is no number", "", token.at) from None
    if (isinstance(value, int) and value not in _INT64) or value == float("inf"):
        raise ExprError(f"{token.text} is too large", "", token.at)
    return value
