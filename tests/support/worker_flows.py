"""Small flows that do to a worker what flows do: wait, fail, block, end the process, park, ignore a no."""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import flow, get_client, get_run_logger, runtime, task
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.states import Scheduled

from tasks.opening import this_flow_run
from tasks.silence import beating

CODE_LOADED_AT = time.time_ns()  # another number in each process, and for each time that this file is loaded
entered: list[str] = []


@task
async def step(number: int) -> int:
    await asyncio.sleep(0.1)
    return number


@flow(name="waits", flow_run_name="waits {number}", persist_result=False)
async def waits(number: int = 0, seconds: float = 1.0) -> None:
    """Says three times, over its time, whose run it believes to be in."""
    for _ in range(3):
        context = FlowRunContext.get()
        assert context is not None and context.flow_run is not None
        assert runtime.flow_run.id == str(context.flow_run.id)
        assert runtime.flow_run.parameters["number"] == number == await step(number)
        get_run_logger().info("number %s, code %s", number, CODE_LOADED_AT)
        await asyncio.sleep(seconds / 3)


@flow(name="beats", persist_result=False)
async def beats() -> None:
    """A release that is under way for long."""
    with beating(this_flow_run()):
        await asyncio.sleep(600)


@flow(name="fails", persist_result=False)
async def fails(how: str) -> None:
    match how:
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "exit of its own task":
            await asyncio.create_task(_exit())
        case _:
            raise RuntimeError(how)


async def _exit() -> None:
    sys.exit(4)


@flow(name="blocks", flow_run_name="blocks", persist_result=False)
async def blocks(seconds: float) -> None:
    await asyncio.create_task(_hold_everybody_up(seconds))


async def _hold_everybody_up(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # what this flow is for


def _say(flow: object, flow_run: object, state: object) -> None:
    print("its cancellation hook ran", flush=True)


@flow(name="hangs", persist_result=False, on_cancellation=[_say])
async def hangs(stubborn: bool = False) -> None:
    """Until it is cancelled, or entered once more. A stubborn one takes the first cancellation for a mistake."""
    if runtime.flow_run.run_count > 1:
        return
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        if not stubborn:
            raise
        await asyncio.sleep(600)


@flow(name="steps", persist_result=False)
async def steps() -> None:
    """Task run after task run, until it is suspended, and entered once more (which does not count as another run)."""
    entered.append(str(runtime.flow_run.id))
    while entered.count(str(runtime.flow_run.id)) == 1:
        await step(1)


@flow(name="parks", persist_result=False)
async def parks() -> None:
    if runtime.flow_run.run_count > 1:
        return
    async with get_client() as client:
        due = datetime.now(UTC) + timedelta(seconds=2)
        answer = await client.set_flow_run_state(
            UUID(str(runtime.flow_run.id)), Scheduled(scheduled_time=due, name="Waiting T+2s")
        )
        raise Pause(state=answer.state)


@flow(name="flaky", persist_result=False, retries=2, retry_delay_seconds=1)
async def flaky() -> None:
    if runtime.flow_run.run_count < 3:
        raise RuntimeError("not yet")


@flow(name="too-slow", persist_result=False, timeout_seconds=1)
async def too_slow() -> None:
    await asyncio.sleep(600)


@flow(name="synchronous", persist_result=False)
def synchronous() -> None:
    time.sleep(600)
