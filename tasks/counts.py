"""What the runs of this process have done, and how the Prefect API answers them: counted for whoever reads the worker's
/metrics (tasks/worker_metrics.py).

A process of its own, as on a pool of type `process`, counts too, and nobody reads it.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

CHECKS = Counter(
    "firstwatch_worker_checks",
    "Attempts of smoke tests' and monitors' checks, by kind and by what came of them.",
    ["kind", "outcome"],
    registry=None,
)
LOOKS = Counter(
    "firstwatch_worker_looks",
    "Looks at the signals of windows.",
    registry=None,
)
LOOKS_LEFT_OUT = Counter(
    "firstwatch_worker_looks_left_out",
    "Looks between two checkpoints that were not taken, because this process was late for the one before.",
    registry=None,
)
ORDERS = Counter(
    "firstwatch_worker_orders",
    "Rollbacks and promotions whose hook was called, by how that ended.",
    ["order", "state"],
    registry=None,
)
ALERTS = Counter(
    "firstwatch_worker_alerts",
    "Messages to Slack, by what they are about and whether Slack took them.",
    ["about", "delivered"],
    registry=None,
)
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
API_WAITED = Histogram(
    "firstwatch_worker_api_waited_seconds",
    "How long a request to the Prefect API waited for its turn.",
    registry=None,
    buckets=_SECONDS,
)
API_TOOK = Histogram(
    "firstwatch_worker_api_took_seconds",
    "How long the Prefect API, and this process' event loop, took to answer one.",
    registry=None,
    buckets=_SECONDS,
)
ALL = (CHECKS, LOOKS, LOOKS_LEFT_OUT, ORDERS, ALERTS, API_WAITED, API_TOOK)
