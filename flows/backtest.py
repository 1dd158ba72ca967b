"""Replay past releases from a Prometheus' history: what their verdicts would have been, when, and why.

    prefect deployment run backtest/production -p service=shop -p last=30d --watch

Each release is a task run, and the page `backtest-shop` has the tables: how many would have been rolled back, and what
each limit would have to be for none.
"""

from __future__ import annotations

import time
from typing import Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, Field

from firstwatch.past import PastRelease, parse_releases
from firstwatch.report.backtest import sentence
from firstwatch.report.text import plain
from firstwatch.spec import Service
from firstwatch.units import parse_duration
from tasks import past
from tasks.history import Replay
from tasks.opening import read_service
from tasks.replayed import replay_shown
from tasks.report import publish_backtest
from tasks.run import NotVerifiable
from tasks.secrets import SecretMissing


class ReleaseToReplay(BaseModel):
    service: str = Field(description="what {{service}} stands for in the service file")
    version: str
    deployed_at: str | float = Field(description="2026-01-01T12:00:00Z, or Unix seconds")
    args: dict[str, str] = Field(default_factory=dict, description="what {{args.NAME}} stands for")


@flow(name="backtest", flow_run_name="backtest {service}", persist_result=False)
async def backtest(
    service: str,
    releases: list[ReleaseToReplay] | None = None,
    last: str = "7d",
    prometheus: str | None = None,
    only: Literal["window", "canary"] | None = None,
) -> State[None]:
    """Replay past releases through the same code as the live window and the live gate.

    Args:
        service: a file in services/, without .yaml.
        releases: which ones; left out, those that the version label of the service's series, or Prefect's runs, show.
        last: how far back releases are looked for.
        prometheus: whose history is read; left out, the service file's metrics.prometheus.
        only: window or canary; left out, the window and, where the file has one, the canary's gate.
    """
    try:
        file = read_service(service)
        if prometheus:
            file = file.model_copy(update={"metrics": file.metrics.model_copy(update={"prometheus": prometheus})})
        replay = Replay(file, await _wanted(file, service, releases, last), only=only)
        done = await replay_shown(replay)
    except (NotVerifiable, past.NotFound, SecretMissing, ValueError) as problem:
        return Failed(name="Inconclusive", message=plain(f"Nothing could be replayed: {problem}", 3000))
    await publish_backtest(file, done)
    if any(result.ours for result in done.results):
        return Failed(name="Inconclusive", message=sentence(done))
    return Completed(message=sentence(done))


async def _wanted(file: Service, service: str, releases: list[ReleaseToReplay] | None, last: str) -> list[PastRelease]:
    if releases:
        return parse_releases([release.model_dump() for release in releases], time.time())
    found, how = await past.find(file, [service], None, parse_duration(last), time.time())
    get_run_logger().info("Releases: %s.", how)
    return found
