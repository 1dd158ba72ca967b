"""Smoke checks as task runs: each with its own retries, which confirm a failure and never overwrite it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from firstwatch.answer import NoAnswer
from firstwatch.conditions import HTTP_NAMES, ConditionError, compile_condition, evaluate
from firstwatch.model import Attempt, CheckResult, Outcome
from firstwatch.report.text import plain
from firstwatch.spec import models as spec
from tasks.http import Transport, run_check


class Suite:
    """One run of the smoke suite: the transport, the moment when its budget ends, and every attempt so far."""

    def __init__(self, transport: Transport, budget: float, clock: Callable[[], float] = time.time):
        self.transport, self.clock = transport, clock
        self.started = time.monotonic()
        self.deadline = self.started + budget
        self.attempts: dict[str, list[Attempt]] = {}

    @property
    def took(self) -> float:
        """Seconds since the suite began."""
        return time.monotonic() - self.started

    def result(self, check: spec.Check) -> CheckResult:
        over = time.monotonic() >= self.deadline
        why = "was never sent: the suite's budget was over before" if over else "has no result: its task run says why"
        attempts = self.attempts.get(check.name) or [Attempt(Outcome.ERROR, why, self.clock())]
        return CheckResult(check.name, f"{check.method} {check.path}", tuple(check.expect), tuple(attempts))


async def check(suite: Suite, check: spec.Check) -> CheckResult:
    """Run one check as the task run `smoke: NAME`; whatever happens, its evidence comes back."""
    one_try = _check.with_options(
        task_run_name=f"smoke: {check.name}", retries=check.retries, retry_delay_seconds=check.retry_delay
    )
    task_run: Any = one_try(suite, check, return_state=True)
    await task_run
    return suite.result(check)


@task(name="smoke check", cache_policy=NO_CACHE, persist_result=False)
async def _check(suite: Suite, check: spec.Check) -> Any:
    attempts = suite.attempts.setdefault(check.name, [])
    if time.monotonic() >= suite.deadline and attempts:
        return Failed(message=plain(f"{attempts[-1].why} (no time was left to confirm it)"))
    conditions = [compile_condition(text, HTTP_NAMES) for text in check.expect]
    attempt = await run_check(
        suite.transport,
        check,
        conditions,
        attempt=len(attempts) + 1,
        deadline_monotonic=suite.deadline,
        clock=suite.clock,
    )
    attempts.append(attempt)
    if attempt.outcome is not Outcome.PASS:
        return Failed(message=plain(attempt.why))
    if len(attempts) > 1:
        return Completed(name="PassedOnRetry", message=plain(f"Attempt 1 failed: {attempts[0].why}"))
    return Completed(message=plain(attempt.why) or "as expected")


async def check_version(suite: Suite, check: spec.VersionCheck, version: str) -> CheckResult:
    """Is it the new version that answers? As the task run `smoke: version VERSION`; its evidence comes back."""
    named = _check_version.with_options(task_run_name=f"smoke: version {version}")
    task_run: Any = named(suite, check, version, return_state=True)
    await task_run
    attempts = suite.attempts.get("version") or [Attempt(Outcome.ERROR, "was not asked for its version", suite.clock())]
    return CheckResult(f"version {version}", f"GET {check.get}", (f'{check.equals} == "{version}"',), tuple(attempts))


@task(name="version check", cache_policy=NO_CACHE, persist_result=False)
async def _check_version(suite: Suite, check: spec.VersionCheck, version: str) -> Any:
    """Ask until the new version answers on several distinct connections in a row, at most `check.within` seconds.

    A release that is still rolling out answers with both; only a whole row of the new one counts. The first and the
    last row are kept as evidence.
    """
    until = min(suite.deadline, time.monotonic() + check.within)
    request = spec.Request(get=check.get)
    rows = suite.attempts.setdefault("version", [])
    while True:
        row = [await _one_version(suite, check, request, version, n, until) for n in range(1, check.connections + 1)]
        decisive = next((a for a in row if a.outcome is not Outcome.PASS), row[-1])
        passed = decisive.outcome is Outcome.PASS
        if passed or not rows or time.monotonic() < until:  # a row that was cut short says less than the one before
            rows[1:] = [decisive]
        if passed:
            return Completed(message=f"{version} answered on {check.connections} connections")
        if time.monotonic() + 1 >= until:
            return Failed(message=plain(rows[-1].why))
        await asyncio.sleep(1)


async def _one_version(
    suite: Suite, check: spec.VersionCheck, request: spec.Request, version: str, connection: int, until: float
) -> Attempt:
    answer = await suite.transport.send("version", connection, request, deadline=until, fresh_connection=True)
    at = suite.clock()
    if isinstance(answer, NoAnswer):
        return Attempt(answer.outcome, answer.why, at, answer.elapsed)
    attempt = Attempt(Outcome.PASS, "", at, answer.elapsed, answer.status)
    try:
        found = evaluate(check.equals, answer.names())
    except ConditionError as problem:
        return replace(attempt, outcome=Outcome.FAIL, why=f"{answer.status} answered, and {problem}")
    if str(found) != version:
        return replace(attempt, outcome=Outcome.FAIL, why=f"version {found} answers, not {version}")
    return attempt


async def bad_version_is_gone(transport: Transport, check: spec.VersionCheck, version: str, patience: float) -> bool:
    """Does another version than the bad one answer within `patience` seconds? No answer is no proof that it is gone."""
    until = time.monotonic() + patience
    request = spec.Request(get=check.get)
    while True:
        answer = await transport.send("after the rollback", 1, request, deadline=until + 5, fresh_connection=True)
        if not isinstance(answer, NoAnswer):
            with contextlib.suppress(ConditionError):
                if str(evaluate(check.equals, answer.names())) != version:
                    return True
        if time.monotonic() + 1 > until:
            return False
        await asyncio.sleep(1)
