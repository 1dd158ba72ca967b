"""A run that has ended is not entered again, though the server that has heard of its beginning was killed since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from demo.stack import Process, Stack
from tasks.setup import restart_automations
from tasks.silence import RELEASE, say_it_rests
from tests.support.pool import Pool

WITHIN = timedelta(seconds=15)  # instead of 90


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Pool, Process]]:
    """A server whose automation takes less silence for a death."""
    with Stack(tmp_path) as stack:
        process = stack.prefect_server()
        pool = Pool(stack, "silence", "process")
        [silent] = [each for each in restart_automations() if "silent" in each.name]
        silent.trigger = silent.trigger.model_copy(update={"within": WITHIN})
        pool.post("automations/", **silent.model_dump(mode="json", exclude={"id"}))
        yield pool, process


def beat(pool: Pool, run: str) -> None:
    """As Prefect's engine does in a process of the run's own."""
    beat = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [{"prefect.resource.id": f"prefect.tag.{RELEASE}", "prefect.resource.role": "tag"}],
    }
    pool.http.post("/events", json=[beat]).raise_for_status()


def say_so(pool: Pool, run: str) -> None:
    async def say() -> None:
        async with get_client() as client:
            say_it_rests(await client.read_flow_run(run))  # type: ignore[arg-type]

    with temporary_settings({PREFECT_API_URL: pool.stack.api_url, PREFECT_HOME: pool.stack.home / "client"}):
        asyncio.run(say())
        EventsWorker.instance().drain()


def test_an_end_that_the_server_does_not_hear_of_in_time_is_told_in_another_way(
    server: tuple[Pool, Process],
) -> None:
    pool, process = server
    deployment = pool.deploy("waits", tags=[RELEASE])
    told, untold = (pool.start_of(deployment) for _ in range(2))
    for run in (told, untold):
        pool.set_state(run, "PENDING", "Pending")
        pool.set_state(run, "RUNNING", "Running")
    time.sleep(2)  # that is heard
    process.kill()
    pool.stack.prefect_server(pool.http.base_url.port or 0)
    for run in (told, untold):
        beat(pool, run)
        pool.set_state(run, "COMPLETED", "Healthy")
    say_so(pool, told)
    pool.wait(untold, "Restarting", seconds=60)  # or nothing would have to be told
    time.sleep(5)
    assert pool.states(told) == ["Scheduled", "Pending", "Running", "Healthy"]
