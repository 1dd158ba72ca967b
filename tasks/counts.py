"""What the runs of this process have done, counted for whoever reads the worker's /metrics (tasks/worker_metrics.py).

A process of its own, as on a pool of type `process`, counts too, and nobody reads it.
"""

from __future__ import annotations

from prometheus_client import Counter

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
ALL = (CHECKS, LOOKS, ORDERS, ALERTS)
