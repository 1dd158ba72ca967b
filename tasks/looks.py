"""A check of a service as a round takes it, and the two ways to take it: as Prefect task runs, or plainly.

Whichever way, the attempts are the same: a failure is confirmed by further ones, none of which overwrites another, and
nothing outlives the round's deadline.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.tasks import Task

from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.report.text import plain

STATE_NAMES = {Outcome.NO_DATA: "NoData", Outcome.ERROR: "Error", Outcome.NOT_YET: "NotYet"}


@dataclass
class Look:
    """One check in one round. `take` makes the n-th attempt (from 1); `probes` are what the attempts found."""

    name: str
    kind: Kind
    target: str
    take: Callable[[int], Awaitable[Probe]]
    retries: int = 1
    delay: float = 1.0  # seconds before a failure is confirmed
    deadline: float = float("inf")  # monotonic seconds: the round's end
    clock: Callable[[], float] = time.time
    probes: list[Probe] = field(default_factory=list)

    async def attempt(self) -> Probe:
        """The next attempt. Never raises: what is wrong with us is an ERROR."""
        left = self.deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                probe = await self.take(len(self.probes) + 1)
        except TimeoutError:
            probe = self._nothing(Outcome.FAIL if left > 0 else Outcome.ERROR, "had not ended when the round was over")
        except Exception as bug:  # its text might quote a request
            probe = self._nothing(Outcome.ERROR, f"the checker itself failed ({type(bug).__name__})")
        self.probes.append(probe)
        return probe

    @property
    def wants_more(self) -> bool:
        """Whether a failure is still to be confirmed, and there is time for that."""
        unproven = bool(self.probes) and self.probes[-1].outcome is not Outcome.PASS
        return unproven and len(self.probes) <= self.retries and time.monotonic() + self.delay < self.deadline

    @property
    def result(self) -> Probe:
        """The last word on the check, with all attempts."""
        if not self.probes:
            return self._nothing(Outcome.ERROR, "was never looked at: its task run says why")
        tried = tuple(
            attempt
            for probe in self.probes
            for attempt in probe.attempts or (Attempt(probe.outcome, probe.why, probe.at, probe.elapsed),)
        )
        return dataclasses.replace(self.probes[-1], attempts=tried)

    def _nothing(self, outcome: Outcome, why: str) -> Probe:
        return Probe(self.name, self.kind, self.target, outcome, why, self.clock())


class Runner(Protocol):
    """How the checks of a round, and the steps of a journey, are run."""

    async def check(self, look: Look) -> Probe:
        """Take the check, with its retries."""

    async def step(self, name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        """Take one step of a journey. Raises what `take` raises."""


class Plainly:
    """Without Prefect: for a run on a CI machine."""

    async def check(self, look: Look) -> Probe:
        await look.attempt()
        while look.wants_more:
            await asyncio.sleep(look.delay)
            await look.attempt()
        return look.result

    async def step(self, name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        return await take()


class AsTaskRuns:
    """Each check and each step is a task run, named as people read it, with its retries and what it found."""

    async def check(self, look: Look) -> Probe:
        task_run: Any = _with_retries(look.retries, look.delay)(look, look.name, return_state=True)
        await task_run
        return look.result

    async def step(self, name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        found: list[Attempt] = []
        task_run: Any = _step(_Step(take, found), name, return_state=True)
        state = await task_run
        if not found:
            await state.aresult()  # raises what stopped it
            return Attempt(Outcome.ERROR, "its task run says why it was not taken", time.time())
        return found[0]


@functools.cache
def _with_retries(retries: int, delay: float) -> Task[..., Any]:
    """The task with these retries. Prefect reads a task's source anew for each variant (5 ms), so one is kept."""
    return _check.with_options(retries=retries, retry_delay_seconds=delay)


@task(name="check", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
async def _check(look: Look, name: str) -> Any:
    if look.probes and time.monotonic() >= look.deadline:
        return Failed(message=plain(f"{look.probes[-1].why} (no time was left to confirm it)"))
    probe = await look.attempt()
    return _state(probe.outcome, probe.warning or probe.why, look.probes[0].why if len(look.probes) > 1 else "")


@dataclass
class _Step:
    take: Callable[[], Awaitable[Attempt]]
    found: list[Attempt]


@task(name="step", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
async def _step(step: _Step, name: str) -> Any:
    attempt = await step.take()
    step.found.append(attempt)
    return _state(attempt.outcome, attempt.why)


def _state(outcome: Outcome, why: str, first_failure: str = "") -> Any:
    """The task run's state. Only what is no pass may be tried again, and so is Failed."""
    if outcome is Outcome.PASS and first_failure:
        return Completed(name="PassedOnRetry", message=plain(f"Attempt 1 failed: {first_failure}"))
    if outcome is Outcome.PASS:
        return Completed(message=plain(why) or "as expected")
    if name := STATE_NAMES.get(outcome):
        return Failed(name=name, message=plain(why))
    return Failed(message=plain(why))
