"""Journeys: their steps one after the other, each a task run (or plainly), and the clean-up whatever happened.

    probe = await probe_journey(transport, journey, attempt, deadline=…, runner=AsTaskRuns().step)

One way through; that a failure is confirmed by another one, tasks/looks.py sees to, as for every other check. Works
without Prefect: the runner says how a step is run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from firstwatch.answer import Answer
from firstwatch.conditions import HTTP_NAMES, compile_condition
from firstwatch.journey import CannotFill, Saved, fill_step, names_in, probe_of, save, step_label, to_hide
from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Probe
from firstwatch.spec.synthetic import Journey, Step
from tasks.http import Transport, judge_answer

CLEANUP_TIME = 10.0  # seconds of its own, for all clean-up steps together

StepRunner = Callable[[str, Callable[[], Awaitable[Attempt]]], Awaitable[Attempt]]
"""Runs one step under its name, and returns what it came to."""

_going_on: set[asyncio.Task[None]] = set()  # clean-ups that outlive whoever asked for them


async def plainly(_: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
    """A step without Prefect."""
    return await take()


async def probe_journey(
    transport: Transport,
    journey: Journey,
    attempt: int = 1,
    *,
    deadline: float,
    clock: Callable[[], float] = time.time,
    runner: StepRunner = plainly,
) -> Probe:
    """One way through the journey, the `attempt`-th; the first step that fails ends it. `deadline` is monotonic.

    The clean-up follows in any case, also after it and when this is cancelled: a cancellation is passed on when the
    clean-up has ended, after CLEANUP_TIME at the latest.
    """
    tour = _Tour(transport, journey, attempt, clock, runner)
    at = clock()
    try:
        await tour.take_steps(deadline)
    except asyncio.CancelledError:
        tour.runner = plainly  # a flow run that is being ended starts no more task runs
        raise
    finally:
        await _to_its_end(tour.clean_up())
    first = journey.steps[0]
    url = first.path if "://" in first.path else f"{transport.base_url.rstrip('/')}{first.path}"
    more = f" and {len(journey.steps) - 1} more" if len(journey.steps) > 1 else ""
    return probe_of(
        journey,
        tour.taken,
        target=f"{first.method} {transport.redactor.url(url)}{more}",
        at=at,
        warning="; ".join(tour.warnings),
        skipped="; ".join(tour.skipped),
    )


class _Tour:
    """One way through a journey: what has been saved, and what each step came to."""

    def __init__(
        self, transport: Transport, journey: Journey, attempt: int, clock: Callable[[], float], runner: StepRunner
    ) -> None:
        self.runner = runner
        self.taken: list[Attempt] = []
        self.warnings: list[str] = []  # of the clean-up
        self.skipped: list[str] = []
        self._transport = transport
        self._journey = journey
        self._attempt = attempt
        self._clock = clock
        self._saved: dict[str, Any] = {}

    async def take_steps(self, deadline: float) -> None:
        for i, step in enumerate(self._journey.steps):
            self.taken.append(await self._run(step_label(self._journey, i, self._attempt), step, deadline))
            if self.taken[-1].outcome is not Outcome.PASS:
                return

    async def clean_up(self) -> None:
        """Every clean-up step for which there is what it needs. What fails is a warning: the journey itself held."""
        deadline = time.monotonic() + CLEANUP_TIME
        for step in self._journey.cleanup:
            if missing := [name for name in names_in(step) if name not in self._saved]:
                self.skipped.append(f"{step.name} was skipped: {' and '.join(missing)} was never saved")
                continue
            attempt = await self._run(f"{self._journey.name} cleanup {step.name}", step, deadline)
            if attempt.outcome is not Outcome.PASS:
                self.warnings.append(f"cleanup {step.name}: {attempt.why}")

    async def _run(self, label: str, step: Step, deadline: float) -> Attempt:
        """The step, run as the runner does it; what is wrong with us is an ERROR."""
        at = self._clock()
        try:
            return await self.runner(label, lambda: self._take(label, step, deadline))
        except Exception as bug:  # its text might quote a value
            return Attempt(Outcome.ERROR, f"the checker itself failed ({type(bug).__name__})", at)

    async def _take(self, label: str, step: Step, deadline: float) -> Attempt:
        """Send one step, keep what it saves, and hold its answer against what is expected."""
        at, redactor = self._clock(), self._transport.redactor
        try:
            filled = fill_step(step, self._saved)
        except CannotFill as problem:
            return Attempt(Outcome.ERROR, redactor.text(f"not sent: {problem}"), at)
        answer = await self._transport.send(label, self._attempt, filled, deadline=deadline)
        saved = save(step, answer) if isinstance(answer, Answer) else Saved()
        for text in to_hide(saved.values):  # before anything is told of the answer
            redactor.add(text)
        self._saved.update(saved.values)  # also where the step fails: what it has made is to be cleaned up
        attempt = judge_answer(answer, [compile_condition(c, HTTP_NAMES) for c in step.expect], at, redactor)
        if saved.why and attempt.outcome is Outcome.PASS:
            return replace(attempt, outcome=Outcome.FAIL, why=redactor.text(saved.why))
        return attempt


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await the work although we are cancelled meanwhile; that is passed on afterwards. Whoever cancels a second time
    is obeyed at once, and the work goes on alone."""
    task = asyncio.create_task(work)
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CLEANUP_TIME)
        raise
