"""What it costs to read a Prometheus for many windows of one process: shared against not shared, in one run.

    python -m bench.reading          measures, prints the table and writes bench/reading.json (half a minute)

Each of 200 services has 75 minutes of samples, one every 30 s, in a real Prometheus. A look asks what the judges of a
window want to see: errors, requests, latency (four buckets), memory, database connections, and when Prometheus was
alive. All 200 look at once, each with a source of its own, as windows have:
  shared      as it is: one reader, at most four requests under way, what waits is merged
  not shared  the same code without it: every question a request and a thread of its own, at once
Then one window looks alone, again and again: what sharing costs who has nobody to share with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from firstwatch.model import SourceError
from firstwatch.spec import Service, load_or_raise
from firstwatch.timeline import Measured
from tasks.measure import measure
from tasks.prometheus import PrometheusSource
from tests.support.prometheus import RunningPrometheus, prometheus_of
from tests.support.services import DEPLOYED, history
from tests.support.unshared import UnsharedSource

LOOKS, ROUNDS, ALONE = 200, 1, 10
WINDOW, EVERY, LOOKED_AT = 1500.0, 30.0, 1200.0  # seconds
RESULT = Path(__file__).with_suffix(".json")
KINDS: dict[str, type[PrometheusSource]] = {"shared": PrometheusSource, "not shared": UnsharedSource}
FILE = """
service: {name}
base_url: http://127.0.0.1:1
metrics: {{prometheus: "{url}", timeout: 60s}}
window:
  - {{at: 0m,  name: error rate,     signal: errors}}
  - {{at: 2m,  name: p95 latency,    signal: latency}}
  - {{at: 5m,  name: memory trend,   signal: memory, judge: trend}}
  - {{at: 10m, name: DB connections, signal: db_pool, judge: trend}}
  - {{at: 25m, name: memory creep,   signal: memory, judge: creep}}
"""


class Cost:
    """What a `with` block takes: wall time, our CPU, and the server's CPU and requests."""

    def __init__(self, server: RunningPrometheus) -> None:
        self._server = server

    def __enter__(self) -> Cost:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.told = {name: round(value - self._before[name], 3) for name, value in self._now().items()}

    def _now(self) -> dict[str, float]:
        times = Path(f"/proc/{self._server.pid}/stat").read_text().rpartition(")")[2].split()
        theirs = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        asked = requests(self._server.url)
        return {"seconds": time.monotonic(), "cpu": time.process_time(), "server_cpu": theirs, "requests": asked}


def requests(url: str) -> float:
    """How many queries the server has answered."""
    page = httpx.get(f"{url}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "prometheus_http_requests_total" and sample.labels["handler"].startswith("/api/v1/query")
    )


async def look(kind: type[PrometheusSource], file: Service, until: float) -> Measured:
    async with kind(file.metrics.prometheus, rng=random.Random(1)) as source:
        return await measure(source, file, file.window.checkpoints, DEPLOYED, until, time.time() + 60)


async def all_look(kind: type[PrometheusSource], files: Sequence[Service]) -> list[Measured]:
    moments = (DEPLOYED + LOOKED_AT + i / 100 for i in range(len(files)))
    return list(await asyncio.gather(*(look(kind, file, at) for file, at in zip(files, moments, strict=True))))


async def measured(server: RunningPrometheus, files: Sequence[Service]) -> dict[str, Any]:
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    lone: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(ROUNDS):
        found = {}
        for name, kind in KINDS.items():
            with Cost(server) as cost:
                found[name] = await all_look(kind, files)
            costs[name].append(cost.told)
        assert found["shared"] == found["not shared"], "they measure different things"
        assert not any(isinstance(m, SourceError) for one in found["shared"] for m in one.checkpoints.values())
    for _ in range(ALONE):
        for name, kind in KINDS.items():
            started = time.monotonic()
            await look(kind, files[0], DEPLOYED + LOOKED_AT)
            lone[name].append(time.monotonic() - started)
    return {
        name: {
            **{key: statistics.median(cost[key] for cost in costs[name]) for key in costs[name][0]},
            "lone_look_ms": round(1000 * statistics.median(lone[name]), 1),
        }
        for name in KINDS
    }


def told(result: dict[str, Any]) -> str:
    lines = [f"{'':12} requests  our CPU  its CPU  seconds  a lone look"]
    for name in KINDS:
        row = result[name]
        lines.append(
            f"{name:12} {row['requests']:8.0f} {row['cpu']:7.2f}s {row['server_cpu']:7.2f}s {row['seconds']:7.2f}s"
            f" {row['lone_look_ms']:9.1f} ms"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    names = [f"shop-{i}" for i in range(LOOKS)]
    with (
        tempfile.TemporaryDirectory() as folder,
        prometheus_of(Path(folder) / "p", history(names, WINDOW, EVERY)) as server,
    ):
        files = [load_or_raise(FILE.format(name=name, url=server.url), f"{name}.yaml", {}) for name in names]
        asyncio.run(all_look(PrometheusSource, files[:10]))  # both warm
        result = asyncio.run(measured(server, files))
    result |= {"looks": LOOKS, "rounds": ROUNDS, "python": platform.python_version(), "cores": os.cpu_count()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(told(result))


if __name__ == "__main__":
    main()
