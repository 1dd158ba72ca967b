"""What a test in production may send: one decision, `judge_request`, asked for every request and every redirect hop.

Pure: the file loader asks it about the plan before the first byte, the transport asks it again before each send.
Whatever is in doubt is refused. Nothing but a declared sandbox lifts the payment rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from firstwatch.hosts import to_ascii
from firstwatch.request_text import (
    decoded,
    has_card_number,
    is_graphql_mutation,
    is_payment_host,
    is_payment_path,
    texts_of,
    unquoted,
)
from firstwatch.spec.models import Rules
from firstwatch.spec.synthetic import SAVED

READS = frozenset({"GET", "HEAD", "OPTIONS"})

RESERVED_HEADERS: frozenset[str] = frozenset(
    {
        # ours: they say who asks
        "x-synthetic-request", "user-agent", "traceparent", "tracestate",
        # the connection's
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
        "expect", "proxy-authorization", "proxy-connection",
        # these turn a request into another one behind the rules' back
        "x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url",
    }
)  # fmt: skip
"""Lower-case names that a service file may not set."""

KEPT_ACROSS_HOSTS = frozenset({"accept", "accept-language", "accept-encoding"})
"""What still goes along when a redirect leads to another host: nothing that could be a credential."""

_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Allowed:
    """May be sent, with `headers` added (the sandbox's mark, on the sandbox's paths)."""

    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    why: str


# ── the decision ─────────────────────────────────────────────────────────────────────────────────────────────


def judge_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: str | bytes | None,
    *,
    rules: Rules,
    base_url: str,
) -> Allowed | Refused:
    """May this request be sent to this address? `url` is absolute (see `target_url`), `headers` are the file's own."""
    method = method.upper()
    parts = _split(url)
    if isinstance(parts, Refused):
        return parts
    base = _split(base_url)
    if isinstance(base, Refused):
        return Refused(f"base_url: {base.why}")
    path = parts.path or "/"

    for name in headers:
        if name.lower() in RESERVED_HEADERS:
            return Refused(f"the header {name} is set by the transport; take it out")
    if (why := _host_refusal(parts, base, rules)) is not None:
        return Refused(why)

    listed = is_listed(method, path, rules, query=parts.query, prefix=_prefix(parts, base))
    if method not in READS and not listed:
        return Refused(
            f"{method} {path} is not a plain read and not listed; list it under rules.allow with its reason, "
            "or ask with GET, HEAD or OPTIONS"
        )

    sandbox = _sandbox(parts, base, headers, rules)
    if isinstance(sandbox, Refused):
        return sandbox
    if not sandbox:
        if is_payment_path(path):
            return Refused(f"{path} is a payment path; it is asked only under rules.sandbox")
        if any(has_card_number(text) for text in texts_of(parts.path, parts.query, headers, body)):
            return Refused("the request carries a card number; that is sent only under rules.sandbox")
    if is_graphql_mutation(body) or is_graphql_mutation(parts.query):
        return Refused("the request is a GraphQL mutation; those are not sent to production")
    return Allowed(sandbox)


def judge_redirect(
    method: str,
    url: str,
    target: str,
    headers: Mapping[str, str],
    *,
    rules: Rules,
    base_url: str,
    began: str = "",
) -> Allowed | Refused:
    """May the redirect from `url` to `target` (absolute) be followed? No body is replayed, no write repeated.

    `began` is the URL that the file names, where that is not `url`: what lies outside does not choose what the service
    is asked.
    """
    if method.upper() not in READS:
        return Refused(f"a redirect of a {method.upper()} is not followed: it would be repeated or changed")
    if urlsplit(url).scheme.lower() == "https" and target.lower().startswith("http:"):
        return Refused("it leads from https down to http")
    if _is_inside(target, base_url) and not _is_inside(began or url, base_url):
        return Refused("it leads from elsewhere into the service")
    return judge_request(method, target, headers, None, rules=rules, base_url=base_url)


def _is_inside(url: str, base_url: str) -> bool:
    parts, base = _split(url), _split(base_url)
    return not isinstance(parts, Refused) and not isinstance(base, Refused) and _authority(parts) == _authority(base)


def target_url(base_url: str, path: str) -> str:
    """The absolute URL of a check's path: below base_url, or as written if it is absolute itself.

    Raises ValueError for a path that is neither.
    """
    if re.match(r"https?://", path, re.IGNORECASE):
        return path
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is neither a path (it would start with /) nor an http or https URL")
    return base_url.rstrip("/") + path


def same_host(url: str, other: str) -> bool:
    """Do both URLs lead to the same scheme, host and port?"""
    a, b = urlsplit(url), urlsplit(other)
    return a.scheme.lower() == b.scheme.lower() and _authority(a) == _authority(b)


def headers_for_hop(headers: Mapping[str, str], url: str, target: str) -> dict[str, str]:
    """The file's headers that go along from `url` to `target`: all on the same host, harmless ones to another."""
    if same_host(url, target):
        return dict(headers)
    return {name: value for name, value in headers.items() if name.lower() in KEPT_ACROSS_HOSTS}


# ── method and path ──────────────────────────────────────────────────────────────────────────────────────────


