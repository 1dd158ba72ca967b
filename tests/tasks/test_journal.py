"""What a killed run has finished is read back as it was last recorded. On a real Prefect server."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client

from firstwatch.redaction import Redactor
from tasks import journal
from tasks.journal import Journal

pytestmark = pytest.mark.usefixtures("prefect_api")


@flow(name="journal-test")
async def flow_run_id() -> str:
    return str(runtime.flow_run.id)


def test_the_latest_word_on_a_step_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_PAGE", 3)  # more than one page

    async def scenario() -> None:
        run = UUID(await flow_run_id())
        async with get_client() as client:
            first = await Journal.open(client, run)
            assert first.steps == []
            for n in range(5):
                await first.finish("window", {"now": n})
                await first.finish(f"T+{n}m", n)
            again = await Journal.open(client, run)
            assert again.get("window") == {"now": 4}
            assert sorted(again.steps) == ["T+0m", "T+1m", "T+2m", "T+3m", "T+4m", "window"]
            assert "T+9m" not in again
            assert (await Journal.open(client, UUID(await flow_run_id()))).steps == []

    asyncio.run(scenario())


def test_started_over_nothing_is_finished_any_more() -> None:
    async def scenario() -> None:
        run = UUID(await flow_run_id())
        async with get_client() as client:
            first = await Journal.open(client, run)
            await first.finish("smoke", "old")
            await first.start_over()
            assert first.steps == []
            await first.finish("verdict", "new")
            again = await Journal.open(client, run)
            assert again.steps == ["verdict"]

    asyncio.run(scenario())


def test_no_secret_is_kept() -> None:
    async def scenario() -> None:
        run = UUID(await flow_run_id())
        async with get_client() as client:
            await (await Journal.open(client, run, Redactor(["hunter2hunter2"]).value)).finish(
                "smoke", {"why": "json.token is hunter2hunter2", "elapsed": float("nan")}
            )
            kept = (await Journal.open(client, run)).get("smoke")
            assert "hunter2" not in str(kept)
            assert kept["elapsed"] is None

    asyncio.run(scenario())
