"""Put together what one round of a monitor needs, as a Prefect flow run or on its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType

from firstwatch.spec import Service
from firstwatch.units import show_duration
from tasks.api_transport import in_turn
from tasks.http import Logger
from tasks.looks import AsTaskRuns, Plainly, Runner, WhenAmiss
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


@dataclass(frozen=True, slots=True)
class Shift:
    """What a flow run knows of itself once it is its turn: it takes a round of each of its services, all of them
    `planned` for one moment (Unix seconds). `overlapped`: runs that were cancelled so far, as it was not theirs."""

    client: PrefectClient
    location: str
    run: str  # the flow run's id
    process: int  # which of its processes this is
    planned: float
    started: float
    restarted: bool  # an earlier process has died, or its end was not heard of
    overlapped: int
    several: bool = False  # services: each round is one task run


@asynccontextmanager
async def open_shift(services: Sequence[Service], location: str) -> AsyncIterator[Shift]:
    """The turn of this flow run at these services' monitors, for as long as this lasts.

    Raises Overlapping where another run is at them, and NotVerifiable where this one has died too often.
    """
    async with get_client() as client:
        in_turn(client)
        flow_run = this_flow_run()
        if flow_run.run_count > MAX_RESTARTS:
            raise NotVerifiable(f"its process has died {flow_run.run_count - 1} times: given up")
        key, started = turn_key([service.service for service in services], location), time.time()
        turn = await take_turn(client, key, str(flow_run.id), started)
        if not turn.ours:
            if (await _planned(client, flow_run))[1]:
                await _leave_word(client, services, location, str(flow_run.id))
            raise Overlapping(f"the round before has not ended; {turn.overlapped} cancelled in all. {_times(services)}")
        async with keeping_turn(client, key, str(flow_run.id), time.time, gives_back=False):
            await _tag(client, flow_run, location)
            planned, restarted = await _planned(client, flow_run)
            yield Shift(
                client=client,
                location=location,
                run=str(flow_run.id),
                process=flow_run.run_count,
                planned=planned,
                started=started,
                restarted=restarted,
                overlapped=turn.overlapped,
                several=len(services) > 1,
            )


@asynccontextmanager
async def open_monitor(service: Service, shift: Shift) -> AsyncIterator[Monitor]:
    """This flow run's round of one of its services."""
    runner = WhenAmiss(f"{service.service}: ") if shift.several else AsTaskRuns()
    logger, at = get_run_logger(), (shift.planned, shift.started)
    async with _monitor(service, shift.location, logger, runner, *at, shift.client) as monitor:
        monitor.run, monitor.process = shift.run, shift.process
        monitor.restarted, monitor.overlapped = shift.restarted, shift.overlapped
        yield monitor


TakeRound = Callable[[Service, Shift], Awaitable[State[None]]]


async def as_task_run(take: TakeRound, service: Service, shift: Shift) -> State[None]:
    """Take a round as a task run of the service's name, which ends in the state that the round does."""
    task_run: Any = _take_round(service.service, take, service, shift, return_state=True)
    state: State[None] = await task_run
    return state


@task(name="round", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
async def _take_round(name: str, take: TakeRound, service: Service, shift: Shift) -> Any:
    return await take(service, shift)


async def _leave_word(client: PrefectClient, services: Sequence[Service], location: str, run: str) -> None:
    async with unharmed("the next round does not say that this one's process died"):
        for service in services:
            await leave_word(client, service, location, run, "the process of a round died; another was at it since")


def _times(services: Sequence[Service]) -> str:
    """How long a round may take, by the service that has least time."""
    spec = min((each.synthetic for each in services if each.synthetic), key=lambda synthetic: synthetic.time)
    return f"A round has {show_duration(spec.time)} of the {show_duration(spec.every)} between two to look"


@asynccontextmanager
async def open_once(service: str, location: str, logger: Logger) -> AsyncIterator[Monitor]:
    """A round that nobody has planned and nothing remembers, without Prefect. Raises NotVerifiable."""
    spec = monitored(service, location)
    now = time.time()
    async with _monitor(spec, location, logger, Plainly(), now, now, None) as monitor:
        yield monitor


def monitored_each(names: Sequence[str], location: str) -> tuple[list[Service], dict[str, NotVerifiable]]:
    """The service files of these names, and what is wrong with those that cannot be monitored. Raises NotVerifiable
    where there is no name."""
    if not names:
        raise NotVerifiable("the run names no service")
    services, problems = [], {}
    for name in names:
        try:
            services.append(monitored(name, location))
        except NotVerifiable as problem:
            problems[name] = problem
    return services, problems


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
