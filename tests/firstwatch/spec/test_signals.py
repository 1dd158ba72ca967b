"""What a service file leaves open is filled in."""

from __future__ import annotations

import pytest

from firstwatch.spec import Checkpoint, Service, Window, look_every, signals_of


def service(**signals: str) -> Service:
    return Service.model_validate({"service": "a.b", "base_url": "http://x", "signals": signals})


def test_the_usual_names() -> None:
    signals = signals_of(service())
    assert signals.requests == 'http_requests_total{service="a.b"}'
    assert signals.errors == 'http_requests_total{service="a.b",status=~"5.."}'
    assert signals.latency == 'http_request_duration_seconds{service="a.b"}'
    assert signals.memory == 'process_resident_memory_bytes{service="a.b"}'
    assert signals.db_pool == 'db_pool_connections_in_use{service="a.b"}'


def test_what_is_given_stays_and_errors_follow_the_requests() -> None:
    signals = signals_of(service(requests='rpc_total{job="x"}', memory="sum(rss)"))
    assert signals.errors == 'rpc_total{job="x",status=~"5.."}'
    assert signals.memory == "sum(rss)"
    assert signals_of(service(errors="failed_total")).errors == "failed_total"


@pytest.mark.parametrize(("last", "seconds"), [(1800, 15), (7200, 15), (600, 5), (60, 0.5), (10, 0.5)])
def test_how_often_a_window_looks(last: float, seconds: float) -> None:
    checkpoints = [Checkpoint(at=0, name="a", signal="errors"), Checkpoint(at=last, name="b", signal="memory")]
    assert look_every(Window(checkpoints=checkpoints)) == seconds
    assert look_every(Window(checkpoints=checkpoints, look_every=3)) == 3


def test_the_judge_that_is_meant() -> None:
    judges = {
        s: Checkpoint.model_validate({"at": 1, "name": "a", "signal": s}).judge
        for s in ("errors", "latency", "memory", "db_pool")
    }
    assert judges == {"errors": "proportion", "latency": "proportion", "memory": "trend", "db_pool": "trend"}
