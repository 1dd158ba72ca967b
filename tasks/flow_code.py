"""The flows of deployments, each loaded once, for a worker that runs them in its own process."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.results import aget_default_result_storage

HOLDS = 10.0  # seconds that what the server said of a deployment is believed
_CHANGE_FOLDER = "prefect.deployments.steps.set_working_directory"


class NotHere(Exception):
    """A deployment that only a process of its own can run, and why."""


class FlowCode:
    """Deployments and their flows. One process has one folder and one set of modules, so their code must lie in the
    folder in which the worker was started, and a change of it needs a new worker."""

    def __init__(self) -> None:
        self._deployments: dict[UUID, tuple[float, DeploymentResponse]] = {}
        self._flows: dict[str, Flow[Any, Any]] = {}
        self._one_at_a_time = asyncio.Lock()
        if (here := str(Path.cwd())) not in sys.path:  # as in a process that Prefect starts for a run
            sys.path.insert(0, here)

    async def deployment(self, client: PrefectClient, which: UUID) -> DeploymentResponse:
        """Raises prefect.exceptions.ObjectNotFound."""
        read_at, found = self._deployments.get(which, (0.0, None))
        if found is None or time.monotonic() - read_at > HOLDS:
            found = await client.read_deployment(which)
            self._deployments[which] = time.monotonic(), found
        return found

    async def flow(self, deployment: DeploymentResponse) -> Flow[Any, Any]:
        """Raises NotHere, and whatever loading the code raises."""
        entrypoint = deployment.entrypoint
        if entrypoint is None:
            raise NotHere(f"deployment {deployment.name!r} has no entrypoint")
        _check_folder(deployment)
        async with self._one_at_a_time:
            if entrypoint not in self._flows:
                flow: Flow[Any, Any] = await asyncio.to_thread(load_flow_from_entrypoint, entrypoint, False)
                self._flows[entrypoint] = _asynchronous(flow, entrypoint)
                if flow.result_storage is None:  # or the engine asks the server for it, and all runs wait meanwhile
                    flow.result_storage = await aget_default_result_storage()
        return self._flows[entrypoint]


def other_environment(deployment: DeploymentResponse) -> dict[str, str]:
    """What the deployment wants in its runs' environment, and the worker's has not. Runs see the worker's."""
    wanted = deployment.job_variables.get("env") or {}
    assert isinstance(wanted, Mapping)
    return {name: str(value) for name, value in wanted.items() if os.environ.get(name) != str(value)}


def _check_folder(deployment: DeploymentResponse) -> None:
    """Raises NotHere where a process would have to change its folder, or fetch the code."""
    for step in deployment.pull_steps or []:
        [(name, inputs)] = step.items()
        if name != _CHANGE_FOLDER:
            raise NotHere(f"its code is fetched by {name}: only a pool whose runs have their own process does that")
        _check_same(inputs["directory"])
    if not deployment.pull_steps and deployment.path:
        _check_same(deployment.path)


def _check_same(folder: str) -> None:
    if Path(folder).expanduser().resolve() != Path.cwd().resolve():
        raise NotHere(f"its code lies in {folder}, and this worker was started in {Path.cwd()}: start one there")


def _asynchronous(flow: Flow[Any, Any], entrypoint: str) -> Flow[Any, Any]:
    if not flow.isasync or flow.isgenerator:
        raise NotHere(f"{entrypoint} is not `async def`, or is a generator: it would hold up all other runs")
    return flow
