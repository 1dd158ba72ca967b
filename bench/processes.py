"""What processes cost, as the kernel counts it: CPU time of whole families, and the most memory that they ever held.

Memory is the proportional set size: what processes share (PostgreSQL's buffers, code) is counted once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def family(roots: Iterable[int]) -> dict[int, list[int]]:
    """Each root with all that descends from it, as far as it is alive."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children[int(stat[1])].append(int(entry.name))
    found = {}
    for root in roots:
        members = [root]
        for pid in members:
            members += children[pid]
        found[root] = members
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds so far, of these and of the children that they have waited for."""
    stats = [stat for pid in pids if (stat := _stat(pid))]
    return sum(sum(map(int, stat[11:15])) for stat in stats) / TICK


def pss_mb(pid: int) -> float:
    """The proportional set size, in megabytes; 0 where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def end_all(pids: Iterable[int]) -> None:
    """Kill what is still there of a family. For those that would outlive its root only."""
    for pid in pids:
        if _stat(pid):
            os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
    return [] if stat[0] in "ZX" else stat


class Meter:
    """Looks at families of processes by name every `every` seconds, in a thread, until the `with` block ends.

    `together` names those whose memory is also added up at each look.
    """

    def __init__(self, roots: Mapping[str, int], together: Iterable[str] = (), every: float = 5.0) -> None:
        self._roots, self._together, self._every = dict(roots), set(together), every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
        self.peak_mb: dict[str, float] = defaultdict(float)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by name."""
        found = family(self._roots.values())
        return {name: cpu_s(found[root]) for name, root in self._roots.items()}

    def memory(self) -> dict[str, float]:
        """Megabytes now, by name; `together` is the sum of those."""
        found = family(self._roots.values())
        held = {name: sum(map(pss_mb, found[root])) for name, root in self._roots.items()}
        return {**held, "together": sum(held.get(name, 0.0) for name in self._together)}

    def take_anew(self) -> None:
        """Forget the peaks."""
        self.peak_mb = defaultdict(float)

    def peaks(self) -> dict[str, float]:
        """The most megabytes since the beginning, or since they were forgotten; now included."""
        self._look()
        return {name: round(held, 1) for name, held in self.peak_mb.items()}

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def _look(self) -> None:
        peaks = self.peak_mb
        for name, held in self.memory().items():
            peaks[name] = max(peaks[name], held)


def per(spent: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What was spent since `before`, by name."""
    return {name: seconds - before[name] for name, seconds in spent.items()}


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p99 and the largest, in the values' unit; empty where there are none."""
    ordered = sorted(values)
    if not ordered:
        return {}

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": round(at(0.5), 3), "p99": round(at(0.99), 3), "max": round(ordered[-1], 3)}
