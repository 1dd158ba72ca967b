"""DNS records as resolvers give them: each is asked by itself, side by side; firstwatch.records judges what came.

Works without Prefect. Over UDP, with repeats, and over TCP where an answer is too long for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from firstwatch.found import Found
from firstwatch.hosts import is_address, show_host, split_host, to_ascii
from firstwatch.model import Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.records import Reply, Silence, canonical, judge
from firstwatch.spec.synthetic import Record, dns_name
from firstwatch.units import show_duration
from tasks import wire

_SHARES = (0.2, 0.3, 0.5)  # of the time, for one try after the other: packets are lost
_UDP_SIZE = 1232  # bytes that pass every network in one piece (DNS Flag Day 2020)
_WITHOUT_EDNS = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS})
_MOST_ALIASES = 8


async def probe_record(
    record: Record,
    resolvers: Sequence[str],
    timeout: float,
    *,
    ttl_before: float | None = None,
    resolv_conf: str = "/etc/resolv.conf",
    clock: Callable[[], float] = time.time,
) -> Probe:
    """Does each resolver answer for this name as expected? `timeout` is in seconds, of one question to one resolver
    with its repeats; without `resolvers`, those of this machine are asked. `ttl_before` is the fact `ttl` of the last
    probe that had the fact `authoritative` at 1.

    Raises nothing for what resolvers do.
    """
    at = clock()
    asked: list[tuple[str, int]] = []
    try:
        name = dns.name.from_text(to_ascii(record.name))
        asked = [_address(text) for text in resolvers] or system_resolvers(resolv_conf)
        replies = await asyncio.gather(*(_ask(record, name, *each, timeout) for each in asked))
        found = judge(record, replies, listed=bool(resolvers), ttl_before=ttl_before)
    except (ValueError, OSError, UnicodeError, dns.exception.DNSException) as wrong:
        found = Found(Outcome.ERROR, str(wrong) or type(wrong).__name__)
    whom = ", ".join(show_host(*each, 53) for each in asked)
    elapsed = found.facts.get("lookup_seconds")
    return found.probe(
        dns_name(record),
        Kind.DNS,
        f"{record.type} {record.name}" + (f" at {whom}" if whom else ""),
        at,
        elapsed=elapsed if isinstance(elapsed, float) else None,
    )


def system_resolvers(resolv_conf: str) -> list[tuple[str, int]]:
    """Those of this machine. Raises ValueError if there are none."""
    try:
        system = dns.resolver.Resolver(filename=resolv_conf)
    except dns.resolver.NoResolverConfiguration:
        raise ValueError(f"{resolv_conf} names no resolver") from None
    return [(str(address), system.port) for address in system.nameservers]


def _address(text: str) -> tuple[str, int]:
    host, port = split_host(text, 53)
    if not is_address(host):
        raise ValueError(f"the resolver {text} is no address")
    return host, port


async def _ask(record: Record, name: dns.name.Name, host: str, port: int, timeout: float) -> Reply:
    """What one resolver says, within the time; its silence too is an answer."""
    resolver = show_host(host, port, 53)
    begun = time.monotonic()
    try:
        _refuse_unreachable(host, port)
    except OSError as ours:
        return Reply(resolver, why=f"cannot be asked from here ({ours.strerror})", silence=Silence.OURS)
    try:
        async with asyncio.timeout(timeout):
            reply = await _follow(record, name, _Resolver(resolver, host, port, timeout))
    except (TimeoutError, dns.exception.Timeout):
        return Reply(resolver, why=f"no answer within {show_duration(timeout)}", silence=Silence.THEIRS)
    except _NotOverTcp as cut:
        return Reply(resolver, why=str(cut), silence=Silence.THEIRS)
    except OSError as broken:
        return Reply(resolver, why=wire.describe(broken), silence=Silence.THEIRS)
    except (dns.exception.DNSException, EOFError):
        return Reply(resolver, why="its answer cannot be read", silence=Silence.THEIRS)
    return dataclasses.replace(reply, elapsed=time.monotonic() - begun)


def _refuse_unreachable(host: str, port: int) -> None:
    """Raises OSError where this machine has no way to the address, which over UDP looks like silence. Sends nothing."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as way:
        way.connect((host, port))


