"""A door before a real server: it can be shut and opened again on the same port, as if the server were restarted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Door:
    """Forwards bytes to `behind` while it is open. `busy`: so many connections are answered 503 instead. `loses` sees
    each question that has been forwarded: where it says so, the answer is dropped and the door shuts."""

    def __init__(self, behind: int):
        self.port, self.busy, self.questions = 0, 0, 0
        self.loses: Callable[[bytes], bool] = lambda question: False
        self._behind = behind
        self._server: asyncio.Server | None = None
        self._through: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._passed, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Nobody is listening any more, and all connections break."""
        if self._server is not None:
            self._server.close()
        for writer in self._through:
            writer.transport.abort()

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._through.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.busy:
                self.busy -= 1
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_BUSY)
                await writer.drain()
            else:
                await self._forwarded(reader, writer)
        self._through.discard(writer)
        writer.close()

    async def _forwarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection("127.0.0.1", self._behind)
        self._through.add(questions)
        asked: list[bytes] = []

        async def back() -> None:
            with contextlib.suppress(OSError):
                while data := await answers.read(65536):
                    if asked and self.loses(b"".join(asked)):
                        self.shut()
                        return
                    asked.clear()
                    writer.write(data)

        task = asyncio.create_task(back())
        self._tasks.add(task)
        try:
            while data := await reader.read(65536):
                self.questions += 1
                asked.append(data)
                questions.write(data)
        finally:
            self._through.discard(questions)
            questions.close()
            task.cancel()
            self._tasks.discard(task)


@contextlib.asynccontextmanager
async def door(behind: int) -> AsyncIterator[Door]:
    """A door that is shut at first, with a port of its own."""
    made = Door(behind)
    await made.open()
    made.shut()
    try:
        yield made
    finally:
        made.shut()
