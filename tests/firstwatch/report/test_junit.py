"""A round as CI servers read it."""

from __future__ import annotations

from xml.etree import ElementTree

from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Health, Kind, Probe, Seen
from firstwatch.report.junit import junit_xml

AT = 1_767_225_600.0


def probe(check: str, outcome: Outcome, why: str = "", **more: object) -> Probe:
    return Probe(check, Kind.HTTP, f"GET /{check}", outcome, why, AT, 0.25, **more)  # type: ignore[arg-type]


def suite(*probes: Probe, seen: tuple[Seen, ...] = ()) -> ElementTree.Element:
    root = ElementTree.fromstring(junit_xml("shop", probes, seen, ["drifting"], AT, 1.5))
    found = root.find("testsuite")
    assert found is not None
    return found


def test_what_failed_and_what_could_not_be_judged_is_counted_apart() -> None:
    found = suite(
        probe("good", Outcome.PASS),
        probe("bad", Outcome.FAIL, "status is 500", attempts=(Attempt(Outcome.FAIL, "status is 503", AT),)),
        probe("ours", Outcome.ERROR, "secret:x has no value"),
        probe("silent", Outcome.NO_DATA),
    )
    assert {k: found.get(k) for k in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "5",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
        "time": "1.500",
    }
    [failure] = found.iter("failure")
    assert failure.get("message") == "status is 500" and "status is 503" in (failure.text or "")
    assert [error.get("message") for error in found.iter("error")] == [
        "secret:x has no value",
        "nothing was found either way",
    ]
    assert found.findall("testcase")[0].get("classname") == "shop.http"
    assert found.get("timestamp") == "2026-01-01T00:00:00Z"


def test_what_is_slow_fails_too() -> None:
    found = suite(probe("slow", Outcome.PASS), seen=(Seen("slow", Health.DEGRADED, "34 % slower", AT),))
    [failure] = found.iter("failure")
    assert failure.get("message") == "34 % slower" and found.get("failures") == "1"


def test_a_place_that_has_no_vote_passes_and_fails_nothing() -> None:
    """It cannot reach its own reference."""
    seen = tuple(Seen(name, Health.UNKNOWN, "eu cannot reach its own reference", AT) for name in ("good", "bad"))
    found = suite(probe("good", Outcome.PASS), probe("bad", Outcome.FAIL, "no route"), seen=seen)
    assert (found.get("errors"), found.get("failures")) == ("2", "0")
    assert {error.get("message") for error in found.iter("error")} == {"eu cannot reach its own reference"}


def test_hostile_text_stays_text() -> None:
    why = 'a<b>&"quote" \x00\x1b[31m \ud800 ]]>' + "x" * 5000
    [failure] = suite(probe("x", Outcome.FAIL, why)).iter("failure")
    message = failure.get("message") or ""
    assert message.startswith('a<b>&"quote"') and "\x1b" not in message and len(message) <= 2000
