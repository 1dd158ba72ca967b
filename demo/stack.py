"""The demo's machinery: a Prefect server and worker, a Prometheus, the shop, its users and a Slack, all on 127.0.0.1.

The end-to-end tests and the benchmarks stand on the same stack, so that what the demo shows is what is tested.
Each process is ended by its own pid when the `with` block ends; everything it wrote lies in one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
ACCOUNT_PASSWORD = "tea-time"  # of the shop's test account, smoke@example.com
ROLLBACK_SECRET = "demo-rollback-key"
SLACK_TOKEN = "xoxb-demo"


class Process:
    """A process that we started, with its log. `stop` asks first and insists after `patience` seconds."""

    def __init__(self, argv: Sequence[str], log: Path, env: dict[str, str], announces: bool = False):
        self.name, self.log, self.argv = log.stem, log, argv
        self._sink = log.open("ab")
        stdout = subprocess.PIPE if announces else self._sink
        self.popen = subprocess.Popen(
            argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=self._sink, start_new_session=True
        )
        self.announced = ""  # the first line on standard output
        if announces:
            assert self.popen.stdout is not None
            self.announced = self.popen.stdout.readline().decode().strip()
            if not self.announced:
                raise RuntimeError(f"{self.name} did not start:\n{self.tail()}")
            threading.Thread(target=self._keep_output, daemon=True).start()

    @property
    def pid(self) -> int:
        return self.popen.pid

    def _keep_output(self) -> None:
        """What it prints after its first line goes to the log, so that its pipe never fills."""
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with contextlib.suppress(ValueError):  # closed, because we are stopping
                self._sink.write(line)
                self._sink.flush()

    def alive(self) -> bool:
        return self.popen.poll() is None

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait_for(self, url: str, seconds: float) -> None:
        """Return when the URL answers 200. Raises RuntimeError with the end of the log when it ends, or is late."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self.alive():
                raise RuntimeError(f"{self.name} ended with exit code {self.popen.returncode}:\n{self.tail()}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not answer at {url} within {seconds:g} s:\n{self.tail()}")

    def stop(self, patience: float = 10) -> None:
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        self._sink.close()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


class Shop:
    """The demo shop and its operator's side door."""

    def __init__(self, process: Process):
        self.process, self.url = process, process.announced
        self.http = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def deploy(self, version: str, **faults: Any) -> None:
        self._post("/admin/deploy", {"version": version, "faults": faults})

    def faults(self, **faults: Any) -> None:
        """Replaces the faults; none: a healthy shop again."""
        self._post("/admin/faults", faults)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.http.get("/admin/state").raise_for_status().json()
        return state

    def _post(self, path: str, body: Any) -> None:
        self.http.post(path, json=body).raise_for_status()