def is_listed(method: str, path: str, rules: Rules, *, query: str = "", prefix: str = "") -> bool:
    """Does rules.allow name this request? `prefix` is base_url's own path, which the file's entries leave out.

    An entry matches exactly, letter by letter; with a query only if it names that query. Where a segment of its path is
    `${name}`, any one segment may stand that cannot be read as another path (see `_is_one_segment`).
    """
    if prefix and path.startswith(prefix):
        path = path[len(prefix) :] or "/"
    asked = (_quoted(path), _quoted(f"{path}?{query}"))
    for item in rules.allow:
        listed_method, _, listed = item.request.strip().partition(" ")
        if listed_method.upper() == method.upper() and any(_is_as_listed(listed.strip(), each) for each in asked):
            return True
    return False


def _is_as_listed(listed: str, asked: str) -> bool:
    """Is the path `asked` (quoted, and perhaps with its query) the one of an entry of rules.allow?"""
    if _quoted(listed) == asked:
        return True
    (listed_path, _, listed_query), (path, _, query) = listed.partition("?"), asked.partition("?")
    if _quoted(listed_query) != query or "${" not in listed_path:
        return False
    listed_segments, segments = listed_path.split("/"), path.split("/")
    return len(listed_segments) == len(segments) and all(
        _is_one_segment(there) if SAVED.fullmatch(here) else _quoted(here) == there
        for here, there in zip(listed_segments, segments, strict=True)
    )


def _is_one_segment(segment: str) -> bool:
    """Is this one segment of a path, whoever reads it and however often it is decoded; and never empty, `..`, a query,
    a parameter (`;`) or a verb (`:`)? Letters, digits and a few signs are; what is in doubt is not."""
    text = unicodedata.normalize("NFKC", unquoted(segment))
    return text.strip(".") != "" and all(c.isalnum() or c in "-._~@+=," for c in text)


def _quoted(path: str) -> str:
    return quote(path, safe="/%:@!$&'()*+,;=~-._?")


# ── host ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _split(url: str) -> SplitResult | Refused:
    """The URL's parts, if there is only one way to read it."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", url):
        return Refused("the URL holds spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return Refused("this is not a URL")
    if parts.scheme.lower() not in _DEFAULT_PORT:
        return Refused(f"only http and https are asked, not {parts.scheme or 'a URL without a scheme'}")
    if not host:
        return Refused("the URL names no host")
    if "@" in parts.netloc:
        return Refused("the URL carries a user name; use a header with secret:NAME")
    return parts


def _authority(parts: SplitResult) -> tuple[str, int]:
    scheme = parts.scheme.lower()
    return _host_name(parts.hostname or ""), parts.port or _DEFAULT_PORT.get(scheme, 0)


def _host_name(host: str) -> str:
    try:
        return to_ascii(host)
    except ValueError:
        return host


def _host_refusal(parts: SplitResult, base: SplitResult, rules: Rules) -> str | None:
    host, port = _authority(parts)
    if (host, port) == _authority(base):
        return None
    shown = f"[{host}]" if ":" in host else host
    shown = shown if port == _DEFAULT_PORT[parts.scheme.lower()] else f"{shown}:{port}"
    if is_payment_host(host):
        return f"the host {shown} takes payments"
    if not any(_is_host(entry, host, port, parts.scheme.lower()) for entry in rules.hosts):
        return f"the host {shown} is neither that of base_url nor listed under rules.hosts"
    return None


def _is_host(entry: str, host: str, port: int, scheme: str) -> bool:
    """`cdn.example.com` stands for the scheme's own port, `cdn.example.com:8443` for that one."""
    try:
        listed = urlsplit(f"//{entry.strip()}")
        return _host_name(listed.hostname or "") == host and (listed.port or _DEFAULT_PORT[scheme]) == port
    except ValueError:
        return False


def _prefix(parts: SplitResult, base: SplitResult) -> str:
    """base_url's own path, where the request is one to base_url's host."""
    prefix = base.path.rstrip("/")
    inside = parts.path == prefix or parts.path.startswith(f"{prefix}/")
    return prefix if inside and _authority(parts) == _authority(base) else ""


def _sandbox(
    parts: SplitResult, base: SplitResult, headers: Mapping[str, str], rules: Rules
) -> Mapping[str, str] | Refused:
    """The mark that a request inside the sandbox carries; empty outside of it."""
    sandbox = rules.sandbox
    if sandbox is None or _authority(parts) != _authority(base):
        return {}
    path = decoded(parts.path)
    if ".." in path or "//" in path or "\\" in path or path != unicodedata.normalize("NFC", unquote(parts.path)):
        return {}  # it could leave the sandbox on the way
    path = path.removeprefix(_prefix(parts, base))
    if not any(path == inside.rstrip("/") or path.startswith(inside.rstrip("/") + "/") for inside in sandbox.paths):
        return {}
    for name, value in headers.items():
        if name.lower() == sandbox.header.lower() and value != sandbox.value:
            return Refused(f"the sandbox is asked with {sandbox.header}: {sandbox.value}, not {value!r}")
    return {sandbox.header: sandbox.value}
