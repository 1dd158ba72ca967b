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
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task

from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.report.text import plain
from tasks.counts import CHECKS

STATE_NAMES = {Outcome.NO_DATA: "NoData", Outcome.ERROR: "Error", Outcome.NOT_YET: "NotYet"}
_OUT_OF_TIME = "Unconfirmed"
_OUTCOMES = {name: outcome for outcome, name in STATE_NAMES.items()}
_GRACE = 2.0  # seconds: whoever asks the service ends by the deadline, in its own words


def worth_another(outcome: Outcome, tried: int) -> bool:
    """Whether one more attempt may say more after `tried` of them: a failure is to be confirmed as often as the file
    says, an error of ours once (it seldom goes away, and a journey writes each time); nothing to look at stays so."""
    return outcome is Outcome.FAIL or (outcome is Outcome.ERROR and tried == 1)


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
    grace: float = 0.0  # seconds that an attempt may need after it, to tidy up
    clock: Callable[[], float] = time.time
    probes: list[Probe] = field(default_factory=list)
    ahead: bool = False  # the last of them was made before the task run that is to tell of it

    async def attempt(self) -> Probe:
        """The next attempt. Never raises: what is wrong with us is an ERROR, and so is what does not end by itself."""
        probe = await self._attempt(self.deadline - time.monotonic())
        CHECKS.labels(self.kind.value, probe.outcome.value).inc()
        self.probes.append(probe)
        return probe

    async def _attempt(self, left: float) -> Probe:
        if left <= 0:
            return self._nothing("was not looked at: the round was over")
        try:
            async with asyncio.timeout(left + self.grace + _GRACE):
                return await self.take(len(self.probes) + 1)
        except TimeoutError:
            return self._nothing("had not ended when the round was over")
        except Exception as bug:  # its text might quote a request
            return self._nothing(f"the checker itself failed ({type(bug).__name__})")

    @property
    def unconfirmed(self) -> bool:
        """Whether another attempt is due."""
        tried = len(self.probes)
        return 0 < tried <= self.retries and worth_another(self.probes[-1].outcome, tried)

    @property
    def wants_more(self) -> bool:
        """Whether another attempt is due, and there is time for it."""
        return self.unconfirmed and time.monotonic() + self.delay < self.deadline

    @property
    def result(self) -> Probe:
        """The last word on the check, with all attempts and what each of them warned of."""
        if not self.probes:
            return self._nothing("was never looked at: its task run says why")
        tried = tuple(
            attempt
            for probe in self.probes
            for attempt in probe.attempts or (Attempt(probe.outcome, probe.why, probe.at, probe.elapsed),)
        )
        warnings = dict.fromkeys(probe.warning for probe in self.probes if probe.warning)
        return dataclasses.replace(self.probes[-1], attempts=tried, warning="; ".join(warnings))

    def _nothing(self, why: str) -> Probe:
        return Probe(self.name, self.kind, self.target, Outcome.ERROR, why, self.clock())


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
            if time.monotonic() >= look.deadline:
                break
            await look.attempt()
        return look.result

    async def step(self, name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        return await take()


@dataclass(frozen=True, slots=True)
class AsTaskRuns:
    """Each check and each step is a task run, named as people read it, with its retries and what it found.

    `before`: what a check's name begins with, where the flow run has those of several services.
    """

    before: str = ""

    async def check(self, look: Look) -> Probe:
        task_run: Any = _with_retries(look.retries, look.delay)(look, self.before + look.name, return_state=True)
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


@dataclass(frozen=True, slots=True)
class WhenAmiss(AsTaskRuns):
    """A check that passes at once is told by the task run of its round, and so are the steps of a journey; any other
    check is a task run of its own, with all its attempts. For rounds by the hundred: a task run costs Prefect's server
    more than all else that a check does."""

    async def check(self, look: Look) -> Probe:
        first = await look.attempt()
        if first.outcome is Outcome.PASS:
            return look.result
        look.ahead = True
        return await AsTaskRuns.check(self, look)

    async def step(self, name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        return await take()


@functools.cache
def _with_retries(retries: int, delay: float) -> Task[..., Any]:
    """The task with these retries. Prefect reads a task's source anew for each variant (5 ms), so one is kept."""
    return _check.with_options(retries=retries, retry_delay_seconds=delay, retry_condition_fn=_worth_a_retry)


async def _worth_a_retry(_: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """What Look.wants_more says of the outcome; the state has it in its name."""
    name = state.name or ""
    return name != _OUT_OF_TIME and worth_another(_OUTCOMES.get(name, Outcome.FAIL), task_run.run_count)


@task(name="check", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
async def _check(look: Look, name: str) -> Any:
    if look.ahead:
        look.ahead = False
    elif not look.probes or time.monotonic() < look.deadline:
        await look.attempt()
    probe = look.probes[-1]
    if look.unconfirmed and not look.wants_more:
        return Failed(name=_OUT_OF_TIME, message=plain(f"{probe.why} (no time was left to confirm it)"))
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
