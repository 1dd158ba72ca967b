"""What five hundred monitors cost one worker, and whether each of their rounds starts in time.

    python -m bench.fleet [--monitors 500] [--together 25] [--minutes 10]      measures, and writes bench/fleet.json

Each monitor has three checks, and `--together` of them a schedule, every minute at the second that `firstwatch check`
gives. One Prefect server on PostgreSQL, one worker of type `firstwatch`, everything else as `firstwatch setup` makes
it; nobody is alerted. After `--settle` seconds, whole minutes are measured: how late the rounds that fall into them
began, each monitor's, which of them were missed, and the CPU seconds of each process for a check. In the same minutes a
blackbox_exporter probes the same endpoints as often.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench.blackbox import Blackbox
from bench.monitors import EXPORTER, version
from bench.processes import Meter, per, percentiles
from bench.stage import ENDED, Keep, Stage, as_json, machine, measured, say, stage
from firstwatch.spec.deployments import MOST, MOST_TOGETHER

RESULT = Path(__file__).with_suffix(".json")
CHECKS, EVERY = 3, 60.0  # of a monitor; seconds
MOST_LATE = 10.0  # seconds: what is promised
OURS = ("server", "worker", "database")
UP = "Up"
_RUNS_ASKED = 20  # whose task runs are asked for at once
A_SCHEDULE = 0.3  # seconds between two schedules, for each of its monitors
AT_REST, LAST_ROUNDS = 10.0, 60.0  # seconds: how long it is looked at; for rounds that are under way to end


@dataclass(frozen=True)
class Plan:
    monitors: int = 500
    minutes: int = 10
    together: int = MOST_TOGETHER  # monitors of one schedule
    settle: float = 150.0  # seconds from the schedules' beginning to the first minute that counts, at least
    settings: Sequence[str] = ()

    @property
    def groups(self) -> list[list[str]]:
        """The monitors of each schedule."""
        names = [_name(n) for n in range(self.monitors)]
        return [names[n : n + self.together] for n in range(0, len(names), self.together)]


def measure(plan: Plan, keep: Keep = lambda result: None) -> dict[str, Any]:
    """Run the plan. `keep` is given what is known, also where it is broken off in the measured minutes."""
    with stage(plan.settings) as on:
        endpoints = on.stack.module("endpoints", "bench.endpoints", announces=True)
        targets = [f"{endpoints.announced}/{n}" for n in range(plan.monitors * CHECKS)]
        for n in range(plan.monitors):
            (on.services / f"{_name(n)}.yaml").write_text(_service_file(n, endpoints.announced))
        on.set_up()
        exporter = Blackbox(on.stack, targets)
        worker, deployments = on.worker().ready(), _deployments(on, len(plan.groups))
        roots = {"server": on.server.pid, "worker": worker.process.pid, "database": on.database.process.pid}
        with Meter({**roots, "blackbox_exporter": exporter.pid}, together=OURS) as meter:
            rest = _at_rest(meter)
            _schedule(on, deployments, plan.groups)
            with exporter:
                result = _minutes(on, plan, meter, deployments, exporter, rest)
            keep(result)
            if result["broken_off"]:
                raise KeyboardInterrupt
    return result


def _minutes(
    on: Stage, plan: Plan, meter: Meter, deployments: list[str], exporter: Blackbox, rest: dict[str, float]
) -> dict[str, Any]:
    """The minutes that count: what was spent in them, and how their rounds went."""
    since = -(-(time.time() + plan.settle) // EVERY) * EVERY
    say(f"{plan.monitors} monitors, {plan.together} a run; {plan.minutes} minutes are measured from {_at(since)} on")
    broken_off = False
    try:
        _sleep_until(since)
        meter.take_anew()
        before, probes = meter.cpu(), exporter.probes
        _sleep_until(since + plan.minutes * EVERY)
    except KeyboardInterrupt:
        broken_off = True
        if time.time() <= since:
            raise
    until = min(time.time(), since + plan.minutes * EVERY)
    spent, probes, peaks = per(meter.cpu(), before), exporter.probes - probes, meter.peaks()
    runs = _ended(on, deployments, since, until, 0.0 if broken_off else LAST_ROUNDS)
    found = how_it_went(rounds_of(runs, _task_runs(on, runs)), plan.monitors * (until - since) / EVERY)
    checks, ours = max(found["up"] * CHECKS, 1), {name: spent[name] for name in OURS}
    each = {name: round(1000 * seconds / checks, 2) for name, seconds in ours.items()}
    idle = {name: 1000 * rest[name] * (until - since) / checks for name in ours}
    theirs = round(1000 * spent["blackbox_exporter"] / max(probes, 1), 2)
    return {
        "plan": asdict(plan),
        "machine": machine(),
        "exporter": version(),
        "broken_off": broken_off,
        "measured_s": round(until - since, 1),
        **found,
        "checks": found["up"] * CHECKS,
        "probes": probes,
        "cpu_ms_a_check": {**each, "together": round(sum(each.values()), 2)},
        "of_it_at_rest": {name: round(milliseconds, 2) for name, milliseconds in idle.items()},
        "cpu_ms_a_probe_of_blackbox_exporter": theirs,
        "times_blackbox_exporter": round(sum(each.values()) / theirs, 1) if theirs else None,
        "cpu_s": {name: round(seconds, 2) for name, seconds in spent.items()},
        "cpu_s_a_second_at_rest": {name: round(seconds, 4) for name, seconds in rest.items()},
        "cores_busy": round(sum(ours.values()) / max(until - since, 1), 2),
        "peak_mb": peaks,
        "held": {
            f"none late by more than {MOST_LATE:g} s": found["late_s"].get("max", MOST_LATE + 1) <= MOST_LATE,
            "none missed": not found["missed"],
            "all up": found["up"] == found["rounds"],
        },
    }


def _ended(on: Stage, deployments: list[str], since: float, until: float, patience: float) -> list[dict[str, Any]]:
    """The runs whose time was in these minutes, once all have ended, or after `patience` seconds."""
    given_up = time.monotonic() + patience
    while True:
        rounds = on.pages("flow_runs/filter", flow_runs=_between(deployments, since, until), sort="ID_DESC")
        if all(run["state"]["type"] in ENDED for run in rounds) or time.monotonic() > given_up:
            return rounds
        time.sleep(3)


def _task_runs(on: Stage, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The task runs of these runs."""
    ids = [run["id"] for run in runs]
    return [
        each
        for n in range(0, len(ids), _RUNS_ASKED)
        for each in on.pages("task_runs/filter", flow_runs={"id": {"any_": ids[n : n + _RUNS_ASKED]}}, sort="ID_DESC")
    ]


