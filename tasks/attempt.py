"""One run that the worker has taken up: from the flow's code to the state that it ends in, or why it was left."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.exceptions import Abort, Pause
from prefect.flows import Flow
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT

from tasks.api_transport import in_turn
from tasks.run_engine import Ending, RunEngine, engine_for, run_to_its_end
from tasks.run_loop import RunLoop, Spawned, run_name

AT_ONCE = 6
"""Runs that begin together, and requests to the Prefect API that all runs send together. On SQLite, Prefect's server
waits for itself, a minute each time, when it has more requests at once than database connections (15). With Postgres
more is of use: FIRSTWATCH_WORKER_API_CONNECTIONS."""

CANCEL_AGAIN = 10.0  # seconds after which a run that does not heed its cancellation is cancelled once more


def at_once() -> int:
    """AT_ONCE, or what the environment says. Raises ValueError."""
    return int(os.environ.get("FIRSTWATCH_WORKER_API_CONNECTIONS", AT_ONCE))


class Place:
    """One of few places, for a run that was claimed and has not begun: taken once, given back once.

    A run that stands as Pending for a minute is taken for dead: no more are to be claimed than can begin by then.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places, self._loop = places, asyncio.get_running_loop()
        self._taken = False

    async def take(self) -> None:
        await self._places.acquire()
        self._taken = True

    def give_back(self) -> None:
        """Safe from any thread, and more than once."""
        self._loop.call_soon_threadsafe(self._give_back)

    def _give_back(self) -> None:
        if self._taken:
            self._taken = False
            self._places.release()


@dataclass(eq=False)
class Attempt:
    """A flow run, entered by this worker for the n-th time. For the worker's loop alone; the flow runs in another."""

    flow_run: FlowRun
    loop: RunLoop
    logger: logging.Logger | logging.LoggerAdapter[Any]
    on_begun: Callable[[], None] = lambda: None  # called in the flow's loop once Prefect says that the run is Running
    ending: Ending | None = None
    crash: str = ""  # why the engine gave up, where it could not say so itself
    _engine: RunEngine | None = None
    _task: Spawned[None] | None = None
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _told_at: float = 0.0  # monotonic; when it was last told to end

    @property
    def state(self) -> State[Any] | None:
        """The last state that is known of the run."""
        return self.flow_run.state if self._engine is None else self._engine.state

    @property
    def concluded(self) -> bool:
        """It has ended, was parked or suspended: nothing is left to be said of it."""
        state = self.state
        return state is not None and (state.is_final() or state.is_scheduled() or state.is_paused())

    @property
    def entered(self) -> bool:
        """It has begun to run its flow."""
        return self._engine is not None and self._engine.is_running()

    @property
    def begun(self) -> bool:
        return self._task is not None

    async def run(self, flow: Flow[Any, Any], shared: Shared, wait: float) -> None:
        """After `wait` seconds, run the flow in the runs' loop, in a context of its own; returns when it is over.
        Raises nothing that the flow raises."""
        await shared.open()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), max(wait, 0.0))
        if self.ending is None:
            context = self.loop.context.copy()
            context.run(run_name.set, f"{flow.name} ({self.flow_run.id})")
            self._task = self.loop.spawn(self._run(flow, shared), context)
            with suppress(CancelledError):  # cancelled before it had begun
                await asyncio.wrap_future(self._task.ended)

    def end(self, why: Ending) -> None:
        """Have it end soon: its flow is cancelled where it waits, and again if it does not heed that."""
        if self.ending is not None and time.monotonic() - self._told_at < CANCEL_AGAIN:
            return
        self.ending = self.ending or why
        self._told_at = time.monotonic()
        self._told.set()
        if self._engine is not None:
            self._engine.ending = self.ending
        if self._task is not None:
            self._task.cancel()

    async def _run(self, flow: Flow[Any, Any], shared: Shared) -> None:
        """What the flow raises to end its process ends this run alone."""
        try:
            self._engine = engine_for(flow, self.flow_run)
            self._engine.ending = self.ending
            await run_to_its_end(self._engine, shared.turns, self.on_begun)
        except Pause:
            self.logger.info("Paused, or parked: it is entered again when it is due")
        except Abort as why:
            self.logger.info("The server wants this run to be left: %s", why)
        except BaseException as problem:  # SystemExit, too: it is meant for a process of its own
            if self.ending is None and not self.concluded:
                self.crash = f"The flow run could not be run: {type(problem).__name__}: {problem}"
                self.logger.error("%s", self.crash, exc_info=problem)


class Shared:
    """What all runs of a loop share: their turn to begin, and the Prefect API's clients, put where Prefect looks for
    them: in the context of which each run gets a copy. A client of its own would cost each run a TLS context, 25 ms,
    also where the API speaks plain HTTP."""

    def __init__(self, loop: RunLoop) -> None:
        self.turns = asyncio.Semaphore(at_once())
        self._loop = loop
        self._stack = AsyncExitStack()
        self._one_at_a_time = asyncio.Lock()
        self._is_open = False

    async def open(self) -> None:
        """Before the first run. Raises httpx.HTTPError where the server does not answer."""
        async with self._one_at_a_time:
            if not self._is_open:
                await self._there(self._enter())
                self._is_open = True

    async def aclose(self) -> None:
        await self._there(self._stack.aclose())

    async def _enter(self) -> None:
        limits = httpx.Limits(max_connections=at_once(), max_keepalive_connections=at_once(), keepalive_expiry=25)
        patience = httpx.Timeout(PREFECT_API_REQUEST_TIMEOUT.value(), pool=None)  # a turn may be long in coming
        clients = AsyncClientContext(httpx_settings={"limits": limits, "timeout": patience})
        clients._httpx_settings = None  # so that it serves those who ask for a client without more
        await self._stack.enter_async_context(clients)
        in_turn(clients.client, at_once())
        self._stack.enter_context(SyncClientContext.get_or_create())  # for a question or two that the engine asks so

    async def _there(self, work: Coroutine[Any, Any, Any]) -> None:
        """In the runs' loop, and in the very context: what a task sets in a copy is gone with it."""
        await asyncio.wrap_future(self._loop.spawn(work, self._loop.context).ended)
