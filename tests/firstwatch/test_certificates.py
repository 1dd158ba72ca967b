"""What is said of a chain, without a network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization

from firstwatch.certificates import Certificate, Chain, covers, joined, judge, read_certificate, read_chain
from firstwatch.found import Found
from firstwatch.model import Outcome
from firstwatch.spec.synthetic import Certificate as Policy
from tests.support.tls_server import root

DAY = 86_400.0
NOW = 1_795_000_000.0
HOST = "shop.example.com"


def certificate(name: str, issuer: str, *, days: float = 90, hosts: tuple[str, ...] = ()) -> Certificate:
    return Certificate(
        subject=f"CN={name}",
        issuer=f"CN={issuer}",
        common_name=name,
        issuer_name=issuer,
        hosts=hosts,
        not_before=NOW - DAY,
        not_after=NOW + days * DAY,
        fingerprint=f"{name} {days}",
    )


LEAF = certificate("shop", "Issuer", days=60, hosts=(HOST,))
ISSUER = certificate("Issuer", "Root", days=800)
ROOT = certificate("Root", "Root", days=4000)
GOOD = Chain((LEAF, ISSUER), (LEAF, ISSUER, ROOT), tls_version="TLSv1.3")


def aged(days: float) -> Chain:
    """The good chain with a leaf that ends in so many days."""
    leaf = replace(LEAF, not_after=NOW + days * DAY)
    return Chain((leaf, ISSUER), (leaf, ISSUER, ROOT))


@pytest.mark.parametrize(
    ("days", "outcome", "threshold"),
    [
        (60, Outcome.PASS, ""),
        (21, Outcome.PASS, ""),
        (20.99, Outcome.PASS, "21d"),
        (7, Outcome.PASS, "21d"),
        (6.99, Outcome.FAIL, "7d"),
        (0.001, Outcome.FAIL, "7d"),
        (-0.001, Outcome.FAIL, ""),
    ],
)
def test_the_thresholds_to_the_second(days: float, outcome: Outcome, threshold: str) -> None:
    found = judge(HOST, Policy(), aged(days), NOW)
    assert (found.outcome, found.facts.get("threshold", "")) == (outcome, threshold)
    assert bool(found.warning) == (threshold == "21d")


def test_all_that_is_wrong_is_said_at_once() -> None:
    leaf = certificate("other", "Issuer", days=-3, hosts=("other.example",))
    found = judge(HOST, Policy(), Chain((leaf,), code=20, message="unable to get local issuer certificate"), NOW)
    assert found.outcome is Outcome.FAIL
    assert found.why == (
        "expired 3 days ago (2026-11-15); is for other.example, not for shop.example.com; the chain is incomplete: "
        "nobody vouches for other (its issuer, Issuer, is neither sent nor trusted here)"
    )


def test_the_facts_of_a_good_chain() -> None:
    assert judge(HOST, Policy(), GOOD, NOW).facts == {
        "expires_at": NOW + 60 * DAY,
        "last_chain_expires_at": NOW + 60 * DAY,
        "fingerprint": "shop 60",
        "subject": "CN=shop",
        "issuer": "CN=Issuer",
        "tls_version": "TLSv1.3",
    }


def test_what_is_sent_without_need_is_no_failure_and_is_told() -> None:
    old = certificate("Old Cross", "Gone Root", days=-5)
    found = judge(HOST, Policy(), replace(GOOD, sent=(LEAF, ISSUER, old)), NOW)
    assert found.outcome is Outcome.PASS
    assert found.warning == "Old Cross, sent without need, expired 5 days ago (2026-11-13)"
    assert found.facts["expires_at"] == NOW - 5 * DAY and found.facts["last_chain_expires_at"] == NOW + 60 * DAY


def test_a_root_that_nobody_sends_expires_too() -> None:
    ending = replace(ROOT, not_after=NOW + 2 * DAY)
    found = judge(HOST, Policy(), replace(GOOD, verified=(LEAF, ISSUER, ending)), NOW)
    assert found.outcome is Outcome.FAIL and found.why.startswith("the root Root expires in 2 days")


def test_what_openssl_refused_is_no_pass_whatever_we_think_of_it() -> None:
    refused = replace(GOOD, code=10, message="certificate has expired")
    assert judge(HOST, Policy(), refused, NOW).why == "it does not verify: certificate has expired"
    unknown = replace(GOOD, verified=(), code=68, message="CA signature digest algorithm too weak")
    assert judge(HOST, Policy(), unknown, NOW).why == "it does not verify: CA signature digest algorithm too weak"
    assert judge(HOST, Policy(), Chain(()), NOW).outcome is Outcome.FAIL


def test_a_chain_that_goes_in_circles_ends() -> None:
    a, b = certificate("A", "B", hosts=(HOST,)), certificate("B", "A")
    found = judge(HOST, Policy(), Chain((a, b, b), code=20, message="unable to get issuer"), NOW)
    assert "nobody vouches for" in found.why


@pytest.mark.parametrize(
    ("name", "host", "does"),
    [
        ("shop.example.com", "shop.example.com", True),
        ("Shop.Example.com", "shop.example.COM.", True),
        ("*.example.com", "shop.example.com", True),
        ("*.example.com", "a.shop.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.com", "example.com", False),
        ("sh*.example.com", "shop.example.com", False),
        ("*", "shop", False),
        ("", "", False),
        ("*.2.0.1", "192.2.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("xn--kln-sna.example", "köln.example", True),
    ],
)
def test_which_hosts_a_name_stands_for(name: str, host: str, does: bool) -> None:
    assert covers(name, host) is does


def test_no_names_no_host() -> None:
    leaf = certificate(HOST, "Issuer")
    found = judge(HOST, Policy(), Chain((leaf,), (leaf, ROOT)), NOW)
    assert found.why == f"names no host, so it is not for {HOST} (the common name {HOST} counts no more)"


def test_a_certificate_is_read_and_its_texts_are_made_plain() -> None:
    signed = root().issue("evil\n\u202ename", hosts=("a.example", "127.0.0.1"))
    read = read_certificate(signed.certificate.public_bytes(serialization.Encoding.DER))
    assert read.common_name == "evil name" and read.issuer_name == "Test Root"
    assert read.hosts == ("a.example", "127.0.0.1") and read.not_after == signed.not_after
    assert len(read.fingerprint) == 64
    with pytest.raises(ValueError):
        read_chain([b"no certificate"])


# ── several addresses of a host ──────────────────────────────────────────────────────────────────────────────


def test_the_worst_address_has_the_word() -> None:
    good, soon, old = (judge(HOST, Policy(), aged(days), NOW) for days in (60, 12, -3))
    assert joined({"192.0.2.1": soon}) == soon
    found = joined({"192.0.2.1": good, "192.0.2.2": soon, "192.0.2.3": good})
    assert (found.outcome, found.facts["threshold"]) == (Outcome.PASS, "21d")
    assert found.warning == f"192.0.2.2: {soon.warning}"
    found = joined({"192.0.2.1": old, "192.0.2.2": soon, "192.0.2.3": old, "192.0.2.4": replace(old, why="is bad")})
    assert (found.outcome, found.facts) == (Outcome.FAIL, old.facts)
    assert found.why == f"192.0.2.1, 192.0.2.3: {old.why}; 192.0.2.4: is bad"


def test_an_address_that_could_not_be_asked_is_no_pass() -> None:
    good, ours = judge(HOST, Policy(), GOOD, NOW), Found(Outcome.ERROR, "not asked")
    assert joined({"192.0.2.1": good, "192.0.2.2": ours}).outcome is Outcome.ERROR


def test_hosts_are_read_as_urls_read_them() -> None:
    assert covers("xn--strae-oqa.example", "straße.example")
    assert not covers("strasse.example", "straße.example")
    assert covers("*.xn--bcher-kva.example", "WWW.BÜCHER.example.")


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("a003020102", "a003020109"),  # version 10
        ("0603551d13", "0603551d0e"),  # the same extension twice
        ("170d", "170c"),  # a date that is too short
    ],
)
def test_what_is_no_certificate_is_a_value_error(part: str, instead: str) -> None:
    der = root().certificate.public_bytes(serialization.Encoding.DER)
    odd = der.replace(bytes.fromhex(part), bytes.fromhex(instead), 1)
    assert odd != der
    with pytest.raises(ValueError, match="no certificate that can be read"):
        certificates = read_chain([odd])
        judge("localhost", Policy(), Chain(certificates), NOW)
