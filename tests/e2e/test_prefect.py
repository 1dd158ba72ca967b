"""What users have of Prefect itself: exit codes for CI, and schedules that fire."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.production import Production, Running, Scenario

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
