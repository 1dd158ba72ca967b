"""What windows cost: a thousand releases watched at once by one worker, and whether each checkpoint is in time.

    python -m bench.windows [--windows 1000] [--scale 5]      measures, and writes bench/windows.json

One Prefect server on PostgreSQL, one worker of type `firstwatch`, one Prometheus. One small process is all services: it
exposes the series that the default window reads, answers the smoke tests, and takes rollbacks. Every window is a run of
verify-release/production with the five default checkpoints; time runs `scale` times as fast: the window, its looks,
the scrapes and the requests that are counted; not the smoke test, nor heartbeats, polling and the machine. So the load
is `scale` times that of the real thing. Prometheus has the two windows before the deploy, as each look reads them.

CI asks for the runs one after the other, over `--spread` seconds. Some releases are bad from two fifths of their window
on. CPU and memory (proportional set size, looked at every 5 s) are those of whole process families. Meanwhile a few
windows of the same deployment (`--process`) run on a pool of type `process`, whose worker's family is counted apart.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.processes import Meter, per
from bench.stage import Keep, Stage, Worker, as_json, machine, measured, say, stage
from bench.window_runs import CHECKPOINTS, found, start, wait
from bench.window_series import SERIES, past
from bench.window_world import first_processes, name_of
from demo.stack import Process, free_port

RESULT = Path(__file__).with_suffix(".json")
OURS = ("server", "worker", "database")  # whose memory is limited
MOST_MB, MOST_LATE = 2048.0, 5.0  # what is promised: of all of ours together; seconds, at the real scale
REAL_WINDOW, REAL_SCRAPE = 1800.0, 15.0  # seconds
BAD_FROM, GRACE = 2 / 5, 1 / 15  # of the window
AT_REST = 10.0  # seconds for which the idle processes are looked at


@dataclass(frozen=True)
class Plan:
    windows: int = 1000
    scale: float = 5.0
    spread: float = 1200.0  # seconds
    bad: float = 0.02  # share of the releases
    history: float = 2.0  # windows before the first deploy
    process: int = 8  # windows on the process pool
    patience: float = 600.0  # seconds beyond the windows' time
    settings: Sequence[str] = ()

    @property
    def length(self) -> float:
        """Seconds of a window."""
        return REAL_WINDOW / self.scale

    @property
    def services(self) -> int:
        return self.windows + self.process


def measure(plan: Plan, keep: Keep = lambda result: None) -> dict[str, Any]:
    """Run the plan. `keep` is given what is known so far, whenever that is more."""
    result: dict[str, Any] = {
        "plan": asdict(plan),
        "machine": machine(),
        "series_a_service": SERIES,
        "window_s": plan.length,
    }
    with stage(plan.settings) as on:
        say(f"{plan.services} services, and their past")
        world, prometheus = start_world(on, plan)
        beside = {"prometheus": prometheus.pid, "services": world.pid}
        deployment = on.deployment("verify-release")
        roots = {"server": on.server.pid, "database": on.database.process.pid, **beside}
        with ThreadPoolExecutor(1) as apart:
            processes: Future[dict[str, Any]] | None = None
            if plan.process:
                same, numbers = on.process_pool(deployment, "bench-process"), range(plan.windows, plan.services)
                theirs = on.worker("bench-process", "process").ready()
                processes = apart.submit(_phase, on, plan, theirs, same, numbers, {}, world.announced)
            ours = on.worker().ready()
            result["firstwatch"] = _phase(on, plan, ours, deployment["id"], range(plan.windows), roots, world.announced)
            result["held"] = held(result["firstwatch"])
            keep(result)
            if result["firstwatch"]["broken_off"]:
                if processes is not None:
                    theirs.process.stop()  # nobody waits for its windows any more
                raise KeyboardInterrupt
            if processes is not None:
                result["process"] = processes.result()
                result["process_over_firstwatch"] = _ratios(result["process"], result["firstwatch"])
                keep(result)
    return result


def _phase(
    on: Stage, plan: Plan, worker: Worker, deployment: str, numbers: Sequence[int], others: dict[str, int], world: str
) -> dict[str, Any]:
    """The windows of these services on one worker, which is ended then: what they cost, and how they went. `others`:
    the processes beside the worker's that are counted too."""
    with Meter({"worker": worker.process.pid, **others}, together=OURS) as meter:
        rest, idle_mb = _at_rest(meter)
        say(f"{len(numbers)} windows of {plan.length:g} s on {worker.process.name}")
        meter.take_anew()
        before, began = meter.cpu(), time.monotonic()
        spread = plan.spread * len(numbers) / plan.windows
        windows = start(on, world, deployment, numbers, spread, plan.bad, BAD_FROM * plan.length)
        patience = plan.length * (1 + GRACE) + plan.patience
        waited = wait(on, deployment, len(numbers), worker, patience)
        took, spent, peaks = time.monotonic() - began, per(meter.cpu(), before), meter.peaks()
    say(f"{waited['ended']} of {len(numbers)} ended in {took:.0f} s")
    result = {
        "windows": len(numbers),
        "spread_s": spread,
        **waited,
        "took_s": round(took, 1),
        "cpu_s": {name: round(seconds, 2) for name, seconds in spent.items()},
        "cpu_s_a_window": {n: round((s - rest[n] * took) / len(numbers), 3) for n, s in spent.items()},
        "cpu_s_a_second_at_rest": {name: round(seconds, 4) for name, seconds in rest.items()},
        "cores_busy": round(sum(spent.values()) / took, 2),
        "peak_mb": peaks,
        "at_rest_mb": idle_mb,
        "worker_mb_a_window": round((peaks["worker"] - idle_mb["worker"]) / len(numbers), 2),
        **found(on, world, deployment, windows, plan.scale),
    }
    worker.process.stop()
    return result


