"""A canary is promoted at most once per step and release, and never once its rollback has begun. Real server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from firstwatch.model import Release
from firstwatch.report.model import RollbackRecord, RollbackState
from firstwatch.spec import hooks as spec
from tasks.hooks import PromoteOrder, RollbackOrder
from tasks.promote import promote
from tests.tasks.test_rollback import KEY, Hook, _until, load_secret, release, send, webhook

pytestmark = pytest.mark.usefixtures("prefect_api")


async def promoted(order: PromoteOrder) -> RollbackRecord:
    @flow(name="promote-test")
    async def run() -> RollbackRecord:
        async with get_client() as client:
            return await promote(order, client, load_secret, time.time)

    return await run()


def to(weight: float, url: str, canary: Release, **more: Any) -> PromoteOrder:
    hook = spec.Promote(webhook=spec.Webhook(url=url, secret="secret:hmac", timeout=1), retries=0)
    order = {"reasons": ["99.8 % of 2,300 requests succeeded"], "owner": uuid.uuid4(), "held_at": 5.0, **more}
    return PromoteOrder(release=canary, hook=hook, weight=weight, **order)


def test_each_step_is_sent_once_with_its_evidence() -> None:
    async def scenario() -> None:
        async with Hook(202).listening() as hook:
            canary, owner = release("canary-1"), uuid.uuid4()
            for weight in (25.0, 25.0, 12.5):  # the second is a run that was picked up again
                record = await promoted(to(weight, hook.url, canary, owner=owner))
                assert record.state is RollbackState.ACCEPTED
            assert [headers["idempotency-key"] for headers, _ in hook.calls] == [
                f"promote-{canary.slug}-25",
                f"promote-{canary.slug}-12_5",
            ]
            headers, body = hook.calls[0]
            wanted = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
            assert headers["x-firstwatch-signature"] == f"sha256={wanted}"
            said = json.loads(body)
            assert (said["release_id"], said["from"], said["to"]) == (canary.id, 5.0, 25.0)
            assert said["reasons"] == ["99.8 % of 2,300 requests succeeded"]

    asyncio.run(scenario())


def test_nothing_is_promoted_once_its_rollback_has_begun() -> None:
    async def scenario() -> None:
        async with Hook(200).listening() as hook:
            bad = release()
            await send(RollbackOrder(bad, ["why"], webhook(hook.url), uuid.uuid4()))
            record = await promoted(to(50, hook.url, bad))
            assert record.state is RollbackState.FAILED
            assert "has been rolled back" in record.attempts[-1].answer
            assert len(hook.calls) == 1, "the rollback only"

    asyncio.run(scenario())


_KILLED = """
import asyncio, sys, uuid
from firstwatch.model import Release
from tests.tasks.test_promote import promoted, to
url, version, owner = sys.argv[1:]
asyncio.run(promoted(to(25, url, Release("shop", version, 1_767_225_600), owner=uuid.UUID(owner))))
"""


def test_killed_between_sending_and_recording(prefect_api: str) -> None:
    """Nobody knows whether the canary has more traffic now: the record says so, and nothing is sent again."""

    async def scenario() -> None:
        async with Hook("hang", 200).listening() as hook:
            canary, owner = release(), uuid.uuid4()
            process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a moment; the test waits for it anyway
                [sys.executable, "-c", _KILLED, hook.url, canary.version, str(owner)],
                env={**os.environ, "PREFECT_API_URL": prefect_api},
            )
            await _until(lambda: len(hook.calls) == 1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            record = await promoted(to(25, hook.url, canary, owner=owner))
            assert (record.state, len(hook.calls)) == (RollbackState.UNKNOWN, 1)

    asyncio.run(scenario())


def test_a_command_is_told_the_weight(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = "import os,sys; open(sys.argv[1],'a').write(sys.argv[2]+' '+os.environ['FIRSTWATCH_WEIGHT'])"
    run = [sys.executable, "-c", script, str(out), "{version}={weight} {other}"]
    hook = spec.Promote(command=spec.Command(run=run))
    order = PromoteOrder(release("{weight}"), [], hook, uuid.uuid4(), weight=12.5)
    assert asyncio.run(promoted(order)).state is RollbackState.ACCEPTED
    assert out.read_text() == "{weight}=12.5 {other} 12.5", "what is filled in is not filled in again"
