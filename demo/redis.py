"""A Redis of one's own on 127.0.0.1: what Prefect servers keep their events in, beyond the life of each."""

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


def events_in(at: str) -> list[str]:
    """`NAME=VALUE` for a Prefect server that keeps its events in the Redis at HOST:PORT, and nothing of them in its
    memory: as deploy/compose.yaml has it."""
    return [
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER=prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE=prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING=prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect_redis.lease_storage",
        "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE=prefect_redis.cleanup_queue",
        f"PREFECT_REDIS_MESSAGING_URL=redis://{at}/0",
        f"PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL=redis://{at}/0",
        f"PREFECT_SERVER_DOCKET_URL=redis://{at}/1",
        "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE=1",
    ]


@contextmanager
def redis(command: Sequence[str] = ("redis-server",)) -> Iterator[Redis]:
    """An empty one, for a `with` block; `command` may carry options. Its files go with it."""
    if shutil.which(command[0]) is None:
        raise RuntimeError("there is no redis-server on the PATH: run .ci/system")
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
