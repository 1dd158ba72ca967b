"""What a monitor's check costs, beside a blackbox_exporter that probes the same 500 endpoints in the same minutes.

    python -m bench.monitors        measures, prints the table and writes bench/monitors.json

One small HTTP server on this machine has the endpoints (bench/endpoints.py). A blackbox_exporter is asked for one probe
each, and has to find the same in the answer; we take them as rounds of 20 services with 25 checks each, in four ways
(bench/monitors_client.py): `bare` checks without Prefect, rounds with their `documents` on a Prefect server, as `flow`
runs in a live process, every check a task run (three of the services), and as runs that a process `worker` starts
(one service). All ways take turns, each five times after a warm-up; medians. CPU seconds are those of the processes, as
the kernel counts them; who asks the exporter does not count. TLS is not used: a handshake costs all of them the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

from demo.stack import ROOT, Process, Stack, free_port

SERVICES, CHECKS, IN_FLOWS = 20, 25, 3
PATIENCE = 120.0  # seconds for one pass of any of them
TICK = os.sysconf("SC_CLK_TCK")
RESULT = Path(__file__).with_suffix(".json")
EXPORTER = "prometheus-blackbox-exporter"
MODULE = """
modules:
  http:
    prober: http
    timeout: 5s
    http: {valid_status_codes: [200], fail_if_body_not_matches_regexp: ['"status": "ok"'], preferred_ip_protocol: ip4}
"""


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────


def cpu(pid: int) -> float:
    """CPU seconds of a process, and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def peak_mb(pid: int) -> float:
    """The most memory that a process has had, in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def children(pid: int) -> list[str]:
    """Also those that have ended, and are not waited for yet."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def children_mb(pid: int) -> float:
    """The largest of a process' children, as far as it has got; 0 where there are none."""
    found = 0.0
    for child in children(pid):
        try:
            found = max(found, peak_mb(int(child)))
        except (OSError, StopIteration):  # it has ended meanwhile
            continue
    return found


