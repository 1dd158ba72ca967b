"""The last step before the network: marks every request, connects only to addresses that were checked, reads no more
than it may, and says in plain words what went wrong."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from firstwatch import addresses
from firstwatch.answer import Way
from firstwatch.model import Phases

SYNTHETIC_HEADERS = {"X-Synthetic-Request": "true", "User-Agent": "SyntheticMonitor/1.0"}
_MARKS = [(name.encode(), value.encode()) for name, value in SYNTHETIC_HEADERS.items()]
_MARKED = frozenset(name.lower() for name, _ in _MARKS)

_FIRST_ADDRESSES = 2.0  # seconds for an address, where there are more to try
_ADDRESSES_HOLD = 5.0  # seconds
_CHUNK = 65_536


class AddressRefused(Exception):
    """The host's name leads to an address that is not asked."""


class TooLong(Exception):
    """There is more of the answer than may be read."""


class Undecodable(Exception):
    """The body's content encoding is unknown or broken."""


class Wire(httpx.AsyncBaseTransport):
    """What lies beneath the client: marks each request as synthetic, whatever stands in it already, and sends it.

    Raises what httpcore raises.
    """

    def __init__(self, tls: ssl.SSLContext, resolver: Resolver) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=20,  # the pool's own bookkeeping grows with the square of the idle ones
            keepalive_expiry=5.0,
            network_backend=_CheckedBackend(resolver),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=[(name, value) for name, value in request.headers.raw if name.lower() not in _MARKED] + _MARKS,
                content=request.content,
                extensions=request.extensions,
            )
        )
        return _Answer(answer.status, headers=answer.headers, stream=_Stream(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Answer(httpx.Response):
    """An answer whose Location the client leaves alone: it would raise what is no URL, and there an answer is lost."""

    has_redirect_location = False


class _Stream(httpx.AsyncByteStream):
    """The body as it comes from the pool."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._answer.aiter_stream()

    async def aclose(self) -> None:
        await self._answer.aclose()


def open_client(tls: ssl.SSLContext, resolver: Resolver) -> httpx.AsyncClient:
    """A client with connections of its own, for requests that are judged already. Close it with aclose().

    It follows no redirect, keeps no cookie and ends no request that takes long: whoever sends with it sees to that.
    """
    for library in ("httpx", "httpcore"):  # they log whole URLs at INFO, headers at DEBUG: secrets might stand there
        logging.getLogger(library).setLevel(logging.WARNING)
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # a check's session is not the next one's
    return httpx.AsyncClient(
        transport=Wire(tls, resolver), cookies=no_cookies, follow_redirects=False, timeout=None, trust_env=False
    )


@functools.cache
def tls_context(ca_file: str | None, insecure: bool) -> ssl.SSLContext:
    """One context a process and setting: making one costs 25 ms. The environment's proxies and CAs do not count.

    Raises OSError, which names the file, for a `ca_file` that cannot be read or holds no certificate.
    """
    if insecure:
        return httpx.create_ssl_context(verify=False, trust_env=False)
    if not ca_file:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as problem:  # ssl names no file
        raise OSError(problem.errno, problem.strerror or "holds no certificate", ca_file) from None


def port_of(url: httpx.URL) -> int:
    """The port, also where the URL leaves it to its scheme."""
    return url.port or (443 if url.scheme == "https" else 80)


def way_of(response: httpx.Response) -> Way:
    """How an answer comes, while it does."""
    version: bytes = response.extensions.get("http_version", b"")
    stream: Any = response.extensions.get("network_stream")
    sock, tls = (stream.get_extra_info(what) for what in ("socket", "ssl_object")) if stream else (None, None)
    protocol = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}.get(sock.family) if sock else None
    return Way(version.decode("ascii", "replace"), protocol, (tls.version() if tls else None) or "")


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────


class Resolver:
    """Looks hosts up, and gives only the addresses that may be connected to. What it found holds for a few seconds."""

    def __init__(self, base_host: str, base_port: int) -> None:
        self._base = base_host, base_port
        self._base_is_local: bool | None = None  # decided once: a name that moves inside later does not open the door
        self._asking: dict[tuple[str, int], asyncio.Task[list[str]]] = {}
        self._allowed: dict[tuple[str, int], tuple[float, list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """Raises socket.gaierror for an unknown host and AddressRefused if no address may be asked."""
        if self.knows(host, port):
            return self._allowed[host, port][1]
        found = await self._look_up(host, port)
        if self._base_is_local is None:
            self._base_is_local = any(map(addresses.is_local_address, await self._look_up(*self._base)))
        allowed = [address for address in found if not addresses.is_forbidden_address(address, self._base_is_local)]
        if not allowed:
            raise AddressRefused(f"{host} leads to {found[0]}, an inside address that is not asked")
        self._allowed[host, port] = time.monotonic() + _ADDRESSES_HOLD, allowed
        return allowed

    def knows(self, host: str, port: int) -> bool:
        """Whether nothing need be looked up, as what was found still holds."""
        until, _ = self._allowed.get((host, port), (0.0, []))
        return time.monotonic() < until

    def forget(self) -> None:
        """Look everything up anew: names move while a release rolls out."""
        self._allowed.clear()

    async def _look_up(self, host: str, port: int) -> list[str]:
        """Those who ask at the same time ask once."""
        task = self._asking.get((host, port))
        if task is None:
            task = self._asking[host, port] = asyncio.create_task(_addresses_of(host, port))
            task.add_done_callback(lambda done: self._asked((host, port), done))
        return await asyncio.shield(task)

    def _asked(self, key: tuple[str, int], task: asyncio.Task[list[str]]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # looked at, for asyncio would complain if nobody waits for it any more


async def _addresses_of(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the resolver's addresses. TLS still verifies the host's name: httpcore passes that on by itself."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        *first, last = await self._resolver.addresses(host, port)
        for address in first:
            try:
                return await self._backend.connect_tcp(address, port, _FIRST_ADDRESSES, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(last, port, timeout, local_address, socket_options)


# ── progress and bodies ──────────────────────────────────────────────────────────────────────────────────────


_RESOLVE = ("resolve.started", "resolve.complete")
_PARTS = (  # of Phases, in its order: the event that begins each, the one that ends it
    _RESOLVE,
    ("connection.connect_tcp.started", "connection.connect_tcp.complete"),
    ("connection.start_tls.started", "connection.start_tls.complete"),
    ("http11.send_request_headers.started", "http11.receive_response_headers.complete"),
    ("http11.receive_response_headers.complete", ""),
)
_STAGES = (  # the latest first
    ("http11.send_request_headers.started", "connected, headers never came"),
    ("connection.start_tls.started", "connected, the TLS handshake did not end"),
    ("connection.connect_tcp.started", "not connected"),
)


@dataclass(slots=True)
class Progress:
    """How far a request has come, and when (monotonic seconds)."""

    status: int | None = None
    bytes: int = 0
    way: Way = field(default_factory=Way)
    _at: dict[str, float] = field(default_factory=dict)  # by event

    async def trace(self, event: str, _: Any) -> None:
        """httpcore's trace hook."""
        self._at[event] = time.monotonic()

    async def resolve(self, resolver: Resolver, url: httpx.URL) -> None:
        """Have the host's addresses looked up, unless they are known. Raises what Resolver.addresses raises."""
        host, port = url.raw_host.decode("ascii"), port_of(url)
        if resolver.knows(host, port):
            return
        self._at[_RESOLVE[0]] = time.monotonic()
        await resolver.addresses(host, port)
        self._at[_RESOLVE[1]] = time.monotonic()

    def phases(self, now: float) -> Phases:
        """What each part took, to the microsecond. One that has not ended counts up to `now` (monotonic seconds)."""
        at = self._at
        return Phases(*(round(at.get(end, now) - at[begin], 6) if begin in at else None for begin, end in _PARTS))

    def __str__(self) -> str:
        if self.status is not None:
            return f"status {self.status} and {self.bytes} bytes came, not the end"
        return next((stage for event, stage in _STAGES if event in self._at), "the host's name was not resolved")


async def read_body(response: httpx.Response, limit: int, progress: Progress) -> bytes:
    """The decoded body, of at most `limit` bytes on the wire and decoded. Raises TooLong, Undecodable."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    inflater = _Inflater() if encoding in ("gzip", "x-gzip", "deflate") else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        if inflater is None and encoding not in ("", "identity"):
            raise Undecodable(f"its content encoding {encoding[:40]!r} was not asked for")
        progress.bytes += len(chunk)
        for piece in inflater(chunk) if inflater else (chunk,):
            body += piece
            if max(len(body), progress.bytes) > limit:
                raise TooLong
    if inflater and progress.bytes and not inflater.ended:
        raise Undecodable("its compressed body ends too early")
    return bytes(body)


class _Inflater:
    """gzip and deflate, a piece at a time: a bomb is noticed at its first piece too many."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, as its header says

    def __call__(self, chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                if self._inflate.eof:
                    self._inflate = zlib.decompressobj(wbits=47)
                yield self._inflate.decompress(chunk, _CHUNK)
                chunk = self._inflate.unconsumed_tail or self._inflate.unused_data
        except zlib.error:
            raise Undecodable("its compressed body is broken") from None

    @property
    def ended(self) -> bool:
        return self._inflate.eof


# ── failures in plain words ──────────────────────────────────────────────────────────────────────────────────


def describe(broken: BaseException) -> str:
    """What went wrong, for the person on call. Never quotes the request, but the answer it may: redact it."""
    chain = list(_chain(broken))
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message or 'the certificate does not verify'}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {(cause.reason or 'handshake failed').lower().replace('_', ' ')}"
        if isinstance(cause, socket.gaierror):
            known = cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            return "DNS: no such host" if known else f"DNS: {cause.strerror or 'the name server did not answer'}"
    for cause in chain:
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return "connection reset"
        if isinstance(cause, OSError) and cause.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return "no route to the host"
    if isinstance(broken, httpcore.RemoteProtocolError):
        return f"the answer breaks HTTP: {broken}"
    if isinstance(broken, Undecodable):
        return f"the answer cannot be read: {broken}"
    return f"the connection failed ({type(broken).__name__})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    seen: set[int] = set()
    left = [error]
    while left:
        error = left.pop(0)
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        left += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            left += error.exceptions
