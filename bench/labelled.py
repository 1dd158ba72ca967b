"""Labelled releases as a Prometheus would have scraped them, written as OpenMetrics.

A release is one value of the label `svc`: an hour before its deploy and 36 minutes after it, scraped every 15 s (or 5,
if its kind says so). All are deployed at the same moment. What happens to them is that of bench/releases.py and
bench/unseen.py: their kinds bend a `World`, and here the requests of that world are drawn, counted and exposed as
client libraries expose them: counters that start anew with each process (a deploy starts one), a histogram's buckets,
gauges, and `up` at every scrape, well or in vain.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bench import releases, unseen
from bench.releases import AFTER, BEFORE, STEP, Floats, Traffic, World, invented

DEPLOYED_AT = 1767225600  # 2026-01-01T00:00:00Z
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds, as client libraries have them
TAIL = 2.0  # seconds: how long a request of `World.tail` takes
POOL = 50  # connections, at most
LOAD_EVERY = 300.0  # seconds between the rows of a file of real traffic

Bend = Callable[[World], None]
Bends = Mapping[str, Bend]

_USUAL_HEALTHY = (
    "plain", "cold_start", "blip", "big_warm_up", "tall_sawtooth", "traffic_ramp", "scrape_gap", "one_in_ten",
    "noisy_dependency", "traffic_drop",
)  # fmt: skip
_USUAL_BAD = (
    "errors_1.5", "errors_4", "errors_20", "errors_late", "slow_1.4", "slow_3", "slow_late", "slow_tail", "leak_fast",
    "leak_slow", "pool_leak", "down",
)  # fmt: skip
# Rules that look at one minute see nothing of what is scraped once a minute, which is no fault of theirs.
_UNFIT = (
    "scrape_30", "scrape_60", "scrape_60_noisy", "errors_4_scrape_60", "slow_2_scrape_30", "leak_scrape_60",
    "down_scrape_60",
)  # fmt: skip


@dataclass(frozen=True)
class Kinds:
    """Kinds of release under one heading: those that fool naive gates, and those that are bad. Without `history`,
    nothing was scraped before the deploy. The title's first word names the releases, and must be unique."""

    title: str
    healthy: Bends
    bad: Bends
    history: bool = True


def _without(left_out: Container[str], *of: Bends) -> dict[str, Bend]:
    return {name: bend for bends in of for name, bend in bends.items() if name not in left_out}


USUAL = Kinds(
    "usual kinds",
    {name: releases.HEALTHY[name] for name in _USUAL_HEALTHY},
    {name: releases.BAD[name] for name in _USUAL_BAD},
)
FURTHER = Kinds(
    "further kinds",
    _without(
        (*_USUAL_HEALTHY, *_UNFIT),
        releases.HEALTHY, releases.OTHER_HEALTHY, unseen.UNSEEN_HEALTHY, unseen.FINE_HEALTHY,
    ),
    _without((*_USUAL_BAD, *_UNFIT), releases.BAD, releases.OTHER_BAD, unseen.UNSEEN_BAD, unseen.FINE_BAD),
)  # fmt: skip
NEW = replace(USUAL, title="new services: usual kinds, no history", history=False)


# ── what was scraped ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Series:
    """One series' samples. `at` is seconds since the deploy."""

    name: str
    labels: Mapping[str, str]
    at: Floats
    value: Floats


@dataclass(frozen=True)
class Labelled:
    """A release with its label. `onset` is when the fault begins, in seconds after the deploy; None: it is healthy."""

    service: str
    kind: str
    onset: float | None
    scraped: Sequence[Series] = field(repr=False)


