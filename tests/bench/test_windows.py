"""The bench of windows: a small one, on both kinds of pool; and that it sees what is late, lost or doubled."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import windows
from bench.processes import percentiles
from bench.window_runs import Window, _checkpoints, _lost, _unseen, _wrong, is_bad
from bench.window_series import Process, page, past
from bench.window_world import World
from firstwatch.spec import load_or_raise, look_every, window_length

PLAN = windows.Plan(windows=3, scale=30, spread=1, process=1, patience=90)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return windows.measure(PLAN)


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("pool", "count"), [("firstwatch", 3), ("process", 1)])
def test_a_small_one(result: dict[str, Any], pool: str, count: int) -> None:
    phase = result[pool]
    assert (phase["windows"], phase["ended"], phase["not_as_it_should"]) == (count, count, {})
    assert phase["rollbacks"] == {"bad": 1, "bad_once": 1, "bad_never": 0, "bad_again": 0, "good": 0}
    assert (phase["checkpoints_lost"], phase["checkpoints_doubled"]) == (0, 0)
    late = phase["checkpoints_late_s"]["all"]
    assert 0 <= late["p50"] <= late["max"] < PLAN.patience
    assert phase["cpu_s"]["worker"] > 0.1 and phase["peak_mb"]["together"] > phase["peak_mb"]["worker"] > 50


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_process_for_each_run_costs_more(result: dict[str, Any]) -> None:
    assert result["firstwatch"]["at_once"] == 3
    assert result["process_over_firstwatch"]["memory of the worker"] > 2
    json.dumps(result)


# ── that it can see what is wrong ────────────────────────────────────────────────────────────────────────────


def _run(window: Window, state: str) -> dict[str, Any]:
    created = "2026-01-01T00:00:00+00:00"
    return {"id": window.run, "created": created, "state": {"name": state, "message": "why"}}


def _task_run(run: str, name: str, second: float, kind: str = "COMPLETED") -> dict[str, Any]:
    at = f"2026-01-01T00:00:{second:09.6f}+00:00"
    return {"flow_run_id": run, "name": name, "start_time": at, "end_time": at, "state": {"type": kind}}


def _looked_at(*task_runs: dict[str, Any]) -> dict[str, Any]:
    window = Window("svc-0000", False, "a", 0.0)
    return _checkpoints(task_runs, {"a": _run(window, "Healthy")}, scale=60)


ALL = [
    _task_run("a", name, second)
    for name, second in (
        ("T+0s error rate", 0.5),
        ("T+2s p95 latency", 2.25),
        ("T+5s memory trend", 5.25),
        ("T+10s DB connections", 10.25),
        ("T+30s memory creep", 30.25),
    )
]


def test_how_late_a_checkpoint_is_and_what_that_is_at_the_real_scale() -> None:
    found = _looked_at(*ALL)
    assert found["checkpoints_doubled"] == 0
    assert found["checkpoints_late_s"]["error rate"]["max"] == 0.5
    assert found["checkpoints_late_s"]["memory creep"]["max"] == 0.25
    assert found["checkpoints_late_s_at_the_real_scale"] == {"p50": 15.0, "p99": 15.0, "max": 15.0}


def test_a_checkpoint_that_is_lost_or_doubled_is_seen() -> None:
    assert _unseen(ALL, ["a"], 60) == []
    assert _unseen(ALL[:-1], ["a"], 60) == [("a", "T+30s memory creep")]
    assert _lost([("a", "T+30s memory creep")], {"a": ["T+0s error rate"]}) == 1
    assert _lost([("a", "T+30s memory creep")], {"a": ["T+30s memory creep"]}) == 0
    killed = _task_run("a", "T+30s memory creep", 30, "CRASHED")
    assert _unseen([*ALL[:-1], killed], ["a"], 60) == [("a", "T+30s memory creep")]
    assert _looked_at(*ALL, ALL[2])["checkpoints_doubled"] == 1
    assert _looked_at(*ALL, _task_run("a", "T+5s memory trend", 5.1, "CRASHED"))["checkpoints_doubled"] == 0  # killed
    assert _looked_at(*ALL, _task_run("a", "T+7s p95 latency", 7))["checkpoints_doubled"] == 0  # one that failed later


def test_a_release_that_ends_as_the_other_kind_should_is_seen() -> None:
    good, bad = Window("a", False, "a", 0.0), Window("b", True, "b", 0.0)
    by_id = {"a": good, "b": bad}
    assert _wrong([_run(good, "Healthy"), _run(bad, "RolledBack")], by_id) == {}
    assert len(_wrong([_run(good, "RolledBack"), _run(bad, "Healthy")], by_id)) == 2
    assert len(_wrong([_run(good, "Running")], by_id)) == 1


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        ({"ended": 2}, "all ended"),
        ({"not_as_it_should": {"good: Failed": 1}}, "good are healthy, bad are rolled back"),
        ({"checkpoints_lost": 1}, "no checkpoint lost or doubled"),
        ({"checkpoints_late_s_at_the_real_scale": {"max": 5.1}}, "within 5 s at the real scale"),
        ({"checkpoints_late_s_at_the_real_scale": {}}, "within 5 s at the real scale"),
        ({"peak_mb": {"together": 2048.0}}, "under 2048 MB together"),
        ({"rollbacks": {"bad": 1, "bad_once": 1, "good": 1}}, "one rollback for each bad release, none else"),
        ({"rollbacks": {"bad": 1, "bad_once": 0, "good": 0}}, "one rollback for each bad release, none else"),
    ],
)
def test_a_promise_that_is_broken_is_said(what: dict[str, Any], broken: str) -> None:
    held = {
        "windows": 3,
        "ended": 3,
        "not_as_it_should": {},
        "checkpoints_lost": 0,
        "checkpoints_doubled": 0,
        "checkpoints_late_s_at_the_real_scale": {"max": 4.9},
        "peak_mb": {"together": 2047.0},
        "rollbacks": {"bad": 1, "bad_once": 1, "good": 0},
    }
    assert all(windows.held(held).values())
    assert [promise for promise, kept in windows.held(held | what).items() if not kept] == [broken]


# ── the world ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_window_is_the_default_one_scaled() -> None:
    text = windows.service_file(replace(PLAN, scale=5), 7, "http://127.0.0.1:1", "http://127.0.0.1:2")
    service = load_or_raise(text, "svc.yaml", {})
    assert (window_length(service.window), look_every(service.window)) == (360, 3)
    assert [c.at for c in service.window.checkpoints] == [0, 24, 60, 120, 360]


def test_what_was_is_continued_by_what_is() -> None:
    """The past ends where the live page begins: the same series, whose counters go on."""
    one = Process("svc", 1, rate=100, since=0)
    lines = [*past([one], 1000, 1010, 1, 'job="j"')]
    before = {line.split()[0]: float(line.split()[1]) for line in lines[-2:0:-1] if line.split()[2] == "1009.000"}
    now = {line.split()[0].replace("}", ',job="j"}'): float(line.split()[1]) for line in page([one], 1010).splitlines()}
    assert lines[-1] == "# EOF\n" and set(before) == {*now, 'up{job="j"}'}
    grown = {name: now[name] - before[name] for name in now if "bytes" not in name and "connections" not in name}
    assert all(growth >= 0 for growth in grown.values())
    assert grown['http_request_duration_seconds_count{service="svc",job="j"}'] == 100


def test_a_bad_release_is_bad_from_its_moment_on() -> None:
    def failed(bad_from: float, now: float) -> float:
        return dict(Process("svc", 1, 100, 0, bad_from).samples(now))['http_requests_total{service="svc",status="500"}']

    assert failed(50, 50) == failed(math.inf, 50) == 10
    assert failed(50, 60) > 10 * failed(math.inf, 60)


def test_every_rollback_is_counted_and_brings_the_old_version_back() -> None:
    world = World(2, 1, 0)
    world.answer("POST", "/svc-0001/deploy?bad_after=5")
    assert json.loads(world.answer("GET", "/svc-0001/version")[1]) == {"version": "v2"}
    for times in (1, 2):
        world.answer("POST", "/svc-0001/rollback")
        assert json.loads(world.answer("GET", "/rollbacks")[1]) == {"svc-0001": times}
    assert json.loads(world.answer("GET", "/svc-0001/version")[1]) == {"version": "v1"}


@pytest.mark.parametrize(("windows_", "share", "bad"), [(1000, 0.02, 20), (10, 0.02, 1), (1, 0.02, 1), (8, 0.5, 4)])
def test_the_share_of_bad_ones(windows_: int, share: float, bad: int) -> None:
    assert sum(is_bad(n, windows_, share) for n in range(windows_)) == bad


def test_percentiles() -> None:
    assert percentiles(range(1000)) == {"p50": 500, "p99": 990, "max": 999}
    assert percentiles([]) == {}


def test_what_is_known_is_kept_where_it_is_broken_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken_off(plan: windows.Plan, keep: windows.Keep) -> dict[str, Any]:
        keep({"firstwatch": {"ended": 2}})
        raise KeyboardInterrupt

    monkeypatch.setattr(windows, "measure", broken_off)
    assert windows.main(["--windows", "3", "--out", str(tmp_path / "w.json")]) == 1
    assert json.loads((tmp_path / "w.json").read_text()) == {"firstwatch": {"ended": 2}}
