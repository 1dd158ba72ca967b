"""What the command line's small words do on the Prefect server of PREFECT_API_URL: call in, accept, serve metrics."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from firstwatch.hosts import show_host
from firstwatch.spec import Service
from tasks import heartbeats
from tasks.accept import NothingToAccept, accept_check
from tasks.exposition import Sample
from tasks.metrics import serve
from tasks.opening import read_service
from tasks.run import NotVerifiable
from tasks.samples import read_samples

FINE, NOT_FINE, USED_WRONGLY = 0, 1, 2


def beat(service: str, name: str) -> int:
    """A job calls in. A name that no service file has is refused: its heartbeats would be waited for in vain."""

    async def call() -> int:
        file = _monitored(service)
        assert file.synthetic is not None
        known = [job.name for job in file.synthetic.heartbeats]
        if name not in known:
            raise NotVerifiable(f"{file.service} has no heartbeat {name!r} ({', '.join(known) or 'it has none'})")
        async with get_client() as client:
            await heartbeats.beat(client, file.service, name, time.time())
        return FINE

    return _run(call())


def accept(service: str, check: str) -> int:
    """What a check shows now is how it is to be."""

    async def say() -> int:
        async with get_client() as client:
            print(await accept_check(client, _monitored(service), check, time.time()))
        return FINE

    return _run(say())


def serve_metrics(host: str, port: int) -> int:
    """Serve what the monitors of all services/*.yaml found last, until Ctrl-C."""
    if not 1 <= port <= 65_535:
        return _complain(f"{port} is no port: 1 to 65535")

    async def read() -> Sequence[Sample]:
        async with get_client() as client:
            return await read_samples(client, list_services())

    async def forever() -> int:
        print(f"http://{show_host(host, port, 80)}/metrics", flush=True)
        await serve(read, host, port)
        return FINE

    return _run(forever())


def list_services() -> list[Service]:
    """Every service file that can be read, in the folder of FIRSTWATCH_SERVICES; the others are told on stderr."""
    return read_services()[0]


def read_services() -> tuple[list[Service], bool]:
    """The same, and whether every file could be read."""
    found, all_read = [], True
    for path in sorted(Path(os.environ.get("FIRSTWATCH_SERVICES", "services")).glob("*.yaml")):
        try:
            found.append(read_service(str(path)))
        except NotVerifiable as problem:
            print(f"left out: {problem}", file=sys.stderr)
            all_read = False
    return found, all_read


def _monitored(service: str) -> Service:
    file = read_service(service)
    if file.synthetic is None:
        raise NotVerifiable(f"the service file of {file.service} has no synthetic section")
    return file


def _run(work: Coroutine[Any, Any, int]) -> int:
    """The exit code. What is wrong is told in a line, without a traceback."""
    if not PREFECT_API_URL.value():
        work.close()
        return _complain("there is no Prefect server: set PREFECT_API_URL, for example http://127.0.0.1:4200/api")
    try:
        return asyncio.run(work)
    except NotVerifiable as problem:
        return _complain(str(problem))
    except NothingToAccept as problem:
        print(f"firstwatch: {problem}", file=sys.stderr)
        return NOT_FINE
    except httpx.HTTPError as problem:
        print(f"firstwatch: the Prefect server does not answer ({type(problem).__name__})", file=sys.stderr)
        return NOT_FINE
    except OSError as problem:
        return _complain(f"cannot serve: {problem.strerror or problem}")


def _complain(message: str) -> int:
    print(f"firstwatch: {message}", file=sys.stderr)
    return USED_WRONGLY
