"""The demo shop as a process of its own, and its side door."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PASSWORD = "tea-time"  # of the test account smoke@example.com


class DemoShop:
    """A running shop: `url`, `pid`, and what an operator can do to it. Call `kill()` to end it for good."""

    def __init__(
        self, *, version: str = "v1", port: int = 0, state: Path | None = None, rollback_secret: str = ""
    ) -> None:
        command = [sys.executable, "-m", "demo.shop", "--port", str(port), "--version", version]
        if state is not None:
            command += ["--state", str(state)]
        environment = {**os.environ, "SHOP_ROLLBACK_SECRET": rollback_secret, "SHOP_ACCOUNT_PASSWORD": PASSWORD}
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the demo shop did not start; its error stands above")
        self.pid = self._process.pid
        self.port = int(self.url.rpartition(":")[2])
        self.http = httpx.Client(base_url=self.url, timeout=10)

    def deploy(self, version: str, **faults: Any) -> dict[str, Any]:
        return self._post("/admin/deploy", {"version": version, "faults": faults})

    def faults(self, **faults: Any) -> dict[str, Any]:
        """Replaces the faults; none: a healthy shop again."""
        return self._post("/admin/faults", faults)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.http.get("/admin/state").raise_for_status().json()
        return state

    def kill(self) -> None:
        self.http.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _post(self, path: str, body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.post(path, json=body).raise_for_status().json()
        return answer


@contextmanager
def demo_shop(**options: Any) -> Iterator[DemoShop]:
    """A shop for the length of a `with` block; options as for DemoShop."""
    shop = DemoShop(**options)
    try:
        yield shop
    finally:
        shop.kill()
