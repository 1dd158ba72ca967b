"""The world around the worker of bench/day.py: the services that it asks, as their scripts have it, the day's clock,
and what befalls the worker and the Prefect server on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.day_script import DOWN, SLOW, Script, minute_of

SLOW_ANSWER = 0.45  # seconds: well above the limit, which is well above what an answer takes here
_ANSWERS = {
    True: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    False: b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown",
}


@dataclass
class Services:
    """Answers for every service. `asked` counts the requests by service and minute; `seen` is called with each one's
    minute, in the server's thread."""

    scripts: Sequence[Script]
    seen: Callable[[int], None] = lambda minute: None
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)
    url: str = ""
    now: float = 0.0  # the latest time that was told, Unix seconds

    def clock(self) -> float:
        return self.now

    @contextmanager
    def running(self) -> Iterator[Services]:
        """In a thread and an event loop of its own."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        start = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), loop)
        self.url = f"http://127.0.0.1:{start.result().sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_end_all(), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        by_name = {script.service: script for script in self.scripts}
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
                state = self._state(by_name[first.split("/")[1]], float(headers["x-at"]))
                if state == SLOW:
                    await asyncio.sleep(SLOW_ANSWER)
                writer.write(_ANSWERS[state != DOWN])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the other side has gone, or the day is over
        finally:
            writer.close()

    def _state(self, script: Script, at: float) -> str:
        self.now = max(self.now, at)
        minute = minute_of(at)
        self.asked[script.service, minute] += 1
        self.seen(minute)
        return script.states[minute]


async def _end_all() -> None:
    """Connections that are still open are somebody's task."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class Fate:
    """What befalls the worker: killed `delay` seconds after the first request of a minute, or as Slack takes a message.

    One blow at a time: `blow` names the next one, and `struck` is set when it has fallen.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.struck = threading.Event()
        self._minute: tuple[int, float] | None = None
        self._messages: int | None = None

    def at_minute(self, minute: int, delay: float) -> None:
        self.struck.clear()
        self._minute = minute, delay

    def at_message(self, messages: int) -> None:
        """After so many more."""
        self.struck.clear()
        self._messages = messages

    def minute(self, minute: int) -> None:
        """Called in the services' thread."""
        if self._minute is not None and minute >= self._minute[0]:
            (_, delay), self._minute = self._minute, None
            threading.Timer(delay, self._strike).start()

    def message(self, posted: object) -> None:
        """Called before Slack answers: what it has taken, the sender will never know."""
        if self._messages is None:
            return
        self._messages -= 1
        if self._messages <= 0:
            self._messages = None
            self._strike()

    def _strike(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self.struck.set()
