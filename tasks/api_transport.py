"""The way of all requests to the Prefect API: so many at a time, and none torn off half way.

A request that is cancelled while httpcore's pool is at it (its caller's patience was over) can leave its connection in
the pool for good, as one that is in use (httpcore 1.0.9): after as many as the pool may have, nobody is answered any
more. So who leaves leaves alone. The request goes on to its end in a task of its own, and its answer is dropped.

The pool itself looks through all that wait, and through all connections, whenever a request comes or goes: where
hundreds wait, that took a quarter of a worker's CPU time. So they wait here.
"""

from __future__ import annotations

import asyncio

import httpx
from prefect.client.orchestration import PrefectClient

from tasks.counts import API_TOOK, API_WAITED

MOST = 16  # requests of a process at a time; a worker says how many of all its runs


class InTurn(httpx.AsyncBaseTransport):
    """Hands on so many requests at a time, and reads each answer whole. Whoever asks may be cancelled at any time."""

    def __init__(self, behind: httpx.AsyncBaseTransport, most: int = MOST) -> None:
        self._behind, self._turns = behind, asyncio.Semaphore(most)
        self._under_way: set[asyncio.Task[httpx.Response]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with API_WAITED.time():
            await self._turns.acquire()
        asking = asyncio.create_task(self._answer(request))
        self._under_way.add(asking)
        asking.add_done_callback(self._is_over)
        return await asyncio.shield(asking)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        with API_TOOK.time():
            answer = await self._behind.handle_async_request(request)
            try:
                assert isinstance(answer.stream, httpx.AsyncByteStream)
                body = b"".join([part async for part in answer.stream])
            finally:
                await answer.aclose()
        whole = httpx.ByteStream(body)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=whole, extensions=answer.extensions)

    def _is_over(self, asked: asyncio.Task[httpx.Response]) -> None:
        self._under_way.discard(asked)
        self._turns.release()
        if not asked.cancelled():
            asked.exception()  # it is the caller's, if that is still there

    async def aclose(self) -> None:
        for asking in [*self._under_way]:
            asking.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._behind.aclose()


def in_turn(client: PrefectClient, most: int = MOST) -> None:
    """Have all requests of the client go this way, if they do not yet."""
    http = client._client
    if not isinstance(http._transport, InTurn):
        http._transport = InTurn(http._transport, most)
