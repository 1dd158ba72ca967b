"""A window that keeps what it has read measures exactly what one measures that reads all anew, and asks for little."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from firstwatch import kept
from firstwatch.model import Counts, Gauge
from firstwatch.spec import Service, load_or_raise
from firstwatch.timeline import Measured
from tasks.measure import measure
from tasks.prometheus import PrometheusSource
from tests.support.metered import Metered, metered
from tests.support.prometheus import openmetrics, prometheus, prometheus_of

DEPLOYED = 1767225600.5
FILE = """
service: shop
base_url: http://127.0.0.1:1
metrics: {{prometheus: "{url}"}}
window:
  look_every: {every}
  checkpoints:
    - {{at: 0m, name: error rate, signal: errors}}
    - {{at: 0m, name: p95 latency, signal: latency}}
    - {{at: 0m, name: memory trend, signal: memory, judge: trend}}
    - {{at: 0m, name: DB connections, signal: db_pool, judge: trend}}
    - {{at: {length}, name: memory creep, signal: memory, judge: creep}}
"""
Samples = dict[str, dict[str, list[tuple[float, float]]]]


def file(url: str, every: str, length: str) -> Service:
    return load_or_raise(FILE.format(url=url, every=every, length=length), "shop.yaml", {})


async def looked(source: PrometheusSource, service: Service, deployed_at: float, until: float) -> Measured:
    found = await measure(source, service, service.window.checkpoints, deployed_at, until, time.time() + 30)
    assert found.load is not None and found.alive
    return found


def exactly(measured: Measured) -> list[object]:
    """`single` too, which a comparison leaves out."""
    singles = [m.single for m in [measured.load, *measured.checkpoints.values()] if isinstance(m, Counts)]
    return [measured, singles]


def widths(queries: list[str]) -> list[float]:
    """Seconds of history that the raw samples of these queries were asked for."""
    return [int(ms) / 1000 for query in queries if (ms := "".join(re.findall(r"\}\[(\d+)ms\]$", query)))]


# ── a history ────────────────────────────────────────────────────────────────────────────────────────────────


def history() -> Samples:
    """From 20 minutes before the deploy to 10 after it: then the counters begin anew, and a while later the first
    error is there; a second target begins at the deploy, and the first is away for a minute and a half."""
    samples: Samples = {}

    def put(metric: str, pod: int, more: str, at: list[float], value: list[float]) -> None:
        labels = f'service="shop",instance="shop-{pod}:80",job="shops"{more}'
        samples.setdefault(metric, {})[labels] = list(zip(at, value, strict=True))

    for pod, begins in ((0, DEPLOYED - 1200), (1, DEPLOYED + 7)):
        times = [begins + 0.123 + 15 * k for k in range(int((DEPLOYED + 600 - begins) / 15))]
        times = [t for t in times if pod or not 210 < t - DEPLOYED < 300]
        life = [t - begins if t < DEPLOYED or pod else t - DEPLOYED for t in times]
        failing = [(t, float(round(0.2 * (t - DEPLOYED)))) for t in times if t > DEPLOYED + 120]
        put("up", pod, "", times, [1.0] * len(times))
        put("http_requests_total", pod, ',status="200"', times, [float(round(20 * s)) for s in life])
        put("http_requests_total", pod, ',status="500"', [t for t, _ in failing], [v for _, v in failing])
        for le, share in (("0.1", 12), ("0.5", 19), ("1", 19.5), ("+Inf", 20)):
            put(
                "http_request_duration_seconds_bucket",
                pod,
                f',le="{le}"',
                times,
                [float(round(share * s)) for s in life],
            )
        if not pod:
            put("process_resident_memory_bytes", pod, "", times, [4e8 + 1e4 * s for s in life])
            put("db_pool_connections_in_use", pod, "", times, [5.0 + k % 3 for k in range(len(times))])
    return samples


@pytest.mark.e2e
def test_looks_at_a_deploy_with_a_reset_late_series_and_a_gap(tmp_path: Path) -> None:
    moments = [DEPLOYED + 1 + 15 * k for k in range(40)]

    async def look_again_and_again(door: Metered) -> None:
        service = file(door.url, "15s", "10m")
        async with PrometheusSource(door.url, keep=True) as keeping, PrometheusSource(door.url) as anew:
            asked: list[str] = []
            for at in moments:
                before = len(door.queries)
                found = await looked(keeping, service, DEPLOYED, at)
                asked += door.queries[before:]
                assert exactly(found) == exactly(await looked(anew, service, DEPLOYED, at)), at - DEPLOYED
        assert {type(m) for m in found.checkpoints.values()} == {Counts, Gauge}
        errors = found.checkpoints["error rate"]
        assert isinstance(errors, Counts) and sum(errors.bad) > 100
        wide = widths(asked)
        assert len(wide) >= len(moments)
        assert sum(w > 300 for w in wide) <= len(wide) / 3, wide

    async def run(behind: str) -> None:
        async with metered(behind) as door:
            door.says = lambda query: None
            await look_again_and_again(door)

    with prometheus_of(tmp_path / "p", openmetrics(history())) as running:
        asyncio.run(run(running.url))


# ── a service that runs ──────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def pages(page: Mapping[str, str]) -> Iterator[str]:
    """Serves page["now"] for a `with` block; its URL."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page["now"].encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def told(requests: float, errors: float | None) -> str:
    lines = [f'http_requests_total{{status="200"}} {requests}']
    lines += [f'http_request_duration_seconds_bucket{{le="{le}"}} {requests}' for le in ("0.1", "0.5", "1", "+Inf")]
    lines += [f"process_resident_memory_bytes {4e8 + requests}", "db_pool_connections_in_use 3"]
    if errors is not None:
        lines.append(f'http_requests_total{{status="500"}} {errors}')
    return "\n".join([*lines, ""])


def there(url: str) -> bool:
    """Has Prometheus scraped for five seconds?"""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": "min(count_over_time(db_pool_connections_in_use[1m]))"})
    return any(float(one["value"][1]) >= 20 for one in answer.json()["data"]["result"])


@pytest.mark.e2e
def test_live_looks_at_a_service_that_restarts_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scraped every quarter of a second for fifteen; samples are read again for two seconds."""
    monkeypatch.setattr(kept, "LATE", 2.0)
    page = {"now": told(1000, None)}
    joined: list[bool] = []
    join = kept.Kept.joined

    def counting(self: kept.Kept, *more: Any) -> kept.Kept | None:
        found = join(self, *more)
        joined.append(found is not None)
        return found

    monkeypatch.setattr(kept.Kept, "joined", counting)

    async def look(url: str) -> None:
        deployed_at, total = time.time(), 1000.0
        service = file(url, "1s", "15s")
        async with PrometheusSource(url, keep=True) as keeping, PrometheusSource(url) as anew:
            for step in range(30):
                total = 5.0 if step == 12 else total + 7
                page["now"] = told(total, None if step < 18 else step - 17.0)
                await asyncio.sleep(0.5)
                at = time.time() - 0.3  # of what is to come yet, the second one might see more
                found = await looked(keeping, service, deployed_at, at)
                assert exactly(found) == exactly(await looked(anew, service, deployed_at, at)), step
        errors = found.checkpoints["error rate"]
        assert isinstance(errors, Counts) and sum(errors.bad) > 5

    with pages(page) as url, prometheus(tmp_path / "p", {"shop": url}, every=0.25) as running:
        begun = time.monotonic()
        while not there(running.url) and time.monotonic() < begun + 30:
            time.sleep(0.2)
        asyncio.run(look(running.url))
    assert sum(joined) > 60
