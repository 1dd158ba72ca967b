"""Heartbeats on a real Prefect server."""

from __future__ import annotations

import asyncio
import time

from prefect.client.orchestration import get_client

from tasks import heartbeats


def test_no_job_calls_in_for_another() -> None:
    assert heartbeats.resource("shop", "nightly backup") == "firstwatch.heartbeat.shop.nightly-backup"
    assert heartbeats.resource("shop", "nightly-backup") == "firstwatch.heartbeat.shop.nightly-backup"
    names = ["backup", "Backup", "backup!", "копия", "счёт", "備份", "備份 1", "1", "nightly  backup", "nightly backup"]
    assert len({heartbeats.resource("shop", name) for name in names}) == len(names)


def test_the_last_heartbeat_of_each_job_is_found(prefect_api: str) -> None:
    async def work() -> None:
        now = time.time()
        async with get_client() as client:
            for name, ago in (("nightly backup", 7200), ("nightly backup", 3600), ("Nightly-Backup 2", 60)):
                await heartbeats.beat(client, "shop", name, now - ago)
            await heartbeats.beat(client, "other", "nightly backup", now)
            names = ["nightly backup", "Nightly-Backup 2", "never"]
            expected = {"nightly backup": 3600, "Nightly-Backup 2": 60, "never": None}
            for _ in range(60):  # the server writes events in batches
                found = await heartbeats.last_beats(client, "shop", names, now)
                seen = {name: at and round(now - at) for name, at in found.items()}
                if seen == expected:
                    break
                await asyncio.sleep(0.5)
        assert seen == expected

    asyncio.run(work())
