"""Runs whose worker has died are taken up again by the pool's other workers, or by the one that follows it.

Each worker writes its name and its incarnation on the runs that it takes up, and beats (Prefect's own heartbeat, every
HEARTBEAT seconds) while it lives. One whose last beat is SILENT seconds older than our own is dead. All times are the
Prefect server's, so that clocks may differ. The automations of `firstwatch setup` find such runs too, by the silence of
the run itself, which takes two minutes.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, Worker
from prefect.states import Scheduled

HEARTBEAT = 8  # seconds between two signs of life of a worker
SILENT = 25.0  # seconds without one, after which it is dead
_BURIED = timedelta(days=1)  # silent for longer: whatever it had was found long ago
_PAGE = 200
_EARS = 3  # beats in a row that the server must have heard of us, before we take another's silence for its death


class Owner:
    """Who this worker is, as it is written on its runs: `NAME/1f3a9c20`."""

    def __init__(self, name: str) -> None:
        self.name, self.incarnation = name, uuid4().hex[:8]

    def __str__(self) -> str:
        return f"{self.name}/{self.incarnation}"

    def has_lost(self, run: FlowRun, dead: set[str]) -> bool:
        """Whether the run belongs to one of the dead, or to an earlier worker of our own name."""
        name, _, incarnation = (run.infrastructure_pid or "").rpartition("/")
        return name in dead or (name == self.name and incarnation != self.incarnation)


class Orphans:
    """Looks after each of our own heartbeats whether another worker of the pool has died."""

    def __init__(self, owner: Owner, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._owner, self._logger = owner, logger
        self._heard: deque[float] = deque(maxlen=_EARS)  # when the server last heard us; monotonic
        self._looked: dict[str, datetime | None] = {}  # the dead whose runs were seen to, and their last beats
        self.taken = 0  # runs that were given to the living, so far

    async def look(self, client: PrefectClient, pool: str) -> bool:
        """Call it after a heartbeat that the server took. Says whether we were silent for so long before that we were
        taken for dead ourselves. Raises httpx.HTTPError."""
        now = time.monotonic()
        was_silent = bool(self._heard) and now - self._heard[-1] > SILENT
        self._heard.append(now)
        await self._bury(client, pool)
        return was_silent

    async def _bury(self, client: PrefectClient, pool: str) -> None:
        workers = await client.read_workers_for_work_pool(pool, limit=_PAGE)
        dead = {worker.name: worker.last_heartbeat_time for worker in self._dead(workers)}
        new = {name for name, beat in dead.items() if self._looked.get(name) != beat}
        first = self._owner.name not in self._looked  # an earlier worker of our name may have left some
        if not new and not first:
            return
        await self._take(client, pool, new)
        self._looked |= {self._owner.name: None, **{name: dead[name] for name in new}}

    def _dead(self, workers: Sequence[Worker]) -> Iterator[Worker]:
        """Those that we are to see to: the living agree on who does, and nobody does whom the server did not hear."""
        beats = {worker.name: worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time}
        ours = beats.get(self._owner.name)
        if ours is None or not self._is_heard():
            return
        living = [name for name, beat in beats.items() if (ours - beat).total_seconds() < SILENT]
        if min(living) != self._owner.name:
            return
        for worker in workers:
            beat = beats.get(worker.name)
            if beat is not None and worker.name not in living and ours - beat < _BURIED:
                yield worker

    def _is_heard(self) -> bool:
        """Without a gap for so long that everybody who lives was heard too: not so after the server was away."""
        if len(self._heard) < _EARS:
            return False
        return all(b - a < SILENT for a, b in zip(self._heard, list(self._heard)[1:], strict=False))

    async def _take(self, client: PrefectClient, pool: str, dead: set[str]) -> None:
        from tasks.opening import RESTARTING

        for run in await _held(client, pool):
            if self._owner.has_lost(run, dead):
                why = f"Its worker {(run.infrastructure_pid or '').rpartition('/')[0]} has died; another one goes on."
                now = datetime.now(UTC)
                again: State[None] = Scheduled(scheduled_time=now, name=RESTARTING, message=why)
                await client.set_flow_run_state(run.id, again, force=True)
                self.taken += 1
                self._logger.warning("Flow run %s (%s): %s", run.name, run.id, why)


async def _held(client: PrefectClient, pool: str) -> list[FlowRun]:
    """The pool's runs that some worker has, or had."""
    states = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
            limit=_PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE:
            return found
