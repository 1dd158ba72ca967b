"""A backtest in the Prefect UI: a task run for each release, named as people read it, and the page with the tables."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from firstwatch.backtest import Backtest, BacktestResult
from firstwatch.model import Verdict
from firstwatch.report.backtest import release_line
from firstwatch.report.text import plain
from tasks.history import Replay


async def replay_shown(replay: Replay) -> Backtest:
    """Replay, and show each result as the task run `backtest: shop v2` as soon as it is there."""
    results: asyncio.Queue[BacktestResult | None] = asyncio.Queue()

    async def run() -> Backtest:
        try:
            return await replay.run(results.put_nowait)
        finally:
            results.put_nowait(None)

    running = asyncio.create_task(run())
    try:
        while (result := await results.get()) is not None:
            release = result.past.release
            name = plain(f"backtest: {release.service} {release.version}", 200)
            shown: Any = _shown.with_options(task_run_name=name)(result, return_state=True)
            await shown
        return await running
    finally:
        running.cancel()


@task(name="backtest", cache_policy=NO_CACHE, persist_result=False)
async def _shown(result: BacktestResult) -> Any:
    """Failed where it would have been rolled back; each reason in its log."""
    for reason in result.reasons:
        get_run_logger().info("%s: %s, %s", reason.check, reason.outcome, plain(reason.why))
    state = Failed if result.verdict is Verdict.UNHEALTHY else Completed
    return state(name=str(result.verdict).capitalize(), message=release_line(result))
