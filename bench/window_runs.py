"""Start the windows of bench/windows.py as CI would, wait for them, and read from the server how they went."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from bench.processes import percentiles
from bench.stage import Stage, Worker, say
from bench.window_world import name_of
from firstwatch.report.text import checkpoint_name

CHECKPOINTS = {"error rate": 0, "p95 latency": 120, "memory trend": 300, "DB connections": 600, "memory creep": 1800}
"""Of the default window: seconds after the deploy, at the real scale."""
OVER = ("COMPLETED", "FAILED", "CANCELLED")  # a run of ours that crashed is scheduled again
FINISHED = ("COMPLETED", "FAILED")  # a checkpoint whose process was killed has crashed, and is taken again
_AT_A_TIME = 8  # deploys that CI makes at once, at most
_EVERY = 5.0  # seconds between two questions how many have ended
_SETTLES = 30.0  # seconds for the server to write down the last task runs


@dataclass(frozen=True)
class Window:
    """One release that was verified. `bad`: from some moment on."""

    service: str
    bad: bool
    run: str  # the flow run's id
    asked_late: float  # seconds after its planned moment that the run was created


def is_bad(n: int, windows: int, share: float) -> bool:
    """Whether the n-th of so many is a bad one: at least one is, and they are spread evenly."""
    bad = max(1, round(windows * share))
    return any(n == i * windows // bad for i in range(bad))


def start(
    stage: Stage, world: str, deployment: str, numbers: Sequence[int], spread: float, share: float, bad_after: float
) -> list[Window]:
    """Deploy v2 of each of these services and have it verified, one after the other over `spread` seconds.

    A bad one is bad from `bad_after` seconds after its deploy on.
    """
    began, over = time.monotonic(), threading.Event()

    def one(n: int) -> Window:
        planned, service = began + n * spread / len(numbers), name_of(numbers[n])
        if over.wait(max(0.0, planned - time.monotonic())):
            raise KeyboardInterrupt
        bad = is_bad(n, len(numbers), share)
        deploy = f"{world}/{service}/deploy" + (f"?bad_after={bad_after}" if bad else "")
        to_world.post(deploy).raise_for_status()
        body = {"parameters": {"service": service, "version": "v2"}, "state": {"type": "SCHEDULED"}}
        run = stage.call("POST", f"deployments/{deployment}/create_flow_run", **body, idempotency_key=service)
        return Window(service, bad, run["id"], time.monotonic() - planned)

    with httpx.Client(timeout=30, trust_env=False) as to_world, ThreadPoolExecutor(_AT_A_TIME) as ci:
        try:
            return [*ci.map(one, range(len(numbers)))]
        finally:
            over.set()  # broken off: nobody deploys any more


def wait(stage: Stage, deployment: str, count: int, worker: Worker, patience: float) -> dict[str, Any]:
    """Until so many runs have ended, for at most `patience` seconds: how many have, and the most that were under way
    at once, as the worker says (where it does). Ctrl-C ends the waiting."""
    until, ended, together, told = time.monotonic() + patience, 0, 0.0, 0.0
    over = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": OVER}}}}
    broken_off = False
    try:
        while (ended := stage.call("POST", "flow_runs/count", **over)) < count and time.monotonic() < until:
            if not worker.process.alive():
                say(f"the worker has ended:\n{worker.process.tail()}")
                break
            together = max(together, worker.metric("firstwatch_worker_runs_in_flight") or 0.0)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                say(f"{ended} of {count} windows have ended, {together:.0f} were under way at once")
            time.sleep(min(_EVERY, max(0.0, until - time.monotonic())))
    except KeyboardInterrupt:
        broken_off = True
    return {"ended": ended, "at_once": round(together) or None, "broken_off": broken_off}


def found(stage: Stage, world: str, deployment: str, windows: Sequence[Window], scale: float) -> dict[str, Any]:
    """What became of them: states, rollbacks, and how late each checkpoint was. Times are this run's own."""
    by_id = {window.run: window for window in windows}
    runs = stage.pages("flow_runs/filter", flow_runs={"deployment_id": {"any_": [deployment]}}, sort="ID_DESC")
    task_runs = _settled(stage, deployment)
    unseen = _unseen(task_runs, [run["id"] for run in runs if not by_id[run["id"]].bad], scale)
    return {
        "states": dict(Counter(run["state"]["name"] for run in runs)),
        "not_as_it_should": _wrong(runs, by_id),
        "entered_again": sum(run["run_count"] > 1 for run in runs),
        "rollbacks": _rollbacks(world, windows),
        **_checkpoints(task_runs, {run["id"]: run for run in runs}, scale),
        "checkpoints_unseen": [f"{by_id[run].service}: {step}" for run, step in unseen],
        "checkpoints_lost": _lost(unseen, {run: _journal(stage, run) for run in {run for run, _ in unseen}}),
        "asked_late_s": percentiles(window.asked_late for window in windows),
        "began_late_s": percentiles(_seconds(run["start_time"]) - _asked(run) for run in runs if run["start_time"]),
    }


