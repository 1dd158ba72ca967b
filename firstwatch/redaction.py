"""Secrets that cannot be shown, and texts from which they are taken out before anybody reads them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, unquote

MASK = "***"

_NAMES = re.compile(
    "token|secret|passw|pwd|passphrase|api[_-]?key|signature|credential|authorization|cookie|jwt|session", re.IGNORECASE
)
_SHORT_NAMES = frozenset({"key", "sig", "auth", "pass", "pw", "sid", "code", "hmac"})
_URL = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s"'<>`]+""")
_USER_INFO = re.compile(r"(?<=://)[^/?#@]*(?:@[^/?#@]*)*@")
_QUERY_VALUE = re.compile(r"(?<=[?&;#])([^=&;#?]+)=([^&;#]*)")
_SHORTEST_ENCODED = 6  # an encoded form shorter than this would blot out innocent text


class Secret:
    """A secret's value under its name. It has no text: printing it gives the name; pickling and JSON fail."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """The value itself: only for what is about to be sent."""
        return self._value

    def __repr__(self) -> str:
        return f"<secret {self.name}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.name, self._value) == (other.name, other._value)

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self!r} is not stored; load it where it is used")


class Redactor:
    """Takes known secrets out of whatever is written: by value, as given, URL-encoded, JSON-escaped or in base64."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: dict[str, str] = {}  # as they are, and in lower case
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """From now on this secret is taken out too."""
        self._forms.update((form, form.lower()) for form in _forms(secret))

    def text(self, text: str) -> str:
        """The text without secrets, and without credentials in the URLs that it holds."""
        return self._by_value(_URL.sub(lambda url: _by_name(url[0]), self._by_value(text)))

    def url(self, url: str) -> str:
        """The URL without user name, password and the query values whose names say that they are secret."""
        return self._by_value(_by_name(self._by_value(url)))

    def value(self, value: Any) -> Any:
        """A JSON-like value with every text redacted, and the texts under telling keys masked whole."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.value(k): MASK if isinstance(k, str) and isinstance(v, str) and _NAMES.search(k) else self.value(v)
                for k, v in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return repr(value) if isinstance(value, Secret) else value

    def _by_value(self, text: str) -> str:
        """Searched for first, for few texts hold a secret: one pattern of all forms takes a hundred times as long."""
        lower = text.lower()
        there = [form for form, in_lower in self._forms.items() if in_lower in lower or form in text]
        if not there:
            return text
        longest_first = sorted(there, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), MASK, text, flags=re.IGNORECASE)


def _by_name(url: str) -> str:
    return _QUERY_VALUE.sub(lambda pair: f"{pair[1]}={_masked(pair[1], pair[2])}", _USER_INFO.sub(f"{MASK}@", url))


def _masked(name: str, value: str) -> str:
    plain = unquote(name).lower()
    words = re.split(r"[^a-z0-9]+", plain)
    return MASK if _NAMES.search(plain) or not _SHORT_NAMES.isdisjoint(words) else value


def _forms(secret: str) -> Iterator[str]:
    """The ways in which a secret may turn up in a text."""
    if not secret:
        return
    yield secret
    lines = [line.strip() for line in secret.splitlines()]
    yield from (line for line in lines if line and len(lines) > 1 and len(line) >= _SHORTEST_ENCODED)
    for encoded in (
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        *_in_base64(secret.encode("utf-8", "surrogatepass")),
    ):
        if len(encoded) >= _SHORTEST_ENCODED:
            yield encoded


def _in_base64(raw: bytes) -> Iterator[str]:
    """The letters that stand for these bytes wherever they begin (as in `user:secret`): there are three alignments."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode("ascii")
        first = (0, 2, 3)[before]  # the letters that the bytes before still have a part in
        sure = (before + len(raw)) * 8 // 6  # letters that no byte behind has a part in
        for form in (encoded[first:sure], encoded.rstrip("=")[first:]):
            yield form
            yield form.replace("+", "-").replace("/", "_")
