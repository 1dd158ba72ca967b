"""The task runs that a killed process left open, or did not tell of, are told from the journal. On a real server."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID, uuid4

import httpx
from prefect import flow, get_client, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from firstwatch.model import Judgement, Outcome
from tasks.journal import Journal
from tasks.task_runs import judged_state, settle

GOOD = Judgement(Outcome.PASS, "0 of 120 requests failed", 1_000.0, value=0.0)
BAD = Judgement(Outcome.FAIL, "12 of 120 requests failed", 1_060.0, value=0.1)


@task(name="judge", cache_policy=NO_CACHE)
async def judge(journal: Journal, step: str, judged: Judgement) -> object:
    await journal.finish_all({step: judged, "window": {"now": judged.at}})
    return judged_state(judged)


@task(name="judge", cache_policy=NO_CACHE)
async def judge_and_die(journal: Journal, step: str, judged: Judgement) -> None:
    await journal.finish(step, judged)
    EventsWorker.instance().drain()  # the server hears that it runs
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="wait")
async def wait() -> None:
    await asyncio.sleep(600)


@flow(name="killed while it judges", persist_result=False)
async def killed(tell: Connection) -> None:
    run = UUID(str(runtime.flow_run.id))
    tell.send(run)
    async with get_client() as client:
        journal = await Journal.open(client, run)
        named = judge.with_options(task_run_name="T+0s error rate")
        await named(journal, "T+0s error rate", GOOD, return_state=True)
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.5)
        named = judge_and_die.with_options(task_run_name="canary 2/5 errors")
        await asyncio.gather(waiting, named(journal, "gate 1 errors 2", BAD))


def _process(api: str, home: Path, tell: Connection) -> None:
    with temporary_settings({PREFECT_API_URL: api, PREFECT_HOME: home}):
        asyncio.run(killed(tell))


def kill_one(api: str, home: Path) -> UUID:
    """The flow run whose process was killed."""
    context = multiprocessing.get_context("spawn")
    hears, tells = context.Pipe()
    process = context.Process(target=_process, args=(api, home, tells))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    run: UUID = hears.recv()
    return run


async def task_runs(client: PrefectClient, run: UUID) -> dict[str, TaskRun]:
    found = await client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


def say_again(api: str, task_run: UUID) -> str:
    """The event of its state, as the engine had sent it, under another id, which is that of the state then."""
    wanted = {"resource": {"id": [f"prefect.task-run.{task_run}"]}, "event": {"name": ["prefect.task-run.Running"]}}
    for _ in range(60):  # it writes events down every few seconds
        if events := httpx.post(f"{api}/events/filter", json={"filter": wanted}).json()["events"]:
            break
        time.sleep(0.5)
    again = {**events[0], "id": str(uuid4())}
    httpx.post(f"{api}/events", json=[again]).raise_for_status()
    return str(again["id"])


async def until(client: PrefectClient, run: UUID, true: Callable[[dict[str, TaskRun]], bool]) -> dict[str, TaskRun]:
    """The server records task runs a moment later."""
    for _ in range(300):
        if true(known := await task_runs(client, run)):
            return known
        await asyncio.sleep(0.1)
    raise AssertionError({name: each.state for name, each in known.items()})


def said(known: dict[str, TaskRun]) -> dict[str, tuple[str, str]]:
    """Name and message of each one's state; of the one that waited, by `wait`."""
    states = {name: each.state for name, each in known.items()}
    return {name.split("-")[0]: (state.name or "", state.message or "") for name, state in states.items() if state}


AS_JUDGED = {
    "T+0s error rate": ("Pass", "0 of 120 requests failed"),
    "canary 2/5 errors": ("Failed", "12 of 120 requests failed"),
    "wait": ("Crashed", "Its process was killed; the flow run went on in a new one."),
}


def test_what_was_open_ends_as_it_was_judged_or_as_crashed(prefect_api: str, tmp_path: Path) -> None:
    run = kill_one(prefect_api, tmp_path)

    async def settled() -> None:
        async with get_client() as client:
            states = ["Pass", "Running", "Running"]
            await until(client, run, lambda known: sorted(state for state, _ in said(known).values()) == states)
            await settle(client, run, await Journal.open(client, run))
            known = await task_runs(client, run)
            assert said(known) == AS_JUDGED
            await settle(client, run, await Journal.open(client, run))
            assert await task_runs(client, run) == known  # not told twice

    asyncio.run(settled())


def test_what_the_server_has_never_heard_of_is_told_and_is_the_same_when_it_is_heard_of_later(
    prefect_api: str, tmp_path: Path
) -> None:
    run = kill_one(prefect_api, tmp_path)

    async def settled() -> None:
        async with get_client() as client:
            before = await until(client, run, lambda known: len(known) == 3)
            lost = before["canary 2/5 errors"]
            await client.delete_task_run(lost.id)
            await settle(client, run, await Journal.open(client, run))
            known = await task_runs(client, run)
            told = known["canary 2/5 errors"]
            assert said(known) == AS_JUDGED
            assert (told.id, told.task_key, told.dynamic_key) == (lost.id, lost.task_key, lost.dynamic_key)
            assert told.start_time is not None and told.end_time is not None
            late = await asyncio.to_thread(say_again, prefect_api, lost.id)
            for _ in range(300):
                if late in [str(state.id) for state in await client.read_task_run_states(lost.id)]:
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError("the event was not heard of")
            assert said(await task_runs(client, run)) == AS_JUDGED

    asyncio.run(settled())


def test_a_judgement_outside_of_a_task_run_has_none_to_tell(prefect_api: str) -> None:
    @flow(name="judges without a task run", persist_result=False)
    async def judges() -> UUID:
        assert TaskRunContext.get() is None
        run = UUID(str(runtime.flow_run.id))
        async with get_client() as client:
            await (await Journal.open(client, run)).finish("T+0s error rate", GOOD)
        return run

    async def settled() -> None:
        run = await judges()
        async with get_client() as client:
            journal = await Journal.open(client, run)
            assert journal.steps == ["T+0s error rate"] and not journal.judged_in
            await settle(client, run, journal)
            assert await task_runs(client, run) == {}

    asyncio.run(settled())
