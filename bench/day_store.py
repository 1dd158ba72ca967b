"""The documents of bench/day.py: on the real Prefect server where something is going on, in memory where nothing is.

A round changes four documents, and a Prefect server with SQLite does a few rounds a second: a whole day of 20 services
would take two hours. So quiet rounds run the same code on the same documents kept in memory; before the next round in
which anything may happen, they are written to the server. What a killed process had in memory is gone, and taken again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from firstwatch.model import as_json
from tasks import store
from tasks.store import Change, Seen, alerts_key, place_key

_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)


class Documents:
    """As tasks.store is used: `see`, `read` and `change`. This process is the only one that changes these."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._unwritten: set[str] = set()

    @contextmanager
    def quiet(self, quiet: bool) -> Iterator[None]:
        """Whether the round that is taken within is a quiet one."""
        before = _quiet.set(quiet)
        try:
            yield
        finally:
            _quiet.reset(before)

    async def read(self, client: Any, key: str) -> Any | None:
        if not _quiet.get():
            self._known[key] = await store.read(client, key)
        return self._known.get(key)

    async def see(self, client: Any, key: str) -> Seen:
        if _quiet.get():
            return Seen(self._known.get(key), (), 0.0)
        seen = await store.see(client, key)
        self._known[key] = seen.document
        return seen

    async def change(self, client: Any, key: str, change: Change, seen: Seen | None = None) -> Any:
        if not _quiet.get():
            self._known[key] = await store.change(client, key, change, seen)
            return self._known[key]
        known = self._known.get(key)
        wanted = as_json(change(known))
        if wanted == known:
            return known
        if key.startswith("slack-"):  # shared by all services: it stays on the server
            wanted = await store.change(client, key, change)
        else:
            self._unwritten.add(key)
        self._known[key] = wanted
        return wanted

    async def write(self, client: Any, service: str) -> None:
        """What is known of a service, to the server. Its place is last: from there, a later process goes on, and a
        minute that was judged is not judged again."""
        for key in (alerts_key(service), place_key(service, "")):
            if key in self._unwritten:
                document = self._known[key]
                await store.change(client, key, lambda _, document=document: document)
                self._unwritten.discard(key)
