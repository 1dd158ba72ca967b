"""Kill anything, again and again: is a checkpoint lost or repeated, a window stuck, a rollback sent twice or never?

    python -m bench.kills [--kills 200]      kills, and writes bench/kills.json
    python -m bench.kills --redis            the same, with the server's events in Redis: bench/kills_redis.json

Releases are verified all the while, half of them bad from two fifths of their window on: most of them by two workers of
type `firstwatch`, the others on a pool of type `process`. A seeded list says what is killed next, by SIGKILL and at
random moments: the process of a run, a worker with all its runs, or the Prefect server. Workers and the server are
started again as a supervisor would, under their names and on their port. The services, Prometheus and PostgreSQL live.

Exits 1 where anything was lost, repeated, stuck or wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from bench.processes import family, percentiles
from bench.stage import Keep, Stage, Worker, as_json, machine, measured, say, stage
from bench.window_runs import CHECKPOINTS, FINISHED, Window, found, moment, start, wait
from bench.windows import BAD_FROM, Plan, start_world
from demo.redis import events_in, redis
from demo.stack import Process

RESULT, WITH_REDIS = Path(__file__).with_suffix(".json"), Path(__file__).with_name("kills_redis.json")
SEED = 20261126
SHARES = {"run": 0.6, "worker": 0.25, "server": 0.15}  # of the kills
NAMES = ("one", "two")  # of the workers
_LEAST = 0.5  # seconds between two kills
AWAY = 4.0  # seconds, at most, until a supervisor starts again what has died
PROCESS_POOL = "bench-process"
ON_PROCESSES = 3  # every so many-th release
HELD_BY = re.compile(r"Its worker (\S+) has died")  # as tasks/orphans.py says
SOON = 60.0  # seconds in which somebody else is to have taken up what was killed
AT_ONCE = 6  # processes: as many as two cores can start within a minute, with all else that starts again

States = Mapping[str, Sequence[dict[str, Any]]]  # of each run, in their order


@dataclass(frozen=True)
class Storm:
    kills: int = 200
    every: float = 5.0  # seconds between two, on average
    scale: float = 18.0  # how much faster the windows' time runs: 30 min are 100 s
    patience: float = 420.0  # seconds for the last windows to end, after the last kill
    redis: bool = False  # whether the server keeps its events in Redis, as deploy/ has it

    @property
    def seconds(self) -> float:
        return self.kills * self.every

    @property
    def releases(self) -> int:
        """One every eight seconds."""
        return max(6, round(self.seconds / 8))


@dataclass
class Targets:
    """What can be killed, and how it is started again."""

    on: Stage
    workers: dict[str, Worker] = field(default_factory=dict)
    processes: Worker | None = None  # the worker of the process pool; its runs are killed, not it
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)  # what is to be started again, and when
    log: list[dict[str, Any]] = field(default_factory=list)
    fallen: int = 0  # how often the process pool's worker has ended by itself

    def strike(self, kind: str, rng: random.Random) -> bool:
        """Kill one of a kind. False where there is none now."""
        if kind == "server":
            self._kill(kind, "server", self.on.server, self.on.server_again, 0.0)
            return True
        if kind == "worker":
            name = rng.choice(NAMES)
            away = rng.uniform(0, AWAY)
            if not self.workers[name].process.alive():
                return False
            self._kill(kind, name, self.workers[name].process, lambda: self._worker_again(name), away)
            return True
        assert self.processes is not None
        pids = [pid for pid in family([self.processes.process.pid])[self.processes.process.pid] if _runs(pid)]
        if not pids:
            return False
        pid = rng.choice(pids)
        run = _run_of(pid)
        _end(pid)
        self.log.append({"kind": kind, "what": "a run's process", "run": run, "at": time.time()})
        return True

    def revive(self, now: float = float("inf")) -> None:
        """Start again what is due; by default, all that has died."""
        assert self.processes is not None
        if not self.processes.process.alive():
            self.fallen += 1
            self.processes = self.on.worker(PROCESS_POOL, "process")
        waiting, self.due = self.due, []
        for when, again in waiting:
            if when <= now:
                again()
            else:
                self.due.append((when, again))

    def _kill(self, kind: str, what: str, process: Process, again: Callable[[], None], away: float) -> None:
        process.kill()
        self.log.append({"kind": kind, "what": what, "at": time.time()})
        self.due.append((time.monotonic() + away, again))

    def _worker_again(self, name: str) -> None:
        self.workers[name] = self.on.worker(name=name)


def _runs(pid: int) -> bool:
    """Whether the process is that of a flow run."""
    try:
        return b"prefect.engine" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _run_of(pid: int) -> str | None:
    """The id of the flow run that this process is to run."""
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = each.decode(errors="replace").partition("=")
            if name == "PREFECT__FLOW_RUN_ID":
                return value
    return None


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kinds(kills: int, rng: random.Random) -> list[str]:
    """What is killed, one after the other: each kind as often as its share says, in a random order."""
    rest = {kind: round(share * kills) for kind, share in SHARES.items()}
    rest["run"] += kills - sum(rest.values())
    order = [kind for kind, times in rest.items() for _ in range(times)]
    rng.shuffle(order)
    return order


def rage(targets: Targets, storm: Storm, over: threading.Event) -> None:
    """All the kills, about `every` seconds apart, however long it takes to start again what was killed: the releases
    begin in the same time. A kind of which there is none now comes a little later, or never, where that takes as long
    again as all should."""
    rng, due = random.Random(SEED), time.monotonic()
    until = due + 2 * storm.seconds
    waiting = kinds(storm.kills, rng)
    while waiting and not over.is_set() and time.monotonic() < until:
        due += rng.uniform(0.4, 1.6) * storm.every
        time.sleep(max(_LEAST, due - time.monotonic()))
        targets.revive(time.monotonic())
        which = next((n for n, kind in enumerate(waiting) if targets.strike(kind, rng)), None)
        if which is None:
            continue
        waiting.pop(which)
        if len(targets.log) % 20 == 0:
            say(f"{len(targets.log)} of {storm.kills} kills")
    targets.revive()


def measure(storm: Storm, keep: Keep = lambda result: None) -> dict[str, Any]:
    """Rage, and see what came of every release."""
    result: dict[str, Any] = {"storm": asdict(storm), "seed": SEED, "machine": machine()}
    plan = Plan(windows=storm.releases, scale=storm.scale, process=0)
    # What the server has been told of task runs is written at once: what is in its memory is lost when it is killed.
    settings = ["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE=1"]
    with ExitStack() as rest:
        if storm.redis:
            settings += events_in(rest.enter_context(redis(["redis-server", "--appendonly", "yes"])).at)
        on, pool = rest.enter_context(stage(settings)), rest.enter_context(ThreadPoolExecutor(2))
        world = start_world(on, plan)[0].announced
        deployment = on.deployment("verify-release")
        same = on.process_pool(deployment, PROCESS_POOL, AT_ONCE)
        targets = Targets(on, {name: on.worker(name=name) for name in NAMES})
        targets.processes = on.worker(PROCESS_POOL, "process")
        for worker in (*targets.workers.values(), targets.processes):
            worker.ready()
        numbers = range(storm.releases)
        shares = {
            deployment["id"]: [n for n in numbers if n % ON_PROCESSES],
            same: [n for n in numbers if not n % ON_PROCESSES],
        }
        over = threading.Event()
        try:
            begun = {
                which: pool.submit(start, on, world, which, some, storm.seconds, 0.5, BAD_FROM * plan.length)
                for which, some in shares.items()
            }
            rage(targets, storm, over)
            say("no more kills; the last windows end")
            for which, windows in begun.items():
                pool_name = "firstwatch" if which != same else "process"
                waited = wait(on, which, len(windows.result()), targets.processes, storm.patience)
                result[pool_name] = {**waited, **found(on, world, which, windows.result(), plan.scale)}
                states = {window.run: states_of(on, window.run) for window in windows.result()}
                left = gaps(targets.log, states)
                result[pool_name]["taken_up_again_s"] = percentiles(gap.seconds for gap in left)
                slow = {gap.run: gap.seconds for gap in left if gap.seconds > SOON}
                result[pool_name]["stories"] = stories(on, windows.result(), states, slow)
        finally:
            over.set()
            result["kills"] = dict(Counter(each["kind"] for each in targets.log))
            result["process_worker_ended_by_itself"] = targets.fallen
            result["log"] = [f"{time.strftime('%H:%M:%S', time.gmtime(e['at']))} {e['what']}" for e in targets.log]
            keep(result)
    result["held"] = {name: held(result[name]) for name in ("firstwatch", "process")}
    result["held"]["storm"] = {"all kills were made": len(targets.log) == storm.kills}
    keep(result)
    return result


def states_of(on: Stage, run: str) -> list[dict[str, Any]]:
    """All states that a run has had, in their order."""
    return sorted(on.call("GET", f"flow_run_states/?flow_run_id={run}"), key=itemgetter("timestamp"))


@dataclass(frozen=True)
class Gap:
    """What was killed that had a run, and how many seconds later somebody else took the run up."""

    of: str  # "process" or "worker"
    run: str
    seconds: float


def gaps(log: Sequence[dict[str, Any]], states: States) -> list[Gap]:
    """One for each run that a kill had left. A process that had nothing to do any more left none; nor is it counted
    where the next one was killed as well before it had begun."""
    found = [
        Gap("process", kill["run"], seconds)
        for kill in log
        if kill.get("run") in states and (seconds := _gap(states[kill["run"]], kill["at"])) is not None
    ]
    for run, history in states.items():
        for state in history:
            if (name := HELD_BY.match(state["message"] or "")) is None:
                continue
            before = [kill["at"] for kill in log if kill["what"] == name[1] and kill["at"] < moment(state)]
            if before and (seconds := _gap(history, before[-1])) is not None:
                found.append(Gap("worker", run, seconds))
    return found


def _gap(history: Sequence[dict[str, Any]], killed: float) -> float | None:
    """Seconds from the kill until the run was taken up (Pending) again. None: nobody had it, or nobody has since."""
    before = [state for state in history if moment(state) <= killed]
    after = [moment(state) for state in history if moment(state) > killed and state["type"] == "PENDING"]
    if not before or before[-1]["type"] not in ("PENDING", "RUNNING") or not after:
        return None
    return after[0] - killed


def stories(
    on: Stage, windows: Sequence[Window], states_of_all: States, slow: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Of each release that did not go as it should, was entered again after its end, or was taken up slowly (`slow`:
    seconds): the states of its run, and its checkpoints' task runs."""
    told = []
    for window in windows:
        mine = {"flow_runs": {"id": {"any_": [window.run]}}, "task_runs": {"name": {"like_": "T+"}}}
        task_runs = on.pages("task_runs/filter", **mine, sort="ID_DESC")
        finished = Counter(run["name"] for run in task_runs if run["state"]["type"] in FINISHED)
        judged = {name: times for name, times in finished.items() if name.startswith("T+")}
        states = states_of_all[window.run]
        ends = [state["name"] for state in states]
        end = "RolledBack" if window.bad else "Healthy"
        as_it_should = ends.count(end) == 1 and ends[-1] == end and max(judged.values(), default=0) < 2
        if as_it_should and window.run not in slow and (window.bad or len(judged) == len(CHECKPOINTS)):
            continue
        told.append(
            {
                "release": f"{window.service}, {'bad' if window.bad else 'good'}",
                "taken_up_again_after_s": slow.get(window.run),
                "states": [f"{s['timestamp'][11:23]} {s['name']}: {(s['message'] or '')[:160]}" for s in states],
                "checkpoints": sorted(
                    f"{str(t['start_time'])[11:23]} {t['name']} {(t['state'] or {}).get('name')} {t['id']}"
                    for t in task_runs
                ),
            }
        )
    return told


