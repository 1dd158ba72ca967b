"""The page of metrics: what stands on it, and what must not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from firstwatch.answer import Answer, Way
from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Health, Kind, Phases
from tasks.exposition import answer_facts, exposition
from tests.support.samples import ANSWER, CHAIN, DAY, NOW, RECORD, Page, a_sample, every_kind


def page_of(**given: Any) -> Page:
    return Page(exposition([a_sample(**given)]))


# ── what a probe found ───────────────────────────────────────────────────────────────────────────────────────


def test_a_probe_is_told_under_the_names_that_dashboards_know() -> None:
    phases = Phases(resolve=0.001, connect=0.002, processing=0.004, transfer=0.005)
    page = page_of(elapsed=0.2, phases=phases, facts=ANSWER)
    values = {
        "probe_success": 1,
        "probe_duration_seconds": 0.2,
        "probe_http_status_code": 200,
        "probe_http_content_length": 120,
        "probe_http_uncompressed_body_length": 340,
        "probe_http_redirects": 1,
        "probe_http_ssl": 1,
        "probe_http_version": 1.1,
        "probe_ip_protocol": 4,
        "probe_failed_due_to_cel": 0,
        "probe_dns_lookup_time_seconds": 0.001,
    }
    labels = {"service": "shop", "location": "paris", "check": "health", "kind": "http"}
    assert {name: page.value(name, **labels) for name in values} == values
    spent = {phase: page.value("probe_http_duration_seconds", phase=phase, **labels) for phase in Phases.__slots__}
    assert spent == {"resolve": 0.001, "connect": 0.002, "tls": None, "processing": 0.004, "transfer": 0.005}


def test_certificates_are_told_as_the_blackbox_exporter_does() -> None:
    page = page_of(check="certificate", kind=Kind.CERTIFICATE, facts=CHAIN)
    assert page.value("probe_ssl_earliest_cert_expiry") == NOW + 30 * DAY
    assert page.value("probe_ssl_last_chain_expiry_timestamp_seconds") == NOW + 60 * DAY
    assert page.value("probe_tls_version_info", version="TLS 1.3") == 1
    leaf = {"fingerprint_sha256": "abcd01", "issuer": "CN=Test Issuer", "subject": "CN=shop.example.com"}
    assert page.value("probe_ssl_last_chain_info", **leaf) == 1
    assert page.value("probe_http_ssl") is None


def test_a_record_is_told_with_what_the_resolver_said() -> None:
    page = page_of(check="dns", kind=Kind.DNS, facts=RECORD, phases=Phases(resolve=0.5, connect=0.0))
    assert page.value("probe_dns_lookup_time_seconds") == 0.012
    assert page.value("probe_dns_answer_rrs") == 2
    assert page.value("probe_dns_query_succeeded") == 1
    assert page.value("firstwatch_dns_ttl_seconds") == 300
    assert page.value("firstwatch_dns_rcode_info", rcode="NOERROR") == 1
    spent = {
        phase: page.value("probe_dns_duration_seconds", phase=phase) for phase in ("resolve", "connect", "request")
    }
    assert spent == {"resolve": 0.5, "connect": 0.0, "request": 0.012}
    assert page.value("probe_http_duration_seconds") is None


@pytest.mark.parametrize(
    ("facts", "outcome", "said"),
    [
        ({"rcode": "NXDOMAIN"}, Outcome.FAIL, 1),  # it answered
        ({}, Outcome.FAIL, 0),
        ({}, Outcome.ERROR, None),  # we could not ask
    ],
)
def test_a_resolver_that_is_silent_is_told_from_one_that_says_no(
    facts: dict[str, str], outcome: Outcome, said: float | None
) -> None:
    page = page_of(check="dns", kind=Kind.DNS, outcome=outcome, facts=facts)
    assert page.value("probe_dns_query_succeeded") == said


# ── what nobody has measured ─────────────────────────────────────────────────────────────────────────────────


def test_what_a_probe_did_not_find_has_no_series() -> None:
    page = page_of(health=Health.DOWN)
    told = {name for name, _ in page.series if name.startswith("probe_")}
    assert told == {"probe_success"}


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.NO_DATA])
def test_a_check_that_could_not_be_looked_at_is_neither_up_nor_down(outcome: Outcome) -> None:
    page = page_of(health=Health.UNKNOWN, outcome=outcome, facts={"status": 200})
    assert page.value("probe_success") is None
    assert page.value("probe_failed_due_to_cel") is None
    assert page.value("firstwatch_check_health", health="unknown") == 1
    assert page.value("firstwatch_check_health", health="up") == 0


@pytest.mark.parametrize("junk", ["ten", "", math.nan, math.inf, True, None])
def test_a_fact_that_is_no_number_is_left_out(junk: Any) -> None:
    facts = {"expires_at": junk, "bytes": junk, "answers": junk, "http_version": junk}
    page = page_of(facts=facts)
    assert {name for name, _ in page.series if name.startswith("probe_")} == {"probe_success"}


def test_a_plain_answer_counts_as_such_only_where_no_redirect_may_have_led_to_tls() -> None:
    plain = {"target": "GET http://shop.example.com/?back=https://x.example"}
    assert page_of(**plain, facts={"status": 200, "redirects": 0}).value("probe_http_ssl") == 0
    assert page_of(**plain, facts={"status": 200, "redirects": 1}).value("probe_http_ssl") is None
    assert (
        page_of(**plain, facts={"status": 200, "redirects": 1, "tls_version": "TLSv1.3"}).value("probe_http_ssl") == 1
    )
    assert page_of(**plain, facts={"redirects": 0}).value("probe_http_ssl") is None  # no answer


def test_the_last_attempt_stands_in_for_facts_that_are_missing() -> None:
    tried = Attempt(Outcome.FAIL, "status is 500", NOW, elapsed=0.4, status=500)
    page = page_of(health=Health.DOWN, attempts=(replace(tried, status=404), tried))
    assert page.value("probe_http_status_code") == 500
    assert page.value("probe_duration_seconds") == 0.4
    assert page.value("probe_failed_due_to_cel") == 1
    journey = page_of(kind=Kind.JOURNEY, health=Health.DOWN, attempts=(tried,))
    assert journey.value("probe_http_status_code") is None


# ── what only we know ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("health", list(Health))
def test_a_check_has_one_health(health: Health) -> None:
    page = page_of(health=health)
    told = {each.value: page.value("firstwatch_check_health", health=each.value) for each in Health}
    assert told == {each.value: float(each is health) for each in Health}


def test_slow_is_a_success() -> None:
    assert page_of(health=Health.DEGRADED).value("probe_success") == 1


def test_a_round_tells_how_late_it_was_and_when_it_looked() -> None:
    page = page_of(warning="expires soon", cancelled=4)
    assert page.value("firstwatch_check_warning") == 1
    assert page.value("firstwatch_check_last_timestamp_seconds") == NOW
    assert page.value("firstwatch_round_planned_timestamp_seconds") == NOW - 2
    assert page.value("firstwatch_round_started_timestamp_seconds") == NOW - 0.5
    assert page.value("firstwatch_round_lateness_seconds") == 1.5
    assert page.value("firstwatch_round_interval_seconds") == 300
    assert page.value("firstwatch_rounds_cancelled_total") == 4
    assert page.types["firstwatch_rounds_cancelled_total"] == "counter"


def test_alerts_are_the_services_and_the_newest_round_knows_them_best() -> None:
    old = a_sample(alert_open=True, incident_open=True)
    new = replace(old, location="oslo", started_at=NOW + 9, alert_open=False, incident_open=None)
    for samples in ([old, new], [new, old]):
        page = Page(exposition(samples))
        assert page.labels("firstwatch_alert_open") == {"service", "check"}
        assert page.value("firstwatch_alert_open") == 0
        assert page.value("firstwatch_incident_open") == 1
    assert page_of().value("firstwatch_alert_open") is None


def test_of_two_rounds_of_a_location_the_newer_one_stands_alone() -> None:
    old = a_sample(elapsed=9.0, facts=ANSWER, health=Health.DOWN)
    new = a_sample(kind=Kind.DEPENDENCY, started_at=NOW + 300)
    for samples in ([old, new], [new, old]):
        page = Page(exposition(samples))
        assert page.value("probe_success") == 1
        assert page.value("probe_duration_seconds") is None
        assert page.labels("probe_success") == {"service", "location", "check", "kind"}


# ── the formats ──────────────────────────────────────────────────────────────────────────────────────────────


def test_both_formats_say_the_same() -> None:
    samples = every_kind()
    plain = Page(exposition(samples)).series
    families = text_string_to_metric_families(exposition(samples, openmetrics.generate_latest).decode())
    modern = {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}
    assert modern == plain
    assert len(plain) > 200


def test_names_may_hold_whatever_people_write() -> None:
    odd = 'buy "tea"\n\\ für 5 €'
    assert (
        page_of(check=odd, facts=CHAIN | {"issuer": odd}).value("probe_ssl_last_chain_info", check=odd, issuer=odd) == 1
    )


def test_no_samples_are_an_empty_page() -> None:
    assert exposition([]) == b""


def test_an_answer_shows_its_facts() -> None:
    answer = Answer(200, {"content-encoding": "gzip"}, "…", None, "", 0.1, 70, redirected_from=("http://a.example/",))
    assert answer_facts(answer) == {"status": 200, "bytes": 70, "redirects": 1}
    assert answer_facts(replace(answer, headers={}))["uncompressed_bytes"] == 70
    way = {"http_version": "HTTP/1.1", "ip_protocol": 6, "tls_version": "TLSv1.3"}
    assert way.items() <= answer_facts(replace(answer, way=Way(**way))).items()
