"""A checkpoint begins at its time, however long the Prefect server takes to say whose the run is."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import Abort

from firstwatch.model import Release
from firstwatch.redaction import Redactor
from firstwatch.spec import Service
from flows.observe import _wait
from tasks.journal import Journal
from tasks.report import WindowProgress
from tasks.run import OURS_FOR, Run
from tasks.sources import open_source
from tasks.watch import Window
from tests.support.metered import NOTHING, metered

SLOW = 4.0  # seconds that the server takes for an answer
AFTER = 9.0  # seconds from the deploy to the checkpoint


async def begins_after(*run_counts: int, slow: float = SLOW) -> float:
    """How many seconds after its time a checkpoint may begin. Raises Abort where the run is another process' by now."""
    found: list[float] = []

    @flow(name="waits", persist_result=False)
    async def waits(prometheus: str) -> None:
        file, release = service(prometheus), Release("watched", "v", time.time())
        source = await open_source(file.metrics, service="watched", selectors=[], marks={})
        async with source, get_client() as client:
            progress = WindowProgress(release, Redactor())
            journal = await Journal.open(client, UUID(str(runtime.flow_run.id)))
            window = Window(file, release, source, progress, journal, time.time)
            window.watch = window.watch.after(window.looks[0], window.measured)
            run = run_of(client, await client.read_flow_run(runtime.flow_run.id), list(run_counts), slow)
            reached = next(look for look in window.looks if look.at >= release.deployed_at + AFTER)
            await _wait(run, window, reached)
            await run.still_ours(OURS_FOR)
            found.append(time.time() - reached.at)

    async with metered() as door:
        door.says = lambda query: NOTHING
        await waits(door.url)
    return found[0]


def service(prometheus: str) -> Service:
    checkpoints = [
        {"at": f"{at:g}s", "name": name, "query": f"sum({name})", "expect": "value < 100"}
        for name, at in (("queue", 0), ("backlog", AFTER))
    ]
    metrics = {"prometheus": prometheus, "timeout": "1s"}
    return Service.model_validate(
        {"service": "watched", "base_url": "http://127.0.0.1:9", "metrics": metrics, "window": checkpoints}
    )


def run_of(client: PrefectClient, flow_run: Any, run_counts: list[int], slow: float) -> Any:
    """As much of a Run as knows whose it is, at a server that takes its time."""

    async def read(flow_run_id: Any) -> Any:
        await asyncio.sleep(slow)
        return flow_run.model_copy(update={"run_count": run_counts.pop(0) if len(run_counts) > 1 else run_counts[0]})

    client.read_flow_run = read  # type: ignore[method-assign]
    run = SimpleNamespace(client=client, flow_run=flow_run, clock=time.time, _ours_at=float("-inf"))
    run.still_ours = lambda age: Run.still_ours(run, age)  # type: ignore[arg-type]
    return run


@pytest.mark.usefixtures("prefect_api")
def test_a_server_that_takes_its_time_holds_no_checkpoint_up() -> None:
    assert asyncio.run(begins_after(1)) < SLOW / 2


@pytest.mark.usefixtures("prefect_api")
def test_a_run_that_another_process_has_taken_over_is_left_before_the_checkpoint() -> None:
    with pytest.raises(Abort):
        asyncio.run(begins_after(2))


@pytest.mark.usefixtures("prefect_api")
def test_one_that_has_been_taken_over_since_it_was_asked_ahead_is_left_too() -> None:
    with pytest.raises(Abort):
        asyncio.run(begins_after(1, 2, slow=0.1))
