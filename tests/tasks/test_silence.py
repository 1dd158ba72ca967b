"""A silent release is taken up again; one that has ended is not, though the server that heard it begin was killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from bench.processes import end_all, family
from demo.postgres import postgres
from demo.stack import Process, Stack
from tasks.setup import restart_automations
from tasks.silence import DEAD_AFTER, HEARTBEAT, RELEASE, say, say_it_rests
from tests.support.pool import Pool, Worker

WITHIN = timedelta(seconds=15)  # instead of 45
MANY = 8


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Pool, Process]]:
    """A server, and a pool on it; no automation yet."""
    with postgres() as database, Stack(tmp_path) as stack:
        stack.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        process = stack.prefect_server()
        yield Pool(stack, "silence", "process"), process


def automate(pool: Pool, within: timedelta | None = None) -> None:
    """Have the server take silence for a death: that of `within`, where it is given."""
    [silent] = [each for each in restart_automations() if "silent" in each.name]
    if within is not None:
        silent.trigger = silent.trigger.model_copy(update={"within": within})
    pool.post("automations/", **silent.model_dump(mode="json", exclude={"id"}))


@contextmanager
def client_of(pool: Pool) -> Iterator[None]:
    """As in a process of a run: what is said goes to this server."""
    with temporary_settings({PREFECT_API_URL: pool.stack.api_url, PREFECT_HOME: pool.stack.home / "client"}):
        yield
        EventsWorker.instance().drain()


def read(runs: list[str]) -> list[FlowRun]:
    async def each() -> list[FlowRun]:
        async with get_client() as client:
            return [await client.read_flow_run(UUID(run)) for run in runs]

    return asyncio.run(each())


def wait_until_it_hears(pool: Pool, silent: str) -> None:
    """Beat once, and once more, until the silence after it is taken for a death."""
    until = time.monotonic() + 120
    while pool.run(silent)["state"]["name"] != "Restarting":
        assert time.monotonic() < until, "the automation is never heard of"
        with client_of(pool):
            say(HEARTBEAT, *read([silent]))
        time.sleep(WITHIN.total_seconds() + 7)  # it looks every 5 s


def beat_and_end(pool: Pool, told: list[str], untold: str) -> None:
    """As in a process of its own: a heartbeat, as Prefect's engine sends it, and the end, all in a moment."""
    with client_of(pool):
        for run in read([untold, *told]):
            pool.set_state(str(run.id), "COMPLETED", "Healthy")
            say(HEARTBEAT, run)
            if str(run.id) != untold:
                say_it_rests(run)


def test_an_end_that_the_server_does_not_hear_of_in_time_is_told_in_another_way(
    server: tuple[Pool, Process],
) -> None:
    pool, process = server
    deployment = pool.deploy("waits", tags=[RELEASE])
    silent, untold, *told = (pool.start_of(deployment) for _ in range(2 + MANY))
    for run in (silent, untold, *told):
        pool.set_state(run, "PENDING", "Pending")
        pool.set_state(run, "RUNNING", "Running")
    time.sleep(2)  # that is heard
    process.kill()
    pool.stack.prefect_server(pool.http.base_url.port or 0)
    automate(pool, WITHIN)  # no sooner, as to start a server may take longer than that silence
    wait_until_it_hears(pool, silent)
    beat_and_end(pool, told, untold)
    pool.wait(untold, "Restarting", seconds=60)  # or nothing would have to be told
    time.sleep(5)
    for run in told:
        assert pool.states(run) == ["Scheduled", "Pending", "Running", "Healthy"]


def test_a_run_whose_machine_has_died_is_taken_up_again_within_a_minute(server: tuple[Pool, Process]) -> None:
    """Nobody is left to say that it crashed; until then it has beaten, for longer than it may be silent."""
    pool, _ = server
    automate(pool)
    run = pool.start_of(pool.deploy("beats", tags=[RELEASE]))
    dies = Worker(pool, "dies", kind="process")
    pool.wait(run, "RUNNING")
    time.sleep(DEAD_AFTER + 10)
    assert pool.run(run)["run_count"] == 1
    whole = family([dies.process.pid])[dies.process.pid]
    follows = Worker(pool, "follows", kind="process")
    end_all(whole)
    died = time.monotonic()
    try:
        while pool.states(run).count("Pending") == 1:
            assert time.monotonic() - died < 60
            time.sleep(0.5)
    finally:
        follows.process.stop()
