"""Put together what one flow run needs to verify a release: the service file, the transport, the journal, the sources.

`open_run` is the one place where that is done; flows only say in which order things happen.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext

from firstwatch.kayenta import queries
from firstwatch.model import Release, rfc3339
from firstwatch.spec import Service
from firstwatch.spec.fill import fill
from tasks import slack
from tasks.api_transport import in_turn
from tasks.canary import Meter
from tasks.gate import GateRun
from tasks.http import open_transport
from tasks.journal import Journal
from tasks.kayenta import read_config
from tasks.measure import selectors_of
from tasks.report import WindowProgress
from tasks.restart import RESTARTING
from tasks.run import NotVerifiable, Run
from tasks.secrets import SecretMissing, known_secrets, load_secret
from tasks.service_files import parsed
from tasks.silence import beating
from tasks.sources import open_source
from tasks.task_runs import settle
from tasks.watch import Window
from tasks.wire import SYNTHETIC_HEADERS

CLOCKS_DIFFER = 300.0  # seconds that a deploy may seem to lie ahead
MAX_RESTARTS = 50  # a run that crashes its process more often than that is given up


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
        in_turn(client)
        flow_run = this_flow_run()
        if flow_run.run_count > MAX_RESTARTS:
            raise NotVerifiable(f"its process has died {flow_run.run_count - 1} times: given up")
        stack.enter_context(beating(flow_run))
        transport = await stack.enter_async_context(open_transport(spec, logger=logger))
        for secret in await known_secrets(spec):
            transport.redactor.add(secret)
        journal = await Journal.open(client, flow_run.id, transport.redactor.value)
        release = Release(spec.service, version, _moment(deployed_at, flow_run))
        if release.deployed_at > time.time() + CLOCKS_DIFFER:
            when = f"deployed_at is {rfc3339(release.deployed_at)}, which is yet to come"
            raise NotVerifiable(f"{when}: give it with its offset from UTC, or leave it out")
        if flow_run.run_count > 1:
            await _pick_up(client, flow_run.id, journal)
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


def this_flow_run() -> FlowRun:
    """The run that we are in, as its engine has read it when this process of it had begun."""
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    return context.flow_run


def _filled(service: Service, version: str, gate_args: Mapping[str, str] | None) -> Service:
    """The file as it stands for this release."""
    if gate_args is not None and service.canary is None:
        raise NotVerifiable(f"the service file of {service.service} has no canary section")
    if gate_args is not None and not service.metrics.prometheus and not _asks_elsewhere(service):
        raise NotVerifiable("a canary is measured in a Prometheus: set metrics.prometheus")
    try:
        gates = gate_args is not None
        filled = fill(service, name=service.service, version=version, args=gate_args or {}, canary=gates)
        if filled.canary is not None and (given := filled.canary.kayenta) is not None:
            queries(read_config(given), given.canary_scope, given.stable_scope, given.location)
    except (ValueError, OSError) as problem:
        raise NotVerifiable(str(problem)) from problem
    return filled


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


async def _pick_up(client: PrefectClient, flow_run_id: UUID, journal: Journal) -> None:
    """Go on after a crash; or, where a person retries a run that ended as inconclusive, look again from the start."""
    await settle(client, flow_run_id, journal)
    if journal.get("ended") == "Inconclusive" and await _is_asked_again(client, flow_run_id):
        await journal.start_over()
    get_run_logger().warning("Picked up again; finished already: %s", ", ".join(journal.steps) or "nothing")


async def _is_asked_again(client: PrefectClient, flow_run_id: UUID) -> bool:
    """Whether a person has asked for this run once more. Otherwise our automation has, as its last event was lost."""
    states = await client.read_flow_run_states(flow_run_id)
    scheduled = [state.name for state in states if state.type is StateType.SCHEDULED]
    return not scheduled or scheduled[-1] != RESTARTING


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
        return parsed(path)
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
