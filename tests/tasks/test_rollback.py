"""A release is rolled back at most once, by each adapter, whatever dies on the way. Real server, real hooks."""

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
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from firstwatch.model import Release
from firstwatch.redaction import Secret
from firstwatch.report.model import RollbackRecord, RollbackState
from firstwatch.spec import hooks as spec
from tasks.hooks import NotDelivered, RollbackOrder
from tasks.rollback import send_rollback

pytestmark = pytest.mark.usefixtures("prefect_api")
KEY = "planted-hmac-key"


class Hook:
    """A real HTTP server that answers each POST with the next of its answers (the last one for ever)."""

    def __init__(self, *answers: int | str):
        self.answers = list(answers) or [200]
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.splitlines()[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        answer = self.answers[min(len(self.calls), len(self.answers) - 1)]
        self.calls.append((headers, body))
        if answer == "hang":
            await asyncio.sleep(30)
        elif answer != "drop":
            writer.write(f"HTTP/1.1 {answer} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())
            await writer.drain()
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Hook]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/rollback"
        yield self
        server.close()


def release(version: str = "") -> Release:
    return Release("shop", version or uuid.uuid4().hex[:8], 1_767_225_600)


async def load_secret(name: str) -> Secret:
    return Secret(name, KEY)


async def send(order: RollbackOrder, retries: int = 2) -> RollbackRecord:
    @flow(name="rollback-test")
    async def run() -> RollbackRecord:
        async with get_client() as client:
            task = send_rollback.with_options(retries=retries, retry_delay_seconds=0.1, retry_jitter_factor=0)
            return await task(order, client, load_secret, time.time)

    return await run()


def webhook(url: str, **more: Any) -> spec.Rollback:
    return spec.Rollback(webhook=spec.Webhook(url=url, secret="secret:hmac", timeout=1, **more))


def test_webhook_is_signed_and_carries_the_key() -> None:
    async def scenario() -> None:
        async with Hook(202).listening() as hook:
            order = RollbackOrder(release("bad-1"), ["p95 over 500 ms"], webhook(hook.url), uuid.uuid4())
            record = await send(order)
            assert record.state is RollbackState.ACCEPTED
            [(headers, body)] = hook.calls
            assert headers["idempotency-key"] == order.idempotency_key == record.idempotency_key
            wanted = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
            assert headers["x-firstwatch-signature"] == f"sha256={wanted}"
            assert json.loads(body)["release_id"] == "shop@bad-1@2026-01-01T00:00:00Z"
            assert json.loads(body)["reasons"] == ["p95 over 500 ms"]
            assert KEY not in body.decode() + str(headers)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answers", "calls", "state"),
    [
        ([503, 429, 200], 3, RollbackState.ACCEPTED),  # refused twice, then taken
        (["hang"], 1, RollbackState.UNKNOWN),  # it may have happened: never sent again
        (["drop"], 1, RollbackState.UNKNOWN),
        ([504, 200], 1, RollbackState.UNKNOWN),  # a gateway gave up; the hook behind it may not have
    ],
)
def test_retried_only_while_provably_not_delivered(answers: list[Any], calls: int, state: RollbackState) -> None:
    async def scenario() -> None:
        async with Hook(*answers).listening() as hook:
            order = RollbackOrder(release(), ["why"], webhook(hook.url), uuid.uuid4())
            record = await send(order)
            assert (record.state, len(hook.calls), len(record.attempts)) == (state, calls, calls)
            again = await send(order)  # the flow run is picked up again
            assert (again.state, len(hook.calls)) == (state, calls)

    asyncio.run(scenario())


def test_two_runs_of_one_release_send_once() -> None:
    async def scenario() -> None:
        async with Hook(200).listening() as hook:
            bad = release()
            orders = [RollbackOrder(bad, ["why"], webhook(hook.url), uuid.uuid4()) for _ in range(4)]
            records = await asyncio.gather(*(send(order) for order in orders))
            assert [r.state for r in records] == [RollbackState.ACCEPTED] * 4
            assert len(hook.calls) == 1

    asyncio.run(scenario())


def test_a_refusal_is_final_and_says_so() -> None:
    async def scenario() -> None:
        async with Hook(403).listening() as hook:
            with pytest.raises(NotDelivered, match="answered 403 ok"):
                await send(RollbackOrder(release(), ["why"], webhook(hook.url), uuid.uuid4()))
            assert len(hook.calls) == 1

    asyncio.run(scenario())


def test_nobody_listens() -> None:
    async def scenario() -> None:
        order = RollbackOrder(release(), ["why"], webhook("http://127.0.0.1:9/rollback"), uuid.uuid4())
        with pytest.raises(NotDelivered, match="no connection"):
            await send(order, retries=1)
        async with get_client() as client:
            variable = await client.read_variable_by_name(f"firstwatch-rollback-{order.release.slug}")
            assert variable is not None
            value: Any = variable.value
            assert value["record"]["state"] == "failed"
            assert len(value["record"]["attempts"]) == 2

    asyncio.run(scenario())


