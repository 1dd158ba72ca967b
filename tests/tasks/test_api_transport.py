"""Requests to the Prefect API whose callers leave: nobody else is harmed. A real server, a real connection pool."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prefect.client.orchestration import get_client
from prometheus_client import Histogram

from tasks.api_transport import InTurn, in_turn
from tasks.counts import API_TOOK, API_WAITED

MOST = 5
BODY = b'{"a": "' + b"x" * 3000 + b'"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Said: a\r\nX-Said: b\r\n"


class Server:
    """Answers each request after a while, the body another while after the head."""

    def __init__(self, whiles: tuple[float, ...] = (0.0,), packed: bool = False) -> None:
        self.whiles, self.packed, self.rng = whiles, packed, random.Random(1)
        self.at_once = self.most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(BODY) if self.packed else BODY
        encoding = b"Content-Encoding: gzip\r\n" if self.packed else b""
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                await asyncio.sleep(self.rng.choice(self.whiles))
                writer.write(HEAD + encoding + b"Content-Length: %d\r\n\r\n" % len(body))
                await asyncio.sleep(self.rng.choice(self.whiles))
                self.at_once -= 1
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server, whose requests go in turn through a pool of as many connections."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    limits = httpx.Limits(max_connections=MOST, max_keepalive_connections=MOST)
    behind = httpx.AsyncHTTPTransport(limits=limits)
    patience = httpx.Timeout(10, pool=None)
    async with httpx.AsyncClient(base_url=url, transport=InTurn(behind, MOST), timeout=patience) as client:
        yield client
    listening.close()


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_is_what_it_is_without(packed: bool) -> None:
    async def main() -> httpx.Response:
        async with asking(Server(packed=packed)) as client:
            return await client.get("/x")

    answer = asyncio.run(main())
    assert (answer.status_code, answer.content, answer.headers.get_list("x-said")) == (200, BODY, ["a", "b"])
    assert answer.http_version == "HTTP/1.1"


def test_however_many_leave_at_whatever_moment_the_next_one_is_answered_and_no_more_are_asked_at_once() -> None:
    """With the pool alone, all of its connections are lost after a few seconds of this."""
    rng, left = random.Random(2), 0

    async def impatient(client: httpx.AsyncClient) -> None:
        nonlocal left
        for _ in range(40):
            try:
                async with asyncio.timeout(rng.uniform(0, 0.06)):
                    await client.get("/x")
            except TimeoutError:
                left += 1

    async def main() -> Server:
        server = Server(whiles=(0.0, 0.001, 0.01, 0.03))
        async with asking(server) as client:
            await asyncio.gather(*(impatient(client) for _ in range(20)))
            async with asyncio.timeout(3):
                await asyncio.gather(*(client.get("/x") for _ in range(4 * MOST)))
        return server

    server = asyncio.run(main())
    assert left > 400 and server.most <= MOST


def test_what_goes_wrong_is_the_callers_and_of_nobody_who_left(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.02)
            raise httpx.ConnectError("gone")

    async def main() -> None:
        async with httpx.AsyncClient(base_url="http://x", transport=InTurn(Broken(), 1)) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.get("/")
            with pytest.raises(httpx.ConnectError):  # its turn has come
                await client.get("/")

    asyncio.run(main())
    assert "never retrieved" not in caplog.text


def test_how_long_they_wait_and_take_is_counted() -> None:
    def seconds(metric: Histogram) -> tuple[float, float]:
        found = {sample.name: sample.value for sample in next(iter(metric.collect())).samples if not sample.labels}
        return next((found[name], found[name.replace("_count", "_sum")]) for name in found if name.endswith("_count"))

    async def main() -> None:
        async with asking(Server(whiles=(0.1,))) as client:
            await asyncio.gather(*(client.get("/x") for _ in range(2 * MOST)))

    waited, took = seconds(API_WAITED), seconds(API_TOOK)
    asyncio.run(main())
    (waits, in_turn_s), (answers, answered_s) = seconds(API_WAITED), seconds(API_TOOK)
    assert (waits - waited[0], answers - took[0]) == (2 * MOST, 2 * MOST)
    assert in_turn_s - waited[1] > MOST * 0.15 and answered_s - took[1] > 2 * MOST * 0.2


def test_to_close_it_ends_what_is_under_way() -> None:
    async def main() -> None:
        async with asking(Server(whiles=(60.0,))) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("/x")

    async def in_time() -> None:
        async with asyncio.timeout(5):
            await main()

    asyncio.run(in_time())


def test_a_prefect_client_is_led_this_way_once(prefect_api: str) -> None:
    async def main() -> None:
        async with get_client() as client:
            in_turn(client)
            way = client._client._transport
            in_turn(client)
            assert client._client._transport is way and isinstance(way, InTurn)
            assert await client.hello()

    asyncio.run(main())