class Stack:
    """Everything that is running. `env` is what a shell needs to talk to it."""

    def __init__(self, home: Path):
        self.home = home
        self.home.mkdir(parents=True, exist_ok=True)
        self._processes: list[Process] = []
        self.api_url = ""
        self._targets: dict[Path, list[dict[str, Any]]] = {}
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": "/api",  # whichever port the server gets
            "DO_NOT_TRACK": "1",
            # Prefect lists all time zones for each schedule that it reads: 9 ms from the disk, 0.2 ms from tzdata.
            "PYTHONTZPATH": "",
            "PREFECT_LOGGING_COLORS": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # Task runs are written in batches: with SQLite, each write waits for all others.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
            "SHOP_ACCOUNT_PASSWORD": ACCOUNT_PASSWORD,
            "SHOP_SMOKE_PASSWORD": ACCOUNT_PASSWORD,
            "SHOP_ROLLBACK_SECRET": ROLLBACK_SECRET,
            "ROLLBACK_HMAC": ROLLBACK_SECRET,
            "ONCALL_SLACK_TOKEN": SLACK_TOKEN,
            "SLACK_BOT_TOKEN": SLACK_TOKEN,
            "PROMETHEUS_URL": "",
        }

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.stop()

    def start(self, name: str, argv: Sequence[str], announces: bool = False) -> Process:
        process = Process(argv, self.home / f"{name}.log", self.env, announces)
        self._processes.append(process)
        return process

    def module(self, name: str, *argv: str, announces: bool = False) -> Process:
        """`python -m MODULE …` of this project or of Prefect."""
        return self.start(name, [sys.executable, "-m", *argv], announces)

    # ── the parts ────────────────────────────────────────────────────────────────────────────────────────────

    def prefect_server(self, port: int = 0) -> Process:
        """A server; on the port of one that has ended, its successor."""
        port = port or free_port()
        self.api_url = f"http://127.0.0.1:{port}/api"
        server = self.module("prefect-server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
        server.wait_for(f"{self.api_url}/health", 120)
        self.env["PREFECT_API_URL"] = self.api_url
        self.env["PREFECT_UI_URL"] = self.ui_url
        return server

    @property
    def ui_url(self) -> str:
        return self.api_url.removesuffix("/api")

    def setup(self) -> None:
        """Work pool, deployments and automations, as a user would: `firstwatch setup`."""
        self.run("firstwatch", "setup").check_returncode()

    def pause_schedules(self) -> None:
        """Start nothing by itself: the schedules of prefect.yaml stand still."""
        self.run("prefect", "deployment", "schedule", "pause", "--all").check_returncode()

    def worker(self, name: str = "worker", pool: str = "production", kind: str = "process") -> Process:
        # No --limit: a worker that asks this often and is given a run twice ends with an error of its limiter.
        return self.module(name, "prefect", "worker", "start", "--pool", pool, "--type", kind)

    def shop(self, version: str = "v1", name: str = "shop") -> Shop:
        process = self.module(name, "demo.shop", "--port", "0", "--version", version, announces=True)
        self.env["SHOP_URL"] = process.announced
        return Shop(process)

    def traffic(self, url: str, rps: float, seconds: float, name: str = "traffic") -> Process:
        return self.module(name, "demo.traffic", url, "--rps", str(rps), "--seconds", str(seconds))

    def prometheus(self, shops: dict[str, str], interval: str = "1s", name: str = "prometheus") -> Process | None:
        """Debian's or anyone's Prometheus, scraping shops (service → URL); `scrape` adds more.

        None where there is no such program on the PATH.
        """
        program = shutil.which("prometheus")
        if program is None:
            return None
        port, config, targets = free_port(), self.home / f"{name}.yml", self.home / f"{name}-targets.json"
        config.write_text(
            f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\n"
            "scrape_configs:\n"
            f"  - {{job_name: shops, file_sd_configs: [{{files: ['{targets}'], refresh_interval: 1s}}]}}\n"
        )
        self._targets[targets] = []
        for service, url in shops.items():
            self.scrape(service, url, name)
        url = f"http://127.0.0.1:{port}"
        process = self.start(
            name,
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={self.home / name}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
        )
        process.wait_for(f"{url}/-/ready", 30)
        self.env["PROMETHEUS_URL"] = process.announced = url
        return process

    def scrape(self, service: str, url: str, prometheus: str = "prometheus", **labels: str) -> None:
        """Have the Prometheus scrape this shop too, with the label `service` and these."""
        file = self.home / f"{prometheus}-targets.json"
        at = url.removeprefix("http://")
        self._targets[file].append({"targets": [at], "labels": {"service": service, **labels}})
        part = file.with_suffix(".part")
        part.write_text(json.dumps(self._targets[file]))
        part.replace(file)

    def slack(self) -> str:
        """A Slack of our own, which checks what Slack would check and prints what it is told. Returns its URL."""
        process = self.module("slack", "demo.slack", "--port", "0", announces=True)
        self.env["SLACK_API_URL"] = f"{process.announced}/api/"
        self.env["ONCALL_WEBHOOK"] = f"{process.announced}/services/T000/B000/demo"
        return process.announced

    # ── what a user would type ───────────────────────────────────────────────────────────────────────────────

    def run(self, *argv: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A command to its end, with what it printed."""
        return subprocess.run(
            argv, cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
