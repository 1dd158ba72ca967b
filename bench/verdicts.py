"""Scores our verdicts on labelled releases beside the rules that people would use instead, on one real Prometheus.

    python -m bench.verdicts                      three sets of 360 releases: usual kinds, further kinds, new services
    python -m bench.verdicts --traffic load.csv   the same under the load of a real service

Ours are what `firstwatch backtest` says, run as a user would run it; the others are those of bench/peers.py. Prints the
table, and writes bench/verdicts.json and bench/verdicts.svg. Nothing is tuned on the seed that is committed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.chart import Line, Panel, detection_svg
from bench.labelled import DEPLOYED_AT, FURTHER, NEW, USUAL, Kinds, Labelled, labelled, traffic_of, write_openmetrics
from bench.peers import Decided, decide
from bench.releases import invented
from bench.score import Score
from demo.stack import Stack, free_port

OURS = "Firstwatch"
SEED, COUNT = 20261126, 360
RESULT = Path(__file__).with_suffix(".json")

SERVICE_FILE = {
    "service": "labelled",
    "base_url": "http://127.0.0.1",
    "objectives": {"availability": "99%", "latency": {"p95": "500ms"}},
    "signals": {
        "requests": 'http_requests_total{svc="{{service}}"}',
        "errors": 'http_requests_total{svc="{{service}}",status=~"5.."}',
        "latency": 'http_request_duration_seconds{svc="{{service}}"}',
        "memory": 'process_resident_memory_bytes{svc="{{service}}"}',
        "db_pool": 'db_pool_connections_in_use{svc="{{service}}"}',
    },
}


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Backtest:
    """What `firstwatch backtest` said of each release, and what it took."""

    verdicts: Mapping[str, str]
    decided: Decided
    wall_s: float
    cpu_s: float


def serve(stack: Stack, releases: Sequence[Labelled]) -> str:
    """A real Prometheus that holds the releases' history: its URL."""
    exposed, blocks, config = stack.home / "metrics.om", stack.home / "blocks", stack.home / "prometheus.yml"
    write_openmetrics(releases, exposed)
    made = stack.run(_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(exposed), str(blocks))
    if made.returncode:
        raise RuntimeError(f"promtool could not read the releases: {made.stderr[-2000:]}")
    exposed.unlink()
    config.write_text("{}\n")
    url = f"http://127.0.0.1:{free_port()}"
    process = stack.start(
        "prometheus",
        [
            _program("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={blocks}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
    )
    process.wait_for(f"{url}/-/ready", 60)
    stack.env["PROMETHEUS_URL"] = url
    return url


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not on the PATH: apt-get install prometheus")
    return found


def backtest(stack: Stack, url: str, releases: Sequence[Labelled]) -> Backtest:
    """`firstwatch backtest` as a user would run it, with what it took."""
    file, asked, answered = (stack.home / name for name in ("labelled.yaml", "releases.json", "verdicts.json"))
    file.write_text(json.dumps({**SERVICE_FILE, "metrics": {"prometheus": url}}))  # JSON is YAML
    asked.write_text(
        json.dumps([{"service": one.service, "version": "v2", "deployed_at": DEPLOYED_AT} for one in releases])
    )
    answered.unlink(missing_ok=True)
    began, cpu = time.perf_counter(), _children_cpu()
    command = ("firstwatch", "backtest", file, "--releases", asked, "--prometheus", url, "--json", answered)
    ended = stack.run(*map(str, command), timeout=3600)
    wall, cpu = time.perf_counter() - began, _children_cpu() - cpu
    if not answered.exists():
        raise RuntimeError(f"firstwatch backtest exited {ended.returncode}:\n{(ended.stdout + ended.stderr)[-4000:]}")
    said = {entry["service"]: entry for entry in json.loads(answered.read_text())}
    return Backtest(
        verdicts={service: entry["verdict"] for service, entry in said.items()},
        decided={s: e["after_s"] if e["verdict"] == "unhealthy" else None for s, e in said.items()},
        wall_s=round(wall, 1),
        cpu_s=round(cpu, 1),
    )


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(stack: Stack, sets: Mapping[str, Sequence[Labelled]]) -> tuple[dict[str, Any], list[Panel]]:
    """All rules on all sets: what goes into the JSON, and what is drawn."""
    url = serve(stack, [one for releases in sets.values() for one in releases])
    results: dict[str, Any] = {}
    panels: list[Panel] = []
    for title, releases in sets.items():
        ours = backtest(stack, url, releases)
        peers = decide(url, [one.service for one in releases])
        scores = {name: Score.of(releases, at) for name, at in {OURS: ours.decided, **peers}.items()}
        said = Counter((_label(one), ours.verdicts[one.service]) for one in releases)
        results[title] = {
            "releases": len(releases),
            "backtest": {"wall_s": ours.wall_s, "cpu_s": ours.cpu_s},
            "verdicts": {f"{label}, found {verdict}": n for (label, verdict), n in sorted(said.items())},
            "gates": {name: score.as_json() for name, score in scores.items()},
        }
        panels.append(Panel(title, [Line(n, s.delays, s.bad, _percent(s.false_rollbacks)) for n, s in scores.items()]))
    return results, panels


def _label(one: Labelled) -> str:
    return "healthy" if one.onset is None else "bad"


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────


def table(results: Mapping[str, Any]) -> str:
    rows = [
        "| releases | gate | false rollbacks | detected by T+30 | median delay | 90 % of those within |",
        "|---|---|---|---|---|---|",
    ]
    for title, result in results.items():
        for i, (gate, s) in enumerate(result["gates"].items()):
            shares = f"{_with_interval(s['false_rollbacks'])} | {_with_interval(s['detected'])}"
            delays = f"{_seconds(s['median_delay_s'])} | {_seconds(s['p90_delay_s'])}"
            first = f"{title} ({result['releases']})" if i == 0 else ""
            rows.append(f"| {first} | {gate} | {shares} | {delays} |")
    return "\n".join(rows)


def ours_by_kind(result: Mapping[str, Any]) -> str:
    """What we get wrong, and how long we take, kind by kind."""
    rows = []
    for kind, row in result["gates"][OURS]["by_kind"].items():
        false = f"{row['false']} rolled back while healthy" if row["false"] or "found" not in row else ""
        found = f"{row['found']} found, {_seconds(row['median_delay_s'])}" if "found" in row else ""
        rows.append(f"  {kind:26} of {row['releases']:3}: {', '.join(filter(None, (found, false)))}")
    rows += [f"  {n:3} {what}" for what, n in result["verdicts"].items()]
    took = result["backtest"]
    rows.append(f"  backtest: {took['wall_s']} s, {took['cpu_s']} s of CPU, for {result['releases']} releases")
    return "\n".join(rows)


def _percent(proportion: Mapping[str, Any]) -> str:
    return "–" if proportion["share"] is None else f"{_tenths(proportion['share'])} %"


def _with_interval(proportion: Mapping[str, Any]) -> str:
    if proportion["interval"] is None:
        return "–"
    low, high = map(_tenths, proportion["interval"])
    return f"{_percent(proportion)} ({low}–{high})"


def _tenths(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0")


def _seconds(delay: float | None) -> str:
    return "–" if delay is None else f"{delay} s"


def made(sets: Sequence[Kinds], seed: int, count: int, traffic: Path | None) -> dict[str, list[Labelled]]:
    """By title: so many releases of each set."""
    curve = traffic_of(traffic) if traffic else invented
    return {k.title: labelled(np.random.default_rng([seed, i]), k, count, curve) for i, k in enumerate(sets)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.verdicts", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT, help="releases of each set")
    parser.add_argument(
        "--traffic", type=Path, help="CSV of a real service's load: a column `value`, five minutes a row"
    )
    parser.add_argument("--keep", action="store_true", help="leave the history and its Prometheus up until Enter")
    asked = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as home, Stack(Path(home)) as stack:
        results, panels = measure(stack, made((USUAL, FURTHER, NEW), asked.seed, asked.count, asked.traffic))
        result = {
            "seed": asked.seed,
            "count": asked.count,
            "traffic": asked.traffic.name if asked.traffic else "invented",
            "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
            "wall_s": round(time.perf_counter() - began, 1),
            "sets": results,
        }
        RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        RESULT.with_suffix(".svg").write_text(detection_svg(panels[:2]))
        print(table(results))
        for title, result in results.items():
            print(f"\n{OURS} on {title}:\n{ours_by_kind(result)}")
        if asked.keep:
            input(f"\nkept: {stack.env['PROMETHEUS_URL']} serves {home}; Enter ends it ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
