"""The process that takes the rounds in bench/day.py, until it is done or killed: `python -m bench.day --worker PLAN`.

A round is what flows/synthetic.py makes of it: whose turn it is, look, remember, judge, deliver. The clock is the
day's: rounds follow each other as fast as they can, and it stands still within one. What was done by earlier processes,
the documents on the Prefect server say: a round that was under way is taken again, and then it goes on with the next.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient

from bench.day_script import BEGIN, Script, minute_of, planned
from bench.day_store import Documents
from firstwatch.spec import Service
from tasks import monitor as rounds_of_monitors
from tasks import turns
from tasks.deliver import deliver_outbox
from tasks.http import Transport
from tasks.looks import Plainly
from tasks.monitor import Monitor, open_transports
from tasks.secrets import load_secret
from tasks.store import alerts_key, place_key, turn_key
from tasks.turns import keeping_turn, take_turn

AT_ONCE, QUIET_AT_ONCE = 2, 8  # rounds
SETTLING = 4  # rounds after a process begins in which what an earlier one has left is told
AGAIN = 12.0  # seconds after its time that a round begins whose process was killed
SLOW_LIMIT = "300ms"
NEVER = 1000.0  # times slower than usual: how busy this machine is, is not in the scripts


def service_file(service: str, url: str, slack_api: str) -> dict[str, Any]:
    """A service that is down by its answer, and slow by its time."""
    return {
        "service": service,
        "base_url": f"{url}/{service}",
        "rules": {"requests_per_second": 1000, "timeout": "5s"},
        "synthetic": {
            "every": "1m",
            "checks": [{"name": "health", "get": "/health", "expect": ["status == 200"], "retries": 0}],
            "degraded": {"limit": SLOW_LIMIT},
        },
        "alerts": {
            "slack": {"token": "secret:slack-bot-token", "channel": "#releases", "api_url": slack_api},
            "open": {"after": "3 in a row"},
            "close": {"after": "2 in a row"},
        },
    }


@dataclass
class Rounds:
    """One service's: the next minute to take, whether a process has died in it, and which minutes are `busy`: their
    documents are on the server."""

    service: Service
    script: Script
    place: int
    client: PrefectClient
    transport: Transport
    documents: Documents
    busy: set[int]
    next: int = 0
    restarted: bool = False

    async def resume(self) -> None:
        """Go on where the documents end."""
        turn = await self.documents.read(self.client, turn_key([self.service.service], ""))
        place = await self.documents.read(self.client, place_key(self.service.service, ""))
        await self.documents.read(self.client, alerts_key(self.service.service))
        self.next = minute_of(place["planned"]) + 1 if place else 0
        if turn and turn["run"]:
            self.next, self.restarted = int(turn["run"].split()[1]), True
        self.busy |= {*range(self.next, self.next + SETTLING)}

    async def take(self) -> None:
        """The next round, on the server or in memory."""
        quiet = self.next not in self.busy
        if not quiet:
            await self.documents.write(self.client, self.service.service)
        with self.documents.quiet(quiet):
            await self._take()
        self.transport.records.clear()
        self.next, self.restarted = self.next + 1, False

    async def _take(self) -> None:
        """What its process' death may leave behind, the next process finds."""
        monitor = self._monitor()
        key = turn_key([self.service.service], "")
        turn = await take_turn(self.client, key, monitor.run, monitor.started)
        if not turn.ours:
            raise RuntimeError(f"the turn of {monitor.run} is another's")
        async with keeping_turn(self.client, key, monitor.run, monitor.clock):
            await monitor.look()
            await monitor.remember()
            await monitor.judge()
            await deliver_outbox(
                self.client,
                monitor.service,
                monitor.redactor,
                load_secret,
                owner=f"{monitor.run}/{monitor.process}",
                clock=monitor.clock,
                store=self.documents,
                flow_run_url="",
            )

    def _monitor(self) -> Monitor:
        """The next round, whose requests tell when they are made."""
        synthetic, at = self.service.synthetic, planned(self.place, self.next)
        assert synthetic is not None
        started = at + (AGAIN if self.restarted else 0.0)
        told = {"X-At": f"{started:.0f}"}
        changed = {
            "checks": [check.model_copy(update={"headers": told}) for check in synthetic.checks],
            "degraded": synthetic.degraded.model_copy(update={"slower": NEVER}),
        }
        now = self.service.model_copy(update={"synthetic": synthetic.model_copy(update=changed)})
        return Monitor(
            service=now,
            location="",
            planned=at,
            started=started,
            transport=self.transport,
            outside={},
            runner=Plainly(),
            client=self.client,
            logger=logging.getLogger("bench.day"),
            clock=lambda: started,
            run=f"{self.service.service} {self.next}",
            process=os.getpid(),
            restarted=self.restarted,
        )


async def work(plan: dict[str, Any]) -> None:
    """Every round that is left of the day, minute by minute."""
    logger, documents = logging.getLogger("bench.day"), Documents()
    # An object with the module's functions: most of a day's documents are kept in memory.
    rounds_of_monitors.store = turns.store = documents  # type: ignore[assignment]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(PrefectClient(plan["api"]))
        rounds = []
        for place, script in enumerate(Script(**each) for each in plan["scripts"]):
            service = Service.model_validate(service_file(script.service, plan["url"], plan["slack"]))
            opened = open_transports(service, logger, lambda: BEGIN)
            transport, _ = await stack.enter_async_context(opened)
            busy = set(plan["busy"][script.service])
            rounds.append(Rounds(service, script, place, client, transport, documents, busy))
        for each in rounds:
            await each.resume()
        for minute in range(min(each.next for each in rounds), len(rounds[0].script.states)):
            await _minute([each for each in rounds if each.next == minute])
        for each in rounds:
            await documents.write(client, each.service.service)


async def _minute(due: Sequence[Rounds]) -> None:
    busy, quiet = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(QUIET_AT_ONCE)

    async def take(each: Rounds) -> None:
        async with busy if each.next in each.busy else quiet:
            await each.take()

    await asyncio.gather(*(take(each) for each in due))


def main(plan: Path) -> int:
    os.environ.pop("PREFECT_API_URL", None)  # the budget is this process' own
    asyncio.run(work(json.loads(plan.read_text())))
    return 0
