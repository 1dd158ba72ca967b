"""Smoke checks as task runs: each with its own retries, which confirm a failure and never overwrite it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.tasks import Task

from firstwatch import spec
from firstwatch.answer import Answer, NoAnswer
from firstwatch.conditions import HTTP_NAMES, ConditionError, compile_condition, evaluate
from firstwatch.model import Attempt, CheckResult, Outcome
from firstwatch.report.text import plain
from tasks.counts import CHECKS
from tasks.http import Transport, run_check

_HEAD_START = 0.05  # seconds in which the requests have the event loop to themselves


class Suite:
    """One run of the smoke suite: the transport, the moment when its budget ends, and every attempt so far."""

    def __init__(
        self,
        transport: Transport,
        budget: float,
        checks: Sequence[spec.Check] = (),
        clock: Callable[[], float] = time.time,
    ):
        self.transport, self.clock = transport, clock
        self.checks = {check.name: check for check in checks}
        self.started = time.monotonic()
        self.deadline = self.started + budget
        self.attempts: dict[str, list[Attempt]] = {}  # by check
        self.versions: list[Attempt] = []  # the first and the last row of the version check
        self.other_version = ""  # that answered in the last row, in place of the one under test
        self._under_way: dict[str, asyncio.Task[Attempt]] = {}

    @property
    def took(self) -> float:
        """Seconds since the suite began."""
        return time.monotonic() - self.started

    async def attempt(self, name: str) -> Attempt:
        """The next attempt of a check; the first one may be under way already."""
        attempt = await (self._under_way.pop(name, None) or self._send(name))
        CHECKS.labels("smoke", attempt.outcome.value).inc()
        self.attempts.setdefault(name, []).append(attempt)
        return attempt

    async def send_all(self) -> None:
        """Put the first request of every check on its way: Prefect takes some 5 ms to make each task run, one after
        the other, and the service may answer meanwhile."""
        self._under_way = {name: asyncio.create_task(self._send(name)) for name in self.checks}
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=_HEAD_START)

    async def _send(self, name: str) -> Attempt:
        check = self.checks[name]
        return await run_check(
            self.transport,
            check,
            [compile_condition(text, HTTP_NAMES) for text in check.expect],
            attempt=len(self.attempts.get(name, [])) + 1,
            deadline_monotonic=self.deadline,
            clock=self.clock,
        )

    def result(self, name: str) -> CheckResult:
        check = self.checks[name]
        over = time.monotonic() >= self.deadline
        why = "was never sent: the suite's budget was over before" if over else "has no result: its task run says why"
        attempts = tuple(self.attempts.get(name) or [Attempt(Outcome.ERROR, why, self.clock())])
        return CheckResult(name, f"{check.method} {check.path}", tuple(check.expect), attempts)


async def run_checks(suite: Suite) -> list[CheckResult]:
    """All checks side by side, each as the task run `smoke: NAME`; whatever happens, their evidence comes back."""
    await suite.send_all()
    task_runs: list[Any] = [
        _with_retries(check.retries, check.retry_delay)(suite, name, return_state=True)
        for name, check in suite.checks.items()
    ]
    await asyncio.gather(*task_runs)
    return [suite.result(name) for name in suite.checks]


@functools.cache
def _with_retries(retries: int, delay: float) -> Task[..., Any]:
    """The task with these retries. Prefect reads a task's source anew for each variant (5 ms), so one is kept."""
    return _check.with_options(retries=retries, retry_delay_seconds=delay)


@task(name="smoke check", task_run_name="smoke: {name}", cache_policy=NO_CACHE, persist_result=False)
async def _check(suite: Suite, name: str) -> Any:
    earlier = suite.attempts.get(name, [])
    if earlier and time.monotonic() >= suite.deadline:
        return Failed(message=plain(f"{earlier[-1].why} (no time was left to confirm it)"))
    attempt = await suite.attempt(name)
    if attempt.outcome is not Outcome.PASS:
        return Failed(message=plain(attempt.why))
    if first := next((a.why for a in suite.attempts[name][:-1]), ""):
        return Completed(name="PassedOnRetry", message=plain(f"Attempt 1 failed: {first}"))
    return Completed(message=plain(attempt.why) or "as expected")


async def check_version(suite: Suite, check: spec.VersionCheck, version: str) -> CheckResult:
    """Is it the new version that answers? As the task run `smoke: version VERSION`; its evidence comes back."""
    named = _check_version.with_options(task_run_name=f"smoke: version {version}")
    task_run: Any = named(suite, check, version, return_state=True)
    await task_run
    attempts = suite.versions or [Attempt(Outcome.ERROR, "was not asked for its version", suite.clock())]
    return CheckResult(f"version {version}", f"GET {check.get}", (f'{check.equals} == "{version}"',), tuple(attempts))


@task(name="version check", cache_policy=NO_CACHE, persist_result=False)
async def _check_version(suite: Suite, check: spec.VersionCheck, version: str) -> Any:
    """Ask until the new version answers on several distinct connections in a row, at most `check.within` seconds.

    A release that is still rolling out answers with both; only a whole row of the new one counts. The first and the
    last row are kept as evidence.
    """
    until = min(suite.deadline, time.monotonic() + check.within)
    request = spec.Request(get=check.get)
    rows = suite.versions
    while True:
        suite.other_version = ""
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
    found, why = _named_version(answer, check)
    attempt = Attempt(Outcome.PASS, "", at, answer.elapsed, answer.status)
    if not found:
        return replace(attempt, outcome=Outcome.FAIL, why=suite.transport.redactor.text(why))
    if found != version:
        suite.other_version = found
        why = suite.transport.redactor.text(f"version {plain(found, 100)} answers, not {version}")
        return replace(attempt, outcome=Outcome.FAIL, why=why)
    return attempt


def _named_version(answer: Answer, check: spec.VersionCheck) -> tuple[str, str]:
    """The version that an answer names; or none, and why. An error page names none, whatever stands on it."""
    if answer.status >= 400:
        return "", f"{check.get} answered {answer.status}"
    try:
        found = evaluate(check.equals, answer.names())
    except ConditionError as problem:
        return "", f"{answer.status} answered, and {problem}"
    if not isinstance(found, str | int | float) or isinstance(found, bool) or not str(found):
        return "", f"{answer.status} answered, and {check.equals} names no version"
    return str(found), ""


async def bad_version_is_gone(transport: Transport, check: spec.VersionCheck, version: str, patience: float) -> bool:
    """Does another version than the bad one answer on several connections in a row, within `patience` seconds?

    No answer, or an error, is no proof that it is gone.
    """
    until = time.monotonic() + patience
    request, others = spec.Request(get=check.get), 0
    while others < check.connections:
        answer = await transport.send("after the rollback", 1, request, deadline=until + 5, fresh_connection=True)
        found = "" if isinstance(answer, NoAnswer) else _named_version(answer, check)[0]
        others = others + 1 if found not in ("", version) else 0
        if not others:
            if time.monotonic() + 1 > until:
                return False
            await asyncio.sleep(1)
    return True
