"""Scores the window's judges on labelled releases, side by side with the rules that people would use instead.

`python -m bench.judges [SEED] [PER_KIND]` prints the table and writes bench/judges.json. Arrays go straight into the
code path of a live window (`timeline.replay`); nothing is tuned on the seed that is committed.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.releases import BAD, BOUND, HEALTHY, NAMES, OTHER_BAD, OTHER_HEALTHY, Labelled, World, release
from bench.unseen import OWN_BAD, OWN_HEALTHY, UNSEEN_BAD, UNSEEN_HEALTHY
from firstwatch.model import Counts, Gauge, Verdict
from firstwatch.spec.models import DEFAULT_CHECKPOINTS, Objectives, Window
from firstwatch.timeline import Watch, replay

END = 1800.0
Rule = Callable[[Labelled], float | None]
"""Seconds after the deploy at which a rule rolls the release back, or None."""


def ours(one: Labelled) -> float | None:
    objectives = Objectives(availability=one.availability, latency={"p95": BOUND})
    watch = Watch(Window(checkpoints=list(DEFAULT_CHECKPOINTS)), objectives, 0.0)
    ruling = replay(one.measured, watch, until=END).ruling
    return ruling.decided_at if ruling.verdict is Verdict.UNHEALTHY else None


def share(one: Labelled, signal: str, now: float, over: float) -> float:
    """The share of bad events in the last so many seconds; NaN without any event."""
    series = one.measured.checkpoints[NAMES[signal]]
    assert isinstance(series, Counts)
    at = np.asarray(series.at)
    recent = (at > now - over) & (at <= now)
    total = np.asarray(series.total)[recent].sum()
    return float(np.asarray(series.bad)[recent].sum() / total) if total else float("nan")


def slope(one: Labelled, signal: str, now: float, over: float) -> float:
    """Least squares over the last so many seconds, per second (what PromQL's deriv gives); NaN for too few samples."""
    series = one.measured.checkpoints[NAMES[signal]]
    assert isinstance(series, Gauge)
    at, value = np.asarray(series.at), np.asarray(series.value)
    recent = (at > now - over) & (at <= now)
    return float(np.polyfit(at[recent], value[recent], 1)[0]) if recent.sum() > 2 else float("nan")


def level(one: Labelled, signal: str, now: float) -> float:
    series = one.measured.checkpoints[NAMES[signal]].until(now)  # type: ignore[union-attr]
    return float(series.value[-1])  # type: ignore[union-attr]


def point_checks(one: Labelled) -> float | None:
    """Each checkpoint once, on the last two minutes, against its threshold."""
    checks: Sequence[tuple[float, Callable[[], bool]]] = (
        (15, lambda: share(one, "errors", 15, 120) > 0.01),
        (120, lambda: share(one, "latency", 120, 120) > 0.05),
        (300, lambda: slope(one, "memory", 300, 300) > level(one, "memory", 300) * 0.01 / 60),
        (600, lambda: slope(one, "db_pool", 600, 600) > 0.2 / 60),
        (1800, lambda: level(one, "memory", 1800) > 1.1 * level(one, "memory", 300)),
    )
    return next((at for at, broken in checks if broken()), None)


def three_in_a_row(one: Labelled) -> float | None:
    """The success rate of the last two minutes below 99 % at three measurements in a row, one every two minutes."""
    row = 0
    for t in np.arange(120, END + 1, 120):
        broken = share(one, "errors", t, 120) > 0.01
        row = row + 1 if broken else 0
        if row == 3:
            return float(t)
    return None


def five_of_minutes(one: Labelled) -> float | None:
    """Success rate and p95 of the last minute, every minute; five failed checks in total; no value is one too."""
    failed = 0
    for t in np.arange(60, END + 1, 60):
        errors, slow = share(one, "errors", t, 60), share(one, "latency", t, 60)
        failed += not (errors <= 0.01 and slow <= 0.05)
        if failed == 5:
            return float(t)
    return None


RULES: dict[str, Rule] = {
    "Firstwatch": ours,
    "point checks at T+0, 2, 5, 10, 30": point_checks,
    "success rate every 2 min, 3 in a row": three_in_a_row,
    "success rate and p95 every minute, 5 in total": five_of_minutes,
}


def score(releases: Sequence[Labelled], decided: Sequence[float | None]) -> dict[str, Any]:
    """False rollbacks (early ones of bad releases count), detected by T+30, delay from the onset; also by kind."""
    good = bad = false = 0
    delays: list[float] = []
    kinds: dict[str, list[float | None]] = defaultdict(list)
    for one, at in zip(releases, decided, strict=True):
        early = one.onset is not None and at is not None and at < one.onset
        good += one.onset is None or early
        bad += one.onset is not None
        false += early or (one.onset is None and at is not None)
        kinds[one.kind].append(at if one.onset is None or at is None else at - one.onset)
        if one.onset is not None and at is not None and not early:
            delays.append(at - one.onset)
    return {
        "false_rollbacks": round(false / max(good, 1), 4),
        "detected": round(len(delays) / max(bad, 1), 4),
        "median_delay_s": round(median(delays)) if delays else None,
        "by_kind": {k: _of_kind(v) for k, v in sorted(kinds.items())},
    }


def _of_kind(decided: Sequence[float | None]) -> dict[str, object]:
    at = [x for x in decided if x is not None]
    return {"releases": len(decided), "rolled_back": len(at), "median_s": round(median(at)) if at else None}


def labelled(
    seed: int, per_kind: int, kinds: Mapping[str, Callable[[World], None]], history: bool = True
) -> list[Labelled]:
    rng = np.random.default_rng(seed)
    return [release(rng, name, bend, history) for name, bend in kinds.items() for _ in range(per_kind)]


def main(seed: int = 20261123, per_kind: int = 40) -> None:
    sets = {
        "kinds that the judges were built with": labelled(seed, per_kind, {**HEALTHY, **BAD}),
        "other kinds": labelled(seed + 1, per_kind, {**OTHER_HEALTHY, **OTHER_BAD}),
        "kinds that nobody tuned on": labelled(seed + 3, per_kind // 2, {**UNSEEN_HEALTHY, **UNSEEN_BAD}),
        "other scrapes and objectives": labelled(seed + 4, per_kind // 2, {**OWN_HEALTHY, **OWN_BAD}),
        "without history before the deploy": labelled(seed + 2, per_kind, {**HEALTHY, **BAD}, history=False),
    }
    results: dict[str, object] = {"seed": seed, "per_kind": per_kind}
    for title, releases in sets.items():
        print(f"\n{title} ({len(releases)} releases)")
        scored: dict[str, dict[str, Any]] = {}
        for name, rule in RULES.items():
            began = time.perf_counter()
            scored[name] = s = score(releases, [rule(one) for one in releases])
            shown = f"false {s['false_rollbacks']:6.1%}  detected {s['detected']:6.1%}  delay {s['median_delay_s']} s"
            print(f"  {name:46} {shown}  ({time.perf_counter() - began:.1f} s)")
        results[title] = scored
        for kind, row in scored["Firstwatch"]["by_kind"].items():
            print(f"    {kind:26} {row['rolled_back']:3} of {row['releases']:3}  {row['median_s']}")
    Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
