"""Records asked of real DNS servers on loopback."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from firstwatch.model import Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.spec.synthetic import Record
from tasks.dns import probe_record
from tests.support.dns_server import DnsServer, dns_server

NAME = "shop.example"
ADDRESSES = {(NAME, "A"): [f"{NAME} 300 IN A 192.0.2.1", f"{NAME} 300 IN A 192.0.2.2"]}


def record(**given: Any) -> Record:
    return Record(**{"name": NAME, **given})


def probe(asked: Record, *servers: DnsServer | str, timeout: float = 5.0, **given: Any) -> Probe:
    resolvers = [each if isinstance(each, str) else each.address for each in servers]
    return asyncio.run(probe_record(asked, resolvers, timeout, **given))


def test_a_name_that_resolves() -> None:
    with dns_server(records=ADDRESSES) as server:
        found = probe(record(values=["192.0.2.2", "192.0.2.1"]), server, clock=lambda: 1_795_000_000.0)
    assert found.outcome is Outcome.PASS and not found.warning
    assert (found.check, found.kind, found.at) == ("dns shop.example A", Kind.DNS, 1_795_000_000.0)
    assert (found.why, found.target) == ("192.0.2.1, 192.0.2.2", f"A shop.example at {server.address}")
    facts = {key: found.facts[key] for key in ("rcode", "ttl", "answers", "authoritative")}
    assert facts == {"rcode": "NOERROR", "ttl": 300, "answers": 2, "authoritative": 1.0}
    assert found.elapsed == found.facts["lookup_seconds"] == found.facts[f"lookup_seconds {server.address}"]
    assert server.seen == [("udp", NAME, "A")]


def test_a_name_is_asked_for_as_urls_have_it() -> None:
    with dns_server(records={("xn--strae-oqa.example", "A"): ["xn--strae-oqa.example. 60 A 192.0.2.1"]}) as server:
        found = probe(record(name="straße.example"), server)
    assert (found.outcome, found.check) == (Outcome.PASS, "dns straße.example A"), found.why


@pytest.mark.parametrize(
    ("told", "asked", "why"),
    [
        ({"rcode": "SERVFAIL"}, {}, "it could not find out (SERVFAIL)"),
        (
            {"rcode": "SERVFAIL", "explained": (7, "of example.")},
            {},
            "it could not find out (SERVFAIL): signature expired, of example.",
        ),
        ({"rcode": "REFUSED"}, {}, "it refuses to answer (REFUSED)"),
        ({}, {}, "there is no such name (NXDOMAIN)"),
        ({"records": ADDRESSES}, {"type": "AAAA"}, "there is no AAAA record"),
        ({"records": ADDRESSES}, {"values": ["192.0.2.1"]}, "192.0.2.2 is not expected"),
        ({"records": ADDRESSES}, {"values": ["192.0.2.1", "192.0.2.2", "192.0.2.3"]}, "192.0.2.3 is missing"),
        ({"records": ADDRESSES}, {"most_ttl": "1m"}, "may be kept for 5m, longer than 1m"),
        ({"records": ADDRESSES}, {"least_ttl": "1h"}, "may be kept for 5m, less than 1h"),
        ({"garbage": True}, {}, "its answer cannot be read"),
    ],
)
def test_what_is_wrong_with_an_answer(told: dict[str, Any], asked: dict[str, Any], why: str) -> None:
    with dns_server(**told) as server:
        found = probe(record(**asked), server)
    assert (found.outcome, found.why) == (Outcome.FAIL, why)


@pytest.mark.parametrize(
    ("type", "line", "value"),
    [
        ("AAAA", "AAAA 2001:db8::1", "2001:DB8:0::1"),
        ("CNAME", "CNAME Shop.CDN.example.", "shop.cdn.example"),
        ("MX", "MX 10 Mail.example.", "10 mail.example."),
        ("NS", "NS ns1.example.", "ns1.example"),
        ("TXT", 'TXT "v=spf1 -all"', "v=spf1 -all"),
        ("SRV", "SRV 0 5 443 api.example.", "0 5 443 api.example"),
        ("CAA", 'CAA 0 issue "letsencrypt.org"', '0 issue "letsencrypt.org"'),
        ("SOA", "SOA ns1.example. root.example. 7 3600 600 86400 60", "ns1.example root.example 7 3600 600 86400 60"),
    ],
)
def test_every_type_of_record(type: Any, line: str, value: str) -> None:
    with dns_server(records={(NAME, type): [f"{NAME} 60 IN {line}"]}) as server:
        assert probe(record(type=type, values=[value]), server).outcome is Outcome.PASS
        wrong = probe(record(type=type, values=["something else"]), server)
    assert wrong.outcome is Outcome.FAIL and "something else is missing" in wrong.why


def test_records_that_change_are_found() -> None:
    with dns_server(records=dict(ADDRESSES)) as server:
        asked = record(values=["192.0.2.1", "192.0.2.2"])
        assert probe(asked, server).outcome is Outcome.PASS
        server.records[NAME, "A"] = [f"{NAME} 60 IN A 192.0.2.1", f"{NAME} 60 IN A 203.0.113.66"]
        found = probe(asked, server, ttl_before=300)
        assert (found.outcome, found.why) == (Outcome.FAIL, "192.0.2.2 is missing; 203.0.113.66 is not expected")
        found = probe(record(), server, ttl_before=300)
        assert (found.outcome, found.warning) == (Outcome.PASS, "the TTL is 1m now, and was 5m")


# ── aliases ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_alias_is_followed_within_an_answer_and_beyond_it() -> None:
    cdn = ["cdn.example 40 IN A 192.0.2.1"]
    beyond = {(NAME, "CNAME"): [f"{NAME} 300 IN CNAME cdn.example."], ("cdn.example", "A"): cdn}
    within = {(NAME, "CNAME"): [*beyond[NAME, "CNAME"], *cdn]}
    for records, questions in ((beyond, 2), (within, 1)):
        with dns_server(records=records) as server:
            found = probe(record(values=["192.0.2.1"]), server)
        assert (found.outcome, found.why) == (Outcome.PASS, "192.0.2.1 by way of cdn.example")
        assert (found.facts["ttl"], found.facts["answers"], len(server.seen)) == (40, 2, questions)


def test_an_alias_that_is_kept_for_less_than_what_it_leads_to() -> None:
    records = {
        (NAME, "CNAME"): [f"{NAME} 20 IN CNAME cdn.example."],
        ("cdn.example", "A"): ["cdn.example 40 IN A 192.0.2.1"],
    }
    with dns_server(records=records) as server:
        assert probe(record(), server).facts["ttl"] == 20


def test_a_cache_is_no_authority() -> None:
    with dns_server(records=ADDRESSES, authoritative=False) as server:
        found = probe(record(least_ttl="1h"), server, ttl_before=60)
    assert found.outcome is Outcome.PASS and found.facts["authoritative"] == 0.0
    assert found.warning == "only an authoritative server tells whether the TTL is 1h or more, and none is listed"


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (
            {(NAME, "CNAME"): [f"{NAME} 300 IN CNAME gone.example."]},
            "leads to gone.example, and there is no such name (NXDOMAIN)",
        ),
        (
            {(NAME, "CNAME"): [f"{NAME} 300 IN CNAME a.example."], ("a.example", "TXT"): ["a.example 5 IN TXT x"]},
            "leads to a.example, and there is no A record",
        ),
        (
            {
                (NAME, "CNAME"): [f"{NAME} 300 IN CNAME a.example."],
                ("a.example", "CNAME"): [f"a.example 300 IN CNAME {NAME}."],
            },
            "there is no A record: its aliases go in circles",
        ),
        (
            {(NAME, "CNAME"): [f"{NAME} 300 IN CNAME a.example.", f"a.example 300 IN CNAME {NAME}."]},
            "there is no A record: its aliases go in circles",
        ),
    ],
)
def test_an_alias_that_leads_nowhere(records: dict[tuple[str, str], list[str]], why: str) -> None:
    with dns_server(records=records) as server:
        found = probe(record(), server)
        assert len(server.seen) <= 8
    assert (found.outcome, found.why) == (Outcome.FAIL, why)


# ── ways to ask ──────────────────────────────────────────────────────────────────────────────────────────────

LONG = {(NAME, "TXT"): [f'{NAME} 60 IN TXT "{n}{"x" * 240}"' for n in range(4)]}


def test_what_is_too_long_for_udp_is_asked_over_tcp() -> None:
    with dns_server(records=LONG) as server:
        found = probe(record(type="TXT", values=[f"{n}{'x' * 240}" for n in range(4)]), server)
    assert found.outcome is Outcome.PASS
    assert [how for how, _, _ in server.seen] == ["udp", "tcp"]


@pytest.mark.parametrize(("over_tcp", "said"), [("closed", "connection refused"), ("silent", "no answer")])
def test_a_resolver_that_does_not_do_tcp(over_tcp: str, said: str) -> None:
    with dns_server(records=LONG, over_tcp=over_tcp) as server:
        found = probe(record(type="TXT"), server, timeout=1.0)
    assert found.outcome is Outcome.FAIL
    assert found.why == f"its answer is too long for UDP, and over TCP: {said}"


def test_a_lost_packet_is_no_failure() -> None:
    with dns_server(records=ADDRESSES, lost=2) as server:
        found = probe(record(), server, timeout=2.0)
    assert found.outcome is Outcome.PASS and len(server.seen) == 3
    assert found.elapsed is not None and found.elapsed > 0.8


def test_a_server_from_before_edns() -> None:
    with dns_server(records=ADDRESSES, knows_edns=False) as server:
        assert probe(record(), server).outcome is Outcome.PASS


def test_silence_lasts_no_longer_than_it_may() -> None:
    with dns_server(silent=True) as server, dns_server(silent=True) as other:
        begun = time.monotonic()
        found = probe(record(), server, other, timeout=0.5)
        took = time.monotonic() - begun
    assert (found.outcome, found.elapsed) == (Outcome.FAIL, None)
    assert found.why == f"{server.address}, {other.address}: no answer within 500ms"
    assert took < 1.0  # side by side
    assert len(server.seen) == 3


# ── several resolvers ────────────────────────────────────────────────────────────────────────────────────────


def test_each_resolver_is_asked_by_itself() -> None:
    stale = {(NAME, "A"): [f"{NAME} 60 IN A 192.0.2.9"]}
    with dns_server(records=ADDRESSES) as good, dns_server(records=stale) as old, dns_server(silent=True) as silent:
        found = probe(record(values=["192.0.2.1", "192.0.2.2"]), good, old, silent, timeout=0.6)
        assert found.outcome is Outcome.FAIL
        assert found.why == (
            f"{old.address}: 192.0.2.1, 192.0.2.2 are missing; 192.0.2.9 is not expected; "
            f"{silent.address}: no answer within 600ms; {good.address} answered as expected; the resolvers disagree"
        )
        assert {key for key in found.facts if key.startswith("lookup_seconds ")} == {
            f"lookup_seconds {good.address}",
            f"lookup_seconds {old.address}",
        }
        found = probe(record(), good, old)
        assert found.outcome is Outcome.PASS and found.warning.startswith("the resolvers disagree: ")


def test_a_resolver_with_an_ipv6_address() -> None:
    """::1 may be missing here: then this machine could not ask, which proves nothing."""
    found = probe(record(), "[::1]:1", timeout=0.3)
    assert found.target == "A shop.example at [::1]:1"
    assert (found.outcome, found.why.partition(" (")[0]) in (
        (Outcome.FAIL, "no answer within 300ms"),
        (Outcome.ERROR, "cannot be asked from here"),
    )


def test_a_machine_without_a_way_to_the_resolver_proves_nothing() -> None:
    found = probe(record(), "255.255.255.255", timeout=0.3)  # broadcast, which a plain socket may not send
    assert (found.outcome, found.why) == (Outcome.ERROR, "cannot be asked from here (Permission denied)")


@pytest.mark.parametrize("resolver", ["ns1.example", "192.0.2.53:0", "a b"])
def test_a_resolver_that_is_none(resolver: str) -> None:
    found = probe(record(), resolver)
    assert found.outcome is Outcome.ERROR and resolver in found.why


def test_a_name_that_is_none() -> None:
    assert asyncio.run(probe_record(Record(name="a..b"), ["127.0.0.1:1"], 1.0)).outcome is Outcome.ERROR


# ── the resolvers of this machine ────────────────────────────────────────────────────────────────────────────


def test_our_own_resolvers_prove_nothing_by_their_silence(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.253\nnameserver 127.0.0.254\n")
    found = probe(record(), timeout=0.3, resolv_conf=str(conf))
    assert (found.outcome, found.why) == (Outcome.ERROR, "127.0.0.253, 127.0.0.254: no answer within 300ms")


def test_a_machine_without_resolvers(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    for text in (None, "", "nameserver nonsense\n"):
        if text is not None:
            conf.write_text(text)
        assert probe(record(), resolv_conf=str(conf)).outcome is Outcome.ERROR
