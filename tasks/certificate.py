"""TLS certificates as a service shows them: read with real handshakes, judged by firstwatch.certificates.

Works without Prefect. Only addresses that the resolver allows are connected to, as in the HTTP transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from firstwatch.certificates import Certificate, Chain, joined, judge, read_chain
from firstwatch.found import Found
from firstwatch.hosts import show_host, to_ascii
from firstwatch.model import Outcome
from firstwatch.monitor import Kind, Phases, Probe
from firstwatch.spec.synthetic import Certificate as Policy
from firstwatch.spec.synthetic import certificate_name
from firstwatch.units import show_duration
from tasks import wire
from tasks.budget import BudgetExhausted

_MOST_ADDRESSES = 8  # of one host that are looked at
_GOODBYE = 0.5  # seconds in which a server may take leave
_OUT_OF_TIME = frozenset({9, 10})  # OpenSSL: not yet valid, expired
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_IGNORE_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name


class _Unreadable(Exception):
    """The server shows a certificate that is none."""


async def _at_once() -> None:
    """Nobody's turn is waited for."""


@dataclass(slots=True)
class _Talk:
    """The way to one address: how far it came, and how long the parts of the first handshake took. `name` is the host
    in ASCII, as TLS and DNS know it."""

    name: str
    address: str
    port: int
    turn: Callable[[], Awaitable[None]]
    timeout: float  # seconds, for all of it but the waits for a turn
    stage: str = "not connected"
    phases: Phases = field(default_factory=Phases)
    limit: asyncio.Timeout = field(init=False)


async def probe_certificate(
    host: str,
    port: int,
    policy: Policy,
    *,
    resolver: wire.Resolver,
    turn: Callable[[], Awaitable[None]] = _at_once,
    ca_file: str | None = None,
    timeout: float = 10.0,
    clock: Callable[[], float] = time.time,
    check: str = "",
) -> Probe:
    """Is the certificate that each address of this port shows in order, and for how long? An address that cannot be
    connected to counts only where all are so.

    `timeout` is in seconds, for all of one address; `turn` is awaited before each handshake, outside of that time, and
    may raise BudgetExhausted. `check` is its name, where the file writes the host in another way. Raises nothing for
    what the network or the service does: that is a FAIL. A host that may not be asked is an ERROR.
    """
    at, begun = clock(), time.monotonic()
    try:
        name = to_ascii(host)
        async with asyncio.timeout(timeout):
            addresses = (await resolver.addresses(name, port))[:_MOST_ADDRESSES]
        resolved = time.monotonic() - begun
        talks = [_Talk(name, address, port, turn, timeout) for address in addresses]
        found = await asyncio.gather(*(_look(host, talk, policy, ca_file, at) for talk in talks))
        all_of_it, phases = _all_together(talks, found, resolved)
    except (TimeoutError, ValueError, OSError, wire.AddressRefused) as problem:
        all_of_it, phases = _not_resolved(host, problem, timeout), Phases()
    took = [part for part in (phases.resolve, phases.connect, phases.tls) if part is not None]
    return all_of_it.probe(
        check or certificate_name(show_host(host, port, 443)),
        Kind.CERTIFICATE,
        f"TLS {show_host(host, port, 0)}",
        at,
        elapsed=sum(took) if phases.tls is not None else None,
        phases=phases,
    )


def _not_resolved(host: str, problem: Exception, timeout: float) -> Found:
    if isinstance(problem, wire.AddressRefused):
        return Found(Outcome.ERROR, f"refused: {problem}")
    if isinstance(problem, TimeoutError):
        return Found(
            Outcome.FAIL, f"no TLS handshake within {show_duration(timeout)} (the host's name was not resolved)"
        )
    if isinstance(problem, OSError):
        return Found(Outcome.FAIL, wire.describe(problem))
    return Found(Outcome.ERROR, f"{host} is no host name")


def _all_together(talks: Sequence[_Talk], found: Sequence[Found], resolved: float) -> tuple[Found, Phases]:
    """What the addresses show that could be connected to, with the times of the first of them."""
    looked = list(zip(talks, found, strict=True))
    reached = [each for each in looked if each[0].phases.connect is not None] or looked
    together = joined({talk.address: each for talk, each in reached})
    return together, replace(reached[0][0].phases, resolve=resolved)