class _NotOverTcp(Exception):
    """The answer is too long for UDP, and there is none over TCP."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Resolver:
    shown: str
    host: str
    port: int
    timeout: float

    async def exchange(self, name: dns.name.Name, type: str) -> dns.message.QueryMessage:
        """One question's answer. EDNS makes room, and lets the resolver say why it fails; some know it not."""
        answer = await self._repeated(dns.message.make_query(name, type, use_edns=0, payload=_UDP_SIZE))
        if answer.rcode() in _WITHOUT_EDNS:
            answer = await self._repeated(dns.message.make_query(name, type, use_edns=False))
        return answer

    async def _repeated(self, query: dns.message.QueryMessage) -> dns.message.QueryMessage:
        *earlier, last = (share * self.timeout for share in _SHARES)
        for limit in earlier:
            try:
                return await self._once(query, limit)
            except dns.exception.Timeout:
                continue
        return await self._once(query, last)

    async def _once(self, query: dns.message.QueryMessage, limit: float) -> dns.message.QueryMessage:
        try:
            answer = await dns.asyncquery.udp(
                query, self.host, limit, self.port, ignore_unexpected=True, raise_on_truncation=True
            )
        except dns.message.Truncated:
            answer = await self._over_tcp(query)
        if not isinstance(answer, dns.message.QueryMessage):  # an update or the like, in answer to a question
            raise dns.query.BadResponse
        return answer

    async def _over_tcp(self, query: dns.message.QueryMessage) -> dns.message.Message:
        try:
            return await dns.asyncquery.tcp(query, self.host, self.timeout / 2, self.port)
        except (OSError, EOFError, dns.exception.Timeout) as broken:
            said = wire.describe(broken) if isinstance(broken, OSError) else "no answer"
            raise _NotOverTcp(f"its answer is too long for UDP, and over TCP: {said}") from None


# ── from messages to a reply ─────────────────────────────────────────────────────────────────────────────────


async def _follow(record: Record, name: dns.name.Name, resolver: _Resolver) -> Reply:
    """The answer at the end of all aliases: those that a resolver does not follow by itself, it is asked for."""
    reply = Reply(resolver.shown, authoritative=True)
    asked: list[dns.name.Name] = []
    while name not in asked and len(asked) < _MOST_ALIASES:
        asked.append(name)
        answer = await resolver.exchange(name, record.type)
        try:
            reply, target = _add(reply, record.type, answer)
        except dns.message.ChainTooLong:
            break
        if target is None:
            return reply
        name = target
    return Reply(resolver.shown, rcode="NOERROR", why="its aliases go in circles")


def _add(reply: Reply, type: str, answer: dns.message.QueryMessage) -> tuple[Reply, dns.name.Name | None]:
    """The reply with this answer, and where it leads on to. Raises dns.exception.DNSException for a broken answer."""
    rcode = dns.rcode.to_text(answer.rcode())
    reply = dataclasses.replace(
        reply,
        rcode=rcode,
        authoritative=reply.authoritative and bool(answer.flags & dns.flags.AA),
        answers=reply.answers + sum(len(rrset) for rrset in answer.answer),
        why=_extended_error(answer),
    )
    if rcode not in ("NOERROR", "NXDOMAIN"):
        return reply, None
    chain = answer.resolve_chaining()
    ttls = [rrset.ttl for rrset in chain.cnames]
    target = chain.canonical_name if chain.cnames else None
    if target is not None:
        reply = dataclasses.replace(reply, leads_to=canonical("CNAME", target.to_text()))
    if chain.answer is not None:
        values = tuple(sorted({_text(type, rdata) for rdata in chain.answer}))
        reply, target = dataclasses.replace(reply, values=values), None
        ttls.append(chain.answer.ttl)
    known = [ttl for ttl in (reply.ttl, *ttls) if ttl is not None]
    return dataclasses.replace(reply, ttl=min(known, default=None)), target if rcode == "NOERROR" else None


def _text(type: str, rdata: Any) -> str:
    if type == "TXT":
        return b"".join(rdata.strings).decode("utf-8", "replace")
    return canonical(type, rdata.to_text())


def _extended_error(answer: dns.message.Message) -> str:
    """What the resolver itself says of a failure (RFC 8914)."""
    for option in answer.options:
        if isinstance(option, dns.edns.EDEOption):
            name = getattr(option.code, "name", str(option.code)).lower().replace("_", " ")
            return f"{name}, {option.text}" if option.text else name
    return ""
