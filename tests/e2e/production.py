"""A small production to test in: a Prefect server on PostgreSQL, a worker, a Prometheus, a Slack; a shop a scenario.

A scenario deploys v2 of its own shop with faults, has it verified as CI would, and keeps all that came of it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from demo.postgres import Postgres
from demo.slack import Posted, Slack
from demo.stack import Process, Shop, Stack

PROCESSES, IN_PROCESS = "production", "in-process"  # work pools: a process for each run, or all runs in their worker's
AT_ONCE = {PROCESSES: 4, IN_PROCESS: 5}  # scenarios on each: the start of a process takes seconds of CPU time
ENDED = ("COMPLETED", "FAILED", "CANCELLED")  # a crashed run of ours is scheduled again
WINDOW = [
    {"at": "0s", "name": "error rate", "signal": "errors"},
    {"at": "4s", "name": "p95 latency", "signal": "latency"},
    {"at": "10s", "name": "memory trend", "signal": "memory", "judge": "trend"},
    {"at": "20s", "name": "DB connections", "signal": "db_pool", "judge": "trend"},
    {"at": "60s", "name": "memory creep", "signal": "memory", "judge": "creep"},
]
PLANTED = "planted-Secr3t-9f2e"  # the HMAC key and the account's password: must be found nowhere


@dataclass
class Scenario:
    """What is deployed, and how it is verified. `faults` are there from the deploy on; `later` replaces them once the
    smoke test is over. `change` edits the service file (plain data) before it is written."""

    name: str
    faults: dict[str, Any] = field(default_factory=dict)
    later: dict[str, Any] = field(default_factory=dict)
    rps: float = 12
    flow: str = "verify-release"
    parameters: dict[str, Any] = field(default_factory=dict)
    change: Callable[[dict[str, Any]], None] | None = None
    meanwhile: Callable[[Production, Running], None] | None = None
    patience: float = 240
    prometheus: str = "prometheus"  # which one measures it
    stable: bool = False  # v1 runs beside it, for a canary to be compared with
    pool: str = PROCESSES


@dataclass
class Running:
    scenario: Scenario
    shop: Shop
    flow_run_id: str
    deployed_at: float


@dataclass
class Result:
    """What came of a scenario."""

    name: str
    state: dict[str, Any]
    tasks: list[dict[str, Any]]
    shop: dict[str, Any]
    messages: list[Posted]
    flow_run: dict[str, Any]
    artifacts: dict[str, Any]

    @property
    def ended(self) -> str:
        """`Failed(RolledBack)`"""
        return f"{self.state['type'].capitalize()}({self.state['name']})"

    def task(self, name: str) -> dict[str, Any]:
        found = [t for t in self.tasks if t["name"] == name]
        assert len(found) == 1, f"{name}: {[t['name'] for t in self.tasks]}"
        return found[0]

    def __str__(self) -> str:
        tasks = [
            f"  {t['name']}: {(t['state'] or {}).get('name')} {(t['state'] or {}).get('message')}" for t in self.tasks
        ]
        return "\n".join([f"{self.name} {self.ended}: {self.state['message']}", *tasks])


class Production:
    """Everything shared by the scenarios; they run side by side, at most AT_ONCE of them."""

    def __init__(
        self, stack: Stack, database: Postgres, slack: Slack, prometheus: Process, lost: Process, door: str = ""
    ):
        self.stack, self.database, self.slack = stack, database, slack
        self.prometheus, self.lost = prometheus, lost
        self._door = door  # host:port, where the worker of the pool IN_PROCESS tells how it is
        self._prometheus = {"prometheus": prometheus, "prometheus-lost": lost}
        self._slots = {pool: threading.Semaphore(most) for pool, most in AT_ONCE.items()}
        self._deployments: dict[tuple[str, str], str] = {}
        self._deploying = threading.Lock()
        self._setting_up = threading.Lock()
        self._api = httpx.Client(base_url=stack.api_url, timeout=150, trust_env=False)

    def ask(self, path: str, **query: Any) -> Any:
        return self._call("POST", path, json=query)

    def get(self, path: str) -> Any:
        return self._call("GET", path)

    def _call(self, method: str, path: str, **more: Any) -> Any:
        """As Prefect's own client does: a server whose SQLite is locked answers 503, and is asked again."""
        for _ in range(20):
            answer = self._api.request(method, f"/{path.lstrip('/')}", **more)
            if answer.status_code != 503:
                break
            time.sleep(1)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def metrics(self) -> dict[str, float]:
        """What the worker of the pool IN_PROCESS says of itself: each sample as its page writes it, and its value."""
        page = httpx.get(f"http://{self._door}/metrics", timeout=10, trust_env=False)
        samples = (line.rpartition(" ") for line in page.text.splitlines() if not line.startswith("#"))
        return {sample: float(value) for sample, _, value in samples}

    def play(self, scenario: Scenario) -> Result:
        with self._slots[scenario.pool]:
            with self._setting_up:
                shop, *others = self._shops(scenario)
                traffic = [
                    self.stack.traffic(s.url, scenario.rps, 300, f"traffic-{s.process.name}")
                    for s in (shop, *others)
                    if scenario.rps
                ]
                file = self._service_file(scenario, shop)
            try:
                time.sleep(4)  # the old version is seen to work for a while
                return self._verify(scenario, shop, file)
            finally:
                for process in (*traffic, shop.process, *(other.process for other in others)):
                    process.stop()

    def _shops(self, scenario: Scenario) -> list[Shop]:
        """The shop that gets v2, and, for a comparison, one that stays at v1."""
        shop = self.stack.shop("v1", f"shop-{scenario.name}")
        if not scenario.stable:
            self.stack.scrape(scenario.name, shop.url, scenario.prometheus)
            return [shop]
        stable = self.stack.shop("v1", f"shop-{scenario.name}-stable")
        self.stack.scrape(scenario.name, shop.url, scenario.prometheus, version="v2")
        self.stack.scrape(scenario.name, stable.url, scenario.prometheus, version="v1")
        return [shop, stable]

    def _verify(self, scenario: Scenario, shop: Shop, file: Path) -> Result:
        deployment = self._deployment(scenario.flow, scenario.pool)
        shop.deploy("v2", **scenario.faults)
        deployed_at = time.time()
        parameters = {
            "service": str(file),
            "version": "v2",
            "deployed_at": datetime.fromtimestamp(deployed_at, UTC).isoformat(),
            **scenario.parameters,
        }
        run = self.ask(f"deployments/{deployment}/create_flow_run", parameters=parameters)
        if scenario.later:
            self.wait_for_window(run["id"])
            shop.faults(**scenario.later)
        if scenario.meanwhile:
            scenario.meanwhile(self, Running(scenario, shop, run["id"], deployed_at))
        return self.result(scenario.name, run["id"], shop, scenario.patience)

    def _deployment(self, flow: str, pool: str) -> str:
        """The id of the flow's deployment; in the pool IN_PROCESS, of the same one there."""
        with self._deploying:
            if (flow, pool) not in self._deployments:
                found = self.get(f"deployments/name/{flow}/production")
                if pool == IN_PROCESS:
                    same = ("flow_id", "entrypoint", "path", "pull_steps", "tags", "job_variables")
                    copied = {key: found[key] for key in (*same, "parameter_openapi_schema")}
                    found = self._call("POST", "deployments/", json={"name": pool, "work_pool_name": pool, **copied})
                self._deployments[flow, pool] = found["id"]
            return self._deployments[flow, pool]

    def wait_for_window(self, flow_run_id: str) -> None:
        until = time.monotonic() + 90
        this_run = {"id": {"any_": [flow_run_id]}}
        while not self.ask("task_runs/filter", flow_runs=this_run, task_runs={"name": {"like_": "T+0s"}}):
            assert time.monotonic() < until, "the window was not reached within 90 s"
            time.sleep(0.5)

    def result(self, name: str, flow_run_id: str, shop: Shop, patience: float) -> Result:
        """Wait for the flow run to end, and collect what came of it."""
        until = time.monotonic() + patience
        while (run := self.get(f"flow_runs/{flow_run_id}"))["state"]["type"] not in ENDED:
            assert time.monotonic() < until, f"{name} had not ended after {patience:.0f} s: {run['state']}"
            time.sleep(0.5)
        time.sleep(2)  # the recorder of task runs is asynchronous
        tasks = self.ask("task_runs/filter", flow_runs={"id": {"any_": [flow_run_id]}}, sort="EXPECTED_START_TIME_ASC")
        artifacts = self.ask("artifacts/filter", flow_runs={"id": {"any_": [flow_run_id]}})
        shown = {a["key"].rpartition("-")[0] if a["key"].startswith("journal") else a["key"]: a for a in artifacts}
        ours = [m for m in self.slack.messages if f"{name}@v2@" in str(m)]
        return Result(name, run["state"], tasks, shop.state(), ours, run, shown)

    def _service_file(self, scenario: Scenario, shop: Shop) -> Path:
        file: dict[str, Any] = {
            "service": scenario.name,
            "base_url": shop.url,
            "metrics": {"prometheus": self._prometheus[scenario.prometheus].announced, "timeout": "3s"},
            "rules": {
                "requests_per_second": 10,
                "timeout": "2s",
                "account": {"username": "smoke@example.com", "password": "secret:shop-smoke-password"},
                "allow": [{"request": "POST /auth/token", "because": "a wrong password creates nothing"}],
            },
            "smoke": {
                "budget": "30s",
                "version": {"get": "/version", "within": "5s"},
                "checks": [
                    {"name": "health", "get": "/health", "expect": ["status == 200", 'json.status == "ok"']},
                    {
                        "name": "auth endpoint reachable",
                        "post": "/auth/token",
                        "json": {"username": "smoke@example.com", "password": "wrong"},
                        "expect": ["status == 401"],
                    },
                    {
                        "name": "login",
                        "post": "/auth/token",
                        "json": {"username": "smoke@example.com", "password": "secret:shop-smoke-password"},
                        "expect": ["status == 200", "size(json.token) > 0"],
                    },
                    {
                        "name": "API returns JSON",
                        "get": "/products?limit=1",
                        "expect": ["status == 200", "type(json) in [list, map]"],
                    },
                ],
            },
            "window": {"checkpoints": WINDOW, "look_every": "2s"},
            "rollback": {
                "webhook": {"url": f"{shop.url}/admin/rollback", "secret": "secret:rollback-hmac"},
                "idempotent": True,
            },
            "alerts": {
                "slack": {
                    "token": "secret:slack-bot-token",
                    "channel": f"#{self.slack.channel}",
                    "api_url": self.slack.api_url,
                }
            },
        }
        if scenario.change:
            scenario.change(file)
        path = self.stack.home / f"{scenario.name}.yaml"
        path.write_text(json.dumps(file, indent=1))  # JSON is YAML
        return path


def process_of(flow_run_id: str) -> int | None:
    """The pid of the process that runs the flow run now: the one that was started for it, and is no zombie."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environ, cmdline = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"prefect.engine" in cmdline and f"PREFECT__FLOW_RUN_ID={flow_run_id}".encode() in environ:
            return int(entry.name)
    return None


def kill(pid: int) -> None:
    os.kill(pid, 9)