def _at_rest(meter: Meter) -> tuple[dict[str, float], dict[str, float]]:
    """CPU seconds a second and megabytes, by process, while no run is there."""
    time.sleep(AT_REST / 2)  # until what begins with a worker has settled
    before = meter.cpu()
    time.sleep(AT_REST)
    spent = per(meter.cpu(), before)
    return {n: s / AT_REST for n, s in spent.items()}, {n: round(mb, 1) for n, mb in meter.memory().items()}


def held(phase: dict[str, Any]) -> dict[str, bool]:
    """Which promises this phase kept."""
    sent = phase["rollbacks"]
    return {
        "all ended": phase["ended"] == phase["windows"],
        "good are healthy, bad are rolled back": not phase["not_as_it_should"],
        "one rollback for each bad release, none else": sent["bad_once"] == sent["bad"] and not sent["good"],
        "no checkpoint lost or doubled": not phase["checkpoints_lost"] and not phase["checkpoints_doubled"],
        f"within {MOST_LATE:g} s at the real scale": (
            phase["checkpoints_late_s_at_the_real_scale"].get("max", MOST_LATE + 1) <= MOST_LATE
        ),
        f"under {MOST_MB:g} MB together": phase["peak_mb"]["together"] < MOST_MB,
    }  # fmt: skip


def _ratios(process: dict[str, Any], ours: dict[str, Any]) -> dict[str, float]:
    """How many times as much of the worker and its processes a window takes on the process pool."""
    return {
        "cpu of the worker": round(process["cpu_s_a_window"]["worker"] / ours["cpu_s_a_window"]["worker"], 1),
        "memory of the worker": round(process["worker_mb_a_window"] / max(ours["worker_mb_a_window"], 0.01), 1),
    }


# ── the world ────────────────────────────────────────────────────────────────────────────────────────────────


def start_world(on: Stage, plan: Plan) -> tuple[Process, Process]:
    """The services with their files, and the Prometheus that scrapes them; the stage is set up. Each one's `announced`
    is its URL."""
    began = time.time()
    argv = ["bench.window_world", str(plan.services), str(plan.scale), str(began)]
    world = on.stack.module("services", *argv, announces=True)
    prometheus = start_prometheus(on, plan, world.announced, began)
    on.set_up()
    for n in range(plan.services):
        text = service_file(plan, n, world.announced, prometheus.announced)
        (on.services / f"{name_of(n)}.yaml").write_text(text)
    return world, prometheus


