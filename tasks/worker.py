"""`prefect worker start --type firstwatch`: a worker that runs our flows in its own process, hundreds at a time.

A process for each run costs seconds of CPU time and 100 MB. Here a run costs what it does, and waiting costs nothing.
The deployments are the same as on a pool of type `process`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio.abc
import httpx
from prefect._flow_run_suspension import mark_flow_run_suspension_requested
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS
from prefect.states import Cancelled, Pending
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from tasks.attempt import Attempt, Place, Shared, at_once
from tasks.flow_code import FlowCode, NotHere, other_environment
from tasks.loop_watch import LoopWatch
from tasks.orphans import BEATS_EVERY, Orphans, Owner
from tasks.restart import RESTARTING, schedule_again
from tasks.run_engine import Ending
from tasks.run_loop import RunLoop
from tasks.worker_metrics import Door, WorkerMetrics

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse

HEED_EVERY = 2.0  # seconds between two questions whether any of our runs was cancelled or suspended
DRAIN = 10.0  # seconds for runs to end when the worker is told to; FIRSTWATCH_WORKER_DRAIN_SECONDS
UNWIND = 5.0  # seconds more, for those that are left then to let go of what they hold
CLAIMED_BEFORE = 1.0  # seconds before its time that a run is claimed: Prefect offers it ten seconds ahead
COLLECTED_AFTER = (50_000, 20, 50)  # objects; collections of the younger generation; and of the next
DEAF = 60.0  # seconds without a turn of the loop, or without asking for work, from which on the worker is ill
_ASKED = 200  # run ids in one question: as many as Prefect answers at once
_HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


class InProcessResult(BaseWorkerResult):
    """How a run left this process: 0, or 1 where it could not be run."""


class FirstwatchWorker(BaseWorker[BaseJobConfiguration, BaseVariables, InProcessResult]):
    """Polls as every Prefect worker does; a run that it takes up becomes a task in the runs' event loop.

    Two loops: Prefect's parts of the worker stay in the main thread's, so that a run that blocks the other is seen,
    named and counted. A run keeps its place (`--limit`), and is not taken up again, until it has left.
    """

    type = "firstwatch"
    job_configuration = BaseJobConfiguration
    _display_name = "Firstwatch"
    _description = "Runs async flows inside the worker's own process, hundreds at a time."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heartbeat_interval_seconds = min(self.heartbeat_interval_seconds, BEATS_EVERY)
        self.metrics = WorkerMetrics()
        self._owner = Owner(self.name)
        self._orphans = Orphans(self._owner, self._logger)
        self._attempts: dict[UUID, Attempt] = {}
        self._code = FlowCode()
        self._runs = RunLoop(self._logger)
        self._shared = Shared(self._runs)
        self._watch = LoopWatch(self._runs.loop, self._runs.thread, self._logger, self.metrics.lag.observe)
        self._heeding = anyio.CancelScope()
        self._idle = asyncio.Event()  # no run is here
        self._idle.set()
        self._claiming = asyncio.Semaphore(max(at_once() // 2, 1))
        self._places = asyncio.Semaphore(2 * at_once())  # of runs that were claimed and have not begun
        self._due: dict[UUID, datetime] = {}  # runs without such a place, and their times
        self._draining = asyncio.Event()
        self._door: Door | None = None
        self._other_environments: set[UUID] = set()

    # ── begin and end ────────────────────────────────────────────────────────────────────────────────────────

    async def setup(self) -> None:
        await super().setup()
        _collect_seldom()
        self._runs.start()
        self._watch.start()
        assert self._runs_task_group is not None
        self._runs_task_group.start_soon(self._heed_the_server)
        if address := os.environ.get("FIRSTWATCH_WORKER_METRICS"):
            self._door = Door(address, self.metrics, self.ill)

    async def teardown(self, *exc_info: Any) -> None:
        """Told to end (SIGTERM), runs get a while to end by themselves. Left to itself (`--run-once`), all of them."""
        told = bool(exc_info and exc_info[0])
        with anyio.CancelScope(shield=True):
            await self._drain(float(os.environ.get("FIRSTWATCH_WORKER_DRAIN_SECONDS", DRAIN)) if told else None)
            self._heeding.cancel()
            await self._close_loop()
        await super().teardown(*exc_info)

    async def _close_loop(self) -> None:
        self._watch.stop()
        if self._door is not None:
            await asyncio.to_thread(self._door.close)
        with anyio.move_on_after(UNWIND):
            await self._shared.aclose()
        await asyncio.to_thread(self._runs.stop)

    async def _drain(self, patience: float | None) -> None:
        """Take up nothing more; what has not ended after `patience` seconds is left to the next worker."""
        self._draining.set()
        if not self._attempts:
            return
        self._logger.info("Ending: %d runs under way have %s", len(self._attempts), _said(patience))
        early = [attempt for attempt in self._attempts.values() if patience is not None and not attempt.begun]
        for attempt in early:
            attempt.end(Ending.LEAVE)
        await self._until_over(patience)
        left = [*early, *self._attempts.values()]
        for attempt in self._attempts.values():
            attempt.end(Ending.LEAVE)
        await self._until_over(UNWIND)
        async with anyio.create_task_group() as group:
            for attempt in set(left):
                group.start_soon(self._give_back, attempt)

    async def _until_over(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._idle.wait()

    async def _give_back(self, attempt: Attempt) -> None:
        """Schedule the run again at once (or for its own time, if that is yet to come), for whichever worker is there.

        Should that fail, its silence will tell: the automations of `firstwatch setup`.
        """
        if attempt.concluded:
            return
        run, now = attempt.flow_run, datetime.now(UTC)
        due = max(now, run.next_scheduled_start_time or now)
        try:
            await schedule_again(self.client, run.id, due, "Its worker was stopped; the next one goes on.")
        except Exception as problem:
            self._logger.warning("Flow run %s could not be given back: %r", run.id, problem)

    # ── asking for work ──────────────────────────────────────────────────────────────────────────────────────

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """A server that is away is asked again: to end, as Prefect's loop does after a while, would end all runs."""
        if self._draining.is_set():
            return []
        if self._is_behind():
            self._last_polled_time = datetime.now(UTC)
            self._tell_waiting([])
            return []
        try:
            return await super().get_and_submit_flow_runs()
        except httpx.HTTPError as problem:
            self._logger.warning("The Prefect server gives no work: %r", problem)
            return []

    def _is_behind(self) -> bool:
        """Whether more is due than can be begun soon. What comes then may be of more importance than what waits here:
        the server, which knows that, is asked when there is room."""
        at = datetime.now(UTC)
        return sum(due <= at for due in self._due.values()) > 4 * at_once()

    async def sync_with_backend(self) -> None:
        """Prefect's heartbeat; and, where the server took it, a look for runs whose worker has none any more.

        It vouches for the runs as well: while their loop is blocked, there is none, and others take them up.
        """
        if self.is_setup and self._watch.silent_for > DEAF:
            return
        try:
            await super().sync_with_backend()
            if self.is_setup and await self._orphans.look(self.client, self._work_pool_name):
                await self._leave_what_others_took()
        except httpx.HTTPError as problem:
            if not self.is_setup:
                raise
            self._logger.warning("The Prefect server did not hear that this worker lives: %r", problem)
        self.metrics.adopted.set(self._orphans.taken)

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        submitted = await super()._submit_scheduled_flow_runs(flow_run_response)
        offered = [entry.flow_run for entry in flow_run_response]
        self._tell_waiting([run for run in offered if run.id not in self._submitting_flow_run_ids])
        for run in offered:
            self._leave_if_superseded(run)
        return submitted

    def _tell_waiting(self, without_room: list[FlowRun]) -> None:
        """Count the runs that are due and have not begun: for want of room (`--limit`), or of their turn."""
        at = datetime.now(UTC)
        waiting = sum(_late(run, at) > 0 for run in without_room) + sum(due < at for due in self._due.values())
        self.metrics.waiting.set(waiting)

    def _leave_if_superseded(self, offered: FlowRun) -> None:
        """A run that was taken for dead, because its heartbeats got lost, is scheduled again: its old attempt here
        makes room for the new one, as it would for another process."""
        attempt = self._attempts.get(offered.id)
        if attempt is not None and offered.state_name == RESTARTING and attempt.entered:
            attempt.end(Ending.LEAVE)

    async def _leave_what_others_took(self) -> None:
        """This worker was not heard for so long that it was taken for dead."""
        for run in await self._known(list(self._attempts)):
            if run.infrastructure_pid not in (None, str(self._owner)):
                self._attempts[run.id].end(Ending.LEAVE)

    # ── a run ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """From being offered to having left. Prefect's own way there asks the server seven times; this asks twice."""
        place = Place(self._places)
        try:
            await self._take(place, flow_run)
            async with self._claiming:
                ours = not self._draining.is_set() and await self._propose_pending_state(flow_run)
                if ours:
                    await self.client.update_flow_run(flow_run.id, infrastructure_pid=str(self._owner))
            if ours:
                flow_run.state = Pending()
                logger = self.get_flow_run_logger(flow_run)
                await self._see_through(Attempt(flow_run, self._runs, logger, place.give_back))
        except Exception:
            self._logger.exception("Flow run %s", flow_run.id)
        finally:
            place.give_back()
            self._release_limit_slot(flow_run.id)
            self._submitting_flow_run_ids.discard(flow_run.id)

    async def _take(self, place: Place, flow_run: FlowRun) -> None:
        """Take a place shortly before the run's time: whatever is due until then may have it."""
        at = datetime.now(UTC)
        early = -_late(flow_run, at)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._draining.wait(), max(early - CLAIMED_BEFORE, 0.0))
        self._due[flow_run.id] = at + timedelta(seconds=early)
        try:
            await place.take()
        finally:
            del self._due[flow_run.id]

    async def run(
        self,
        flow_run: FlowRun,
        configuration: BaseJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> InProcessResult:
        """Run a pending flow run to its end: as every worker does, and in no other way than `_submit_run`. Its
        configuration is that of a process, and of no use here."""
        attempt = Attempt(flow_run, self._runs, self.get_flow_run_logger(flow_run))
        if task_status is not None:
            task_status.started(os.getpid())
        await self._see_through(attempt)
        return InProcessResult(status_code=1 if attempt.crash else 0, identifier=str(os.getpid()))

    async def _see_through(self, attempt: Attempt) -> None:
        self._attempts[attempt.flow_run.id] = attempt
        self._idle.clear()
        self.metrics.in_flight.inc()
        try:
            await self._run(attempt)
            await self._conclude(attempt)
        finally:
            del self._attempts[attempt.flow_run.id]
            self.metrics.in_flight.dec()
            if not self._attempts:
                self._idle.set()

    async def _run(self, attempt: Attempt) -> None:
        """Load its flow, and run it. What cannot be run here has crashed, and its message says why."""
        run = attempt.flow_run
        try:
            if run.deployment_id is None:
                raise NotHere("it belongs to no deployment")
            deployment = await self._code.deployment(self.client, run.deployment_id)
            flow = await self._code.flow(deployment)
        except NotHere as why:
            attempt.crash = f"This worker cannot run it: {why}"
        except ObjectNotFound:
            attempt.crash = "Its deployment no longer exists."
        except (Exception, SystemExit) as problem:  # a module may end its process, too
            attempt.crash = f"Its code could not be loaded: {type(problem).__name__}: {problem}"
            attempt.logger.error("%s", attempt.crash, exc_info=problem)
        else:
            self._tell_environment(deployment)
            late = _late(run, datetime.now(UTC))
            self.metrics.started(flow.name, late)
            await attempt.run(flow, self._shared, -late)
            self._count(flow.name, attempt)

    def _count(self, flow: str, attempt: Attempt) -> None:
        state = attempt.state
        if attempt.ending is Ending.LEAVE or state is None:
            self.metrics.ended(flow, "left", "left")
        else:
            self.metrics.ended(flow, state.type.value, state.name or "")

    async def _conclude(self, attempt: Attempt) -> None:
        """Say what the engine could not say itself: it had not begun, or was cancelled before it had."""
        if attempt.concluded or attempt.ending is Ending.LEAVE:
            return
        state = attempt.state
        if attempt.ending is Ending.CANCEL or (state is not None and state.type is StateType.CANCELLING):
            await self.client.set_flow_run_state(
                attempt.flow_run.id, Cancelled(message="Cancelled before it ran."), force=True
            )
        elif attempt.crash:
            await self._propose_crashed_state(attempt.flow_run, attempt.crash)

    def _tell_environment(self, deployment: DeploymentResponse) -> None:
        """Once a deployment: what its job variables set for a process, and this process has not."""
        others = set(other_environment(deployment)) - {_HEARTBEAT}
        if others and deployment.id not in self._other_environments:
            self._other_environments.add(deployment.id)
            self._logger.warning(
                "The deployment %s sets %s for its runs; they see this worker's environment instead",
                deployment.name, ", ".join(sorted(others)),
            )  # fmt: skip

    # ── what happens to runs from outside ────────────────────────────────────────────────────────────────────

    async def _heed_the_server(self) -> None:
        with self._heeding:
            while True:
                await anyio.sleep(HEED_EVERY)
                try:
                    await self._heed()
                except Exception as problem:  # it is asked again soon
                    self._logger.debug("It is not known whether a run was cancelled: %r", problem)

    async def _heed(self) -> None:
        """End what was cancelled, and have what was suspended leave at its next task run, as Prefect does."""
        stopped = FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED, StateType.PAUSED])
        for run in await self._known(list(self._attempts), FlowRunFilterState(type=stopped)):
            attempt = self._attempts.get(run.id)
            if attempt is None or run.state is None:
                continue
            if run.state.type is not StateType.PAUSED:
                attempt.end(Ending.CANCEL)
            elif run.state.name == "Suspended":
                mark_flow_run_suspension_requested(run.id, run.state)

    async def _known(self, ids: list[UUID], state: FlowRunFilterState | None = None) -> list[FlowRun]:
        """What the server says of these runs, or of those of them that are in such a state."""
        found: list[FlowRun] = []
        for start in range(0, len(ids), _ASKED):
            these = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + _ASKED]), state=state)
            found += await self.client.read_flow_runs(flow_run_filter=these, limit=_ASKED)
        return found

    # ── how the worker is ────────────────────────────────────────────────────────────────────────────────────

    def ill(self) -> str:
        """What is wrong with this worker, such that a new one would do better; empty when it is well."""
        if self._watch.silent_for > DEAF:
            return f"the runs' event loop has been blocked for {self._watch.silent_for:.0f} s"
        deaf = time.time() - self._last_polled_time.timestamp()
        if not self._draining.is_set() and deaf > max(DEAF, 6 * PREFECT_WORKER_QUERY_SECONDS.value()):
            return f"the Prefect server was last asked for work {deaf:.0f} s ago"
        return ""


def _collect_seldom() -> None:
    """Hundreds of runs hold a million objects, and a full garbage collection looks at each. By Python's usual
    thresholds, made for small heaps, that took a fifth of the CPU time. What is loaded by now is left out of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


def _late(run: FlowRun, now: datetime) -> float:
    """Seconds since the run's time; negative where that is yet to come."""
    due = run.next_scheduled_start_time or run.expected_start_time
    return (now - due).total_seconds() if due is not None else 0.0


def _said(patience: float | None) -> str:
    return "all the time they need" if patience is None else f"{patience:g} s"
