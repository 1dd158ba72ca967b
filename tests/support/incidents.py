"""A service whose checks go up and down as a test says, from the alerts' state machine to a local Slack."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from demo.slack import CHANNEL_ID, Slack
from firstwatch import alerting, spec
from firstwatch.alerting import outbox
from firstwatch.monitor import Health, Seen
from firstwatch.redaction import Redactor, Secret
from firstwatch.report.model import Delivery
from firstwatch.report.told import Book, read_book, written
from tasks.deliver import deliver_outbox
from tasks.store import alerts_key
from tests.support.documents import Documents

UP, SLOW, DOWN, UNKNOWN = Health.UP, Health.DEGRADED, Health.DOWN, Health.UNKNOWN


class World:
    """One clock, one Slack and one store for all services of a test."""

    def __init__(self, slack: Slack):
        self.slack, self.documents, self.now = slack, Documents(), time.time() - 7200
        self.slack_clock = self.now

    def clock(self) -> float:
        return self.now


class Monitored:
    """A service with alerts that open at the first bad result, unless `alerts` says otherwise."""

    def __init__(
        self,
        world: World,
        name: str = "shop",
        *,
        webhook: bool = False,
        channel: str = CHANNEL_ID,
        needs: dict[str, tuple[str, ...]] | None = None,
        **alerts: Any,
    ):
        door: dict[str, Any] = {"webhook": "secret:hook"} if webhook else {"token": "secret:bot", "channel": channel}
        if not webhook:
            door["api_url"] = world.slack.api_url
        told = {"slack": door, "open": {"after": 1}, "close": {"after": 1}, **alerts}
        self.spec = spec.Service.model_validate({"service": name, "base_url": "http://127.0.0.1:1", "alerts": told})
        self.world, self.name, self._round = world, name, 0
        self.needs: dict[str, tuple[str, ...]] = {"health": (), "login": (), **(needs or {})}
        self.secrets = {"hook": world.slack.webhook_url, "bot": world.slack.token}

    async def look(self, found: dict[str, Health] | None = None, why: str = "status is 503", after: float = 60) -> None:
        """A round, `after` seconds after the one before; a check that is not named works."""
        self.world.now += after
        self._round += 1
        seen = [
            Seen(check, health, "" if health is UP else why, self.world.now, facts={"status": 503.0})
            for check in self.needs
            for health in [(found or {}).get(check, UP)]
        ]

        def stepped(document: Any) -> Any:
            book = read_book(document, self.name)
            state, notices = alerting.step(
                book.state, self.spec.alerts, f"round {self._round}", seen, self.needs, self.world.now
            )
            return written(document, Book(state, outbox.add(book.outbox, notices), book.told))

        await self.world.documents.change(None, alerts_key(self.name), stepped)

    async def deliver(self, owner: str = "one") -> list[Delivery]:
        return await deliver_outbox(
            None,
            self.spec,
            Redactor(),
            self._load,
            owner=owner,
            clock=self.world.clock,
            store=self.world.documents,
            flow_run_url="http://127.0.0.1:4200/runs/flow-run/1",
        )

    async def round(self, found: dict[str, Health] | None = None, **more: Any) -> list[Delivery]:
        await self.look(found, **more)
        return await self.deliver()

    async def book(self) -> Book:
        return read_book(await self.world.documents.read(None, alerts_key(self.name)), self.name)

    async def _load(self, name: str) -> Secret:
        await asyncio.sleep(0)
        if name not in self.secrets:
            raise LookupError(f"secret:{name} has no value")
        return Secret(name, self.secrets[name])
