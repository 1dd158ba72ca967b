"""One round with a check of every kind, each against a real server that can go wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from firstwatch.monitor import Health, Seen
from firstwatch.spec import Service
from tasks.looks import Plainly
from tasks.monitor import Monitor, open_transports
from tests.support.dns_server import DnsServer, dns_server
from tests.support.shop import DemoShop, demo_shop
from tests.support.tls_server import Signed, root, server_context, tls_server

NAME = "shop.example"
SAVED = {"n": "json[0].id"}
ANSWER = [f"{NAME} 300 IN A 192.0.2.1"]


def service(shop: DemoShop, other: DemoShop, dns: DnsServer, tls_port: int, ca: Path) -> Service:
    return Service.model_validate(
        {
            "service": "kinds",
            "base_url": shop.url,
            "rules": {"requests_per_second": 200, "timeout": "2s", "ca_file": str(ca)},
            "synthetic": {
                "checks": [{"name": "health", "get": "/health", "expect": ["status == 200"], "retries": 0}],
                "journeys": [
                    {
                        "name": "look around",
                        "steps": [
                            {"name": "list", "get": "/products", "expect": ["size(json) > 0"], "save": SAVED},
                            {"name": "one", "get": "/products?limit=${n}", "expect": ["size(json) == 1"]},
                        ],
                        "retries": 0,
                    }
                ],
                "certificate": {"hosts": [f"localhost:{tls_port}"], "warn": "21d", "fail": "7d"},
                "dns": {"resolvers": [dns.address], "records": [{"name": NAME, "values": ["192.0.2.1"]}]},
                "dependencies": [
                    {"name": "address book", "get": f"{other.url}/health", "expect": ["status == 200"], "retries": 0}
                ],
            },
        }
    )  # fmt: skip


async def one_round(file: Service) -> dict[str, Seen]:
    log = logging.getLogger("test.requests")
    async with open_transports(file, log, time.time) as (transport, outside):
        monitor = Monitor(file, "", time.time(), time.time(), transport, outside, Plainly(), None, log)
        await monitor.look()
        await monitor.remember()
        return {seen.check: seen for seen in monitor.seen}


def chain(tmp_path: Path, ends: float) -> tuple[Signed, Signed, Path]:
    """A leaf of localhost that ends so many days from now, its issuer, and the authority's file."""
    authority = root()
    issuer = authority.issue("Test Issuer", ca=True, ends=400)
    ca = tmp_path / f"ca-{ends:g}.pem"  # a file is read once a process
    ca.write_bytes(authority.pem)
    return issuer.issue("localhost", hosts=("localhost",), ends=ends), issuer, ca


def test_all_is_well_and_then_everything_goes_wrong(tmp_path: Path) -> None:
    leaf, issuer, ca = chain(tmp_path, 90)

    async def work(shop: DemoShop, other: DemoShop, dns: DnsServer) -> None:
        async with tls_server(server_context(tmp_path, leaf, issuer)) as tls:
            file = service(shop, other, dns, tls.port, ca)
            well = await one_round(file)
            certificate = f"certificate localhost:{tls.port}"
            names = {"health", "look around", certificate, f"dns {NAME} A", "address book", "schedule"}
            assert well.keys() == names
            assert {seen.health for seen in well.values()} == {Health.UP}, well
            other.kill()
            shop.faults(errors=1.0)
            dns.records[NAME, "A"] = [f"{NAME} 300 IN A 203.0.113.66"]
        bad = await one_round(file)  # the TLS server is gone
        assert {c for c, s in bad.items() if s.health is Health.UP} == {"schedule", "health"}
        assert bad["address book"].why == "connection refused"
        assert "192.0.2.1 is missing" in bad[f"dns {NAME} A"].why
        assert "step 1/2 list" in bad["look around"].why and bad[certificate].why == "connection refused"

    with demo_shop() as shop, demo_shop() as other, dns_server(records={(NAME, "A"): ANSWER}) as dns:
        asyncio.run(work(shop, other, dns))


def test_a_certificate_that_ends_soon_is_a_warning_and_sooner_a_failure(tmp_path: Path) -> None:
    async def found(shop: DemoShop, ends: float) -> Seen:
        leaf, issuer, ca = chain(tmp_path, ends)
        async with tls_server(server_context(tmp_path, leaf, issuer)) as tls:
            with dns_server(records={(NAME, "A"): ANSWER}) as dns:
                seen = await one_round(service(shop, shop, dns, tls.port, ca))
        return seen[f"certificate localhost:{tls.port}"]

    with demo_shop() as shop:
        soon = asyncio.run(found(shop, 14))
        assert soon.health is Health.UP and soon.warning and soon.facts["threshold"] == "21d"
        sooner = asyncio.run(found(shop, 5))
        assert sooner.health is Health.DOWN and "expires" in sooner.why