def _settled(stage: Stage, deployment: str) -> list[dict[str, Any]]:
    """The task runs of checkpoints and smoke tests, once no more are being written down."""
    theirs = {"flow_runs": {"deployment_id": {"any_": [deployment]}}}
    wanted = {**theirs, "task_runs": {"name": {"like_": "T+"}}}
    before, until = -1, time.monotonic() + _SETTLES
    while (now := stage.call("POST", "task_runs/count", **wanted)) != before and time.monotonic() < until:
        before = now
        time.sleep(3)
    smoke = {**theirs, "task_runs": {"name": {"like_": "smoke"}}}
    return [run for which in (wanted, smoke) for run in stage.pages("task_runs/filter", **which, sort="ID_DESC")]


def _unseen(task_runs: Sequence[dict[str, Any]], good: Sequence[str], scale: float) -> list[tuple[str, str]]:
    """Runs and those of their checkpoints of which no task run stands as finished. The server keeps what it is told of
    task runs in its memory for a while: killed then, it has never heard of them. The run's own journal has."""
    finished = {(run["flow_run_id"], run["name"]) for run in task_runs if run["state"]["type"] in FINISHED}
    steps = [checkpoint_name(name, at / scale) for name, at in CHECKPOINTS.items()]
    return [(run, step) for run in good for step in steps if (run, step) not in finished]


def _journal(stage: Stage, run: str) -> set[str]:
    """The steps that a run has written down as finished."""
    kept = stage.pages("artifacts/filter", artifacts={"key": {"any_": [f"journal-{run}"]}}, sort="ID_DESC")
    rows = (json.loads(entry["data"]) if isinstance(entry["data"], str) else entry["data"] for entry in kept)
    return {row["step"] for each in rows for row in each}


def _lost(unseen: Sequence[tuple[str, str]], journals: Mapping[str, Collection[str]]) -> int:
    """How many of those checkpoints are in no journal either."""
    return sum(step not in journals[run] for run, step in unseen)


def _wrong(runs: Sequence[dict[str, Any]], by_id: Mapping[str, Window]) -> dict[str, int]:
    """How many ended in which state that was not theirs to end in: good ones are healthy, bad ones rolled back."""
    wrong: Counter[str] = Counter()
    for run in runs:
        bad, state = by_id[run["id"]].bad, run["state"]
        if state["name"] != ("RolledBack" if bad else "Healthy"):
            wrong[f"{'bad' if bad else 'good'}: {state['name']}: {(state['message'] or '')[:200]}"] += 1
    return dict(wrong.most_common(20))


def _rollbacks(world: str, windows: Sequence[Window]) -> dict[str, int]:
    sent: dict[str, int] = httpx.get(f"{world}/rollbacks", timeout=30, trust_env=False).json()
    return {
        "bad": sum(window.bad for window in windows),
        "bad_once": sum(window.bad and sent.get(window.service) == 1 for window in windows),
        "bad_never": sum(window.bad and window.service not in sent for window in windows),
        "bad_again": sum(window.bad and sent.get(window.service, 0) > 1 for window in windows),
        "good": sum(not window.bad and window.service in sent for window in windows),
    }


def _checkpoints(
    task_runs: Sequence[dict[str, Any]],
    runs: Mapping[str, dict[str, Any]],
    scale: float,
) -> dict[str, Any]:
    """Each checkpoint's task runs: how late they began, how late they had judged, and how many are doubled.

    Of bad releases, those before the verdict count only. T+0 is due when the smoke test has ended, which comes first. A
    lateness counts `scale` times at the real scale, as if what made it went with the window's time; but for T+0's: what
    comes before it takes as long at any scale.
    """
    named = {checkpoint_name(name, at / scale): (name, at / scale) for name, at in CHECKPOINTS.items()}
    late: dict[str, list[float]] = defaultdict(list)
    judged: list[float] = []
    seen: Counter[tuple[str, str]] = Counter()
    smoked = _smoke_ended(task_runs)
    for task_run in task_runs:
        if task_run["name"] not in named or task_run["start_time"] is None:
            continue
        name, at = named[task_run["name"]]
        run = task_run["flow_run_id"]
        due = _asked(runs[run]) + at if at else smoked.get(run, _asked(runs[run]))
        seen[run, name] += task_run["state"]["type"] in FINISHED
        late[name].append(_seconds(task_run["start_time"]) - due)
        if task_run["end_time"] is not None:
            judged.append(_seconds(task_run["end_time"]) - due)
    began = [seconds for of_one in late.values() for seconds in of_one]
    return {
        "checkpoints_late_s": {name: percentiles(late[name]) for name in CHECKPOINTS} | {"all": percentiles(began)},
        "checkpoints_late_s_at_the_real_scale": percentiles(
            seconds * (scale if CHECKPOINTS[name] else 1) for name, of_one in late.items() for seconds in of_one
        ),
        "checkpoints_judged_late_s": percentiles(judged),
        "checkpoints_doubled": sum(times > 1 for times in seen.values()),
    }


def _smoke_ended(task_runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """When the last check of each run's smoke test ended (Unix seconds)."""
    ended: dict[str, float] = {}
    for task_run in task_runs:
        if task_run["name"].startswith("smoke") and task_run["end_time"] is not None:
            run = task_run["flow_run_id"]
            ended[run] = max(ended.get(run, 0.0), _seconds(task_run["end_time"]))
    return ended


def _asked(run: Mapping[str, Any]) -> float:
    """When CI asked for the run: that is when the release counts as deployed."""
    return _seconds(run["created"])


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def moment(state: Mapping[str, Any]) -> float:
    """When a run was set to this state (Unix seconds)."""
    return _seconds(state["timestamp"])
