"""The disk of the database, the Prefect server and the worker is full in mid-window: nothing is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.kills import held
from bench.stage import Stage, Worker, stage
from bench.window_runs import found, start, wait
from bench.windows import BAD_FROM, Plan, start_world
from tests.support.small_disk import CAN_BE_MADE, small_disk

PLAN = Plan(windows=6, scale=20.0, process=0)  # windows of 90 s
BAD = 1 / 3  # of the releases, from T+36s on
FULL_FROM, FULL_FOR = 20.0, 25.0  # seconds: checkpoints and rollbacks fall due meanwhile

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(420),
    pytest.mark.skipif(not CAN_BE_MADE, reason="only root may mount a small disk"),
]


def test_a_full_disk_holds_releases_up_and_loses_none() -> None:
    with (
        small_disk(400) as disk,
        stage([], disk.folder) as on,
        ThreadPoolExecutor(1) as ci,
    ):
        world = start_world(on, PLAN)[0].announced
        worker, deployment = on.worker(name="one").ready(), on.deployment("verify-release")["id"]
        numbers = range(PLAN.windows)
        windows = ci.submit(start, on, world, deployment, numbers, 6.0, BAD, BAD_FROM * PLAN.length)
        time.sleep(FULL_FROM)
        with disk.full():
            disk.stay_full(FULL_FOR)
            assert disk.free == 0
        worker = _supervised(on, worker)
        waited = wait(on, deployment, PLAN.windows, worker, PLAN.length + 180)
        result = {**waited, **found(on, world, deployment, windows.result(), PLAN.scale)}
        said = on.server.log.read_text() + on.database.process.log.read_text()
        assert "No space left" in said, "nobody noticed that the disk was full"
        assert all(held(result).values()), f"{result}\n{on.server.tail(30)}\n{worker.process.tail(30)}"
        healthy = [run["state"] for run in on.pages("flow_runs/filter") if run["state"]["name"] == "Healthy"]
        assert {state["message"] for state in healthy} == {"4 checks and 5 checkpoints passed."}


def _supervised(on: Stage, worker: Worker) -> Worker:
    """What has ended for want of a disk is started again, as a supervisor does."""
    on.database.again()
    if not on.server.alive():
        on.server_again()
    return worker if worker.process.alive() else on.worker(name="one").ready()
