"""Hear at once that the Prefect server is busy, of a client that others use too; and ask again until it is not.

With SQLite, of two writers at once one is sent away. Prefect's client would wait for two seconds, then four, … before
it asks again; who shares the client with us keeps that. One of our own would cost 25 ms, for its TLS context.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

import httpx

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

PATIENCE = 60.0  # seconds for a server that is being restarted; a round's turn ends sooner, which harms nobody
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 5.0  # seconds between two questions to a server that is away or busy, doubling

T = TypeVar("T")
_impatient: ContextVar[bool] = ContextVar("_impatient", default=False)


def is_busy(problem: httpx.HTTPStatusError) -> bool:
    return problem.response.status_code == httpx.codes.SERVICE_UNAVAILABLE


@contextmanager
def without_patience(client: PrefectClient) -> Iterator[None]:
    """A busy server's answer is raised at once, as httpx.HTTPStatusError with status 503."""
    hooks = client._client.event_hooks
    if _raise_if_busy not in hooks["response"]:
        client._client.event_hooks = {**hooks, "response": [*hooks["response"], _raise_if_busy]}
    before = _impatient.set(True)
    try:
        yield
    finally:
        _impatient.reset(before)


async def patiently(client: PrefectClient, ask: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
    """What the server answers, once it is there, has time, and is well (its disk may be full). Raises what it raises
    for anything else, or after `patience` seconds (PATIENCE).

    Prefect's client waits for a server that it has met, and gives up at once on one that it has not, or that is ill.
    Only for what may be asked again: the last answer may have been lost.
    """
    until, pause = time.monotonic() + (PATIENCE if patience is None else patience), _FIRST_PAUSE
    while True:
        try:
            with without_patience(client):
                return await ask()
        except (httpx.TransportError, httpx.HTTPStatusError) as problem:
            if not will_pass(problem) or time.monotonic() + pause >= until:
                raise
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(2 * pause, _LONGEST_PAUSE)


def will_pass(problem: httpx.TransportError | httpx.HTTPStatusError) -> bool:
    return isinstance(problem, httpx.TransportError) or problem.response.is_server_error


async def _raise_if_busy(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and _impatient.get():
        raise httpx.HTTPStatusError("503: the Prefect server is busy", request=response.request, response=response)