def service_file(plan: Plan, number: int, world: str, prometheus: str) -> str:
    """A service whose window is the default one, with its times scaled."""
    judges = {"memory trend": "trend", "DB connections": "trend", "memory creep": "creep"}
    signals = dict(zip(CHECKPOINTS, ("errors", "latency", "memory", "db_pool", "memory"), strict=True))
    window = [
        {"at": f"{1000 * at / plan.scale:.0f}ms", "name": name, "signal": signals[name]}
        | ({"judge": judges[name]} if name in judges else {})
        for name, at in CHECKPOINTS.items()
    ]
    url = f"{world}/{name_of(number)}"
    wrong = {"username": "smoke@example.com", "password": "wrong"}
    checks = [
        {"name": "health", "get": "/health", "expect": ["status == 200", 'json.status == "ok"']},
        {"name": "auth endpoint reachable", "post": "/auth/token", "json": wrong, "expect": ["status == 401"]},
        {"name": "API returns JSON", "get": "/products", "expect": ["status == 200", "type(json) in [list, map]"]},
    ]
    allowed = {"request": "POST /auth/token", "because": "a wrong password creates nothing"}
    file = {
        "service": name_of(number),
        "base_url": url,
        "metrics": {"prometheus": prometheus},
        "rules": {"requests_per_second": 5, "allow": [allowed]},
        "smoke": {"version": {"get": "/version", "equals": "json.version"}, "checks": checks},
        "objectives": {"availability": "99%", "latency": {"p95": "500ms"}},
        "window": window,
        "rollback": {"webhook": {"url": f"{url}/rollback"}, "idempotent": True},
    }
    return json.dumps(file)


def start_prometheus(on: Stage, plan: Plan, world: str, began: float) -> Process:
    """A Prometheus that scrapes the world, and has its past up to `began`. Its `announced` is its URL."""
    every, target = REAL_SCRAPE / plan.scale, world.removeprefix("http://")
    data, text, config = on.stack.home / "prometheus", on.stack.home / "past.om", on.stack.home / "prometheus.yml"
    with text.open("w") as out:
        processes = first_processes(plan.services, plan.scale, began)
        labels = f'instance="{target}",job="services"'
        out.writelines(past(processes, began - plan.history * plan.length, began, every, labels))
    argv = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(argv, check=True, capture_output=True, timeout=900)
    text.unlink()
    scrapes = [{"job_name": "services", "static_configs": [{"targets": [target]}]}]
    scrape = f"{round(1000 * every)}ms"
    config.write_text(
        json.dumps({"global": {"scrape_interval": scrape, "scrape_timeout": scrape}, "scrape_configs": scrapes})
    )
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--storage.tsdb.path={data}", f"--web.listen-address={url.removeprefix('http://')}"]
    process = on.stack.start("prometheus", ["prometheus", f"--config.file={config}", *options])
    process.wait_for(f"{url}/-/ready", 60)
    process.announced = url
    return process


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all that is promised was held; 1: not, or it was broken off. What is known is written in any case."""
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="bench.windows", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=usual.windows)
    parser.add_argument("--scale", type=float, default=usual.scale, help="how much faster time runs; 5: 30 min are 6")
    parser.add_argument("--spread", type=float, help="seconds over which the runs are asked for; 1.2 a window")
    parser.add_argument("--bad", type=float, default=usual.bad, help="share of bad releases; at least one is bad")
    parser.add_argument("--history", type=float, default=usual.history, help="windows of the past in Prometheus")
    parser.add_argument("--process", type=int, default=usual.process, help="windows on a process pool; 0: none")
    parser.add_argument("--patience", type=float, default=usual.patience, help="seconds beyond the windows' time")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="environment of all processes")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    spread = 1.2 * given.windows if given.spread is None else given.spread
    plan = Plan(
        given.windows, given.scale, spread, given.bad, given.history, given.process, given.patience, tuple(given.set)
    )
    result = measured(lambda keep: measure(plan, keep), as_json(given.out))
    if result is None:
        return 1
    print(json.dumps({key: result[key] for key in ("held", "firstwatch")}, indent=1))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
