"""A headless Chromium, driven through its own debugging protocol: open a page, wait for words, take its picture."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import websockets

from demo.stack import free_port

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_TEXT = "document.body ? document.body.innerText : ''"


class Page:
    def __init__(self, socket: websockets.ClientConnection):
        self._socket = socket
        self._ids = itertools.count(1)

    async def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its answer; events in between are passed over."""
        number = next(self._ids)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == number:
                return answer.get("result", answer)

    async def evaluate(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer.get("result", {}).get("value")

    async def open(self, url: str, *words: str, seconds: float = 30) -> str:
        """Go there, and return the page's text once it holds all of the words. Fails with the text if it does not."""
        await self.call("Page.navigate", url=url)
        return await self.wait_for(*words, seconds=seconds)

    async def wait_for(self, *words: str, seconds: float = 30) -> str:
        until, text = time.monotonic() + seconds, ""
        while time.monotonic() < until:
            text = await self.evaluate(_TEXT) or ""
            if all(word in text for word in words):
                return text
            await asyncio.sleep(0.3)
        raise AssertionError(f"the page does not show {[w for w in words if w not in text]}:\n{text[:3000]}")

    async def click(self, words: str) -> None:
        """Click the innermost element that holds just these words."""
        found = (
            "[...document.querySelectorAll('a,button,[role=tab],div,span')]"
            f".filter(e => e.textContent.trim() === {json.dumps(words)}).at(-1)"
        )
        assert await self.evaluate(f"(() => {{ const e = {found}; e?.click(); return !!e }})()"), f"no {words!r}"

    async def screenshot(self) -> bytes:
        """A PNG of what is in view."""
        picture = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(picture["data"])


@asynccontextmanager
async def browser(width: int = 1400, height: int = 1000) -> AsyncIterator[Page]:
    """A fresh Chromium for the length of an `async with` block."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            ["chromium", *FLAGS, f"--user-data-dir={profile}", f"--remote-debugging-port={port}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with websockets.connect(await _debugger(port), max_size=None, proxy=None) as socket:
                page = Page(socket)
                await page.call("Page.enable")
                await page.call(
                    "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
                )
                yield page
        finally:
            process.terminate()
            process.wait()


async def _debugger(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(150):
            try:
                tabs = (await client.get(f"http://127.0.0.1:{port}/json")).json()
                return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            except (httpx.HTTPError, StopIteration):
                await asyncio.sleep(0.2)
    raise RuntimeError("Chromium did not start")
