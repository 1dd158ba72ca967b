"""What one flow run holds open while it verifies a release: the service file, the transport, the journal, the thread.

`open_run` is the one place where a run's parts are put together; flows only say in which order things happen.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import PrefectClient, get_client
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
from firstwatch.spec import Service, load_or_raise
from firstwatch.spec.canary import metrics_of
from firstwatch.spec.fill import fill
from firstwatch.verdict import of_smoke
from tasks import slack
from tasks.canary import Meter
from tasks.gate import GateRun, held_against
from tasks.http import Transport, open_transport
from tasks.journal import Journal
from tasks.measure import selectors_of
from tasks.report import WindowProgress
from tasks.secrets import SECRET_IN_TEXT, SecretMissing, load_secret
from tasks.sources import open_source
from tasks.watch import Window
from tasks.wire import SYNTHETIC_HEADERS

MAX_RESTARTS = 50  # a run that crashes its process more often than that is given up
_CHECKS = TypeAdapter(list[CheckResult])
_ANSWER = TypeAdapter(Answer)
_REQUESTS = TypeAdapter(list[RequestRecord])


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

    async def still_ours(self) -> None:
        """Leave the run to the process that has taken it over, where ours was taken for dead (its heartbeat got lost).

        Raises Abort, on which Prefect ends the process and touches the run no more.
        """
        now = await self.client.read_flow_run(self.flow_run.id)
        if now.run_count != self.flow_run.run_count:
            raise Abort(
                f"process {now.run_count} of this flow run has taken over from process {self.flow_run.run_count}"
            )

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
        """How often the release has been watched on. What was found in an earlier round is not the last word."""
        return sum(1 for answer in self.found.answers if answer.decision is Decision.WATCH)

    @property
    def watch_until(self) -> float | None:
        """The moment (Unix seconds) until which the last answer wants it watched on."""
        return next((a.until for a in reversed(self.found.answers) if a.decision is Decision.WATCH), None)

    @property
    def decision(self) -> Answer | None:
        """What is to be done with an inconclusive release, if that has been decided."""
        last = self.found.answers[-1] if self.found.answers else None
        return None if last is None or last.decision is Decision.WATCH else last

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


@asynccontextmanager
async def open_run(
    service: str,
    version: str,
    deployed_at: datetime | None,
    dry_run: bool,
    *,
    observes: bool = False,
    gate_args: Mapping[str, str] | None = None,
) -> AsyncIterator[Run]:
    """Everything for one run of a flow. `service` is a file in services/ (or FIRSTWATCH_SERVICES), or a path to one.

    `gate_args`: what `{{args.NAME}}` stands for, for a flow that gates a canary; the others leave that section alone.
    Raises NotVerifiable, with all that is wrong, before the first request is sent.
    """
    logger = get_run_logger()
    spec = _filled(read_service(service), version, gate_args)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(get_client())
        flow_run = await client.read_flow_run(UUID(str(runtime.flow_run.id)))
        if flow_run.run_count > MAX_RESTARTS:
            raise NotVerifiable(f"its process has died {flow_run.run_count - 1} times: given up")
        transport = await stack.enter_async_context(open_transport(spec, logger=logger))
        for secret in [s async for s in _secrets(spec)]:
            transport.redactor.add(secret)
        journal = await Journal.open(client, flow_run.id, transport.redactor.value)
        release = Release(spec.service, version, _moment(deployed_at, flow_run))
        if flow_run.run_count > 1:
            await _pick_up(journal)
        run = Run(
            service=spec,
            release=release,
            dry_run=dry_run,
            started=time.time() if flow_run.start_time is None else flow_run.start_time.timestamp(),
            flow_run=flow_run,
            flow_run_url=str(runtime.flow_run.ui_url or ""),
            client=client,
            journal=journal,
            transport=transport,
            redactor=transport.redactor,
            clock=time.time,
            observes=observes,
            stack=stack,
        )
        if spec.alerts.slack is not None:
            first = journal.get("slack: started") or {}
            run.thread = await slack.Thread.open(spec.alerts.slack, load_secret, run.redactor, first.get("ts"))
        if observes:
            run.window = await _open_window(run, stack)
        while gate_args is not None and (kept := journal.get(f"gate {len(run.gates) + 1}")) is not None:
            await open_gate(run, len(run.gates) + 1, kept["weight"])
        run.restore_answers()
        try:
            yield run
        finally:
            await run.told()


def _filled(service: Service, version: str, gate_args: Mapping[str, str] | None) -> Service:
    """The file as it stands for this release."""
    if gate_args is not None and service.canary is None:
        raise NotVerifiable(f"the service file of {service.service} has no canary section")
    if gate_args is not None and not service.metrics.prometheus and not _asks_elsewhere(service):
        raise NotVerifiable("a canary is measured in a Prometheus: set metrics.prometheus")
    try:
        return fill(service, name=service.service, version=version, args=gate_args or {}, canary=gate_args is not None)
    except ValueError as problem:
        raise NotVerifiable(str(problem)) from problem


def _asks_elsewhere(service: Service) -> bool:
    """Whether every metric of the canary names a Prometheus of its own."""
    canary = service.canary
    return canary is not None and canary.kayenta is None and all(m.provider and m.address for m in canary.metrics)


async def open_gate(run: Run, number: int, weight: int | None) -> GateRun:
    """The run's gate of that number (from 1), which gates a step's weight: from its beginning, or from where an earlier
    process of this run left it.

    The first one begins with the deploy, each later one when it is opened first.
    """
    if number <= len(run.gates):
        return run.gates[number - 1]
    began = run.release.deployed_at if number == 1 else run.clock()
    kept = run.journal.get(f"gate {number}")
    if kept is None:
        await run.journal.finish(f"gate {number}", {"began": began, "weight": weight})
    else:
        began = kept["began"]
    meter = await run.stack.enter_async_context(Meter(run.service, began))
    progress = WindowProgress(run.release, run.redactor)
    run.gates.append(GateRun(run.service, began, meter, run.journal, progress, run.clock, weight, number))
    return run.gates[-1]


async def _pick_up(journal: Journal) -> None:
    """Go on after a crash; or, where a person retries a run that ended as inconclusive, look again from the start."""
    await journal.close_orphans()
    if journal.get("ended") == "Inconclusive":
        await journal.start_over()
    get_run_logger().warning("Picked up again; finished already: %s", ", ".join(journal.steps) or "nothing")


async def _open_window(run: Run, stack: AsyncExitStack) -> Window:
    """The window, from its beginning or from where an earlier process of this run left it."""
    try:
        source = await open_source(
            run.service.metrics,
            service=run.service.service,
            selectors=selectors_of(run.service),
            marks=SYNTHETIC_HEADERS,
        )
    except (SecretMissing, ValueError) as problem:
        raise NotVerifiable(f"the metric source cannot be opened: {problem}") from problem
    await stack.enter_async_context(source)
    progress = WindowProgress(run.release, run.redactor)
    window = Window(run.service, run.release, source, progress, run.journal, run.clock)
    if kept := run.journal.get("window"):
        window.restore(kept)
    return window


def read_service(service: str) -> Service:
    """The service file by name or path. Raises NotVerifiable with every diagnostic."""
    folder = Path(os.environ.get("FIRSTWATCH_SERVICES", "services"))
    path = Path(service) if service.endswith((".yaml", ".yml")) else folder / f"{service}.yaml"
    try:
        return load_or_raise(path.read_text(encoding="utf-8"), str(path), os.environ)
    except (OSError, UnicodeDecodeError) as problem:
        raise NotVerifiable(f"the service file {path} cannot be read: {problem}") from problem
    except ValueError as problem:
        raise NotVerifiable(str(problem)) from problem


def _moment(deployed_at: datetime | None, flow_run: FlowRun) -> float:
    """When the release was deployed (Unix seconds): as given, or else when CI asked for this run.

    That is when the flow run was created, which a restart does not change.
    """
    if deployed_at is not None:
        return (deployed_at if deployed_at.tzinfo else deployed_at.replace(tzinfo=UTC)).timestamp()
    asked = flow_run.start_time if flow_run.auto_scheduled else flow_run.created
    return asked.timestamp() if asked is not None else time.time()


async def _secrets(service: Service) -> AsyncIterator[str]:
    """The values of all secrets that the file names and that can be found, for the redactor.

    One that is missing is told where it is used.
    """
    for name in set(_secret_names(service.model_dump())):
        try:
            yield (await load_secret(name)).reveal()
        except SecretMissing:
            continue


def _secret_names(value: Any) -> Iterator[str]:
    """Every name in the file's secret fields (`secret`, `password`, `token`, `bearer`, Slack's `webhook`), and each
    `secret:NAME` in a text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _SECRET_FIELDS and isinstance(item, str):
                yield item
            yield from _secret_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secret_names(item)
    elif isinstance(value, str):
        yield from SECRET_IN_TEXT.findall(value)


_SECRET_FIELDS = frozenset({"secret", "password", "token", "bearer", "webhook"})
