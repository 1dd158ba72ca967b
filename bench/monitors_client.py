"""A process of ours that bench/monitors.py measures: it takes the rounds of all service files in a folder, one after
the other, each time it is told to.

    python -m bench.monitors_client bare FOLDER

Ways: `bare` takes every check (tasks/probes), without Prefect; `documents` takes whole rounds, with what is remembered
on a Prefect server; `flow` calls the flow, in which every check is a task run. Commands on standard input, one a line:
`go`, `count` (the requests to the Prefect server) and `profile` (whose code takes the time). The answer is one line.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import logging
import os
import pstats
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from prefect.client.orchestration import PrefectClient

from firstwatch.model import Outcome
from firstwatch.monitor import Probe
from firstwatch.rounds import Place
from firstwatch.spec import Service
from tasks.looks import Plainly
from tasks.monitor import Monitor, open_transports
from tasks.opening_monitor import monitored
from tasks.probes import Probing
from tasks.store import turn_key
from tasks.turns import keeping_turn, take_turn

PROFILED = 3  # services: a profile takes its time
_WAITING = ("'poll' of 'select.epoll'", "method 'acquire' of '_thread.lock'")
_LOG = logging.getLogger("bench.monitors")
_WHOSE = {  # by a part of the path, the first that fits
    "/main/firstwatch/": "firstwatch",
    "/tasks/": "tasks",
    "/flows/": "tasks",
    "/site-packages/prefect/": "prefect",
    "/site-packages/pydantic": "pydantic",
    "/site-packages/httpx/": "HTTP client",
    "/site-packages/httpcore/": "HTTP client",
    "/site-packages/h11/": "HTTP client",
    "/site-packages/h2/": "HTTP client",
    "/site-packages/hpack/": "HTTP client",
    "/site-packages/anyio/": "HTTP client",
    "/ssl.py": "TLS",
    "/json/": "JSON",
    "/asyncio/": "event loop",
    "/selectors.py": "event loop",
    "/logging/": "logging",
    "/opentelemetry/": "prefect",
    "/ruamel/": "reading the service file",
}


# ── the ways ─────────────────────────────────────────────────────────────────────────────────────────────────


async def bare(service: Service, client: PrefectClient | None) -> int:
    """Every check of a service once; how many passed."""
    assert service.synthetic is not None

    async def no_beats(_: Sequence[str]) -> dict[str, float | None]:
        return {}

    async with open_transports(service, _LOG, time.time) as (transport, outside):
        deadline = time.monotonic() + service.synthetic.time
        place, runner = Place(service.synthetic.every), Plainly()
        probing = Probing(service, transport, outside, place, deadline, runner, no_beats, remembers=False)
        return _passed(await asyncio.gather(*(runner.check(look) for look in probing.looks())))


async def documents(service: Service, client: PrefectClient | None) -> int:
    """A whole round, up to the alerts; how many checks passed."""
    assert client is not None
    now, run, key = time.time(), f"round {time.time()}", turn_key([service.service], "")
    if not (await take_turn(client, key, run, now)).ours:
        raise RuntimeError(f"{service.service} is another's")
    async with (
        keeping_turn(client, key, run, time.time),
        open_transports(service, _LOG, time.time) as (transport, outside),
    ):
        monitor = Monitor(service, "", now, now, transport, outside, Plainly(), client, _LOG, run=run)
        await monitor.look()
        await monitor.remember()
        await monitor.judge()
        return _passed(monitor.probes)


async def in_a_flow(file: Path) -> int:
    """A flow run in this process; how many checks passed, as its state has it."""
    from flows.synthetic import synthetic

    watched = monitored(str(file), "").synthetic
    assert watched is not None
    # Prefect has no overload for an async flow that returns its state.
    state = await synthetic(service=str(file), return_state=True)  # type: ignore[call-overload]
    return len(watched.checks) if state.name == "Up" else 0


def _passed(probes: Sequence[Probe]) -> int:
    return sum(probe.outcome is Outcome.PASS for probe in probes)


async def once(way: str, files: Sequence[Path]) -> int:
    """The rounds of all services, one after the other; how many checks passed."""
    if way == "flow":
        return sum([await in_a_flow(file) for file in files])
    services = [monitored(str(file), "") for file in files]
    if way == "bare":
        return sum([await bare(service, None) for service in services])
    async with PrefectClient(os.environ["PREFECT_API_URL"]) as client:
        return sum([await documents(service, client) for service in services])


# ── what they cost ───────────────────────────────────────────────────────────────────────────────────────────


def counted(work: Callable[[], int]) -> dict[str, int]:
    """How often the Prefect server is asked for what: `POST variables`."""
    found: Counter[str] = Counter()
    send = httpx.AsyncClient.send

    async def counting(self: Any, request: httpx.Request, **more: Any) -> httpx.Response:
        path = [part for part in urlsplit(str(request.url)).path.split("/") if "-" not in part or part == "csrf-token"]
        if "api" in path:
            found[f"{request.method} {'/'.join(path[2:4])}".rstrip("/")] += 1
        return await send(self, request, **more)

    # A meter in the method's place, until the work is done.
    httpx.AsyncClient.send = counting  # type: ignore[method-assign, assignment]
    try:
        work()
    finally:
        httpx.AsyncClient.send = send  # type: ignore[method-assign]  # as it was
    return dict(found.most_common())


def profiled(work: Callable[[], int]) -> dict[str, float]:
    """Whose code takes how much of the time, in percent; what is built in counts for who called it, and waiting for
    nobody. Of the main thread."""
    profile = cProfile.Profile()
    profile.runcall(work)
    spent: dict[str, float] = defaultdict(float)
    # typeshed does not know the attribute `stats`; get_stats_profile() leaves the callers out.
    for (file, _, name), (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if file != "~":
            spent[_whose(file)] += own
        elif "_ssl" in name:
            spent["TLS"] += own
        elif not any(waiting in name for waiting in _WAITING):
            for (caller, _, _), (_, _, of_it, _) in callers.items():
                spent[_whose(caller)] += of_it
    total = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda each: -each[1])
    return _grouped({whose: round(100 * own / total, 1) for whose, own in ordered})


def _whose(file: str) -> str:
    """Ours by layer, what is known by its name, and else the package or the module of the standard library."""
    if (known := next((whose for part, whose in _WHOSE.items() if part in file), None)) is not None:
        return known
    _, _, package = file.rpartition("/site-packages/")
    return package.split("/")[0].removesuffix(".py") if "/site-packages/" in file else Path(file).stem


def _grouped(percent: dict[str, float]) -> dict[str, float]:
    """The largest first, and those of less than one percent as one."""
    shown = {whose: part for whose, part in percent.items() if part >= 1}
    return {**shown, "the rest": round(sum(percent.values()) - sum(shown.values()), 1)}


def main(way: str, folder: Path) -> int:
    logging.basicConfig(level=logging.WARNING)
    files = sorted(folder.glob("svc-*.yaml"))
    commands: dict[str, Callable[[Callable[[], int]], Any]] = {
        "go": lambda work: work(),
        "count": counted,
        "profile": profiled,
    }

    print("ready", flush=True)
    for line in sys.stdin:
        command = line.strip()
        taken = files if command == "go" else files[:PROFILED]
        answer = commands[command](lambda taken=taken: asyncio.run(once(way, taken)))
        print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
