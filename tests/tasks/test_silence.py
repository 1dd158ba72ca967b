"""A run that has ended is not entered again, though the server that has heard of its beginning was killed since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from demo.postgres import postgres
from demo.stack import Process, Stack
from tasks.setup import restart_automations
from tasks.silence import HEARTBEAT, RELEASE, _say, say_it_rests
from tests.support.pool import Pool

WITHIN = timedelta(seconds=15)  # instead of 90
MANY = 8


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Pool, Process]]:
    """A server, and a pool on it; no automation yet."""
    with postgres() as database, Stack(tmp_path) as stack:
        stack.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        process = stack.prefect_server()
        yield Pool(stack, "silence", "process"), process


def automate(pool: Pool) -> None:
    """Have the server take less silence for a death."""
    [silent] = [each for each in restart_automations() if "silent" in each.name]
    silent.trigger = silent.trigger.model_copy(update={"within": WITHIN})
    pool.post("automations/", **silent.model_dump(mode="json", exclude={"id"}))
    time.sleep(6)  # it looks every 5 s


def beat_and_end(pool: Pool, told: list[str], untold: str) -> None:
    """As in a process of its own: a heartbeat, as Prefect's engine sends it, and the end, all in a moment."""

    async def read(runs: list[str]) -> list[FlowRun]:
        async with get_client() as client:
            return [await client.read_flow_run(UUID(run)) for run in runs]

    with temporary_settings({PREFECT_API_URL: pool.stack.api_url, PREFECT_HOME: pool.stack.home / "client"}):
        runs = asyncio.run(read([untold, *told]))
        for run in runs:
            pool.set_state(str(run.id), "COMPLETED", "Healthy")
            _say(HEARTBEAT, run)
            if str(run.id) != untold:
                say_it_rests(run)
        EventsWorker.instance().drain()


def test_an_end_that_the_server_does_not_hear_of_in_time_is_told_in_another_way(
    server: tuple[Pool, Process],
) -> None:
    pool, process = server
    deployment = pool.deploy("waits", tags=[RELEASE])
    untold, *told = (pool.start_of(deployment) for _ in range(1 + MANY))
    for run in (untold, *told):
        pool.set_state(run, "PENDING", "Pending")
        pool.set_state(run, "RUNNING", "Running")
    time.sleep(2)  # that is heard
    process.kill()
    pool.stack.prefect_server(pool.http.base_url.port or 0)
    automate(pool)  # no sooner, as to start a server may take longer than that silence
    beat_and_end(pool, told, untold)
    pool.wait(untold, "Restarting", seconds=60)  # or nothing would have to be told
    time.sleep(5)
    for run in told:
        assert pool.states(run) == ["Scheduled", "Pending", "Running", "Healthy"]
