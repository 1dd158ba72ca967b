"""Documents in memory that change by compare-and-set, as tasks/store.py's do on the Prefect server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """The process ends here, and with it all that it had in mind."""


class Documents:
    """`dies` says at which changes the writer is killed before it writes: it is given the key and the new document."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, str]] = {}
        self.written: list[str] = []  # the keys, in the order of their changes
        self.collisions = 0
        self.dies: Callable[[str, Any], bool] = lambda key, document: False

    async def read(self, client: Any, key: str) -> Any | None:
        await asyncio.sleep(0)
        return json.loads(self.kept[key][1]) if key in self.kept else None

    async def change(self, client: Any, key: str, change: Callable[[Any | None], Any]) -> Any:
        for _ in range(100):
            number, text = self.kept.get(key, (0, "null"))
            document = json.loads(text)
            wanted = json.loads(json.dumps(change(document), allow_nan=False))
            if number and wanted == document:
                return wanted
            if self.dies(key, wanted):
                raise Killed(key)
            await asyncio.sleep(0.001)  # here the others may be faster
            if self.kept.get(key, (0, ""))[0] == number:
                self.kept[key] = (number + 1, json.dumps(wanted))
                self.written.append(key)
                return wanted
            self.collisions += 1
        raise AssertionError(f"{key} was changed by others 100 times in a row")
