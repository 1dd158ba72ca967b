"""A work pool with deployments of small flows, and workers of ours for it, on a real Prefect server."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from demo.stack import ROOT, Process, Stack, free_port

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Pool:
    """Deployments are made of the flows of one file, as they are asked for."""

    def __init__(self, stack: Stack, name: str, kind: str = "firstwatch", flows: str = "tests/support/worker_flows.py"):
        self.stack, self.name, self.flows = stack, name, flows
        self.http = httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False)
        self._deployments: dict[str, str] = {}
        self.post("work_pools/", name=name, type=kind)

    def post(self, path: str, /, **body: Any) -> Any:
        """What the API answers; asked again where it is busy with its database, as Prefect's own client does."""
        for _ in range(20):
            answer = self.http.post(f"/{path}", json=body)
            if answer.status_code != 503:
                break
            time.sleep(0.2)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def deploy(self, function: str, **fields: Any) -> str:
        """The id of a deployment of this function of the flows' file."""
        flow = self.post("flows/", name=f"{self.name}-{function}")
        made = {"path": str(ROOT), "entrypoint": f"{self.flows}:{function}", "enforce_parameter_schema": False}
        body = {"name": self.name, "flow_id": flow["id"], "work_pool_name": self.name, **made, **fields}
        return str(self.post("deployments/", **body)["id"])

    def start(self, function: str, **parameters: Any) -> str:
        """Schedule a run for now; its id."""
        if function not in self._deployments:
            self._deployments[function] = self.deploy(function)
        return self.start_of(self._deployments[function], **parameters)

    def start_of(self, deployment: str, at: datetime | None = None, /, **parameters: Any) -> str:
        due = {"scheduled_time": at.isoformat()} if at is not None else {}
        state = {"type": "SCHEDULED", "state_details": due}
        return str(self.post(f"deployments/{deployment}/create_flow_run", parameters=parameters, state=state)["id"])

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/flow_runs/{run}").raise_for_status().json()
        return found

    def set_state(self, run: str, kind: str, name: str, force: bool = False, **details: Any) -> None:
        self.post(
            f"flow_runs/{run}/set_state", state={"type": kind, "name": name, "state_details": details}, force=force
        )

    def wait(self, run: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        """The run, once its state has one of these types or names; left out: once it has ended."""
        until = time.monotonic() + seconds
        while True:
            found = self.run(run)
            state = found["state"]
            if state["type"] in (states or ENDED) or state["name"] in states:
                return found
            assert time.monotonic() < until, f"after {seconds:g} s, {found['name']} is {state['type']} {state}"
            time.sleep(0.1)

    def states(self, run: str) -> list[str]:
        """The names of all states that the run has had, in their order."""
        answer = self.http.get("/flow_run_states/", params={"flow_run_id": run}).raise_for_status().json()
        return [state["name"] for state in sorted(answer, key=lambda state: str(state["timestamp"]))]

    def logs(self, run: str, seconds: float = 0.0) -> list[str]:
        """What the run has logged. With `seconds`, once it has said something: its lines come late."""
        until = time.monotonic() + seconds
        while True:
            lines = self.post("logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_ASC")
            if lines or time.monotonic() > until:
                return [line["message"] for line in lines]
            time.sleep(0.2)


class Worker:
    """A worker process of ours for a pool."""

    def __init__(self, pool: Pool, name: str, *options: str, kind: str = "firstwatch", **env: str):
        self.url = f"http://127.0.0.1:{free_port()}"
        argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool.name, "--type", kind, "--name", name]
        self.process = Process(
            [*argv, *options],
            pool.stack.home / f"{name}.log",
            {
                **pool.stack.env,
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "FIRSTWATCH_WORKER_METRICS": self.url.removeprefix("http://"),
                **env,
            },
        )

    def ready(self) -> Worker:
        self.process.wait_for(f"{self.url}/healthz", 60)
        return self

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value now, summed over the labels that are not given; 0 if there is none."""
        page = httpx.get(f"{self.url}/metrics", timeout=5, trust_env=False).text
        values = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", page, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for given, value in values if all(pair in given for pair in wanted))

    @property
    def log(self) -> str:
        return Path(self.process.log).read_text(errors="replace")
