"""Put together what one round of a monitor needs, as a Prefect flow run or on its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType

from firstwatch.spec import Service
from firstwatch.units import show_duration
from tasks.http import Logger
from tasks.looks import AsTaskRuns, Plainly, Runner
from tasks.monitor import Monitor, give_turn_back, open_transports, take_turn
from tasks.opening import MAX_RESTARTS, read_service
from tasks.run import NotVerifiable, unharmed
from tasks.secrets import known_secrets
from tasks.store import turn_key

_AFTERWARDS = 30.0  # seconds that a round may take beyond its looking, to remember and to tell


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
        flow_run = await client.read_flow_run(UUID(str(runtime.flow_run.id)))
        if flow_run.run_count > MAX_RESTARTS:
            raise NotVerifiable(f"its process has died {flow_run.run_count - 1} times: given up")
        started, key = time.time(), turn_key(spec.service, location)
        until = started + spec.synthetic.time + _AFTERWARDS
        turn = await take_turn(client, key, str(flow_run.id), started, until)
        if not turn.ours:
            times = f"{show_duration(spec.synthetic.time)} of the {show_duration(spec.synthetic.every)} between two"
            raise Overlapping(
                f"the round before has not ended; {turn.overlapped} cancelled in all. A round has {times} to look"
            )
        try:
            planned = await _planned(client, flow_run)
            monitor = _monitor(spec, location, get_run_logger(), AsTaskRuns(), planned, started, client)
            async with monitor as opened:
                opened.crashed, opened.overlapped = flow_run.run_count > 1, turn.overlapped
                yield opened
        finally:
            async with unharmed("the monitor's turn was not given back; it ends by itself"):
                await give_turn_back(client, key, str(flow_run.id))


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
    known = spec.synthetic.locations.names if spec.synthetic.locations else [""]
    if location not in known:
        names = ", ".join(filter(None, known)) or "none: leave it out"
        raise NotVerifiable(f"{location or 'no location'} is none of the locations of {spec.service} ({names})")
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
        for secret in await known_secrets(spec.model_dump()):
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


async def _planned(client: PrefectClient, flow_run: FlowRun) -> float:
    """When the round was to begin (Unix seconds): as its schedule had it, whatever has scheduled it again since."""
    first = flow_run.expected_start_time or flow_run.created
    if flow_run.run_count > 1:
        states = await client.read_flow_run_states(flow_run.id)
        times = [s.state_details.scheduled_time for s in states if s.type is StateType.SCHEDULED]
        first = next((at for at in times if at is not None), first)
    return first.timestamp() if first is not None else time.time()
