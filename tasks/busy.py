"""Hear at once that the Prefect server is busy, of a client that others use too.

With SQLite, of two writers at once one is sent away. Prefect's client would wait for two seconds, then four, … before
it asks again; who shares the client with us keeps that. One of our own would cost 25 ms, for its TLS context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

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


async def _raise_if_busy(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and _impatient.get():
        raise httpx.HTTPStatusError("503: the Prefect server is busy", request=response.request, response=response)
