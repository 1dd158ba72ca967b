"""What users have of Prefect itself: exit codes for CI, schedules, the UI; and a metric source that dies."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.e2e.production import Production, Running, Scenario
from tests.support.browser import browser

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_ci_can_trust_the_exit_code(production: Production) -> None:
    codes = {}

    def as_ci(production: Production, running: Running) -> None:
        """The same shop, smoke-tested by the command that CI runs: as it is, and then broken."""
        file = str(production.stack.home / "exit-codes.yaml")
        command = ["prefect", "deployment", "run", "smoke/production", "-p", f"service={file}", "-p", "version=v2"]
        codes["good"] = production.stack.run(*command, "--watch").returncode
        running.shop.faults(health_bad=True)
        codes["sick"] = production.stack.run(*command, "-p", "dry_run=true", "--watch").returncode

    production.play(Scenario("exit-codes", flow="smoke", rps=0, meanwhile=as_ci))
    assert codes == {"good": 0, "sick": 1}


def test_a_cron_schedule_gets_its_runs(production: Production) -> None:
    """With SQLAlchemy 2.1 the scheduler silently never creates one: the bounds of pyproject.toml must hold that off."""
    deployment = production.get("deployments/name/smoke/production")["id"]
    schedule = {"schedule": {"cron": "0 3 * * *"}, "active": True}
    created = production._call("POST", f"deployments/{deployment}/schedules", json=[schedule])
    try:
        until = time.monotonic() + 60
        scheduled: list[Any] = []
        while not scheduled and time.monotonic() < until:
            scheduled = production.ask(
                "flow_runs/filter",
                deployments={"id": {"any_": [deployment]}},
                flow_runs={"state": {"name": {"any_": ["Scheduled"]}}},
            )
            time.sleep(1)
        assert scheduled, "the scheduler created no run within a minute"
        assert all(run["auto_scheduled"] for run in scheduled)
    finally:
        production._call("DELETE", f"deployments/{deployment}/schedules/{created[0]['id']}")


def test_prometheus_is_lost_in_mid_window(production: Production) -> None:
    other = production.stack.prometheus({}, name="prometheus-lost")
    assert other is not None

    def measured_by_the_other(file: dict[str, Any]) -> None:
        production.stack.scrape(file["service"], file["base_url"], "prometheus-lost")
        file["metrics"]["prometheus"] = other.announced

    def lose_it(production: Production, running: Running) -> None:
        production._wait_for_window(running.flow_run_id)
        time.sleep(10)
        other.kill()

    result = production.play(Scenario("lost", change=measured_by_the_other, meanwhile=lose_it))
    assert result.ended == "Failed(Inconclusive)", str(result)
    assert "connection refused" in result.state["message"]
    assert result.shop["rollbacks"] == []


def test_the_ui_shows_the_release(production: Production) -> None:
    result = production.play(Scenario("shown", {"health_bad": True}))
    report = next(a for key, a in result.artifacts.items() if key.startswith("release-"))
    ui = production.stack.ui_url

    async def look() -> None:
        async with browser() as page:
            await page.open(f"{ui}/runs/flow-run/{result.flow_run['id']}", "RolledBack", "Task Runs", "smoke: health")
            text = await page.open(f"{ui}/artifacts/artifact/{report['id']}", "Rolled back", "health", "status is 503")
            assert "passed" not in text.split("health")[0]

    asyncio.run(look())
