"""What the services of bench/windows.py measure of themselves, as functions of time: live, and for the past alike.

A service counts from when its process began. All series are those that the default window reads, under the usual
names: requests and errors, the buckets of a latency histogram, memory, and connections to the database.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

REQUESTS_PER_SECOND = 20.0  # at the real scale
USUAL_ERRORS, BAD_ERRORS = 0.002, 0.30  # shares of the requests; the objective allows 1 %
MEMORY, CONNECTIONS = 2e8, 12.0
_FASTER = {  # the share of requests that take at most so many seconds; the objective is a p95 of 0.5
    "0.005": 0.05, "0.01": 0.12, "0.025": 0.25, "0.05": 0.42, "0.075": 0.55, "0.1": 0.68, "0.25": 0.9, "0.5": 0.985,
    "0.75": 0.992, "1": 0.996, "2.5": 0.999, "5": 1.0, "7.5": 1.0, "10": 1.0, "+Inf": 1.0,
}  # fmt: skip
SERIES = 2 + len(_FASTER) + 2 + 2  # of a service


@dataclass
class Process:
    """One process of a service: when it began, and from when on its release is bad (Unix seconds)."""

    service: str
    number: int
    rate: float  # requests a second
    since: float
    bad_from: float = math.inf

    def samples(self, now: float) -> Iterator[tuple[str, float]]:
        """Every series as Prometheus writes it, with its value now. A part of a request is none yet."""
        total = self.rate * max(0.0, now - self.since)
        failed = USUAL_ERRORS * total + BAD_ERRORS * self.rate * max(0.0, now - max(self.bad_from, self.since))
        own = f'service="{self.service}"'
        yield f'http_requests_total{{{own},status="200"}}', float(int(total) - int(failed))
        yield f'http_requests_total{{{own},status="500"}}', float(int(failed))
        for bound, share in _FASTER.items():
            yield f'http_request_duration_seconds_bucket{{{own},le="{bound}"}}', float(int(share * int(total)))
        yield f"http_request_duration_seconds_count{{{own}}}", float(int(total))
        yield f"http_request_duration_seconds_sum{{{own}}}", round(0.11 * total, 3)
        yield f"process_resident_memory_bytes{{{own}}}", float(round(MEMORY * (1 + 0.02 * _noise(self.number, now))))
        yield f"db_pool_connections_in_use{{{own}}}", float(round(CONNECTIONS * (1 + 0.2 * _noise(~self.number, now))))


def page(processes: list[Process], now: float) -> str:
    """The metrics page of all of them."""
    return "".join(f"{name} {value:.10g}\n" for name, value in _all(processes, now))


def past(processes: list[Process], since: float, until: float, every: float, target: str) -> Iterator[str]:
    """The same as it would have been scraped from `since` to `until`: OpenMetrics with times, a line each.

    `target` is what a Prometheus adds to what it scrapes: `instance="…",job="…"`.
    """
    for n in range(int((until - since) / every)):
        at = since + n * every
        yield f"up{{{target}}} 1 {at:.3f}\n"
        for name, value in _all(processes, at):
            yield f"{name[:-1]},{target}}} {value:.10g} {at:.3f}\n"
    yield "# EOF\n"


def _all(processes: list[Process], at: float) -> Iterator[tuple[str, float]]:
    for process in processes:
        yield from process.samples(at)


def _noise(number: int, at: float) -> float:
    """Between -0.5 and 0.5, without a trend; the same for the same second."""
    return math.modf(abs(math.sin(number * 78.233 + round(at, 1) * 12.9898)) * 43758.5453)[0] - 0.5
