"""What the looks of a round ask with: one budget, one memory of secrets, the facts of an answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from firstwatch.model import Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.rounds import Place
from firstwatch.spec import Service
from tasks.looks import Plainly
from tasks.monitor import open_transports
from tasks.probes import Probing
from tests.support.dns_server import dns_server
from tests.support.faulty_server import certificate, faulty_server
from tests.tasks.test_http import Lines

OK = ["status == 200"]
TOKEN = "pl4nted-tok3n-of-the-journey"


async def _no_beats(names: Sequence[str]) -> Mapping[str, float | None]:
    raise LookupError


async def look(
    url: str,
    log: Lines | None = None,
    rate: float = 1000,
    ca_file: str | None = None,
    redirects: int = 0,
    baselines: dict[str, Any] | None = None,
    **synthetic: Any,
) -> dict[str, Probe]:
    """What the looks at a service find, one after the other, journeys first."""
    rules = {"timeout": 2, "requests_per_second": rate, "ca_file": ca_file, "redirects": redirects}
    file = Service.model_validate({"service": "shop", "base_url": url, "rules": rules, "synthetic": synthetic})
    logger = logging.Logger("requests")
    if log is not None:
        logger.addHandler(log)
    async with open_transports(file, logger, time.time) as (transport, outside):
        place, deadline = Place(60.0, baselines=baselines or {}), time.monotonic() + 20
        probing = Probing(file, transport, outside, place, deadline, Plainly(), _no_beats)
        looks = sorted(probing.looks(), key=lambda each: each.kind is not Kind.JOURNEY)
        found = {each.name: await Plainly().check(each) for each in looks}
        if baselines is not None:
            baselines.update(probing.baselines)
        return found


def says(body: Any) -> str:
    return f"/says?body={quote(json.dumps(body))}"


def test_what_a_journey_saves_is_hidden_in_what_a_dependency_answers() -> None:
    async def go() -> tuple[dict[str, Probe], Lines]:
        step = {"name": "log in", "get": says({"token": TOKEN}), "expect": OK, "save": {"token": "json.token"}}
        log = Lines()
        async with faulty_server() as service, faulty_server() as elsewhere:
            asks = {"name": "sessions", "get": f"{elsewhere.url}{says({'seen': TOKEN})}", "retries": 0}
            asks["expect"] = ['json.seen == ""']
            journey = {"name": "buy tea", "steps": [step]}
            return await look(service.url, log, journeys=[journey], dependencies=[asks]), log

    found, log = asyncio.run(go())
    assert found["buy tea"].outcome is Outcome.PASS
    assert found["sessions"].why == 'json.seen == "": json.seen is "***"'
    assert TOKEN not in repr(found["sessions"])
    assert log.lines and TOKEN not in log.lines[-1]


def test_handshakes_spend_from_the_services_budget(tmp_path: Path) -> None:
    tls, ca = certificate(tmp_path, days=9)  # more than the 7 that fail

    async def go(rate: float) -> float:
        async with contextlib.AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(faulty_server(tls)) for _ in range(4)]
            hosts = [f"localhost:{server.port}" for server in servers]
            started = time.monotonic()
            found = await look(servers[0].url, rate=rate, ca_file=str(ca), certificate={"hosts": hosts})
            assert {probe.outcome for probe in found.values()} == {Outcome.PASS}, found
            return time.monotonic() - started

    assert asyncio.run(go(1000)) < 0.5
    assert asyncio.run(go(4)) > 0.7  # four of them, or more where localhost has another address


def test_questions_to_resolvers_spend_nothing() -> None:
    with dns_server(records={("a.example", "A"): ["a.example. 60 A 192.0.2.1"]}) as server:
        names = [{"name": "a.example"}, {"name": "a.example", "type": "A", "values": ["192.0.2.1"]}] * 3
        started = time.monotonic()
        dns = {"resolvers": [server.address], "records": names}
        found = asyncio.run(look("http://127.0.0.1:1", rate=1, dns=dns))
    assert {probe.outcome for probe in found.values()} == {Outcome.PASS}
    assert time.monotonic() - started < 1.0


def test_an_endpoint_has_the_facts_of_its_answer() -> None:
    async def go() -> dict[str, Probe]:
        async with faulty_server() as service:
            return await look(service.url, checks=[{"name": "health", "get": "/ok", "expect": OK}])

    probe = asyncio.run(go())["health"]
    shown = {"status": 200, "bytes": 16, "uncompressed_bytes": 16, "redirects": 0}
    assert probe.facts == {**shown, "http_version": "HTTP/1.1", "ip_protocol": 4}


@pytest.mark.parametrize("damaged", [{"x": 1}, {"baseline": None}, {"baseline": {"digest": 7}}, ["?"]])
def test_a_baseline_that_cannot_be_read_is_begun_anew_and_said(damaged: Any) -> None:
    baselines: dict[str, Any] = {"headers": damaged}

    async def go() -> list[Probe]:
        async with faulty_server() as service:
            drift = [{"name": "headers", "get": "/ok"}]
            return [(await look(service.url, baselines=baselines, drift=drift))["headers"] for _ in range(2)]

    first, second = asyncio.run(go())
    assert first.outcome is Outcome.ERROR and first.why.startswith("its baseline could not be read"), first.why
    assert second.outcome is Outcome.PASS and second.why.startswith("as it was on "), second.why


def test_a_dependency_does_not_lead_us_into_the_service() -> None:
    async def go() -> tuple[Probe, list[str]]:
        async with faulty_server() as service, faulty_server() as elsewhere:
            to = quote(f"{service.url}/unsubscribe?user=1", safe="")
            asks = {"name": "mail", "get": f"{elsewhere.url}/redirect?status=302&to={to}", "expect": OK, "retries": 0}
            found = await look(service.url, redirects=3, dependencies=[asks])
            return found["mail"], [seen.path for seen in service.seen]

    probe, asked = asyncio.run(go())
    assert probe.outcome is Outcome.FAIL and "from elsewhere into the service" in probe.why, probe.why
    assert asked == []