class Round(NamedTuple):
    """One monitor's, in one run. `late`: seconds from the run's time to the round's own beginning; None: it had none.
    `state` is the run's."""

    late: float | None
    up: bool
    state: str


def rounds_of(runs: Sequence[dict[str, Any]], task_runs: Sequence[dict[str, Any]]) -> list[Round]:
    """What became of each monitor's round in these runs. Of several in one, each is a task run of the monitor's name;
    of one alone, it begins with its first check."""
    of_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task_run in task_runs:
        of_run[task_run["flow_run_id"]].append(task_run)
    rounds = []
    for run in runs:
        services, state, due = run["parameters"]["service"], run["state"]["name"], _seconds(run["expected_start_time"])
        for service in services if isinstance(services, list) and len(services) > 1 else [None]:
            its = [each for each in of_run[run["id"]] if service in (None, each["name"])]
            began = [_seconds(each["start_time"]) for each in its if each["start_time"]]
            up = state == UP if service is None else any(each["state"]["name"] == UP for each in its)
            rounds.append(Round(min(began) - due if began else None, up, state))
    return rounds


def how_it_went(rounds: Sequence[Round], due: float) -> dict[str, Any]:
    """Of the rounds whose time was in the measured minutes: how late they began, and how many were missed of those that
    were due. A round that another one overlapped, or that was entered and left, is missed too."""
    late = [each.late for each in rounds if each.late is not None]
    up = sum(each.up for each in rounds)
    return {
        "due": round(due),
        "rounds": len(rounds),
        "up": up,
        "missed": max(round(due) - up, 0),
        "states": dict(Counter(each.state for each in rounds).most_common()),
        "late_s": percentiles(late),
        "late_by_more_than_10_s": sum(seconds > MOST_LATE for seconds in late),
    }


