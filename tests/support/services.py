"""Many services with a short history each in one Prometheus, and their service files."""

from __future__ import annotations

import math

from firstwatch.spec import Service, load_or_raise
from tests.support.prometheus import openmetrics

DEPLOYED = 1767225600.5
WINDOW, EVERY = 240.0, 10.0  # seconds
UNTIL = DEPLOYED + 200
FILE = """
service: {name}
base_url: http://127.0.0.1:1
metrics: {{prometheus: "{url}"}}
signals:
  db_pool: sum(db_pool_connections_in_use{{service="{name}"}})
window:
  look_every: 10s
  checkpoints:
    - {{at: 0m, name: error rate, signal: errors}}
    - {{at: 30s, name: p95 latency, signal: latency}}
    - {{at: 1m, name: memory trend, signal: memory, judge: trend}}
    - {{at: 2m, name: DB connections, signal: db_pool, judge: trend}}
    - {{at: 4m, name: memory creep, signal: memory, judge: creep}}
"""


def service_file(name: str, url: str) -> Service:
    return load_or_raise(FILE.format(name=name, url=url), f"{name}.yaml", {})


def history(names: list[str], window: float = WINDOW, every: float = EVERY) -> str:
    """OpenMetrics from two windows before the deploy to its window's end; each service is a little different."""
    samples: dict[str, dict[str, list[tuple[float, float]]]] = {}
    times = [DEPLOYED - 2 * window + i * every + 0.123 for i in range(int(3 * window / every))]
    for number, name in enumerate(names):
        labels, rate = f'service="{name}",instance="{name}:80",job="shops"', 20 + number

        def put(metric: str, more: str, values: list[float], labels: str = labels) -> None:
            samples.setdefault(metric, {})[labels + more] = list(zip(times, values, strict=True))

        put("up", "", [1.0 for _ in times])
        put("http_requests_total", ',status="200"', [float(i * rate) for i in range(len(times))])
        put("http_requests_total", ',status="500"', [float(i * number // 50) for i in range(len(times))])
        for le, share in (("0.1", 0.6), ("0.5", 0.97), ("1", 0.99), ("+Inf", 1.0)):
            put("http_request_duration_seconds_bucket", f',le="{le}"', [i * rate * share for i in range(len(times))])
        put("process_resident_memory_bytes", "", [4e8 + 1e6 * math.sin(i + number) for i in range(len(times))])
        put("db_pool_connections_in_use", "", [float(5 + (i + number) % 3) for i in range(len(times))])
    return openmetrics(samples)
