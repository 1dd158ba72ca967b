"""A Redis of a test's own on 127.0.0.1: what several Prefect servers tell each other events by."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from demo.stack import Process, free_port


@dataclass
class Redis:
    process: Process
    port: int

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def redis(command: Sequence[str] = ("redis-server",)) -> Iterator[Redis]:
    """An empty one, for a `with` block; `command` may carry options. Its files go with it."""
    if shutil.which(command[0]) is None:
        raise RuntimeError("these tests need Redis: run .ci/system")
    folder, port = Path(tempfile.mkdtemp(prefix="firstwatch-redis-")), free_port()
    argv = [*command, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
    process = Process(argv, folder / "redis.log", dict(os.environ))
    try:
        _wait_for(process, port)
        yield Redis(process, port)
    finally:
        process.stop()
        shutil.rmtree(folder)


def _wait_for(process: Process, port: int) -> None:
    until = time.monotonic() + 30
    while not _answers(port):
        if not process.alive() or time.monotonic() > until:
            raise RuntimeError(f"Redis did not start:\n{process.tail()}")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"
    return False
