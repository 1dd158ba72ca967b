"""What a service file leaves open, filled in: the selectors of its signals, and how often its window looks."""

from __future__ import annotations

from firstwatch.selector import Selector, parse
from firstwatch.spec.models import Service, Signals, Window

USUAL_LOOK = 15.0  # seconds
LEAST_LOOK = 0.5  # seconds
LOOKS_OF_A_SHORT_WINDOW = 120


def signals_of(service: Service) -> Signals:
    """The service's signals, with the names that the client libraries and OpenTelemetry use where it gives none.

    Raises SelectorError if `requests` is no plain selector and `errors` is left to be derived from it.
    """
    given = service.signals
    usual = Selector("").with_matcher("service", "=", service.service).matchers
    requests = given.requests or str(Selector("http_requests_total", usual))
    return Signals(
        requests=requests,
        errors=given.errors or str(parse(requests).with_matcher("status", "=~", "5..")),
        latency=given.latency or str(Selector("http_request_duration_seconds", usual)),
        memory=given.memory or str(Selector("process_resident_memory_bytes", usual)),
        db_pool=given.db_pool or str(Selector("db_pool_connections_in_use", usual)),
    )


def window_length(window: Window) -> float:
    """Seconds from the deploy to the last checkpoint, which ends the window."""
    return max(checkpoint.at for checkpoint in window.checkpoints)


def look_every(window: Window) -> float:
    """Seconds between two looks: as given, or 15, or 1/120 of a window shorter than half an hour (0.5 at least)."""
    if window.look_every is not None:
        return window.look_every
    return max(LEAST_LOOK, min(USUAL_LOOK, window_length(window) / LOOKS_OF_A_SHORT_WINDOW))
