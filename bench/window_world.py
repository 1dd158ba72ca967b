"""The services whose releases bench/windows.py watches, all in one process. Its first line is its URL.

python -m bench.window_world SERVICES SCALE BEGAN      BEGAN: the Unix time from which v1 counts back

GET  /metrics                        of all services
GET  /NAME/version, /NAME/health, /NAME/products; POST /NAME/auth/token: what a smoke test asks
POST /NAME/deploy?bad_after=SECONDS  v2 begins, and is bad from then on; without it, it is good
POST /NAME/rollback                  v1 comes back
GET  /rollbacks                      how often each service was rolled back
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

from bench.window_series import REQUESTS_PER_SECOND, Process, page

AGE = 86400.0  # seconds for which v1 has been running


def name_of(number: int) -> str:
    return f"svc-{number:04d}"


def first_processes(services: int, scale: float, now: float) -> list[Process]:
    """v1 of every service."""
    rate = REQUESTS_PER_SECOND * scale
    return [Process(name_of(n), n, rate, now - AGE) for n in range(services)]


class World:
    def __init__(self, services: int, scale: float, began: float) -> None:
        self._processes = {process.service: process for process in first_processes(services, scale, began)}
        self._versions = dict.fromkeys(self._processes, "v1")
        self._rollbacks: Counter[str] = Counter()

    def answer(self, method: str, target: str) -> tuple[int, str]:
        """The status, and the body."""
        parts = urlsplit(target)
        match method, parts.path.strip("/").split("/"):
            case "GET", ["metrics"]:
                return 200, page([*self._processes.values()], time.time())
            case "GET", ["rollbacks"]:
                return 200, json.dumps(self._rollbacks)
            case "GET", [service, "version"]:
                return 200, json.dumps({"version": self._versions[service]})
            case "GET", [_, "health"]:
                return 200, '{"status": "ok"}'
            case "GET", [_, "products"]:
                return 200, '[{"id": 1, "name": "tea"}]'
            case "POST", [_, "auth", "token"]:
                return 401, '{"detail": "wrong password"}'
            case "POST", [service, "deploy"]:
                after = parse_qs(parts.query).get("bad_after", ["inf"])[0]
                self._begin(service, "v2", float(after))
                return 200, "{}"
            case "POST", [service, "rollback"]:
                self._rollbacks[service] += 1
                self._begin(service, "v1", float("inf"))
                return 200, "{}"
        return 404, "{}"

    def _begin(self, service: str, version: str, bad_after: float) -> None:
        before, now = self._processes[service], time.time()
        self._processes[service] = Process(service, before.number, before.rate, now, now + bad_after)
        self._versions[service] = version

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as many requests as come."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, target, _ = head.split(" ", 2)
                lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                await reader.readexactly(int(lengths[0].partition(":")[2]) if lengths else 0)
                status, text = self.answer(method, target)
                body = text.encode()
                kind = "text/plain" if target == "/metrics" else "application/json"
                writer.write(
                    f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()


async def main(services: int, scale: float, began: float) -> None:
    world = World(services, scale, began)
    server = await asyncio.start_server(world.serve, "127.0.0.1", 0, backlog=600)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