async def _look(host: str, talk: _Talk, policy: Policy, ca_file: str | None, now: float) -> Found:
    """What one address shows."""
    try:
        async with asyncio.timeout(talk.timeout) as talk.limit:
            chain = await _chain(talk, ca_file)
    except TimeoutError:
        return Found(Outcome.FAIL, f"no TLS handshake within {show_duration(talk.timeout)} ({talk.stage})")
    except BudgetExhausted as late:
        return Found(Outcome.ERROR, f"not asked: {late}")
    except _Unreadable:
        return Found(Outcome.FAIL, "it shows a certificate that cannot be read")
    except ValueError:  # from ssl, which takes other names than DNS does
        return Found(Outcome.ERROR, f"{host} is no host name")
    except OSError as broken:
        return Found(Outcome.FAIL, _describe(broken))
    return judge(host, policy, chain, now)


async def _chain(talk: _Talk, ca_file: str | None) -> Chain:
    """The chain as sent and as verified. A good one takes one handshake; each further one says more about a bad one.

    OpenSSL tells one fault only, and shows no certificate that it refuses. Host names are left out throughout.
    """
    try:
        return await _handshake(talk, _context(ca_file))
    except ssl.SSLCertVerificationError as refused:
        fault = refused
    if fault.verify_code in _OUT_OF_TIME:  # is it well but for its dates?
        try:
            verified = await _handshake(talk, _context(ca_file, ignore_time=True))
            return replace(verified, code=fault.verify_code, message=fault.verify_message)
        except ssl.SSLCertVerificationError as refused:
            fault = refused
    sent = await _handshake(talk, _context(None, verify=False))
    return replace(sent, verified=(), code=fault.verify_code, message=fault.verify_message)


@functools.cache
def _context(ca_file: str | None, *, verify: bool = True, ignore_time: bool = False) -> ssl.SSLContext:
    """One a process and setting: making one costs 25 ms. It trusts whom the HTTP transport trusts."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context(trust_env=False)
    context.check_hostname = False  # judged by us, beside all else that is wrong
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    if ignore_time:
        context.verify_flags |= _IGNORE_TIME
    return context


async def _handshake(talk: _Talk, context: ssl.SSLContext) -> Chain:
    """Connect and shake hands. Raises OSError (ssl.SSLError too), wire.AddressRefused and _Unreadable."""
    async with _tls(talk, context) as tls:
        return Chain(
            _certificates(tls, "unverified"),
            _certificates(tls, "verified") if context.verify_mode is ssl.CERT_REQUIRED else (),
            tls_version=tls.version() or "",
        )


@contextlib.asynccontextmanager
async def _tls(talk: _Talk, context: ssl.SSLContext) -> AsyncIterator[ssl.SSLObject]:
    await _take_turn(talk)
    begun = time.monotonic()
    connection = await _connect_to(talk.address, talk.port)
    connected = time.monotonic()
    talk.stage = "connected, the TLS handshake did not end"
    if talk.phases.connect is None:
        talk.phases = Phases(connect=connected - begun)
    _, writer = await asyncio.open_connection(  # from here on the connection is asyncio's, to be closed too
        sock=connection, ssl=context, server_hostname=talk.name, ssl_shutdown_timeout=_GOODBYE
    )
    if talk.phases.tls is None:
        talk.phases = replace(talk.phases, tls=time.monotonic() - connected)
    try:
        yield writer.get_extra_info("ssl_object")
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), _GOODBYE)


async def _take_turn(talk: _Talk) -> None:
    """The wait for our own budget is none of the service's time."""
    loop = asyncio.get_running_loop()
    left = (talk.limit.when() or 0.0) - loop.time()
    talk.limit.reschedule(None)
    await talk.turn()
    talk.limit.reschedule(loop.time() + left)


async def _connect_to(address: str, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _certificates(tls: ssl.SSLObject, which: str) -> tuple[Certificate, ...]:
    """The "verified" or the "unverified" chain of a handshake, by Python's public call (from 3.13 on) or by that of the
    C object below it, which had it before. Raises _Unreadable."""
    public = getattr(tls, f"get_{which}_chain", None)
    inner: Any = getattr(tls, "_sslobj", None)
    found: list[Any] = (public or getattr(inner, f"get_{which}_chain"))() or []
    try:
        return read_chain(_der(each) for each in found)
    except ValueError:
        raise _Unreadable from None


def _der(certificate: Any) -> bytes:
    return certificate if isinstance(certificate, bytes) else ssl.PEM_cert_to_DER_cert(certificate.public_bytes())


def _describe(broken: OSError) -> str:
    if isinstance(broken, ssl.SSLError) and broken.reason in _NO_TLS:
        return "this port does not speak TLS"
    if isinstance(broken, ssl.SSLEOFError | ConnectionResetError):
        return "the connection was closed during the TLS handshake"
    return wire.describe(broken)
