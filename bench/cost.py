"""Does the cost of windows grow in a straight line, from 10 at once to 1,000?

    python -m bench.cost [--sizes 10 30 100 300 1000]      measures, and writes bench/cost.json and bench/cost.svg
    python -m bench.cost --of A.json B.json …              the same from results of bench.windows, measuring nothing
    python -m bench.cost --again                           draws what bench/cost.json has

Each size is a run of bench.windows with a Prefect server, a database and a worker of its own. CPU is that of worker,
server and database for all windows of a run, less what they take at rest (the median of what was seen at rest in all
sizes: of ten windows in half an hour, that is most of it); memory is the most that they held together.
The line is fitted so that each size counts by its share; how far each point is off the line is told. Measured here, all
sizes start their windows at the same rate. CPU time is counted by process, so that sizes may be measured side by side
(`--of`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import windows
from bench.cost_chart import Panel, cost_svg, straight
from bench.stage import Keep, machine, measured, say

RESULT = Path(__file__).with_suffix(".json")
SIZES = (10, 30, 100, 300, 1000)
A_WINDOW = 1.2  # seconds between two starts
_KEPT = (
    "windows", "ended", "at_once", "took_s", "cores_busy", "cpu_s_a_second_at_rest", "peak_mb", "not_as_it_should",
    "checkpoints_late_s", "rollbacks",
)  # fmt: skip


def measure(sizes: Sequence[int], scale: float, settings: Sequence[str], patience: float, keep: Keep) -> dict[str, Any]:
    """A run of each size, and the lines. What is known so far is kept after each."""
    result: dict[str, Any] = {"machine": machine(), "scale": scale, "settings": list(settings)}
    phases: list[dict[str, Any]] = []
    for size in sizes:
        say(f"── {size} windows")
        plan = windows.Plan(
            size, scale, A_WINDOW * size, process=0, patience=patience, settings=tuple(settings)
        )  # fmt: skip
        phases.append(windows.measure(plan)["firstwatch"])
        result |= {"sizes": (of_all := points(phases))} | lines(of_all)
        keep(result)
    return result


def taken_from(files: Sequence[Path]) -> dict[str, Any]:
    """The same from results of bench.windows. Raises ValueError where they were not measured in the same way."""
    found = [json.loads(file.read_text()) for file in files]
    for key in ("machine", "window_s"):
        if len(given := {each[key] for each in found}) > 1:
            raise ValueError(f"they differ in {key}: {', '.join(map(str, sorted(given)))}")
    sizes = sorted((each["firstwatch"] for each in found), key=lambda size: float(size["windows"]))
    first, settings = found[0], sorted({setting for each in found for setting in each["plan"]["settings"]})
    result = {"machine": first["machine"], "scale": first["plan"]["scale"], "settings": settings}
    return result | {"sizes": (of_all := points(sizes))} | lines(of_all)


def points(phases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is kept of each run, with the two numbers that are drawn."""
    rest = {n: statistics.median(phase["cpu_s_a_second_at_rest"][n] for phase in phases) for n in windows.OURS}

    def point(phase: dict[str, Any]) -> dict[str, Any]:
        spent = {n: phase["cpu_s"][n] - rest[n] * phase["took_s"] for n in windows.OURS}
        a_window = {n: round(seconds / phase["windows"], 3) for n, seconds in spent.items()}
        kept = {name: phase[name] for name in _KEPT}
        cpu, together = round(sum(spent.values()), 1), phase["peak_mb"]["together"]
        return {**kept, "cpu_s_a_window": a_window, "cpu_s": cpu, "together_mb": together}

    return [point(phase) for phase in phases]


def lines(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The straight lines through the points, as JSON; nothing where there are fewer than two."""
    return {"lines": {panel.unit: vars(panel.fit) for panel in panels(points)}} if len(points) > 1 else {}


def panels(points: Sequence[dict[str, Any]]) -> list[Panel]:
    x = [float(point["windows"]) for point in points]
    drawn = (("CPU", "s", "cpu_s"), ("Memory", "MB", "together_mb"))
    return [
        Panel(title, unit, x, y, straight(x, y))
        for title, unit, y in ((title, unit, [float(point[key]) for point in points]) for title, unit, key in drawn)
    ]


def write(out: Path, result: dict[str, Any]) -> None:
    """The JSON, and the chart beside it where there are points enough."""
    out.write_text(json.dumps(result, indent=1) + "\n")
    if len(result["sizes"]) > 1:
        out.with_suffix(".svg").write_text(cost_svg(panels(result["sizes"])))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all sizes were measured; 1: it was broken off. What is known is written in any case."""
    parser = argparse.ArgumentParser(
        prog="bench.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--scale", type=float, default=windows.Plan.scale, help="how much faster time runs")
    parser.add_argument(
        "--patience", type=float, default=windows.Plan.patience, help="seconds beyond the windows' time"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="environment of all processes")
    parser.add_argument("--of", type=Path, nargs="+", metavar="FILE", help="results of bench.windows: measure nothing")
    parser.add_argument("--again", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    if given.again or given.of:
        result = taken_from(given.of) if given.of else json.loads(given.out.read_text())
        write(given.out, result | lines(result["sizes"]))
        return 0
    found = measured(
        lambda keep: measure(given.sizes, given.scale, given.set, given.patience, keep),
        lambda so_far: write(given.out, so_far),
    )
    if found is None:
        return 1
    print(json.dumps(found["lines"] if len(found["sizes"]) > 1 else found["sizes"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
