"""A release's smoke test and the monitor's rounds share one alert, on a real Prefect server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.client.orchestration import get_client

from firstwatch.model import Attempt, CheckResult, Outcome, Release
from firstwatch.monitor import Health
from firstwatch.redaction import Redactor
from firstwatch.report.told import read_book
from firstwatch.spec import Service
from tasks import store
from tasks.run import Findings, Run
from tasks.shared_alerts import share_smoke, shared

AT = 1_767_225_600.0


def service(name: str, **synthetic: Any) -> Service:
    check = {"name": "health", "get": "/health", "expect": ["status == 200"]}
    return Service.model_validate(
        {"service": name, "base_url": "http://x", "smoke": {"checks": [check]}, "synthetic": synthetic}
    )


def result(outcome: Outcome) -> CheckResult:
    return CheckResult("health", "GET /health", (), (Attempt(outcome, "status is 500", AT),))


def run_of(file: Service, client: Any, outcome: Outcome, version: str) -> Run:
    """A verification that has taken its smoke test; all that this reads of one."""
    flow_run = SimpleNamespace(id="run", run_count=1)
    run = SimpleNamespace(
        service=file,
        release=Release(file.service, version, AT),
        found=Findings(smoke=[result(outcome)]),
        clock=lambda: AT,
        client=client,
        flow_run=flow_run,
        redactor=Redactor(),
    )
    return cast(Run, run)


def test_three_releases_whose_smoke_test_fails_open_the_monitors_alert(prefect_api: str) -> None:
    file = service("shared")

    async def work() -> None:
        async with get_client() as client:
            for version in ("v1", "v2", "v2", "v3"):  # v2's process died, and told it again
                await share_smoke(run_of(file, client, Outcome.FAIL, version))
            book = read_book(await store.read(client, store.alerts_key("shared")), "shared")
        assert book.state.checks["health"].results == "ddd" and book.state.open_checks == ("health",)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("outcome", "health"),
    [(Outcome.PASS, Health.UP), (Outcome.FAIL, Health.DOWN), (Outcome.ERROR, Health.UNKNOWN)],
)
def test_what_could_not_be_judged_is_no_vote(outcome: Outcome, health: Health) -> None:
    assert [seen.health for seen in shared(service("shop"), [result(outcome)])] == [health]


def test_where_it_is_not_monitored_or_others_vote_it_has_no_say() -> None:
    found = [result(Outcome.FAIL)]
    assert shared(service("shop", smoke=False), found) == []
    assert shared(service("shop", locations=["eu", "us"]), found) == []
    assert len(shared(service("shop", locations=["eu"]), found)) == 1
