"""A door before a Prometheus that counts what is asked, and answers in its place what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx


@dataclass(frozen=True)
class Said:
    """One answer instead of the server's; without a status nothing is answered at all. `after` seconds."""

    status: int | None = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: float = 0.0


VECTOR = Said(body='{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"7"]}]}}')
NOTHING = Said(body='{"status":"success","data":{"resultType":"matrix","result":[]}}')
TOO_MUCH = Said(422, json.dumps({"status": "error", "errorType": "execution", "error": "too many samples"}))


@dataclass
class Metered:
    """`queries` in the order in which they came; `most` of them were under way at once. `says` may answer one."""

    behind: str = ""
    url: str = ""
    says: Callable[[str], Said | None] = lambda query: NOTHING
    queries: list[str] = field(default_factory=list)
    tenants: list[str] = field(default_factory=list)
    most: int = 0
    under_way: int = 0

    @property
    def merged(self) -> list[str]:
        return [query for query in self.queries if "=~" in query]

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: httpx.AsyncClient
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, httpx.HTTPError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode()
                query = parse_qs(urlsplit(path).query)["query"][0]
                self.queries.append(query)
                lines = head.decode().lower().split("\r\n")
                self.tenants.append(next((line[9:].strip() for line in lines if line.startswith("x-tenant:")), ""))
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                try:
                    if not await self._answer(query, path, writer, client):
                        break
                finally:
                    self.under_way -= 1
        writer.close()

    async def _answer(self, query: str, path: str, writer: asyncio.StreamWriter, client: httpx.AsyncClient) -> bool:
        said = self.says(query)
        if said is None:
            answer = await client.get(self.behind + path)
            said = Said(answer.status_code, answer.text)
        await asyncio.sleep(said.after)
        if said.status is None:
            return False
        body = said.body.encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **said.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {said.status} Whatever\r\n{lines}\r\n".encode() + body)
        await writer.drain()
        return True


@contextlib.asynccontextmanager
async def metered(behind: str = "") -> AsyncIterator[Metered]:
    """The door, on 127.0.0.1, for the length of a `with` block. Without a server behind it, `says` must answer."""
    door = Metered(behind)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(door.serve(reader, writer, client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        listening = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=500)
        door.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        if behind:
            door.says = lambda query: None
        try:
            yield door
        finally:
            listening.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