_KILLED = """
import asyncio, sys, uuid
from firstwatch.model import Release
from tests.tasks.test_rollback import send, webhook
from tasks.hooks import RollbackOrder
url, version, owner = sys.argv[1:]
asyncio.run(send(RollbackOrder(Release("shop", version, 1_767_225_600), ["why"], webhook(url), uuid.UUID(owner))))
"""


def test_killed_between_sending_and_recording(prefect_api: str) -> None:
    """The hook has the request and has not answered when the process dies: the next process must not send again."""

    async def scenario() -> None:
        async with Hook("hang", 200).listening() as hook:
            bad, owner = release(), uuid.uuid4()
            process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a moment; the test waits for it anyway
                [sys.executable, "-c", _KILLED, hook.url, bad.version, str(owner)],
                env={**os.environ, "PREFECT_API_URL": prefect_api},
            )
            await _until(lambda: len(hook.calls) == 1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            record = await send(RollbackOrder(bad, ["why"], webhook(hook.url), owner))
            assert record.state is RollbackState.UNKNOWN
            assert len(hook.calls) == 1
            assert "killed" in record.attempts[-1].answer

    asyncio.run(scenario())


def test_what_was_asked_for_and_not_found_is_sent_once_more_under_the_same_key() -> None:
    async def scenario() -> None:
        async with Hook("drop", 503, 200).listening() as hook:
            order = RollbackOrder(release(), ["why"], webhook(hook.url), uuid.uuid4())
            assert (await send(order)).state is RollbackState.UNKNOWN
            again = replace(order, again=True)
            record = await send(again)
            assert record.state is RollbackState.ACCEPTED
            assert (await send(again)).state is RollbackState.ACCEPTED  # done: not a third time
            assert [headers["idempotency-key"] for headers, _ in hook.calls] == [order.idempotency_key] * 3
            assert [attempt.answer[:3] for attempt in record.attempts[1:]] == ["the", "200"]

    asyncio.run(scenario())


async def _until(holds: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen in time"
        await asyncio.sleep(0.02)


def test_command_gets_the_release_and_is_not_given_a_shell(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import os,sys; open(sys.argv[1],'a').write(sys.argv[2]+' '+os.environ['FIRSTWATCH_IDEMPOTENCY_KEY']+'\\n')"
    )
    hook = spec.Rollback(command=spec.Command(run=[sys.executable, "-c", script, str(out), "{service}; {version}"]))
    order = RollbackOrder(release("$(id)"), ["why"], hook, uuid.uuid4())
    assert asyncio.run(send(order)).state is RollbackState.ACCEPTED
    assert asyncio.run(send(order)).state is RollbackState.ACCEPTED
    assert out.read_text() == f"shop; $(id) {order.idempotency_key}\n"


def test_command_that_fails_or_never_ends() -> None:
    fails = spec.Rollback(command=spec.Command(run=[sys.executable, "-c", "print('no such pod'); exit(3)"]))
    with pytest.raises(NotDelivered, match="exit code 3: no such pod"):
        asyncio.run(send(RollbackOrder(release(), ["why"], fails, uuid.uuid4()), retries=1))
    hangs = spec.Rollback(command=spec.Command(run=[sys.executable, "-c", "import time; time.sleep(60)"], timeout=1))
    record = asyncio.run(send(RollbackOrder(release(), ["why"], hangs, uuid.uuid4())))
    assert record.state is RollbackState.UNKNOWN


def test_github_workflow_dispatch() -> None:
    async def scenario() -> None:
        async with Hook(204).listening() as hook:
            workflow = spec.GithubWorkflow(
                repository="acme/shop",
                workflow="rollback.yml",
                token="secret:github",
                inputs={"version": "{version}"},
                api_url=hook.url.removesuffix("/rollback"),
            )
            order = RollbackOrder(release("v9"), ["why"], spec.Rollback(github_workflow=workflow), uuid.uuid4())
            assert (await send(order)).state is RollbackState.ACCEPTED
            [(headers, body)] = hook.calls
            assert headers["authorization"] == f"Bearer {KEY}"
            assert json.loads(body) == {"ref": "main", "inputs": {"version": "v9"}}

    asyncio.run(scenario())


def test_a_missing_secret_is_said_by_name_only() -> None:
    async def missing(name: str) -> Secret:
        raise LookupError("there is neither a block nor an environment variable")

    async def scenario() -> None:
        @flow(name="rollback-test")
        async def run() -> None:
            async with get_client() as client:
                await send_rollback(order, client, missing, time.time)

        async with Hook(200).listening() as hook:
            order = RollbackOrder(release(), ["why"], webhook(hook.url), uuid.uuid4())
            with pytest.raises(NotDelivered, match="secret hmac could not be read"):
                await run()
            assert hook.calls == []

    asyncio.run(scenario())
