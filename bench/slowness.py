"""How often is a check called slow that is not, and how soon one that is? Beside two rules that people write down.

    python -m bench.slowness            180 checks, 14 days each; prints the table and writes bench/slowness.json

Each check is of a kind of bench/slow_worlds.py, with a round every five minutes, one in thirty every minute. False
calls are counted from the first round on; the slow ones begin in day 9, at any hour, and count where the rule begins
to call after that: a creep by the end of its day, and half a day later; a step within 15 and 60 rounds. Beside ours:
  mean       the mean of the last 10 rounds is above 1.3 times that of the last day
  objective  the last three rounds in a row took longer than the objective: 500 ms
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.slow_worlds import DAY, KINDS, Floats
from firstwatch.model import Outcome
from firstwatch.slowness import History, add, judge_by, settle, usual_for
from firstwatch.spec.synthetic import Degraded

SEED, CHECKS, DAYS, ONSET = 20261201, 180, 14.0, 8.0
OBJECTIVE = 0.5
DEGRADED = Degraded()
CREEPS, STEPS = (0.1, 0.2, 0.3, 0.5), (0.3, 0.5, 1.0)
MONDAY = 20780 * DAY
RESULT = Path(__file__).with_suffix(".json")
Called = list[bool]  # by round: whether it is degraded


@dataclass
class Ours:
    """One check as a monitor follows it. What is usual changes with the hour, and is worked out once in it."""

    history: History = History.empty
    known: Any = None
    hour: Any = None
    bad: bool = False

    def round(self, at: float, seconds: float) -> bool:
        if seconds == seconds:
            self.history = add(self.history, at, seconds, at)
        if self.hour != (hour := (at // 3600, self.history.since)):
            self.hour, self.known = hour, usual_for(self.history, at, DEGRADED)
        judgement = judge_by(self.history, at, DEGRADED, None, self.known)
        self.history = settle(self.history, judgement)
        self.bad = judgement.outcome is Outcome.FAIL or (self.bad and judgement.outcome is Outcome.NOT_YET)
        return self.bad

    def copy(self) -> Ours:
        return Ours(self.history, self.known, self.hour, self.bad)


def mean_rule(t: Floats, took: Floats) -> Called:
    """Rounds that were lost keep what was before."""
    each = took[~np.isnan(took)]
    total = np.concatenate([[0.0], np.cumsum(each)])
    now = np.arange(1, len(each) + 1)
    day = int(DAY / (t[1] - t[0]))

    def mean(n: int) -> Floats:
        first = np.maximum(now - n, 0)
        return np.asarray((total[now] - total[first]) / (now - first))

    return _placed(took, (mean(10) > 1.3 * mean(day)) & (now > 60))


def objective_rule(t: Floats, took: Floats) -> Called:
    over = took[~np.isnan(took)] > OBJECTIVE
    three = over.copy()
    three[:2] = False
    three[2:] &= over[1:-1] & over[:-2]
    return _placed(took, three)


def _placed(took: Floats, called: np.ndarray[Any, np.dtype[np.bool_]]) -> Called:
    seen = np.cumsum(~np.isnan(took)) - 1
    return [bool(n >= 0 and called[n]) for n in seen]


RULES: dict[str, Callable[[Floats, Floats], Called]] = {"mean": mean_rule, "objective": objective_rule}


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Found:
    """What one rule made of all checks: the days it watched, how often it began to call, and what it found."""

    days: float = 0.0
    called: int = 0
    by_kind: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    delays: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))

    def watched(self, kind: str, t: Floats, called: Called) -> None:
        begun = sum(b and not a for a, b in pairwise(called))
        self.days += (t[-1] - t[0]) / DAY
        self.called += begun
        self.by_kind[kind] += begun


def slow_downs(t: Floats, onset: int) -> Iterator[tuple[str, Floats, int]]:
    """Each with its factor by round, and the round after which it is no longer looked at."""
    for share in CREEPS:
        end = int(np.searchsorted(t, t[onset] + 1.5 * DAY))
        yield f"creep {share:.0%}", 1 + share * np.clip((t - t[onset]) / DAY, 0, 1), end
    for share in STEPS:
        yield f"step {share:.0%}", np.where(t >= t[onset], 1 + share, 1.0), onset + 60


def first_call(called: Called, was_bad: bool) -> int | None:
    """The round in which it is called first; one that was called before the onset does not count until it has ended."""
    for n, bad in enumerate(called):
        if bad and not was_bad:
            return n
        was_bad = bad
    return None


def follow(kind: str, seed: int, days: float, found: dict[str, Found]) -> None:
    """One check through all of it."""
    rng = np.random.default_rng([SEED, seed])
    every = 60.0 if seed % 31 == 30 else 300.0
    t = MONDAY + float(rng.uniform(0, 7 * DAY)) + np.arange(0, days * DAY, every)
    took = KINDS[kind](rng, t)
    onset = int(np.searchsorted(t, t[0] + (ONSET + float(rng.uniform(0, 1))) * DAY))
    ours, called, before = Ours(), [], Ours()
    for n, (at, seconds) in enumerate(zip(t.tolist(), took.tolist(), strict=True)):
        if n == onset:
            before = ours.copy()
        called.append(ours.round(at, seconds))
    found["ours"].watched(kind, t, called)
    rules = {name: rule(t, took) for name, rule in RULES.items()}
    for name, of_rule in rules.items():
        found[name].watched(kind, t, of_rule)
    for what, factor, end in slow_downs(t, onset):
        slowed = took * factor
        state, said = before.copy(), []
        for at, seconds in zip(t[onset:end].tolist(), slowed[onset:end].tolist(), strict=True):
            said.append(state.round(at, seconds))
            if said[-1] and not (before.bad and all(said)):
                break
        _note(found["ours"], what, first_call(said, before.bad), every)
        for name, rule in RULES.items():
            of_rule = rule(t, slowed)
            _note(found[name], what, first_call(of_rule[onset:end], of_rule[onset - 1]), every)


def _note(found: Found, what: str, rounds: int | None, every: float) -> None:
    """Creeps in hours, steps in rounds."""
    unit = every / 3600 if what.startswith("creep") else 1
    found.delays[what].append(None if rounds is None else rounds * unit + (0 if unit != 1 else 1))


def measure(checks: int, days: float) -> dict[str, Any]:
    found = {name: Found() for name in ("ours", *RULES)}
    began, cpu = time.perf_counter(), time.process_time()
    for seed in range(checks):
        follow(list(KINDS)[seed % len(KINDS)], seed, days, found)
    return {
        "seed": SEED,
        "checks": checks,
        "days": days,
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "wall_s": round(time.perf_counter() - began, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "rules": {name: _summary(rule) for name, rule in found.items()},
    }


def _summary(found: Found) -> dict[str, Any]:
    return {
        "false_per_check_month": round(found.called / found.days * 30, 3),
        "false_by_kind": dict(found.by_kind),
        "found": {what: _of(what, delays) for what, delays in found.delays.items()},
    }


def _of(what: str, delays: list[float | None]) -> dict[str, Any]:
    came = [delay for delay in delays if delay is not None]
    soon, later = (24, 36) if what.startswith("creep") else (15, 60)
    return {
        f"within_{soon}": round(sum(delay <= soon for delay in came) / len(delays), 3),
        f"within_{later}": round(len(came) / len(delays), 3),
        "median_delay": round(statistics.median(came), 1) if came else None,
        "unit": "hours" if what.startswith("creep") else "rounds",
    }


def table(result: dict[str, Any]) -> str:
    columns = ("rule", "false per check and month", "slow-down", "found soon", "found later", "median delay")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, rule in result["rules"].items():
        first = f"{name} | {rule['false_per_check_month']}"
        for what, of in rule["found"].items():
            soon, later = [f"{of[key]:.0%} {key.replace('_', ' ')} {of['unit']}" for key in of if "within" in key]
            lines.append(f"| {first} | {what} | {soon} | {later} | {of['median_delay'] or '–'} |")
            first = " | "
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.slowness", description=__doc__.split("\n")[0])
    parser.add_argument("--checks", type=int, default=CHECKS)
    parser.add_argument("--days", type=float, default=DAYS)
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    result = measure(args.checks, args.days)
    print(table(result))
    args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
