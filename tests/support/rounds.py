"""Rounds of a service's monitor, minute by minute: the demo shop, a Prefect server, a Slack. Only the clock is ours."""

from __future__ import annotations

import logging
from typing import Any

from prefect.client.orchestration import get_client

from demo.slack import Slack
from firstwatch.monitor import Health, Probe
from firstwatch.redaction import Secret
from firstwatch.spec import Service
from tasks import store
from tasks.deliver import deliver_outbox
from tasks.looks import Plainly
from tasks.monitor import Monitor, open_transports
from tests.support.shop import DemoShop

LOG = logging.getLogger("test.requests")
START = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def monitored(shop: DemoShop, name: str, slack: Slack | None = None, **synthetic: Any) -> Service:
    bot = {"token": "secret:token", "channel": "releases", "api_url": slack.api_url} if slack else None
    return Service.model_validate(
        {
            "service": name,
            "base_url": shop.url,
            "rules": {
                "requests_per_second": 200,
                "timeout": "2s",
                "allow": [
                    {"request": "POST /auth/token", "because": "a right password creates only a token"},
                    {"request": "POST /cart", "because": "a cart is not an order"},
                    {"request": "DELETE /cart/${cart}", "because": "it is the journey's own"},
                ],
            },
            "synthetic": {
                "every": "1m",
                "checks": [
                    {"name": "health", "get": "/health", "expect": ["status == 200"], "retry_delay": "50ms"},
                    {
                        "name": "catalogue",
                        "get": "/products?limit=1",
                        "expect": ["status == 200"],
                        "retry_delay": "50ms",
                        "needs": ["health"],
                    },
                ],
                **synthetic,
            },
            "alerts": {"slack": bot} if bot else {},
        }
    )


class Day:
    """Rounds of one service, minute by minute."""

    def __init__(self, file: Service, slack: Slack | None = None, location: str = "") -> None:
        self.file, self.slack, self.location = file, slack, location
        self.minute = 0
        self.last: Monitor | None = None

    async def round(self, late: float = 1.0, minute: int | None = None, dies_after: str = "") -> Monitor:
        """One round, at its minute. `dies_after`: the process ends after look, remember or judge."""
        planned = START + 60 * (self.minute if minute is None else minute)
        self.minute += minute is None
        clock = lambda: planned + late + 1  # noqa: E731
        async with get_client() as client, open_transports(self.file, LOG, clock) as (transport, outside):
            monitor = self.last = Monitor(
                self.file, self.location, planned, planned + late, transport, outside, Plainly(), client, LOG, clock
            )
            for step in ("look", "remember", "judge"):
                await getattr(monitor, step)()
                if step == dies_after:
                    return monitor
            if self.slack is not None:
                monitor.deliveries = await deliver_outbox(
                    client, self.file, transport.redactor, self._secret, owner=f"{planned}", clock=clock, store=store
                )
            return monitor

    async def rounds(self, number: int) -> None:
        for _ in range(number):
            await self.round()

    async def _secret(self, name: str) -> Secret:
        assert self.slack is not None
        return Secret(name, self.slack.token)

    def healths(self) -> dict[str, Health]:
        assert self.last is not None
        return {seen.check: seen.health for seen in self.last.seen}

    def probe(self, check: str) -> Probe:
        assert self.last is not None
        return next(probe for probe in self.last.probes if probe.check == check)