def held(phase: dict[str, Any]) -> dict[str, bool]:
    """Which promises the releases of one pool kept."""
    sent = phase["rollbacks"]
    return {
        "none is stuck": phase["ended"] == sum(phase["states"].values()),
        "good are healthy, bad are rolled back": not phase["not_as_it_should"],
        "one rollback for each bad release, none else": sent["bad_once"] == sent["bad"] and not sent["good"],
        "no checkpoint lost": not phase["checkpoints_lost"],
        "no checkpoint repeated": not phase["checkpoints_doubled"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all that is promised was held; 1: not, or it was broken off. What is known is written in any case."""
    usual = Storm()
    parser = argparse.ArgumentParser(
        prog="bench.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--every", type=float, default=usual.every, help="seconds between two kills, on average")
    parser.add_argument(
        "--scale", type=float, default=usual.scale, help="how much faster time runs; 18: 30 min are 100 s"
    )
    parser.add_argument("--redis", action="store_true", help="the server keeps its events in Redis, as deploy/ has it")
    parser.add_argument("--out", type=Path, help="where the result goes")
    given = parser.parse_args(arguments)
    storm = Storm(given.kills, given.every, given.scale, redis=given.redis)
    out = given.out or (WITH_REDIS if given.redis else RESULT)
    result = measured(lambda keep: measure(storm, keep), as_json(out))
    if result is None:
        return 1
    print(json.dumps(result, indent=1))
    return 0 if all(all(phase.values()) for phase in result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
