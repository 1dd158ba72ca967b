"""Put together what one round of a monitor needs, as a Prefect flow run or on its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType

from firstwatch.spec import Service
from firstwatch.units import show_duration
from tasks.http import Logger
from tasks.looks import AsTaskRuns, Plainly, Runner
from tasks.monitor import Monitor, leave_word, open_transports
from tasks.opening import MAX_RESTARTS, read_service, this_flow_run
from tasks.restart import RESTARTING
from tasks.run import NotVerifiable, unharmed
from tasks.secrets import known_secrets
from tasks.store import turn_key
from tasks.turns import keeping_turn, take_turn
from tasks.wire import tls_context

_SECRETS_KEPT = 300.0  # seconds; the transport and Slack look theirs up anew


class Overlapping(Exception):
    """The round before has not ended: this one is cancelled."""


@asynccontextmanager
async def open_monitor(service: str, location: str) -> AsyncIterator[Monitor]:
    """A round of this flow run. `service` is a file in services/ (or FIRSTWATCH_SERVICES), or a path to one.

    Raises NotVerifiable with all that is wrong, and Overlapping where another run is at it.
    """
    spec = monitored(service, location)
    assert spec.synthetic is not None
    async with get_client() as client:
        flow_run = this_flow_run()
        if flow_run.run_count > MAX_RESTARTS:
            raise NotVerifiable(f"its process has died {flow_run.run_count - 1} times: given up")
        run, key, started = str(flow_run.id), turn_key(spec.service, location), time.time()
        turn = await take_turn(client, key, run, started)
        if not turn.ours:
            if (await _planned(client, flow_run))[1]:
                async with unharmed("the next round does not say that this one's process died"):
                    await leave_word(
                        client, spec, location, run, "the process of a round died; another was at it since"
                    )
            times = f"{show_duration(spec.synthetic.time)} of the {show_duration(spec.synthetic.every)} between two"
            raise Overlapping(
                f"the round before has not ended; {turn.overlapped} cancelled in all. A round has {times} to look"
            )
        async with keeping_turn(client, key, run, time.time, gives_back=False):
            await _tag(client, flow_run, location)
            planned, restarted = await _planned(client, flow_run)
            async with _monitor(spec, location, get_run_logger(), AsTaskRuns(), planned, started, client) as monitor:
                monitor.run, monitor.process = run, flow_run.run_count
                monitor.restarted, monitor.overlapped = restarted, turn.overlapped
                yield monitor


@asynccontextmanager
async def open_once(service: str, location: str, logger: Logger) -> AsyncIterator[Monitor]:
    """A round that nobody has planned and nothing remembers, without Prefect. Raises NotVerifiable."""
    spec = monitored(service, location)
    now = time.time()
    async with _monitor(spec, location, logger, Plainly(), now, now, None) as monitor:
        yield monitor


def monitored(service: str, location: str) -> Service:
    """The service file, which must say what is monitored, and from that location. Raises NotVerifiable."""
    spec = read_service(service)
    if spec.synthetic is None:
        raise NotVerifiable(f"the service file of {spec.service} has no synthetic section")
    known = spec.synthetic.locations.names if spec.synthetic.locations else []
    if location and location not in known:
        there = f"it has {', '.join(known)}" if known else "it has none: leave it out"
        raise NotVerifiable(f"{spec.service} is not monitored from a location {location!r}; {there}")
    if known and not location:
        raise NotVerifiable(f"{spec.service} is monitored from {', '.join(known)}: say from which of them this is")
    try:
        tls_context(spec.rules.ca_file, spec.rules.insecure)
    except OSError as problem:
        raise NotVerifiable(f"rules.ca_file: {problem.filename}: {problem.strerror}") from problem
    return spec


@asynccontextmanager
async def _monitor(
    spec: Service,
    location: str,
    logger: Logger,
    runner: Runner,
    planned: float,
    started: float,
    client: PrefectClient | None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Monitor]:
    async with open_transports(spec, logger, clock) as (transport, outside):
        for secret in await known_secrets(spec, _SECRETS_KEPT):
            for each in (transport, *outside.values()):
                each.redactor.add(secret)
        yield Monitor(
            service=spec,
            location=location,
            planned=planned,
            started=started,
            transport=transport,
            outside=outside,
            runner=runner,
            client=client,
            logger=logger,
            clock=clock,
        )


async def _tag(client: PrefectClient, flow_run: FlowRun, location: str) -> None:
    """Let people find the runs of a location in the UI."""
    if location and (tag := f"location:{location}") not in flow_run.tags:
        async with unharmed("the run was not tagged with its location"):
            await client.update_flow_run(flow_run.id, tags=[*flow_run.tags, tag])


async def _planned(client: PrefectClient, flow_run: FlowRun) -> tuple[float, bool]:
    """When the round was to begin (Unix seconds), and whether our automations have started it again."""
    given = flow_run.expected_start_time or flow_run.created
    if flow_run.run_count < 2:
        return (given.timestamp() if given else time.time()), False
    return planned_by(await client.read_flow_run_states(flow_run.id), given, time.time())


def planned_by(states: Sequence[State[Any]], given: datetime | None, now: float) -> tuple[float, bool]:
    """The same of a run that has begun before, by its states, oldest first. A person who asks for it once more asks for
    now; if that process dies, it was planned for then."""
    scheduled = [state for state in states if state.type is StateType.SCHEDULED]
    if scheduled and scheduled[-1].name != RESTARTING:
        return now, False
    asked = [state.state_details.scheduled_time or state.timestamp for state in scheduled if state.name != RESTARTING]
    last = asked[-1] if asked else given
    return (last.timestamp() if last else now), True
