"""The bench of a fleet: a small one for a minute; and that it sees rounds that are late or missed."""

from __future__ import annotations

from typing import Any

import pytest

from bench import fleet
from bench.fleet import how_it_went


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_small_one() -> None:
    kept: list[dict[str, Any]] = []
    found = fleet.measure(fleet.Plan(monitors=4, minutes=1, settle=45), kept.append)
    assert kept == [found]
    assert (found["due"], found["rounds"], found["missed"], found["states"]) == (4, 4, 0, {"Up": 4})
    assert found["checks"] == 12 and 10 <= found["probes"] <= 14
    assert 0 <= found["late_s"]["p50"] <= found["late_s"]["max"] < 60
    assert found["cpu_ms_a_check"]["worker"] > 1 and found["cpu_ms_a_probe_of_blackbox_exporter"] > 0


def _round(second: float | None, state: str = "Up") -> dict[str, Any]:
    started = None if second is None else f"2026-01-01T00:00:{second:09.6f}+00:00"
    return {
        "start_time": started,
        "expected_start_time": "2026-01-01T00:00:01+00:00",
        "state": {"name": state},
        "total_run_time": 0.5,
    }


def test_rounds_that_are_late_or_missed_are_seen() -> None:
    well = how_it_went([_round(1.25), _round(1.5)], due=2)
    assert (well["missed"], well["late_s"]["max"], well["late_by_more_than_10_s"]) == (0, 0.5, 0)
    late = how_it_went([_round(1.25), _round(12.5)], due=2)
    assert (late["late_s"]["max"], late["late_by_more_than_10_s"]) == (11.5, 1)
    assert how_it_went([_round(1.25), _round(None, "Late")], due=2)["missed"] == 1  # never started
    assert how_it_went([_round(1.25)], due=2)["missed"] == 1  # never scheduled
    assert how_it_went([_round(1.25), _round(2, "Overlapped")], due=2)["missed"] == 1
