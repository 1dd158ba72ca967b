"""A real DNS server on loopback, UDP and TCP on one port, that answers as it is told; its records may change."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dnslib import EDNS0, QTYPE, RCODE, RR, DNSError, DNSRecord, EDNSOption
from dnslib.server import DNSHandler, DNSLogger, TCPServer, UDPServer


@dataclass
class DnsServer:
    """What it says. `records` are lines of a zone file, by name and type; a name that has none does not exist."""

    address: str = ""  # as a service file writes it: 127.0.0.1:5353
    port: int = 0
    records: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    rcode: str = "NOERROR"  # of every answer, where it is another one
    explained: tuple[int, str] | None = None  # an extended DNS error: its code and text
    authoritative: bool = True
    silent: bool = False
    lost: int = 0  # so many questions over UDP are lost first
    knows_edns: bool = True
    garbage: bool = False
    over_tcp: str = "answers"  # or "silent"; or "closed": nobody listens there
    udp_size: int = 512
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # (udp or tcp, name, type)

    def resolve(self, request: Any, handler: Any) -> Any:
        name, type = str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        self.seen.append((handler.protocol, name, type))
        if self.silent or (handler.protocol == "tcp" and self.over_tcp == "silent"):
            raise DNSError("silent")
        if handler.protocol == "udp" and self.lost:
            self.lost -= 1
            raise DNSError("lost")
        reply = request.reply(aa=int(self.authoritative), ra=int(not self.authoritative))
        reply.ar = []
        with_edns = any(rr.rtype == QTYPE.OPT for rr in request.ar)
        if with_edns and not self.knows_edns:
            reply.header.rcode = RCODE.FORMERR
            return reply
        self._fill(reply, name, type)
        if self.explained and with_edns:
            code, text = self.explained
            reply.add_ar(EDNS0(opts=[EDNSOption(15, code.to_bytes(2, "big") + text.encode())]))
        return reply

    def _fill(self, reply: DNSRecord, name: str, type: str) -> None:
        if self.rcode != "NOERROR":
            reply.header.rcode = getattr(RCODE, self.rcode)
            return
        lines = self.records.get((name, type)) or self.records.get((name, "CNAME")) or ()
        for line in lines:
            reply.add_answer(*RR.fromZone(line))
        if not lines and not any(known == name for known, _ in self.records):
            reply.header.rcode = RCODE.NXDOMAIN


class _Handler(DNSHandler):
    def get_reply(self, data: bytes) -> bytes:
        server = self.server.resolver
        self.udplen = server.udp_size
        reply: bytes = super().get_reply(data)
        return b"\0\1" + reply[2:7] if server.garbage else reply


@contextlib.contextmanager
def dns_server(**told: Any) -> Iterator[DnsServer]:
    """The server in threads of its own, as DnsServer's fields say."""
    server = DnsServer(**told)
    listening = _listen(closed_tcp=server.over_tcp == "closed")
    server.port = listening[0].server_address[1]
    server.address = f"127.0.0.1:{server.port}"
    threads = []
    for each in listening:
        each.resolver, each.logger = server, DNSLogger(logf=lambda line: None)
        threads.append(threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True))
        threads[-1].start()
    try:
        yield server
    finally:
        for each, thread in zip(listening, threads, strict=True):
            each.shutdown()
            each.server_close()
            thread.join(5)


def _listen(closed_tcp: bool) -> list[Any]:
    """UDP and TCP on the same port: the first that is free for both."""
    for _ in range(50):
        udp = UDPServer(("127.0.0.1", 0), _Handler)
        if closed_tcp:
            return [udp]
        try:
            return [udp, TCPServer(udp.server_address, _Handler)]
        except OSError:
            udp.server_close()
    raise OSError("no port is free for UDP and TCP")


def closed_port() -> int:
    """A UDP port of 127.0.0.1 where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
