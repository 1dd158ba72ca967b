"""What can be wrong with DNS records and resolvers although every single field is in order."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from firstwatch.hosts import is_address, split_host
from firstwatch.spec.diagnostics import Finding
from firstwatch.spec.findings import Loc, is_domain_name, passes
from firstwatch.spec.synthetic import Dns, Record
from firstwatch.units import show_duration

_EXAMPLES = {
    "A": "192.0.2.10",
    "AAAA": "2001:db8::10",
    "CNAME": "shop.example.net",
    "NS": "ns1.example.net",
    "MX": "10 mail.example.com",
    "SRV": "10 60 5060 sip.example.com",
    "CAA": '0 issue "letsencrypt.org"',
    "SOA": "ns1.example.net hostmaster.example.com 2026010101 7200 3600 1209600 300",
}
_NAMES_AND_NUMBERS = {"CNAME": "n", "NS": "n", "MX": "#n", "SRV": "###n", "SOA": "nn#####"}
"""The fields of a record's value, in order: n a name, # a number."""


def findings(loc: Loc, dns: Dns) -> Iterator[Finding]:
    """Every fault of meaning in the service's DNS checks."""
    for i, resolver in enumerate(dns.resolvers):
        if not _is_resolver(resolver):
            hint = "an IP address, as in 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
            yield Finding((*loc, "resolvers", i), f"{resolver!r} is not the address of a resolver", hint)
    yield from passes((*loc, "timeout"), dns.timeout)
    for i, record in enumerate(dns.records):
        yield from _record((*loc, "records", i), record)


def _record(loc: Loc, record: Record) -> Iterator[Finding]:
    if not is_domain_name(record.name) or is_address(record.name):
        yield Finding((*loc, "name"), f"{record.name!r} is not a domain name", "for example shop.example.com")
    for i, value in enumerate(record.values or ()):
        if not is_value(value, record.type):
            told = f"{value!r} is not what a record of type {record.type} says"
            yield Finding((*loc, "values", i), told, f"for example {_EXAMPLES[record.type]}")
    least, most = record.least_ttl, record.most_ttl
    if least is not None and most is not None and least > most:
        told = f"no TTL is right: {show_duration(least)} at least and {show_duration(most)} at most"
        yield Finding((*loc, "least_ttl"), told, "give the smaller one to least_ttl")


def _is_resolver(text: str) -> bool:
    try:
        host, _ = split_host(text, 53)
    except ValueError:
        return False
    return is_address(host)


def is_value(text: str, kind: str) -> bool:
    """Can a record of this type say so? Names may end in a dot; any text will do for TXT."""
    if kind in ("A", "AAAA"):
        try:
            return ipaddress.ip_address(text).version == (4 if kind == "A" else 6)
        except ValueError:
            return False
    if kind == "CAA":
        return re.fullmatch(r'\d{1,3}\s+[A-Za-z0-9]+\s+("[^"]*"|\S+)', text) is not None
    if kind not in _NAMES_AND_NUMBERS:
        return True
    fields, wanted = text.split(), _NAMES_AND_NUMBERS[kind]
    return len(fields) == len(wanted) and all(
        field.isascii() and field.isdigit() if sort == "#" else field == "." or is_domain_name(field)
        for field, sort in zip(fields, wanted, strict=True)
    )
