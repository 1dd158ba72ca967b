"""Bring the old version back: at most once per release, however often a process dies on the way.

Before the first byte is sent, the release is claimed by a Prefect variable, which the server creates for one caller
only. Its state says what may be done next:

    sent      an answer is awaited. Found after a crash, nobody knows whether the hook got it: it is not sent again.
    failed    the hook provably did not take it: it may be sent again, by the run that owns the claim.
    accepted  done; later callers get this record.
    unknown   sent, and the answer never came: not sent again. People are told.

Only `prefect_deployment` may be repeated in any state, because there the server itself refuses a key used before.
The variable stays, as the record: to allow another rollback of the same release, a person deletes it in the UI.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.objects import State, TaskRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.tasks import Task, exponential_backoff

from firstwatch.model import Release, as_json, rfc3339
from firstwatch.redaction import Secret
from firstwatch.report.model import RollbackAttempt, RollbackRecord, RollbackState
from firstwatch.spec import models as spec

_ANSWER_CHARS = 200  # of a hook's answer; Prefect keeps at most 5,000 characters in a variable
_WAIT_FOR_OWNER = 60.0  # seconds that another run's rollback of the same release may take before we stop waiting

LoadSecret = Callable[[str], Awaitable[Secret]]


class NotDelivered(Exception):
    """The hook provably did not take the rollback. `transient`: a further try may succeed."""

    def __init__(self, why: str, transient: bool = True):
        super().__init__(why)
        self.transient = transient


class Unclear(Exception):
    """The rollback was sent and its answer never came: it may have happened."""


@dataclass(frozen=True)
class RollbackOrder:
    """What to roll back, why, and who asks (the flow run, which then owns the release's claim)."""

    release: Release
    reasons: Sequence[str]
    hook: spec.Rollback
    owner: UUID
    flow_run_url: str = ""

    @property
    def adapter(self) -> str:
        return next(n for n in ("webhook", "command", "github_workflow", "prefect_deployment") if getattr(self.hook, n))

    @property
    def idempotency_key(self) -> str:
        return f"rollback-{self.release.slug}"

    @property
    def body(self) -> dict[str, Any]:
        return {
            "release_id": self.release.id,
            "service": self.release.service,
            "version": self.release.version,
            "deployed_at": rfc3339(self.release.deployed_at),
            "reasons": list(self.reasons),
            "flow_run_url": self.flow_run_url,
        }


# ── the claim ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Claim:
    """The server's record of a release's rollback. Every change is written before it is acted on."""

    client: PrefectClient
    owner: str
    record: RollbackRecord
    release_id: str
    _name: str = field(default="")

    @staticmethod
    def variable_name(release: Release) -> str:
        return f"firstwatch-rollback-{release.slug}"

    @classmethod
    async def read(cls, client: PrefectClient, release: Release) -> Claim | None:
        name = cls.variable_name(release)
        variable = await client.read_variable_by_name(name)
        if variable is None:
            return None
        value: Any = variable.value
        attempts = tuple(RollbackAttempt(**a) for a in value["record"]["attempts"])
        record = RollbackRecord(
            **{**value["record"], "state": RollbackState(value["record"]["state"]), "attempts": attempts}
        )
        return cls(client, value["owner"], record, release.id, name)

    @classmethod
    async def take(cls, client: PrefectClient, order: RollbackOrder, now: float) -> tuple[Claim, bool]:
        """The release's claim, and whether this caller may send now. A new claim starts as sent."""
        record = RollbackRecord(
            order.adapter, RollbackState.SENT, order.idempotency_key, (RollbackAttempt(now, "sent, no answer yet"),)
        )
        claim = cls(client, str(order.owner), record, order.release.id, cls.variable_name(order.release))
        try:
            await client.create_variable(VariableCreate(name=claim._name, value=claim._value(), tags=["firstwatch"]))
            return claim, True
        except ObjectAlreadyExists:
            pass
        standing = await cls.read(client, order.release)
        if standing is None:  # deleted by a person in this very moment: start over
            return await cls.take(client, order, now)
        ours = standing.owner == str(order.owner)
        repeatable = order.adapter == "prefect_deployment" and standing.record.state is not RollbackState.ACCEPTED
        if not ours or not (standing.record.state is RollbackState.FAILED or repeatable):
            return standing, False
        await standing.attempt(now)
        return standing, True

    async def attempt(self, now: float) -> None:
        """One more try begins."""
        attempts = (*self.record.attempts, RollbackAttempt(now, "sent, no answer yet"))
        await self._write(dataclasses.replace(self.record, state=RollbackState.SENT, attempts=attempts))

    async def settle(self, state: RollbackState, answer: str) -> None:
        """The last try ended so."""
        last = dataclasses.replace(self.record.attempts[-1], answer=answer[:_ANSWER_CHARS])
        await self._write(dataclasses.replace(self.record, state=state, attempts=(*self.record.attempts[:-1], last)))

    async def _write(self, record: RollbackRecord) -> None:
        self.record = record
        await self.client.update_variable(VariableUpdate(name=self._name, value=self._value()))

    def _value(self) -> dict[str, Any]:
        value: dict[str, Any] = as_json({"release_id": self.release_id, "owner": self.owner, "record": self.record})
        return value


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────────


async def roll_back(
    order: RollbackOrder, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Roll the release back as the task run `rollback`, with the file's retries; how it stands then comes back.

    Never raises for what the hook does.
    """
    send = send_rollback.with_options(
        retries=order.hook.retries, retry_delay_seconds=exponential_backoff(2), retry_jitter_factor=0.5
    )
    task_run: Any = send(order, client, load_secret, clock, return_state=True)
    await task_run
    claim = await Claim.read(client, order.release)
    if claim is None:  # the server could not even be asked for the claim: nothing was sent
        return RollbackRecord(order.adapter, RollbackState.FAILED, order.idempotency_key)
    return claim.record


async def _worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    problem = await state.aresult(raise_on_failure=False)
    return isinstance(problem, NotDelivered) and problem.transient


@task(
    name="rollback",
    task_run_name="rollback",
    cache_policy=NO_CACHE,
    retry_condition_fn=_worth_another_try,
)
async def send_rollback(
    order: RollbackOrder, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Send the rollback, unless the release's claim says that it has been. Returns the record as it stands then.

    Raises NotDelivered when the hook provably did not take it; Prefect then tries again.
    """
    logger = get_run_logger()
    claim, may_send = await Claim.take(client, order, clock())
    if not may_send:
        logger.warning("Rollback of %s not sent: it is %s already", order.release.id, claim.record.state)
        if claim.owner != str(order.owner):
            return await _await_owner(client, order, clock)
        if claim.record.state is RollbackState.SENT:  # our own process died while it waited for the answer
            await claim.settle(RollbackState.UNKNOWN, "the process was killed before the answer came; not sent again")
        return claim.record
    logger.info("Rolling back %s by %s", order.release.id, order.adapter)
    try:
        answer = await _ADAPTERS[order.adapter](order, load_secret)
    except NotDelivered as problem:
        await claim.settle(RollbackState.FAILED, str(problem))
        raise
    except Unclear as problem:
        await claim.settle(RollbackState.UNKNOWN, str(problem))
        return claim.record
    await claim.settle(RollbackState.ACCEPTED, answer)
    logger.info("Rollback accepted: %s", answer)
    return claim.record


async def _await_owner(client: PrefectClient, order: RollbackOrder, clock: Callable[[], float]) -> RollbackRecord:
    """Another run is rolling this release back: wait for how that ends, within reason."""
    until = clock() + _WAIT_FOR_OWNER
    while (claim := await Claim.read(client, order.release)) is not None:
        if claim.record.state in (RollbackState.ACCEPTED, RollbackState.UNKNOWN) or clock() >= until:
            return claim.record
        await asyncio.sleep(1)
    raise NotDelivered("the claim on this release was deleted while another run held it", transient=False)


# ── the adapters: one function each, which returns the hook's answer or raises NotDelivered or Unclear ───────────


async def _webhook(order: RollbackOrder, load_secret: LoadSecret) -> str:
    hook = order.hook.webhook
    assert hook is not None
    body = json.dumps(order.body).encode()
    headers = {
        **{name: await _filled(value, load_secret) for name, value in hook.headers.items()},
        "Content-Type": "application/json",
        "User-Agent": "Firstwatch",
        "Idempotency-Key": order.idempotency_key,
    }
    if hook.secret:
        key = (await _secret(hook.secret, load_secret)).encode()
        headers["X-Firstwatch-Signature"] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    return await _post(hook.url, body, headers, hook.timeout)


async def _github_workflow(order: RollbackOrder, load_secret: LoadSecret) -> str:
    hook = order.hook.github_workflow
    assert hook is not None
    url = f"{hook.api_url.rstrip('/')}/repos/{hook.repository}/actions/workflows/{hook.workflow}/dispatches"
    inputs = {name: _template(value, order) for name, value in hook.inputs.items()}
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {await _secret(hook.token, load_secret)}",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "Firstwatch",
    }
    return await _post(url, json.dumps({"ref": hook.ref, "inputs": inputs}).encode(), headers, hook.timeout)


async def _command(order: RollbackOrder, _load_secret: LoadSecret) -> str:
    hook = order.hook.command
    assert hook is not None
    facts = {
        "FIRSTWATCH_SERVICE": order.release.service,
        "FIRSTWATCH_VERSION": order.release.version,
        "FIRSTWATCH_RELEASE_ID": order.release.id,
        "FIRSTWATCH_IDEMPOTENCY_KEY": order.idempotency_key,
    }
    argv = [_template(part, order) for part in hook.run]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, **facts},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as problem:
        raise NotDelivered(f"{argv[0]} could not be started: {problem.strerror}", transient=False) from problem
    try:
        output, _ = await asyncio.wait_for(process.communicate(), hook.timeout)
    except TimeoutError as problem:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise Unclear(f"{argv[0]} had not ended after {hook.timeout:.0f} s and was stopped") from problem
    tail = output.decode(errors="replace").strip()[-_ANSWER_CHARS // 2 :]
    if process.returncode:
        raise NotDelivered(f"{argv[0]} ended with exit code {process.returncode}: {tail}")
    return f"{argv[0]} ended with exit code 0: {tail}".removesuffix(": ")


async def _prefect_deployment(order: RollbackOrder, _load_secret: LoadSecret) -> str:
    hook = order.hook.prefect_deployment
    assert hook is not None
    parameters = {k: _template(v, order) if isinstance(v, str) else v for k, v in hook.parameters.items()}
    try:
        flow_run: Any = await run_deployment(  # type: ignore[misc]
            hook.name, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=order.idempotency_key
        )
    except Exception as problem:
        raise NotDelivered(f"the deployment {hook.name} could not be started: {problem}") from problem
    return f"flow run {flow_run.name} of {hook.name} ({flow_run.id})"


_ADAPTERS: dict[str, Callable[[RollbackOrder, LoadSecret], Awaitable[str]]] = {
    "webhook": _webhook,
    "command": _command,
    "github_workflow": _github_workflow,
    "prefect_deployment": _prefect_deployment,
}


async def _post(url: str, body: bytes, headers: dict[str, str], timeout: float) -> str:
    """POST once. A failure before the body left, or an answered error, is NotDelivered; silence is Unclear."""
    try:
        async with (
            asyncio.timeout(timeout),
            httpx.AsyncClient(timeout=timeout, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            text = await _first_words(response)
    except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
        raise NotDelivered(f"no connection to the rollback hook: {problem or type(problem).__name__}") from problem
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as problem:
        raise NotDelivered(f"the rollback hook's URL is not usable: {problem}", transient=False) from problem
    except (httpx.HTTPError, TimeoutError) as problem:
        raise Unclear(f"sent, but no answer within {timeout:g} s ({type(problem).__name__})") from problem
    answer = f"{response.status_code} {text}".strip()
    if response.is_success:
        return answer
    if response.status_code == httpx.codes.GATEWAY_TIMEOUT:
        raise Unclear(f"a gateway gave up waiting: {answer}")
    again = response.status_code >= 500 or response.status_code in (408, 425, 429)
    raise NotDelivered(f"the rollback hook answered {answer}", transient=again)


async def _first_words(response: httpx.Response) -> str:
    """The beginning of an answer. The status is the answer; its body may be cut off, slow or endless."""
    text = b""
    with contextlib.suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(2):
            async for part in response.aiter_bytes():
                text += part
                if len(text) >= _ANSWER_CHARS:
                    break
    return text[:_ANSWER_CHARS].decode(errors="replace")


def _template(text: str, order: RollbackOrder) -> str:
    """Fill in {service}, {version} and {release_id}; other braces stay as they are."""
    for name in ("service", "version"):
        text = text.replace(f"{{{name}}}", getattr(order.release, name))
    return text.replace("{release_id}", order.release.id)


async def _secret(name: str, load_secret: LoadSecret) -> str:
    try:
        return (await load_secret(name)).reveal()
    except Exception as problem:
        raise NotDelivered(f"secret {name} could not be read: {problem}", transient=False) from problem


async def _filled(value: str, load_secret: LoadSecret) -> str:
    """A header's value, with `secret:NAME` looked up."""
    prefix, _, name = value.partition("secret:")
    return prefix + await _secret(name, load_secret) if name else value
