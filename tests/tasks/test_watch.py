"""What a window costs the Prefect server while nothing happens, and what is said when something does."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger

from firstwatch.model import Release
from firstwatch.redaction import Redactor
from firstwatch.spec import Service
from firstwatch.timeline import Look
from tasks.counts import LOOKS_LEFT_OUT
from tasks.journal import Journal
from tasks.report import AT_REST, WindowProgress
from tasks.sources import open_source
from tasks.watch import Window
from tests.support.counted import counted
from tests.support.metered import NOTHING, Metered, Said, metered

DEPLOYED = float(int(time.time()) + 3600)  # to come: a question's deadline is held against the real time
AWAY_FROM = 600.0  # seconds after the deploy: Prometheus refuses every question


def service(prometheus: str) -> Service:
    checkpoint = {"at": "0m", "name": "queue", "query": "sum(queue_depth)", "expect": "value < 100"}
    end = {"at": "20m", "name": "backlog", "query": "sum(backlog)", "expect": "value < 100"}
    metrics = {"prometheus": prometheus, "timeout": "1s"}
    return Service.model_validate(
        {"service": "watched", "base_url": "http://127.0.0.1:9", "metrics": metrics, "window": [checkpoint, end]}
    )


async def watch(prometheus: Metered, version: str) -> None:
    """Every look of a window of twenty minutes, each at its time."""
    now = DEPLOYED
    prometheus.says = lambda query: NOTHING if now < DEPLOYED + AWAY_FROM else Said(400, "no")
    release = Release("watched", version, DEPLOYED)

    @flow(name="watches", persist_result=False)
    async def watches() -> None:
        nonlocal now
        file = service(prometheus.url)
        source = await open_source(file.metrics, service="watched", selectors=[], marks={})
        async with source, get_client() as client:
            journal = await Journal.open(client, UUID(str(runtime.flow_run.id)))
            progress = WindowProgress(release, Redactor())
            window = Window(file, release, source, progress, journal, lambda: now)
            for look in window.looks:
                now = look.at
                await window.show(f"waiting for the end; watching {window.shown(look.watched)}", f"{now - DEPLOYED:g}")
                await window.look(look)

    await watches()


def test_a_process_that_has_more_to_do_than_it_can_looks_half_as_often_and_judges_all_that_lies_behind() -> None:
    began = time.time()
    release, file = Release("watched", "v", began), service("http://127.0.0.1:9")
    window = Window(file, release, None, None, None, time.time)  # type: ignore[arg-type]  # nothing is watched yet

    def look(after: float, grace: bool = False) -> Look:
        return Look(began + after, (), (), grace)

    async def late_for(seconds: float) -> None:
        asyncio.get_running_loop().call_later(0.05, time.sleep, seconds)
        await window.look(look(time.time() - began + 0.3))

    async def main() -> None:
        await late_for(0.0)
        assert not window.leaves_out(look(30))
        before = counted_looks()
        await late_for(1.5)
        assert window.leaves_out(look(30)) and not window.leaves_out(look(45))
        assert counted_looks() - before == 1
        for told in (look(0.1), look(30, grace=True)):  # one that lies behind; one that is taken for a verdict's sake
            await late_for(1.5)
            assert not window.leaves_out(told)

    with disable_run_logger():
        asyncio.run(main())


def counted_looks() -> float:
    return LOOKS_LEFT_OUT.collect()[0].samples[0].value


def test_looks_of_all_windows_meet_at_the_same_moments_and_what_is_due_waits_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release, file = Release("watched", "v", 1000.1), service("http://127.0.0.1:9")
    now = [1000.1]

    async def tick(seconds: float) -> None:
        now[0] += seconds

    async def slept_until(moment: float) -> float:
        window = Window(file, release, None, None, None, lambda: now[0])  # type: ignore[arg-type]  # it only sleeps
        await window.sleep_until(moment)
        return now[0]

    async def main() -> list[float]:
        return [await slept_until(moment) for moment in (900.0, 1000.1, 1012.3, 1030.0)]

    monkeypatch.setattr("tasks.watch.asyncio.sleep", tick)
    assert asyncio.run(main()) == pytest.approx([1000.1, 1000.1, 1012.5, 1030.0])


def written(asked: list[str]) -> list[str]:
    return [question for question in asked if question in ("POST /artifacts/", "PATCH /artifacts/…")]


def test_a_window_is_written_down_when_there_is_something_to_read_and_else_now_and_then(
    prefect_api: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> list[str]:
        async with metered() as prometheus:
            with counted(prefect_api) as asked:
                await watch(prometheus, "quiet")
        return list(asked)

    with caplog.at_level(logging.INFO, "prefect.flow_runs"):
        asked = asyncio.run(work())
    looks = 20 * 60 / 10
    most = 20 * 60 / AT_REST + 1 + 4  # at rest; the first; and each change there is
    assert 20 * 60 / AT_REST <= len(written(asked)) <= most < looks / 2, asked
    lines = [r.getMessage() for r in caplog.records if "queue: " in r.getMessage()]
    assert [line.partition(",")[0].partition(": ")[2] for line in lines] == ["no data", "error"], lines


def test_what_is_wrong_is_shown_at_the_next_look(prefect_api: str) -> None:
    async def work() -> Any:
        async with metered() as prometheus:
            with counted(prefect_api):
                await watch(prometheus, "wrong")
        return await Artifact.aget(key=f"window-{Release('watched', 'wrong', DEPLOYED).slug}")

    progress = asyncio.run(work())
    assert "queue (error)" in progress.description


def test_the_same_text_is_written_again_after_a_while_and_another_one_at_once(prefect_api: str) -> None:
    release = Release("watched", "kept up", DEPLOYED)

    async def numbers(asked: list[str]) -> list[int]:
        @flow(name="kept up", persist_result=False)
        async def keeps_up() -> None:
            progress = WindowProgress(release, Redactor())
            for about, now in (("a", 0.0), ("a", AT_REST - 1), ("b", AT_REST), ("b", AT_REST + 1), ("b", 2 * AT_REST)):
                await progress.keep_up(0.5, about, now, about=about)
                found.append(len(written(asked)))

        found: list[int] = []
        await keeps_up()
        return found

    with counted(prefect_api) as asked:
        assert asyncio.run(numbers(asked)) == [1, 1, 2, 2, 3]


def test_a_server_that_does_not_take_it_is_left_alone_for_a_minute(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked = Release("watched", "busy", DEPLOYED), 0

    async def hangs(*_: Any, **__: Any) -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    monkeypatch.setattr("tasks.report._PATIENCE", 0.1)
    monkeypatch.setattr("tasks.report.acreate_progress_artifact", hangs)

    @flow(name="busy", persist_result=False)
    async def keeps_up() -> list[int]:
        progress, tried = WindowProgress(release, Redactor()), []
        for about, now in (("a", 0.0), ("a", 15.0), ("b", 59.0), ("b", 60.0), ("b", 75.0), ("b", 121.0)):
            await progress.keep_up(0.5, about, now, about=about)
            tried.append(asked)
        return tried

    assert asyncio.run(keeps_up()) == [1, 1, 1, 2, 2, 3]
