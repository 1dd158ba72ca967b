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


def _task_run(second: float | None, name: str = "health", state: str = "Completed") -> dict[str, Any]:
    began = None if second is None else f"2026-01-01T00:00:{second:09.6f}+00:00"
    return {"flow_run_id": "r", "name": name, "start_time": began, "state": {"name": state}}


def test_a_round_alone_is_that_of_its_run_and_begins_with_its_first_check() -> None:
    assert rounds_of([_run()], [_task_run(2.5), _task_run(1.25), _task_run(3)]) == [Round(0.25, True, "Up")]
    assert rounds_of([_run(["a"])], [_task_run(2)]) == [Round(1, True, "Up")]
    assert rounds_of([_run(state="Down")], [_task_run(2.5)]) == [Round(1.5, False, "Down")]
    assert rounds_of([_run(state="Late")], []) == [Round(None, False, "Late")]


def test_of_several_rounds_each_is_a_task_run() -> None:
    two = [_task_run(1.5, "a", "Up"), _task_run(12.5, "b", "Unknown"), _task_run(13, "b: health", "Error")]
    assert rounds_of([_run(["a", "b"], "Unknown")], two) == [Round(0.5, True, "Unknown"), Round(11.5, False, "Unknown")]
    assert rounds_of([_run(["a", "b"])], two[:1]) == [Round(0.5, True, "Up"), Round(None, False, "Up")]  # b is lost


def test_rounds_that_are_late_or_missed_are_seen() -> None:
    well = how_it_went([Round(0.25, True, "Up"), Round(0.5, True, "Up")], due=2)
    assert (well["missed"], well["late_s"]["max"], well["late_by_more_than_10_s"]) == (0, 0.5, 0)
    late = how_it_went([Round(0.25, True, "Up"), Round(11.5, True, "Up")], due=2)
    assert (late["late_s"]["max"], late["late_by_more_than_10_s"]) == (11.5, 1)
    assert how_it_went([Round(0.25, True, "Up"), Round(None, False, "Late")], due=2)["missed"] == 1  # never started
    assert how_it_went([Round(0.25, True, "Up")], due=2)["missed"] == 1  # never scheduled
    assert how_it_went([Round(0.25, True, "Up"), Round(2, False, "Overlapped")], due=2)["missed"] == 1
