"""What one flow run holds open while it verifies a release, and what it has found. `tasks.opening` puts it together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Abort
from pydantic import TypeAdapter

from firstwatch.model import CheckResult, Outcome, Release, RequestRecord, Verdict
from firstwatch.redaction import Redactor
from firstwatch.report import messages
from firstwatch.report.model import (
    Answer,
    CheckpointRecord,
    Decision,
    Delivery,
    GateRecord,
    MetricRecord,
    ReleaseReport,
    RollbackRecord,
)
from firstwatch.spec import Service
from firstwatch.spec.canary import ALL, metrics_of
from firstwatch.verdict import of_smoke
from tasks import slack
from tasks.busy import patiently
from tasks.gate import GateRun, held_against
from tasks.http import Transport
from tasks.journal import Journal
from tasks.watch import Window

_CHECKS = TypeAdapter(list[CheckResult])
_ANSWER = TypeAdapter(Answer)
_REQUESTS = TypeAdapter(list[RequestRecord])


OURS_FOR = 10.0
"""Seconds for which the server's word that a run is ours is taken at a checkpoint: to judge one twice does no harm, and
a run is not taken over before it has been silent for longer."""
_SOON = 1.0  # seconds for a new word, where there is one that is not old

Reasons = tuple[str, ...]


class NotVerifiable(Exception):
    """The release cannot be verified at all, for a reason that lies with us: the file, a secret, the crash loop."""


@dataclass
class Findings:
    """What has been found so far; the report is made of it."""

    version_check: CheckResult | None = None
    smoke: list[CheckResult] = field(default_factory=list)
    smoke_took: float | None = None
    verdict: Verdict | None = None
    reasons: Reasons = ()
    answers: list[Answer] = field(default_factory=list)
    rollback: RollbackRecord | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    earlier_requests: list[RequestRecord] = field(default_factory=list)  # sent by a process that was killed since


@dataclass
class Run:
    """One verification of one release, and everything it needs. Made by `open_run`."""

    service: Service
    release: Release
    dry_run: bool
    started: float
    flow_run: FlowRun
    flow_run_url: str
    client: PrefectClient
    journal: Journal
    transport: Transport
    redactor: Redactor
    clock: Callable[[], float]
    stack: AsyncExitStack  # closed with the run
    observes: bool = False  # a window belongs to this flow
    thread: slack.Thread | None = None
    window: Window | None = None
    gates: list[GateRun] = field(default_factory=list)
    found: Findings = field(default_factory=Findings)
    asked: int = 0  # how many questions have been answered, or answered with what cannot be taken
    _telling: asyncio.Task[None] | None = None
    _ours_at: float = field(default_factory=time.monotonic)  # it was, as `flow_run` had just been read

    @property
    def requests(self) -> list[RequestRecord]:
        return [*self.found.earlier_requests, *self.transport.records]

    def report(self, state: str = "") -> ReleaseReport:
        """All that is known now, as the page, the charts and Slack take it."""
        found, smoke = self.found, self.service.smoke
        return ReleaseReport(
            release=self.release,
            started=self.started,
            verdict=found.verdict,
            state=state,
            reasons=found.reasons,
            version_check=found.version_check,
            smoke=found.smoke,
            smoke_budget=smoke.budget if smoke else None,
            smoke_took=found.smoke_took,
            checkpoints=self.window.records() if self.window else self._planned(),
            gates=[gate.record() for gate in self.gates] or self._planned_gate(),
            charts=[*(self.window.charts() if self.window else ()), *(c for gate in self.gates for c in gate.charts())],
            rollback=found.rollback,
            answers=tuple(found.answers),
            requests=self.requests,
            deliveries=tuple(found.deliveries),
            notes=tuple(found.notes),
            dry_run=self.dry_run,
            flow_run_url=self.flow_run_url,
            ended=self.clock() if state else None,
        )

    async def still_ours(self, age: float = 0.0) -> None:
        """Leave the run to the process that has taken it over, where ours was taken for dead (its heartbeat got lost).

        `age`: seconds that the server's last word may be old, where it says nothing newer within a second. Before
        anything that cannot be taken back: 0. Raises Abort, on which Prefect ends the process and touches the run no
        more.
        """
        asked = time.monotonic()
        known = asked - self._ours_at < age
        try:
            async with asyncio.timeout(_SOON if known else None):
                now = await patiently(self.client, lambda: self.client.read_flow_run(self.flow_run.id))
        except TimeoutError:
            if not known:
                raise
            return
        if now.run_count != self.flow_run.run_count:
            raise Abort(
                f"process {now.run_count} of this flow run has taken over from process {self.flow_run.run_count}"
            )
        self._ours_at = asked

    def _planned(self) -> list[CheckpointRecord]:
        planned = self.service.window.checkpoints if self.observes else ()
        return [CheckpointRecord(c.name, c.at, c.signal or "query", c.judge or "condition") for c in planned]

    def _planned_gate(self) -> list[GateRecord]:
        """The first gate of a canary whose metrics are yet to be measured."""
        canary = self.service.canary
        if canary is None:
            return []
        metrics = tuple(MetricRecord(m.name, held_against(m), "Running", m.dry_run, ()) for m in metrics_of(canary))
        return [GateRecord(next(iter(canary.steps), None), self.release.deployed_at, metrics)]

    # ── telling people ───────────────────────────────────────────────────────────────────────────────────────

    def tell(self, message: messages.Message) -> None:
        """Hand a message to Slack, behind those before it, and go on at once: nobody waits for Slack."""
        self._telling = asyncio.create_task(self._tell_after(self._telling, message))

    async def told(self) -> None:
        """When all messages are delivered or given up."""
        if self._telling is not None:
            await self._telling

    async def _tell_after(self, before: asyncio.Task[None] | None, message: messages.Message) -> None:
        if before is not None:
            await before
        step = f"slack: {message.kind}"
        if step in self.journal:
            return  # an earlier process of this run has told it
        async with unharmed(f"{step} may be told again"):
            delivery = await slack.tell(self.thread, message)
            if delivery is not None:
                self.found.deliveries.append(delivery)
                if delivery.ok:
                    await self.journal.finish(step, {"ts": delivery.ts})

    # ── watching on, because somebody said so ────────────────────────────────────────────────────────────────

    @property
    def rounds(self) -> int:
        """How often it was decided to go on. What was found in an earlier round is not the last word."""
        on = {Decision.WATCH, Decision.PROCEED} if self._stepwise else {Decision.WATCH}
        return sum(1 for answer in self.found.answers if answer.decision in on)

    @property
    def watch_until(self) -> float | None:
        """The moment (Unix seconds) until which the last answer wants it watched on."""
        return next((a.until for a in reversed(self.found.answers) if a.decision is Decision.WATCH), None)

    @property
    def decision(self) -> Answer | None:
        """What is to be done with an inconclusive release, if that has been decided. A canary that proceeded, and has
        been measured since, is to be decided on anew."""
        last = self.found.answers[-1] if self.found.answers else None
        if last is None or last.decision is Decision.WATCH:
            return None
        measured = max((gate.gate.ruling.decided_at for gate in self.gates), default=last.at)
        return None if last.decision is Decision.PROCEED and measured > last.at else last

    @property
    def _stepwise(self) -> bool:
        return self.service.canary is not None and bool(self.service.canary.steps)

    @property
    def part_way(self) -> bool:
        """Whether a canary with steps has not got all of the traffic yet."""
        at_all = bool(self.gates) and self.gates[-1].weight == ALL
        return self._stepwise and not at_all and promotion_step(ALL) not in self.journal

    def watch_on(self) -> None:
        """Make room for what is found now: the window goes on, and a smoke test that proved nothing is taken again."""
        if self.window is not None and self.watch_until is not None:
            self.window.watch_on(self.watch_until)
        if of_smoke(self.found.version_check, self.found.smoke)[0] is Verdict.INCONCLUSIVE:
            self.found.version_check, self.found.smoke = None, []

    # ── what an earlier process of this flow run has found ───────────────────────────────────────────────────

    def restore_answers(self) -> None:
        """Take up what has been decided, and go on from there."""
        while (kept := self.journal.get(f"answer {self.asked + 1}")) is not None:
            self.asked += 1
            if "answer" in kept:
                self.found.answers.append(_ANSWER.validate_python(kept["answer"]))
        if self.rounds:
            self.watch_on()

    def restore_smoke(self) -> None:
        """Take up the smoke suite's result from the journal, if it has been finished."""
        kept = self.journal.get("smoke")
        if kept is None:
            return
        self.found.earlier_requests = _REQUESTS.validate_python(kept["requests"])
        version = [kept["version"]] if kept["version"] else []
        self.found.version_check = next(iter(_CHECKS.validate_python(version)), None)
        self.found.smoke = _CHECKS.validate_python(kept["checks"])
        self.found.smoke_took = kept["took"]
        if kept.get("round", 0) < self.rounds:
            self.watch_on()


def promotion_step(weight: int) -> str:
    """The journal's entry of a promotion that was accepted; `weight` is percent."""
    return f"promoted to {weight} %"


@asynccontextmanager
async def unharmed(what: str) -> AsyncIterator[None]:
    """For what serves people or a later restart only: its failure is logged, and the verdict goes its way."""
    try:
        yield
    except Exception as problem:
        get_run_logger().warning("%s: %s", what, type(problem).__name__)


def window_ruling(run: Run) -> tuple[Verdict, Reasons]:
    """What the window comes to so far, with the reasons that are not a pass."""
    if run.window is None:
        return Verdict.INCONCLUSIVE, ()
    ruling = run.window.watch.ruling
    return ruling.verdict, tuple(f"{r.check}: {r.why}" for r in ruling.reasons if r.outcome is not Outcome.PASS)
