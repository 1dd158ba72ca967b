"""Past releases in a Prometheus: five kinds of them, each scraped at two instances, that a backtest can replay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from tests.support.prometheus import openmetrics

DEPLOYED = 1767225600.437  # 2026-01-01, and no whole second
KINDS = ("healthy", "errors", "leak", "down", "gap")
WINDOW, EVERY = 600.0, 10.0
FILE = """
service: fleet
base_url: http://127.0.0.1:1
metrics: {prometheus: "%s"}
signals:
  requests: http_requests_total{svc="{{service}}"}
  latency: http_request_duration_seconds{svc="{{service}}"}
  memory: process_resident_memory_bytes{svc="{{service}}",instance="a"}
  db_pool: sum(db_pool_connections_in_use{svc="{{service}}"})
window:
  look_every: 20s
  checkpoints:
    - {at: 0m, name: error rate, signal: errors}
    - {at: 1m, name: p95 latency, signal: latency}
    - {at: 2m, name: memory trend, signal: memory, judge: trend}
    - {at: 3m, name: DB connections, signal: db_pool, judge: trend}
    - {at: 4m, name: queue, query: 'avg(queue_depth{svc="{{service}}"})', expect: value < 100}
    - {at: 10m, name: memory creep, signal: memory, judge: creep}
"""
"""The service file, with a place for the Prometheus."""

_Samples = dict[str, dict[str, list[tuple[float, float]]]]


def history(services: dict[str, str], deployed: float = DEPLOYED, seed: int = 1) -> str:
    """OpenMetrics of services (name → kind), all deployed at that time: a window before it and more than one after."""
    samples: _Samples = {}
    rng = np.random.default_rng(seed)
    for name, kind in services.items():
        for instance, phase in (("a", 0.0), ("b", 2.3)):
            _instance(samples, rng, name, kind, instance, deployed - 2 * WINDOW + phase, deployed)
    return openmetrics(samples)


def _instance(
    samples: _Samples, rng: np.random.Generator, name: str, kind: str, instance: str, began: float, deployed: float
) -> None:
    """One instance's samples. The deploy restarts it, and its counters."""
    labels = f'svc="{name}",instance="{instance}",job="shop"'
    requests = errors = slow = 0.0
    restarts = itertools.count(deployed + (3 if instance == "a" else 9), 1e9)
    restart = next(restarts)

    def put(metric: str, more: str, at: float, value: float) -> None:
        samples.setdefault(metric, {}).setdefault(labels + more, []).append((round(at, 3), value))

    for at in _times(rng, began, deployed + 1.2 * WINDOW):
        if at >= restart:
            requests = errors = slow = 0.0
            restart = next(restarts)
        since = at - deployed
        there = not (kind == "down" and since > 45) and not (kind == "gap" and 100 < since < 130)
        put("up", "", at, float(there))
        new = float(rng.poisson(40 * EVERY))
        requests += new
        errors += float(rng.binomial(int(new), 0.06 if kind == "errors" and since > 30 else 0.001))
        slow += float(rng.binomial(int(new), 0.01))
        if not there:
            continue
        put("http_requests_total", ',status="200"', at, requests - errors)
        put("http_requests_total", ',status="500"', at, errors)
        for le, count in (("0.1", 0.6 * (requests - slow)), ("0.5", requests - slow), ("+Inf", requests)):
            put("http_request_duration_seconds_bucket", f',le="{le}"', at, round(count))
        leak = 4e8 * 0.9 * since / WINDOW if kind == "leak" and since > 0 else 0.0
        put("process_resident_memory_bytes", "", at, round(4e8 + leak + rng.normal(0, 1e6)))
        put("db_pool_connections_in_use", "", at, 6 + at % 3 // 1)
        put("queue_depth", "", at, 10 + float(rng.integers(0, 5)))


def _times(rng: np.random.Generator, began: float, ends: float) -> Iterator[float]:
    """When it was scraped: never quite on the beat."""
    for i in range(int((ends - began) / EVERY)):
        yield began + i * EVERY + rng.uniform(0, 0.02)
