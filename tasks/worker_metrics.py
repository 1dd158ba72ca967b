"""How the worker itself is: its own /metrics, for a Prometheus, and /healthz, for whoever restarts it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from tasks import counts

_LAG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
_LATE = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)  # seconds
_NAMES = 100  # of states that get a time series of their own: anyone may invent one in a flow


class WorkerMetrics:
    """The numbers; safe to be changed from any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        for counted in counts.ALL:
            registry.register(counted)
        self.in_flight = Gauge("firstwatch_worker_runs_in_flight", "Flow runs in this process.", registry=registry)
        self.waiting = Gauge(
            "firstwatch_worker_runs_waiting",
            "Runs that are due and wait: for room (--limit), or for their turn.",
            registry=registry,
        )
        self.adopted = Gauge(
            "firstwatch_worker_runs_adopted",
            "Runs of dead workers that this one has given to the living, since it began.",
            registry=registry,
        )
        self.late = Histogram(
            "firstwatch_worker_run_late_seconds",
            "How long after its time a run began.",
            registry=registry,
            buckets=_LATE,
        )
        self.lag = Histogram(
            "firstwatch_worker_loop_lag_seconds",
            "How long the runs' event loop needed to get to something new; asked twice a second.",
            registry=registry,
            buckets=_LAG,
        )
        self._started = Counter(
            "firstwatch_worker_runs_started", "Flow runs that were entered.", ["flow"], registry=registry
        )
        self._ended = Counter(
            "firstwatch_worker_runs_ended",
            "Flow runs that left this process, by what became of them.",
            ["flow", "type", "state"],
            registry=registry,
        )
        self._names: set[str] = set()

    def started(self, flow: str, late: float) -> None:
        """A run of the flow was entered, `late` seconds after its time."""
        self._started.labels(flow).inc()
        self.late.observe(max(late, 0.0))

    def ended(self, flow: str, kind: str, state: str) -> None:
        """A run ended in a state of this type and name, or was `left`. `Waiting T+2m …` is counted as `Waiting`."""
        name = state.split(" ")[0]
        if len(self._names) < _NAMES:
            self._names.add(name)
        self._ended.labels(flow, kind.lower(), name if name in self._names else "other").inc()


class Door:
    """Serves a worker's metrics and its health in threads of its own: it answers while the loops do not."""

    def __init__(self, address: str, metrics: WorkerMetrics, ill: Callable[[], str]) -> None:
        """`address` is host:port. `ill` says what is wrong with the worker, or nothing.

        Raises ValueError where that is no address, OSError where it cannot be had.
        """
        self._server = ThreadingHTTPServer(_parsed(address), _handler(metrics, ill))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _parsed(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{address!r} is not host:port, such as 127.0.0.1:9701")
    return parts.hostname, parts.port


def _handler(metrics: WorkerMetrics, ill: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match urlsplit(self.path).path:
                case "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(metrics.registry), content_type)
                case "/healthz":
                    trouble = ill()
                    self._answer(503 if trouble else 200, f"{trouble or 'ok'}\n".encode())
                case _:
                    self._answer(404, b"there are /metrics and /healthz\n")

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not a line in the log for each scrape."""

    return Handler
