"""The version check and the suite's results against a real server; the task runs themselves are held in tests/e2e."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from firstwatch.model import Attempt, CheckResult, Outcome
from firstwatch.spec.models import Rules, Service, VersionCheck
from firstwatch.spec.request import Check
from tasks import check
from tasks.budget import Budget
from tasks.check import Suite
from tasks.http import open_transport
from tests.support.faulty_server import faulty_server


def ask_version(version: str, *, budget: float = 60.0, **given: Any) -> tuple[list[Attempt], float]:
    """The attempts that the version check leaves behind, and the seconds that it took."""

    async def main() -> tuple[list[Attempt], float]:
        async with faulty_server() as server:
            service = Service(service="shop", base_url=server.url, rules=Rules(timeout=10, requests_per_second=1000))
            async with open_transport(service, logger=logging.getLogger("t"), budget=Budget("shop", 1000)) as transport:
                suite = Suite(transport, budget)
                await check._check_version.fn(suite, VersionCheck(equals="json.status", **given), version)
                return suite.versions, suite.took

    return asyncio.run(main())


def test_a_row_of_the_new_version_passes() -> None:
    (only,), took = ask_version("ok", get="/ok", within=5, connections=3)
    assert only.outcome is Outcome.PASS
    assert took < 2


def test_a_row_does_not_run_past_its_time() -> None:
    (only,), took = ask_version("ok", get="/hang", within=1, connections=3)
    assert only.outcome is Outcome.FAIL
    assert only.why.startswith(("no answer within 1s", "no answer within 9"))  # it began a little later: 990ms
    assert took < 1.6
    _, took = ask_version("ok", get="/hang", within=30, connections=3, budget=1)
    assert took < 1.6


def test_a_row_that_was_cut_short_does_not_hide_that_the_old_version_answers() -> None:
    attempts, took = ask_version("2", get="/slow?s=0.4", within=1.6, connections=1)
    assert [(a.status, a.why) for a in attempts] == [(200, "version ok answers, not 2")]
    assert 1.4 < took < 2.2


def test_a_check_that_was_never_sent_is_not_proven_to_fail() -> None:
    def result(budget: float) -> CheckResult:
        health = Check(name="health", get="/health", expect=["status == 200"])
        suite = Suite(None, budget, [health])  # type: ignore[arg-type]  # nothing is sent
        return suite.result("health")

    late = result(-1)
    assert (late.outcome, late.why) == (Outcome.ERROR, "was never sent: the suite's budget was over before")
    assert late.attempts[0].at <= time.time()
    assert result(60).outcome is Outcome.ERROR