def labelled(rng: np.random.Generator, kinds: Kinds, count: int, traffic: Traffic = invented) -> list[Labelled]:
    """So many releases, half of them healthy, of each kind in turn."""
    healthy, bad = islice(cycle(kinds.healthy.items()), count // 2), islice(cycle(kinds.bad.items()), -(-count // 2))
    prefix, since = kinds.title.split()[0], -BEFORE if kinds.history else 0.0
    return [release(rng, f"{prefix}{i:03}", *one, traffic, since) for i, one in enumerate([*healthy, *bad])]


def release(
    rng: np.random.Generator,
    service: str,
    kind: str,
    bend: Bend,
    traffic: Traffic = invented,
    since: float = -BEFORE,
) -> Labelled:
    """One release of a kind, scraped from `since` on (seconds after the deploy)."""
    step: float = getattr(bend, "step", STEP)
    w = World.healthy(rng, traffic, step)
    bend(w)
    requests = rng.poisson(np.maximum(w.rps, 0) * step)
    return Labelled(service, kind, w.onset, list(_scraped(w, requests, service, since)))


def _scraped(w: World, requests: NDArray[np.int64], service: str, since: float) -> Iterator[Series]:
    n = len(w.t)
    # The error rate scatters from scrape to scrape, as that of real dependencies does.
    errors = w.rng.binomial(requests, np.clip(w.p_err * w.rng.gamma(4, 0.25, n), 0, 1))
    tried = w.t >= since
    seen = w.scraped & tried

    def series(name: str, value: NDArray[np.generic], where: NDArray[np.bool_] = seen, **labels: str) -> Series:
        return Series(name, {"svc": service, **labels}, w.t[where], value[where].astype(float))

    yield series("http_requests_total", _counter(w, requests - errors), status="200")
    yield series("http_requests_total", _counter(w, errors), status="500")
    for le, within in zip((*map(str, BOUNDS), "+Inf"), _within(w, requests), strict=True):
        yield series("http_request_duration_seconds_bucket", _counter(w, within), le=le)
    yield series("process_resident_memory_bytes", w.memory)
    yield series("db_pool_connections_in_use", np.clip(np.round(w.pool), 0, POOL))
    yield series("up", seen, where=tried)


def _within(w: World, requests: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the requests took up to each bound, the last one infinite: bounds × samples."""
    shares = np.diff(ndtr(np.log(np.divide.outer(BOUNDS, w.median)) / w.sigma), axis=0, prepend=0)
    shares = np.vstack([shares, np.maximum(1 - shares.sum(axis=0), 0)])
    slow = w.rng.binomial(requests, np.clip(w.tail, 0, 1))
    cells = w.rng.multinomial(requests - slow, (shares / shares.sum(axis=0)).T).T
    cells[np.searchsorted(BOUNDS, TAIL)] += slow
    return np.cumsum(cells, axis=0)


def _counter(w: World, each: NDArray[np.int64]) -> Floats:
    """The running total, from zero with each process: the new release's, and that of a restart."""
    running = np.cumsum(each)
    for began in sorted({0.0, w.reset}):
        running = running - np.where(w.t > began, running[np.searchsorted(w.t, began, side="right") - 1], 0)
    return running.astype(float)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────

_FAMILIES = {"http_requests_total": "http_requests counter"}


def write_openmetrics(releases: Iterable[Labelled], path: Path) -> None:
    """All series of all releases, family by family."""
    by_name: dict[str, list[Series]] = {}
    for one in releases:
        for series in one.scraped:
            by_name.setdefault(series.name, []).append(series)
    with path.open("w") as file:
        for name, found in by_name.items():
            if not name.endswith("_bucket"):  # a histogram without _sum and _count is none
                file.write(f"# TYPE {_FAMILIES.get(name, f'{name} gauge')}\n")
            for series in found:
                labels = ",".join(f'{k}="{v}"' for k, v in series.labels.items())
                points = zip(series.value.tolist(), (series.at + DEPLOYED_AT).tolist(), strict=True)
                file.writelines(f"{name}{{{labels}}} {value:.0f} {at:.0f}\n" for value, at in points)
        file.write("# EOF\n")


def traffic_of(path: Path) -> Traffic:
    """The load of a real service, from a CSV file with a column `value` and a row every five minutes: any stretch of
    it. Numenta's realAWSCloudWatch/elb_request_count.csv is such a file."""
    with path.open() as file:
        real = np.array([float(row["value"]) for row in csv.DictReader(file)])
    real = real[real > 0]

    def stretch(rng: np.random.Generator, n: int) -> Floats:
        rows = round((BEFORE + AFTER) / LOAD_EVERY) + 1
        if len(real) <= rows:
            raise ValueError(f"{path}: {len(real)} rows of traffic are too few; {rows + 1} are needed")
        start = int(rng.integers(0, len(real) - rows))
        part = real[start : start + rows]
        curve = np.interp(np.linspace(0, rows - 1, n), np.arange(rows), part)
        return np.asarray(curve / curve.mean())

    return stretch