# ── the monitors ─────────────────────────────────────────────────────────────────────────────────────────────


def _name(number: int) -> str:
    return f"svc-{number:04d}"


def _service_file(number: int, endpoints: str) -> str:
    expect = ["status == 200", 'json.status == "ok"']
    paths = [f"/{number * CHECKS + check}" for check in range(CHECKS)]
    file = {
        "service": _name(number),
        "base_url": endpoints,
        "rules": {"requests_per_second": 5},
        "synthetic": {
            "every": "1m",
            "checks": [{"name": f"check {path}", "get": path, "expect": expect} for path in paths],
        },
    }
    return json.dumps(file)


def _deployments(on: Stage, schedules: int) -> list[str]:
    """The ids of production's own and of as many more as it takes: no more than MOST schedules in each."""
    first = on.deployment("synthetic")
    where = {"work_pool_name": first["work_pool_name"], "work_queue_name": first["work_queue_name"]}
    more = range(2, -(-schedules // MOST) + 1)
    return [first["id"], *(on.like(first, f"production-{n}", **where) for n in more)]


def _schedule(on: Stage, deployments: list[str], groups: list[list[str]]) -> None:
    """Each group of monitors its schedule, as prefect.yaml would have it, spread over the minute; and one after the
    other, as first rounds, which make limits, documents and pages, cost several times what later ones do."""
    for n, names in enumerate(groups):
        schedule = {
            "schedule": {"cron": f"* * * * * {int(n * EVERY / len(groups))}", "timezone": "UTC"},
            "parameters": {"service": names if len(names) > 1 else names[0]},
            "slug": names[0],
            "active": True,
        }
        on.send("POST", f"deployments/{deployments[n // MOST]}/schedules", [schedule])
        time.sleep(A_SCHEDULE * len(names))


def _between(deployments: list[str], since: float, until: float) -> dict[str, Any]:
    return {
        "deployment_id": {"any_": deployments},
        "expected_start_time": {"after_": _at(since), "before_": _at(until - 0.001)},
    }


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _at_rest(meter: Meter) -> dict[str, float]:
    """CPU seconds a second, by process, before anything is scheduled."""
    time.sleep(AT_REST / 2)
    before = meter.cpu()
    time.sleep(AT_REST)
    return {name: seconds / AT_REST for name, seconds in per(meter.cpu(), before).items()}


def _sleep_until(moment: float) -> None:
    while (left := moment - time.time()) > 0:
        if left > 61:
            say(f"{left:.0f} s to go")
        time.sleep(min(left, 60.0))


def _at(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main(arguments: Sequence[str] | None = None) -> int:
    """0: what is promised was held; 1: not, or it was broken off; 2: there is no blackbox_exporter."""
    usual = Plan()
    parser = argparse.ArgumentParser(
        prog="bench.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--monitors", type=int, default=usual.monitors)
    parser.add_argument(
        "--together", type=int, default=usual.together, help="monitors of one schedule; 1: each its own"
    )
    parser.add_argument("--minutes", type=int, default=usual.minutes)
    parser.add_argument(
        "--settle", type=float, default=usual.settle, help="seconds before the first minute that counts"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="environment of all processes")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    if shutil.which(EXPORTER) is None:
        print(f"{EXPORTER} is not on the PATH", file=sys.stderr)
        return 2
    plan = Plan(given.monitors, given.minutes, given.together, given.settle, tuple(given.set))
    result = measured(lambda keep: measure(plan, keep), as_json(given.out))
    if result is None:
        return 1
    print(json.dumps(result, indent=1))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
