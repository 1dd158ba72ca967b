"""Our metrics beside those of a blackbox_exporter that looks at the same endpoint: names, types, labels, values."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dnslib
import httpx
import pytest
from dnslib.server import DNSServer

from firstwatch.answer import Answer
from firstwatch.model import Outcome
from firstwatch.monitor import Health, Kind, Phases, Probe
from firstwatch.spec.models import Rules, Service
from firstwatch.spec.request import Request
from firstwatch.spec.synthetic import Certificate
from tasks.budget import Budget
from tasks.certificate import probe_certificate
from tasks.http import open_transport
from tasks.metrics import Sample, answer_facts, exposition
from tasks.wire import Resolver
from tests.support.answering import Said, answering
from tests.support.faulty_server import certificate
from tests.support.programs import program
from tests.support.samples import Page, every_kind

ADDED = {"service", "location", "check", "kind"}
SAME_VALUES = {
    "probe_success",
    "probe_http_status_code",
    "probe_http_content_length",
    "probe_http_uncompressed_body_length",
    "probe_http_redirects",
    "probe_http_ssl",
    "probe_ssl_earliest_cert_expiry",
    "probe_ssl_last_chain_expiry_timestamp_seconds",
}
NOT_OURS = {
    "probe_failed_due_to_regex",  # our conditions are CEL: probe_failed_due_to_cel, which its newer versions have too
    "probe_ip_addr_hash",
    "probe_dns_additional_rrs",
    "probe_dns_authority_rrs",
}


async def our_probe(url: str, ca_file: Path) -> Probe:
    """GET / through the transport that all our checks pass."""
    service = Service(service="shop", base_url=url, rules=Rules(requests_per_second=1000, ca_file=str(ca_file)))
    budget = Budget("shop", 1000)
    async with open_transport(service, logger=logging.Logger("quiet"), budget=budget) as transport:
        answer = await transport.send("health", 1, Request(get="/"), deadline=time.monotonic() + 10)
    await budget.aclose()
    assert isinstance(answer, Answer), answer
    phases, facts = answer.phases or Phases(), answer_facts(answer)
    target = f"GET {url}/"
    return Probe("health", Kind.HTTP, target, Outcome.PASS, "", time.time(), answer.elapsed, phases=phases, facts=facts)


async def our_certificate(url: str, ca_file: Path) -> Probe:
    port = int(url.rpartition(":")[2])
    resolver = Resolver("localhost", port)
    return await probe_certificate(
        "localhost", port, Certificate(warn=172_800, fail=86_400), resolver=resolver, ca_file=str(ca_file)
    )


@contextmanager
def resolver() -> Iterator[str]:
    """A DNS server that knows shop.example.com; its address."""

    class Known:
        def resolve(self, request: dnslib.DNSRecord, _: object) -> dnslib.DNSRecord:
            reply = request.reply()
            reply.add_answer(*dnslib.RR.fromZone("shop.example.com. 300 A 192.0.2.1"))
            return reply

    server = DNSServer(Known(), address="127.0.0.1", port=0)
    threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server.server_address[1]}"
    finally:
        server.server.shutdown()
        server.server.server_close()


@contextmanager
def exporter(folder: Path, ca_file: Path) -> Iterator[str]:
    """A blackbox_exporter with a module for HTTP and one for DNS; its URL."""
    ip4 = {"preferred_ip_protocol": "ip4"}
    modules = {
        "http": {"prober": "http", "timeout": "5s", "http": ip4 | {"tls_config": {"ca_file": str(ca_file)}}},
        "dns": {"prober": "dns", "timeout": "5s", "dns": ip4 | {"query_name": "shop.example.com", "query_type": "A"}},
    }
    config = folder / "blackbox.yml"
    config.write_text(json.dumps({"modules": modules}))  # JSON is YAML
    with program(folder, "prometheus-blackbox-exporter", f"--config.file={config}") as url:
        yield url


def probed(exporter_url: str, module: str, target: str) -> Page:
    asked = {"module": module, "target": target}
    return Page(httpx.get(f"{exporter_url}/probe", params=asked, trust_env=False).raise_for_status().text)


def shape(page: Page, names: set[str]) -> dict[str, tuple[str, set[str]]]:
    return {name: (page.types[name], page.labels(name) - ADDED) for name in names}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Of the same endpoint: `ours`, and `http` and `dns`, the blackbox_exporter's."""
    folder = tmp_path_factory.mktemp("blackbox")
    tls, ca_file = certificate(folder, days=5)
    with (
        answering(Said('{"status": "ok"}'), tls=tls) as endpoint,
        resolver() as dns,
        exporter(folder, ca_file) as url,
    ):
        theirs = {"http": probed(url, "http", f"{endpoint.url}/"), "dns": probed(url, "dns", dns)}
        ours = [asyncio.run(look(endpoint.url, ca_file)) for look in (our_probe, our_certificate)]
    samples = [Sample("shop", "paris", probe, Health.UP, probe.at, probe.at, 300) for probe in ours]
    return {**theirs, "ours": Page(exposition(samples))}


def test_the_same_endpoint_has_the_same_names_types_labels_and_values(pages: dict[str, Page]) -> None:
    ours, theirs = pages["ours"], pages["http"]
    common = ours.types.keys() & theirs.types.keys()
    assert common >= SAME_VALUES | {"probe_duration_seconds", "probe_http_duration_seconds", "probe_tls_version_info"}
    informed = {"probe_ssl_last_chain_info"}  # it lists the names on the certificate too
    assert shape(ours, common - informed) == shape(theirs, common - informed)
    values = {name: {v for (key, _), v in ours.series.items() if key == name} for name in SAME_VALUES}
    assert values == {name: {theirs.value(name)} for name in SAME_VALUES}


def test_the_same_certificate_has_the_same_fingerprint_and_version(pages: dict[str, Page]) -> None:
    def told(page: Page, name: str, *labels: str) -> dict[str, str]:
        """What all series of that name say: our endpoint's check and our certificate's say the same."""
        found = [{label: dict(has)[label] for label in labels} for key, has in page.series if key == name]
        assert found and all(each == found[0] for each in found)
        return found[0]

    for name, *labels in (
        ("probe_ssl_last_chain_info", "fingerprint_sha256", "issuer", "subject"),
        ("probe_tls_version_info", "version"),
    ):
        assert told(pages["ours"], name, *labels) == told(pages["http"], name, *labels)


def test_phases_are_told_in_seconds_of_the_same_names(pages: dict[str, Page]) -> None:
    for phase in Phases.__slots__:
        mine, theirs = (pages[who].value("probe_http_duration_seconds", phase=phase) for who in ("ours", "http"))
        assert mine is not None and 0 <= mine < 1, phase
        assert theirs is not None and 0 <= theirs < 1, phase


@pytest.mark.parametrize("module", ["http", "dns"])
def test_all_that_the_blackbox_exporter_tells_is_told(pages: dict[str, Page], module: str) -> None:
    theirs = pages[module]
    assert theirs.value("probe_success") == 1
    ours = Page(exposition(every_kind()))
    wanted = set(theirs.types) - NOT_OURS
    assert wanted <= ours.types.keys()
    wanted -= {"probe_ssl_last_chain_info"}
    assert shape(ours, wanted) == shape(theirs, wanted)