class Client:
    """One of ours (bench/monitors_client.py), with its own process."""

    def __init__(self, stack: Stack, way: str, folder: Path, api: str | None) -> None:
        env = {name: value for name, value in stack.env.items() if name != "PREFECT_API_URL"}
        env |= {"PREFECT_API_URL": api} if api else {}
        self._log = (stack.home / f"client-{way}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.monitors_client", way, str(folder)],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self.pid, self._name = self._process.pid, self._log.name
        self._line()

    def ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith(("{", "ready")) or line.strip().isdigit():
                return line
        raise RuntimeError(f"a client ended:\n{Path(self._name).read_text()[-2000:]}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


# ── the ways ─────────────────────────────────────────────────────────────────────────────────────────────────


class Exporter:
    """A blackbox_exporter, and who asks it: 25 probes at a time."""

    def __init__(self, stack: Stack, endpoints: str) -> None:
        config, port = stack.home / "blackbox.yml", free_port()
        config.write_text(MODULE)
        self.url = f"http://127.0.0.1:{port}"
        argv = [shutil.which(EXPORTER) or "", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
        self.process = stack.start("blackbox", [*argv, "--log.level=error"])
        self.process.wait_for(f"{self.url}/-/healthy", 30)
        self.pid, self._targets = self.process.pid, [f"{endpoints}/{n}" for n in range(SERVICES * CHECKS)]

    def take(self) -> int:
        """How many endpoints it found as they must be."""

        async def ask() -> int:
            places = asyncio.Semaphore(CHECKS)
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:

                async def one(target: str) -> bool:
                    async with places:
                        found = await client.get(f"{self.url}/probe", params={"target": target, "module": "http"})
                        return "\nprobe_success 1\n" in found.text

                return sum(await asyncio.gather(*map(one, self._targets)))

        return asyncio.run(ask())


class Worker:
    """A process worker, and a deployment whose runs it starts: each a process of its own."""

    def __init__(self, stack: Stack, file: Path) -> None:
        self._api, self._file = stack.api_url, file
        self._deployment = asyncio.run(self._deploy())
        process = stack.module("worker", "prefect", "worker", "start", "--pool", "bench", "--type", "process")
        self.process, self.pid, self.child_mb = process, process.pid, 0.0

    async def _deploy(self) -> Any:
        here = [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
        async with PrefectClient(self._api) as client:
            await client.create_work_pool(WorkPoolCreate(name="bench", type="process"))
            return await client.create_deployment(
                flow_id=await client.create_flow_from_name("synthetic"),
                name="bench",
                entrypoint="flows/synthetic.py:synthetic",
                work_pool_name="bench",
                pull_steps=here,
                job_variables={"command": "python -m prefect.engine"},
            )

    def take(self) -> int:
        """One run to its end; how many checks passed."""

        async def run() -> str:
            async with PrefectClient(self._api) as client:
                parameters = {"service": str(self._file)}
                made = await client.create_flow_run_from_deployment(self._deployment, parameters=parameters)
                until = time.monotonic() + PATIENCE
                while time.monotonic() < until:
                    await asyncio.sleep(0.5)
                    self.child_mb = max(self.child_mb, children_mb(self.pid))
                    state = (await client.read_flow_run(made.id)).state
                    if state is not None and state.is_final() and not children(self.pid):
                        return str(state.name)  # its process has ended, and is counted
            raise RuntimeError(f"a run did not end:\n{self.process.tail()}")

        return CHECKS if asyncio.run(run()) == "Up" else 0


def write_files(folder: Path, endpoints: str, services: int) -> Path:
    """So many service files of CHECKS checks each."""
    folder.mkdir()
    for n in range(services):
        paths = [f"/{n * CHECKS + check}" for check in range(CHECKS)]
        expect = ["status == 200", 'json.status == "ok"']
        checks = [{"name": f"check {path}", "get": path, "expect": expect} for path in paths]
        file = {
            "service": f"svc-{n:02d}",
            "base_url": endpoints,
            "rules": {"requests_per_second": 1000},
            "synthetic": {"every": "1m", "checks": checks},
        }
        (folder / f"svc-{n:02d}.yaml").write_text(json.dumps(file))
    return folder


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────


def measured(take: Callable[[], int], checks: int, pid: int, server: int, rest: float) -> dict[str, float]:
    """One pass: CPU milliseconds a check of the process, and of the Prefect server beyond what it takes at rest (CPU
    seconds a second); and the time that it took."""
    began, ours, servers = time.monotonic(), cpu(pid), cpu(server)
    passed = take()
    if passed != checks:
        raise RuntimeError(f"{passed} of {checks} checks passed")
    each, took = 1000 / checks, time.monotonic() - began
    return {
        "client_ms": (cpu(pid) - ours) * each,
        "server_ms": (cpu(server) - servers - rest * took) * each,
        "wall_ms": took * each,
    }


def measure(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, Stack(Path(name)) as stack, ExitStack() as clients:
        endpoints = stack.module("endpoints", "bench.endpoints", announces=True).announced
        server = stack.prefect_server()
        exporter = Exporter(stack, endpoints)
        full = write_files(Path(name) / "full", endpoints, SERVICES)
        few = write_files(Path(name) / "few", endpoints, IN_FLOWS)
        worker = Worker(stack, few / "svc-00.yaml")
        ours = {}
        for way, folder, api in (
            ("bare", full, None),
            ("documents", full, stack.api_url),
            ("flow", few, stack.api_url),
        ):
            ours[way] = Client(stack, way, folder, api)
            clients.callback(ours[way].close)
        ways: dict[str, tuple[Callable[[], int], int, int]] = {
            "blackbox_exporter": (exporter.take, SERVICES * CHECKS, exporter.pid),
            "bare": (lambda: int(ours["bare"].ask("go")), SERVICES * CHECKS, ours["bare"].pid),
            "documents": (lambda: int(ours["documents"].ask("go")), SERVICES * CHECKS, ours["documents"].pid),
            "flow": (lambda: int(ours["flow"].ask("go")), IN_FLOWS * CHECKS, ours["flow"].pid),
            "worker": (worker.take, CHECKS, worker.pid),
        }
        rest = at_rest(server)
        rows = passes(ways, runs, server, rest)
        memory = {way: round(peak_mb(pid)) for way, (_, _, pid) in ways.items()}
        memory |= {"a run's process": round(worker.child_mb), "Prefect server": round(peak_mb(server.pid))}
        return {
            "runs": runs,
            "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
            "exporter": version(),
            "checks": {way: checks for way, (_, checks, _) in ways.items()},
            "server_at_rest_ms_per_second": round(rest * 1000, 1),
            "median": {way: medians(rows[way]) for way in ways},
            "times_blackbox_exporter": ratios(rows),
            "peak_mb": memory,
            **details(ours),
        }


def details(ours: dict[str, Client]) -> dict[str, Any]:
    """Where it goes: of three rounds each."""
    return {
        "requests_of_three_rounds": {way: client.ask("count") for way, client in ours.items()},
        "percent_of_the_client_by_code": {way: client.ask("profile") for way, client in ours.items()},
    }


def passes(
    ways: dict[str, tuple[Callable[[], int], int, int]], runs: int, server: Process, rest: float
) -> dict[str, list[dict[str, float]]]:
    """A warm-up, and then `runs` passes of each way, in turn."""
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for n in range(runs + 1):
        for way, (take, checks, pid) in ways.items():
            row = measured(take, checks, pid, server.pid, rest)
            if n:
                rows[way].append(row)
                print(n, way, json.dumps({key: round(value, 2) for key, value in row.items()}), flush=True)
    return rows


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}


def ratios(rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Each way's CPU, client and server, over the exporter's of the same pass: the median."""
    theirs = [row["client_ms"] for row in rows["blackbox_exporter"]]

    def ratio(way: str) -> float:
        both = [row["client_ms"] + (row["server_ms"] if way != "bare" else 0.0) for row in rows[way]]
        return round(statistics.median(our / its for our, its in zip(both, theirs, strict=True)), 1)

    return {way: ratio(way) for way in rows if way != "blackbox_exporter"}


def at_rest(server: Process, seconds: float = 8.0) -> float:
    """What the Prefect server takes for itself, with a worker that asks it for runs: CPU seconds a second."""
    time.sleep(seconds / 2)  # until all that began with it has settled
    before = cpu(server.pid)
    time.sleep(seconds)
    return (cpu(server.pid) - before) / seconds


def version() -> str:
    said = subprocess.run([shutil.which(EXPORTER) or "", "--version"], capture_output=True, text=True, check=True)
    return " ".join((said.stdout or said.stderr).split()[:3])


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.monitors", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    if shutil.which(EXPORTER) is None:
        print(f"{EXPORTER} is not on the PATH", file=sys.stderr)
        return 2
    began = time.monotonic()
    result = measure(runs)
    RESULT.write_text(json.dumps({**result, "took_s": round(time.monotonic() - began)}, indent=1) + "\n")
    for way, row in result["median"].items():
        times = result["times_blackbox_exporter"].get(way, 1.0)
        print(f"{way}: {row['client_ms']} ms of CPU a check, the server {row['server_ms']} ms; {times} times")
    print(result["peak_mb"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
