"""Prefect's engine for one flow run among hundreds in one event loop: what it assumes of a process is put right."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any

from anyio import CancelScope
from prefect._flow_run_suspension import FlowRunSuspensionRequest, register_flow_run_suspension_request
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import AsyncFlowRunEngine
from prefect.flows import Flow
from prefect.states import Cancelled, Cancelling
from prefect.utilities.callables import get_call_parameters, parameters_to_args_kwargs

from tasks.silence import vouch

VOUCHED_AFTER = 20.0
"""Seconds after a run's beginning at which it is vouched for again. The word at once may be too soon: the server may
hear it before it has heard of the beginning, and its clock may be behind ours. Ninety are too late: then the run is
taken for dead."""


class Ending(enum.Enum):
    """Why the worker ends a run that is under way."""

    CANCEL = "somebody cancelled it"
    LEAVE = "another worker goes on with it"


class RunEngine(AsyncFlowRunEngine[Any, Any]):
    """Differs from Prefect's in three things.

    A cancelled task ends as the worker wants (`ending`), not as a crash. No thread with a web socket of its own looks
    whether the run was suspended: the worker asks for all runs at once. And nothing beats for it: the heartbeats of
    hundreds were most of what Prefect's server had to do, until it dropped some and their runs were taken for dead.
    The worker's own heartbeat says that it lives, and its runs with it (tasks/orphans.py).
    """

    ending: Ending | None = None

    @property
    def heartbeat_seconds(self) -> int | None:
        """None, so that Prefect starts no thread."""
        return None

    async def handle_crash(self, exc: BaseException) -> None:
        """The run was torn out of its flow by `exc`: a crash, or the worker's doing."""
        if self.ending is None:
            await super().handle_crash(exc)
            return
        self._raised = exc  # type: ignore[assignment]  # as Prefect's own handlers do
        if self.ending is Ending.CANCEL:
            await self._cancelled()

    async def _cancelled(self) -> None:
        """Run the flow's cancellation hooks, and end as Cancelled. Nobody else does: Prefect expects it of a runner."""
        with CancelScope(shield=True):
            await self.call_hooks(Cancelling())
            await self.set_state(Cancelled(message="Cancelled while it ran."), force=True)

    @contextmanager
    def setup_flow_run_suspension_request(self) -> Iterator[FlowRunSuspensionRequest]:
        assert self.flow_run is not None
        request = self._get_flow_run_suspension_request()
        with register_flow_run_suspension_request(self.flow_run.id, request):
            request.raise_if_requested()
            yield request

    def say_who_has_it(self, again: bool = False) -> None:
        """Tell the automation that looks after silent releases that this run does not beat: its worker does.

        At once, as a process that had the run before may have died, and its silence be counted. And `again`, behind the
        word that the run began: from then on a heartbeat is waited for.
        """
        assert self.flow_run is not None
        vouch(self.flow_run, since=self.flow_run.state if again else None)


def engine_for(flow: Flow[Any, Any], flow_run: FlowRun) -> RunEngine:
    """Raises TypeError where the run's parameters are not the flow's."""
    arguments = parameters_to_args_kwargs(flow.fn, flow_run.parameters)
    return RunEngine(flow=flow, flow_run=flow_run, parameters=get_call_parameters(flow.fn, *arguments))


async def run_to_its_end(
    engine: RunEngine, turn: AbstractAsyncContextManager[object], begun: Callable[[], None]
) -> None:
    """Run the flow, with the retries that it asks for. It begins while it has its `turn`, and says when it has `begun`.

    Raises what the engine raises: Pause and Abort where the run is to be left, and whatever ended it by force.
    """
    async with AsyncExitStack() as stack:
        async with turn:
            await stack.enter_async_context(engine.start())
        begun()
        engine.say_who_has_it()
        vouching = asyncio.get_running_loop().call_later(VOUCHED_AFTER, engine.say_who_has_it, True)
        stack.callback(vouching.cancel)
        while engine.is_running():
            async with engine.run_context():
                _ = await engine.call_flow_fn()  # the state has it
