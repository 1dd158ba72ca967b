"""What resolvers' answers come to, without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from firstwatch.model import Outcome
from firstwatch.records import Reply, Silence, canonical, judge
from firstwatch.spec.synthetic import Record

A = Reply("192.0.2.53", "NOERROR", ("192.0.2.1",), ttl=300, answers=1, elapsed=0.02)
B = replace(A, resolver="192.0.2.54", elapsed=0.05)
SILENT = Reply("192.0.2.55", why="no answer within 5s", silence=Silence.THEIRS)
UNASKED = Reply("2001:db8::53", why="cannot be asked from here (Network is unreachable)", silence=Silence.OURS)
SERVFAIL = Reply("192.0.2.56", "SERVFAIL", elapsed=0.01)
REFUSED = Reply("192.0.2.57", "REFUSED", elapsed=0.01)
NXDOMAIN = Reply("192.0.2.58", "NXDOMAIN", elapsed=0.01)


def record(**given: Any) -> Record:
    return Record(name="shop.example", **given)


@pytest.mark.parametrize(
    ("replies", "listed", "system"),
    [
        ([A, B], Outcome.PASS, Outcome.PASS),
        ([A, SILENT], Outcome.FAIL, Outcome.PASS),
        ([A, REFUSED], Outcome.FAIL, Outcome.PASS),
        ([A, SERVFAIL], Outcome.FAIL, Outcome.PASS),
        ([A, NXDOMAIN], Outcome.FAIL, Outcome.FAIL),
        ([A, UNASKED], Outcome.ERROR, Outcome.PASS),
        ([SILENT], Outcome.FAIL, Outcome.ERROR),
        ([REFUSED, SILENT], Outcome.FAIL, Outcome.ERROR),
        ([UNASKED], Outcome.ERROR, Outcome.ERROR),
        ([SERVFAIL, SILENT], Outcome.FAIL, Outcome.FAIL),
        ([NXDOMAIN, UNASKED], Outcome.FAIL, Outcome.FAIL),
        ([], Outcome.ERROR, Outcome.ERROR),
    ],
)
def test_whose_fault_it_is(replies: list[Reply], listed: Outcome, system: Outcome) -> None:
    for is_listed, outcome in ((True, listed), (False, system)):
        found = judge(record(), replies, listed=is_listed)
        assert found.outcome is outcome and found.why
        assert all(reply.resolver in found.why for reply in replies if reply.silence and len(replies) > 1)


def test_what_is_wrong_is_told_once_for_all_that_say_it() -> None:
    other = replace(A, resolver="192.0.2.59", values=("192.0.2.9",))
    found = judge(record(values=["192.0.2.1", "192.0.2.2"]), [A, B, other, SILENT], listed=True)
    assert found.why == (
        "192.0.2.53, 192.0.2.54: 192.0.2.2 is missing; "
        "192.0.2.59: 192.0.2.1, 192.0.2.2 are missing; 192.0.2.9 is not expected; "
        "192.0.2.55: no answer within 5s; the resolvers disagree"
    )
    found = judge(record(values=["192.0.2.1"]), [A, other], listed=True)
    assert found.why == (
        "192.0.2.59: 192.0.2.1 is missing; 192.0.2.9 is not expected; 192.0.2.53 answered as expected; "
        "the resolvers disagree"
    )
    assert judge(record(), [A, SILENT], listed=True).why == (
        "192.0.2.55: no answer within 5s; 192.0.2.53 answered as expected"
    )
    assert judge(record(), [replace(A, values=())], listed=True).why == "there is no A record"


def test_resolvers_that_disagree_where_anything_goes_are_a_reminder() -> None:
    found = judge(record(), [A, replace(B, values=("192.0.2.9",))], listed=True)
    assert found.outcome is Outcome.PASS
    assert found.warning == "the resolvers disagree: 192.0.2.53 has 192.0.2.1; 192.0.2.54 has 192.0.2.9"
    assert (found.facts["threshold"], found.facts["fingerprint"]) == ("disagreement", "shop.example A")


@pytest.mark.parametrize(
    ("ttl", "authoritative", "outcome", "why"),
    [
        (60, True, Outcome.PASS, ""),
        (3600, True, Outcome.PASS, ""),
        (59, True, Outcome.FAIL, "may be kept for 59s, less than 1m"),
        (3601, True, Outcome.FAIL, "may be kept for 1h1s, longer than 1h"),
        (3601, False, Outcome.FAIL, "may be kept for 1h1s, longer than 1h"),
        (59, False, Outcome.PASS, ""),
    ],
)
def test_ttl_bounds(ttl: int, authoritative: bool, outcome: Outcome, why: str) -> None:
    reply = replace(A, ttl=ttl, authoritative=authoritative)
    found = judge(record(least_ttl="1m", most_ttl="1h"), [reply], listed=True)
    assert found.outcome is outcome and (not why or found.why == why)
    told = "only an authoritative server tells whether the TTL is 1m or more, and none is listed"
    assert found.warning == (told if ttl == 59 and not authoritative else "")


def test_a_ttl_that_changes_is_told_where_an_authority_tells_it() -> None:
    own = replace(A, authoritative=True)
    assert judge(record(), [own], listed=True, ttl_before=300).warning == ""
    found = judge(record(), [own, replace(B, ttl=17)], listed=True, ttl_before=3600)
    assert found.warning == "the TTL is 5m now, and was 1h"
    facts = {key: found.facts[key] for key in ("ttl", "ttl_before", "authoritative", "threshold")}
    assert facts == {"ttl": 300, "ttl_before": 3600, "authoritative": 1.0, "threshold": "ttl 300"}
    assert judge(record(), [replace(A, ttl=17)], listed=True, ttl_before=300).warning == ""
    both = [own, replace(own, resolver="192.0.2.54", ttl=60)]
    assert judge(record(), both, listed=True, ttl_before=60).warning == ""


def test_the_facts() -> None:
    assert judge(record(), [A, B, SILENT], listed=False).facts == {
        "rcode": "NOERROR",
        "answers": 1,
        "ttl": 300,
        "authoritative": 0.0,
        "lookup_seconds": 0.05,
        "lookup_seconds 192.0.2.53": 0.02,
        "lookup_seconds 192.0.2.54": 0.05,
        "values": "192.0.2.1",
    }
    assert judge(record(), [SILENT], listed=True).facts == {}
    assert judge(record(), [A, NXDOMAIN], listed=True).facts["rcode"] == "NXDOMAIN"


@pytest.mark.parametrize(
    ("type", "value", "same"),
    [
        ("A", " 192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:DB8:0:0::1", "2001:db8::1"),
        ("CNAME", "Shop.CDN.example.", "shop.cdn.example"),
        ("MX", "10  Mail.example.", "10 mail.example"),
        ("SRV", "0 5 443 API.example.", "0 5 443 api.example"),
        ("CNAME", "Straße.example.", "xn--strae-oqa.example"),
        ("NS", ".", "."),
        ("TXT", '"v=spf1 -all"', "v=spf1 -all"),
        ("TXT", '"v=DKIM1; k=rsa" "; p=AB"', "v=DKIM1; k=rsa; p=AB"),
        ("TXT", "Kept As It Is.", "Kept As It Is."),
        ("CAA", '0 issue "letsencrypt.org"', "0 issue letsencrypt.org"),
    ],
)
def test_values_are_compared_as_they_are_meant(type: str, value: str, same: str) -> None:
    assert canonical(type, value) == same == canonical(type, same)
