"""The flow of a backtest against a real Prefect server and a real Prometheus: task runs, page, state, past runs."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from firstwatch.model import rfc3339
from flows.backtest import ReleaseToReplay, backtest
from flows.observe import observe
from tasks import past
from tests.support.prometheus import prometheus_of
from tests.support.releases import DEPLOYED, FILE, history


@pytest.mark.usefixtures("prefect_api")
def test_each_release_is_a_task_run_and_the_page_has_the_tables(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(FILE % "http://127.0.0.1:9")
    releases = [
        ReleaseToReplay(service="good", version="v2", deployed_at=DEPLOYED),
        ReleaseToReplay(service="bad", version="v2", deployed_at=rfc3339(DEPLOYED)),
        ReleaseToReplay(service="nobody", version="v2", deployed_at=DEPLOYED),
    ]

    async def play(url: str) -> tuple[Any, dict[str, tuple[str, str]], str]:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import (
            ArtifactFilter,
            ArtifactFilterFlowRunId,
            TaskRunFilter,
            TaskRunFilterFlowRunId,
        )

        state: Any = await backtest(str(file), releases, "7d", url, return_state=True)  # type: ignore[call-overload]
        run = state.state_details.flow_run_id
        async with get_client() as client:
            until, runs = time.monotonic() + 20, []
            while time.monotonic() < until and sum(r.state is not None and r.state.is_final() for r in runs) < 4:
                filtered = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run]))
                runs = await client.read_task_runs(task_run_filter=filtered)
                await asyncio.sleep(0.3)
            found = await client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
            )
        tasks = {r.name: (r.state.type.value, r.state.name) for r in runs if r.state}
        return state, tasks, next(str(a.data) for a in found if a.key == "backtest-fleet")

    with prometheus_of(tmp_path / "prometheus", history({"good": "healthy", "bad": "errors"})) as server:
        state, tasks, page = asyncio.run(play(server.url))
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert state.message.startswith("1 of 3 releases would have been rolled back (half of them by T+")
    assert state.message.endswith("1 is healthy, 1 is inconclusive.")
    assert tasks.pop("backtest: good v2") == ("COMPLETED", "Healthy")
    assert tasks.pop("backtest: bad v2") == ("FAILED", "Unhealthy")
    assert tasks.pop("backtest: nobody v2") == ("COMPLETED", "Inconclusive")
    assert page.startswith(f"# {state.message}\n") and "| error rate | 1 | 1 |" in page


@pytest.mark.usefixtures("prefect_api")
def test_past_releases_are_found_among_prefects_runs() -> None:
    version = f"v{time.time_ns()}"
    deployed = datetime(2026, 1, 1, 12, tzinfo=UTC)

    async def find() -> Any:
        from prefect.client.orchestration import get_client

        async with get_client() as client:
            for parameters in (
                {"service": "fleet", "version": version, "deployed_at": rfc3339(deployed.timestamp())},
                {"service": "fleet", "version": version, "deployed_at": rfc3339(deployed.timestamp())},
                {"service": "fleet.yaml", "version": version + "b"},
                {"service": "other", "version": version},
            ):
                await client.create_flow_run(observe, parameters=parameters)
        now = time.time() + 1
        return await past.from_prefect("fleet", ["fleet", "fleet.yaml"], deployed.timestamp() - 1, now)

    found = [p.release for p in asyncio.run(find()) if p.release.version.startswith(version)]
    assert [(r.service, r.version) for r in found] == [("fleet", version), ("fleet", version + "b")]
    assert found[0].deployed_at == deployed.timestamp() and found[1].deployed_at == pytest.approx(time.time(), abs=60)
