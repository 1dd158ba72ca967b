"""Runs whose worker has died are taken up again by the pool's other workers, or by the one that follows it.

Each worker writes its name and its incarnation on the runs that it takes up, and beats (Prefect's own heartbeat, every
BEATS_EVERY seconds) while it lives. One whose last beat is DEAD_AFTER seconds older than our own is dead. All times are
the Prefect server's, so that clocks may differ. The automations of `firstwatch setup` find such runs too, by the
silence of the run itself, which takes up to a minute. Of what a server had not told them when it was killed they never
hear: a run of ours that has stood as crashed, or as pending, for longer than they need, in whichever pool, is taken up
here as well.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks.restart import schedule_again
from tasks.silence import TAGS

BEATS_EVERY = 8  # seconds between two signs of life of a worker
DEAD_AFTER = 25.0  # seconds without one, after which it is dead
FORGOTTEN = {StateType.CRASHED: 20.0, StateType.PENDING: 75.0}
"""Seconds in such a state, after which no automation will come any more: they need some 15, and 65."""
_BURIED = timedelta(days=1)  # silent for longer: whatever it had was found long ago
_PAGE = 200
_EARS = 3  # beats in a row that the server must have heard of us, before we take another's silence for its death
_CALM = 2  # such beats, before we look for what is forgotten: after a restart, the server's automations act at once


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
        was_silent = bool(self._heard) and now - self._heard[-1] > DEAD_AFTER
        self._heard.append(now)
        await self._bury(client, pool)
        return was_silent

    async def _bury(self, client: PrefectClient, pool: str) -> None:
        workers = await client.read_workers_for_work_pool(pool, limit=_PAGE)
        beats = {worker.name: worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time}
        first = self._owner.name not in self._looked  # an earlier worker of our name may have left some
        dead = self._dead(beats) if self._sees_to_it(beats, _EARS) else {}
        new = {name for name, beat in dead.items() if self._looked.get(name) != beat}
        if new or first:
            await self._take(client, pool, new)
            self._looked |= {self._owner.name: None, **{name: dead[name] for name in new}}
        if self._sees_to_it(beats, _CALM):
            await self._take_forgotten(client, beats[self._owner.name])

    def _sees_to_it(self, beats: Mapping[str, datetime], ears: int) -> bool:
        """Whether it is ours to do: the living agree on who does, and nobody does whom the server did not hear so many
        times in a row."""
        ours = beats.get(self._owner.name)
        return ours is not None and self._is_heard(ears) and self._owner.name == min(_living(beats, ours))

    def _dead(self, beats: Mapping[str, datetime]) -> dict[str, datetime]:
        ours = beats[self._owner.name]
        living = _living(beats, ours)
        return {name: beat for name, beat in beats.items() if name not in living and ours - beat < _BURIED}

    def _is_heard(self, ears: int) -> bool:
        """Without a gap for so long that everybody who lives was heard too: not so after the server was away."""
        last = [*self._heard][-ears:]
        return len(last) == ears and all(b - a < DEAD_AFTER for a, b in pairwise(last))

    async def _take(self, client: PrefectClient, pool: str, dead: set[str]) -> None:
        for run in await _held(client, pool):
            if self._owner.has_lost(run, dead):
                name = (run.infrastructure_pid or "").rpartition("/")[0]
                await self._give(client, run, f"Its worker {name} has died; another one goes on.")

    async def _take_forgotten(self, client: PrefectClient, now: datetime) -> None:
        """Runs that crashed, or that were taken and never begun (the server died before its answer came, or the worker
        before it wrote its name on them), and that nobody has scheduled again. `now`: by the server's clock."""
        for state, seconds in FORGOTTEN.items():
            for run in await _ours_in(client, state, now):
                if run.state is not None and (now - run.state.timestamp).total_seconds() > seconds:
                    await self._give(client, run, f"It was {state.value.lower()}, and no automation had heard of it.")

    async def _give(self, client: PrefectClient, run: FlowRun, why: str) -> None:
        """Schedule it for now, for whichever worker has room."""
        await schedule_again(client, run.id, datetime.now(UTC), why)
        self.taken += 1
        self._logger.warning("Flow run %s (%s): %s", run.name, run.id, why)


def _living(beats: Mapping[str, datetime], ours: datetime) -> set[str]:
    return {name for name, beat in beats.items() if (ours - beat).total_seconds() < DEAD_AFTER}


async def _ours_in(client: PrefectClient, state: StateType, now: datetime) -> list[FlowRun]:
    """Our runs in that state, those first that were to begin first. What has ended counts for an hour."""
    ended = FlowRunFilterEndTime(after_=now - timedelta(hours=1)) if state in TERMINAL_STATES else None
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[state])),
            end_time=ended,
            tags=FlowRunFilterTags(any_=TAGS),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=_PAGE,
    )


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
