"""A blackbox_exporter that probes endpoints once a minute each, spread over the minute, while something else runs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Sequence

import httpx

from bench.monitors import EXPORTER, MODULE
from demo.stack import Stack, free_port

_AT_ONCE = 25  # probes that are asked for at the same time, at most


class Blackbox:
    """`pid` is the exporter's. Whoever asks it is in a thread of this process, and counts for nobody."""

    def __init__(self, stack: Stack, targets: Sequence[str], minute: float = 60.0) -> None:
        config, port = stack.home / "blackbox.yml", free_port()
        config.write_text(MODULE)
        self._url, self._targets, self._minute = f"http://127.0.0.1:{port}", targets, minute
        argv = [shutil.which(EXPORTER) or "", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
        process = stack.start("blackbox", [*argv, "--log.level=error"])
        process.wait_for(f"{self._url}/-/healthy", 30)
        self.pid = process.pid
        self.probes = self.good = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), name="blackbox", daemon=True)

    def __enter__(self) -> Blackbox:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)

    async def _ask(self) -> None:
        """Each target at its own moment of the minute, until it is over."""
        places, began, asked = asyncio.Semaphore(_AT_ONCE), time.monotonic(), 0
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client, asyncio.TaskGroup() as group:
            while not self._over.is_set():
                due = began + asked * self._minute / len(self._targets)
                if (left := due - time.monotonic()) > 0:
                    await asyncio.sleep(min(left, 0.5))
                    continue
                await places.acquire()
                probe = group.create_task(self._probe(client, self._targets[asked % len(self._targets)]))
                probe.add_done_callback(lambda _: places.release())
                asked += 1

    async def _probe(self, client: httpx.AsyncClient, target: str) -> None:
        with contextlib.suppress(httpx.HTTPError):
            found = await client.get(f"{self._url}/probe", params={"target": target, "module": "http"})
            self.good += "\nprobe_success 1\n" in found.text
        self.probes += 1
