"""The observation window: T+0 error rate, T+2 p95 latency, T+5 memory trend, T+10 DB connections, T+30 memory creep.

    prefect deployment run observe/production -p service=shop -p version=$SHA --watch

What has been reached stays watched until the window ends: a service that breaks at T+7 is caught at T+7.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort

from firstwatch.model import Verdict
from firstwatch.report import messages
from firstwatch.report.text import checkpoint_name, offset
from firstwatch.timeline import Look
from flows.conclude import verify
from tasks.opening import open_run
from tasks.park import park_until
from tasks.run import OURS_FOR, Reasons, Run, unharmed, window_ruling
from tasks.silence import WHEN_IT_ENDS
from tasks.watch import Window, checkpoint, failed_later, wait_for

_AHEAD = OURS_FOR - 2  # seconds: as old as the answer may be, but for a checkpoint's own lateness


@flow(name="observe", flow_run_name="observe {service} {version}", persist_result=False, **WHEN_IT_ENDS)
async def observe(
    service: str, version: str, deployed_at: datetime | None = None, dry_run: bool = False
) -> State[None]:
    """Watch a release from its deploy to the end of its observation window.

    Args:
        service: a file in services/, without .yaml.
        version: the version that was deployed.
        deployed_at: when it was deployed; left out, now.
        dry_run: judge and report; no rollback.
    """
    return await verify(open_run(service, version, deployed_at, dry_run, observes=True), observation_window)


async def observation_window(run: Run) -> tuple[Verdict, Reasons]:
    """Checkpoint after checkpoint, watching in between, until the ruling is final."""
    window = run.window
    assert window is not None
    for look in window.looks:
        if look.reached and not window.over:
            await _wait(run, window, look)
            await run.still_ours(OURS_FOR)
            await _reach(run, window, look)
    if not window.over:
        await wait_for(window, window.looks[-1].at + 1, "a verdict that is still open")
    async with unharmed("the window's end was not recorded"):
        await window.keep()
        await _show_failures(run, window)
    return window_ruling(run)


async def _wait(run: Run, window: Window, look: Look) -> None:
    """Until the look's moment. Parked, holding no process, if nothing is watched meanwhile and it takes long."""
    before = [earlier for earlier in window.to_come if earlier.at < look.at]
    if not before:
        return
    what = ", ".join(_step(window, name) for name in look.reached)
    if not any(earlier.watched for earlier in before):
        await park_until(run.client, run.flow_run, look.at, what, run.clock())
    asking = asyncio.create_task(_ask_ahead(run, window, look.at))
    try:
        await wait_for(window, look.at, what)
    finally:
        asking.cancel()


async def _ask_ahead(run: Run, window: Window, moment: float) -> None:
    """Whether the run is still ours then, so that the checkpoint need not wait for a Prefect server that is slow.
    What is not known, or bad news, comes up when the checkpoint asks for itself."""
    await window.sleep_until(moment - _AHEAD)
    with suppress(Exception, Abort):
        await run.still_ours(OURS_FOR)


async def _reach(run: Run, window: Window, look: Look) -> None:
    """The checkpoints of a look, except those that an earlier process of this run has finished."""
    for name in look.reached:
        step = _step(window, name)
        if step in run.journal or (window.over and name not in window.watch.states):
            continue
        judged = await checkpoint(window, look, name)
        if step not in run.journal:  # its task run has failed
            await window.keep({step: judged})


async def _show_failures(run: Run, window: Window) -> None:
    """What failed while it was watched gets a task run of its own, named by the time of its failure."""
    for record in window.records():
        failure = record.first_failure
        if failure is None:
            continue
        step = f"{offset(failure.at, run.release.deployed_at)} {record.name}"
        if step not in run.journal:
            await failed_later(window, record.name, step)
        run.tell(messages.checkpoint_failed(run.report(), record))


def _step(window: Window, name: str) -> str:
    """A checkpoint as its task run and its entry in the journal are named: `T+2m p95 latency`."""
    return checkpoint_name(name, next(c.at for c in window.service.window.checkpoints if c.name == name))
