"""The bench of a fleet: a small one for a minute; and that it sees rounds that are late or missed."""

from __future__ import annotations

from typing import Any

import pytest

from bench import fleet
from bench.fleet import Round, how_it_went, rounds_of


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_small_one() -> None:
    kept: list[dict[str, Any]] = []
    found = fleet.measure(fleet.Plan(monitors=4, minutes=1, together=3, settle=45), kept.append)
    assert kept == [found]
    assert (found["due"], found["rounds"], found["missed"], found["states"]) == (4, 4, 0, {"Up": 4})
    assert found["checks"] == 12 and 10 <= found["probes"] <= 14
    assert 0 <= found["late_s"]["p50"] <= found["late_s"]["max"] < 60
    assert found["cpu_ms_a_check"]["worker"] > 1 and found["cpu_ms_a_probe_of_blackbox_exporter"] > 0


def _run(service: str | list[str] = "a", state: str = "Up") -> dict[str, Any]:
    due = "2026-01-01T00:00:01+00:00"
    return {"id": "r", "parameters": {"service": service}, "expected_start_time": due, "state": {"name": state}}


def _check(second: float | None, name: str = "health", state: str = "COMPLETED") -> dict[str, Any]:
    began = None if second is None else f"2026-01-01T00:00:{second:09.6f}+00:00"
    return {"flow_run_id": "r", "name": name, "start_time": began, "state": {"type": state}}


def test_a_round_is_up_with_all_its_checks_and_late_by_the_first() -> None:
    assert rounds_of([_run()], [_check(2.5), _check(1.25), _check(3)]) == [Round(0.25, True, "Up")]
    assert rounds_of([_run()], [_check(2.5), _check(1.25)]) == [Round(0.25, False, "Up")]  # one is not there
    assert rounds_of([_run()], [*[_check(2.5)] * 2, _check(3, state="FAILED")]) == [Round(1.5, False, "Up")]
    assert rounds_of([_run(state="Late")], []) == [Round(None, False, "Late")]
    two = [_check(1.5, f"a: {check}") for check in "xyz"] + [_check(12.5, f"b: {check}") for check in "xyz"]
    assert rounds_of([_run(["a", "b"])], two) == [Round(0.5, True, "Up"), Round(11.5, True, "Up")]
    assert rounds_of([_run(["a"])], [_check(2)] * 3) == [Round(1, True, "Up")]  # one alone is not named


def test_rounds_that_are_late_or_missed_are_seen() -> None:
    well = how_it_went([Round(0.25, True, "Up"), Round(0.5, True, "Up")], due=2)
    assert (well["missed"], well["late_s"]["max"], well["late_by_more_than_10_s"]) == (0, 0.5, 0)
    late = how_it_went([Round(0.25, True, "Up"), Round(11.5, True, "Up")], due=2)
    assert (late["late_s"]["max"], late["late_by_more_than_10_s"]) == (11.5, 1)
    assert how_it_went([Round(0.25, True, "Up"), Round(None, False, "Late")], due=2)["missed"] == 1  # never started
    assert how_it_went([Round(0.25, True, "Up")], due=2)["missed"] == 1  # never scheduled
    assert how_it_went([Round(0.25, True, "Up"), Round(2, False, "Overlapped")], due=2)["missed"] == 1
