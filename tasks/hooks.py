"""The ways to have a release rolled back or promoted: one adapter each, which prepares all that can go wrong, and then
sends once.

A webhook is signed and carries an Idempotency-Key; a command gets its facts as arguments and in its environment; GitHub
dispatches a workflow; Prefect runs a deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import httpx
from prefect.deployments import run_deployment

from firstwatch.model import Release, rfc3339
from firstwatch.redaction import Secret
from firstwatch.spec import hooks as spec
from tasks.secrets import SECRET_IN_TEXT
from tasks.wire import tls_context

ANSWER_CHARS = 200  # of a hook's answer that are kept

LoadSecret = Callable[[str], Awaitable[Secret]]
Send = Callable[[], Awaitable[str]]
"""Sends a prepared order, once, and returns the hook's answer. Raises NotDelivered or Unclear."""


class NotDelivered(Exception):
    """The hook provably did not take the order. `transient`: a further try may succeed."""

    def __init__(self, why: str, transient: bool = True):
        super().__init__(why)
        self.transient = transient


class Unclear(Exception):
    """The order was sent and its answer never came: it may have happened."""


@dataclass(frozen=True)
class Order:
    """What is to be done to a release, why, and who asks: the flow run, which then owns the order's claim, in its
    n-th process. `what` names the kind of order in keys and texts. `again`: the answer to it was lost, and whoever was
    asked does not know of it, so that it may be sent once more."""

    release: Release
    reasons: Sequence[str]
    hook: spec.Hook
    owner: UUID
    flow_run_url: str = ""
    run_count: int = 0  # 0: not known
    redact: Callable[[str], str] = str
    again: bool = False

    what: ClassVar[str]

    @property
    def idempotency_key(self) -> str:
        """The same for all that is ever sent of this order; the variable that claims it is named by it too."""
        return _key(self.what, self.release)

    @property
    def adapter(self) -> str:
        return next(way for way in spec.HOOK_WAYS if getattr(self.hook, way))

    @property
    def may_be_repeated(self) -> bool:
        """Though an answer to it is awaited: whoever was asked does not know of it, or is Prefect's own server, which
        takes a key once only."""
        return self.again or self.adapter == "prefect_deployment"

    @property
    def body(self) -> dict[str, Any]:
        """What a webhook is sent."""
        return {
            "release_id": self.release.id,
            "service": self.release.service,
            "version": self.release.version,
            "deployed_at": rfc3339(self.release.deployed_at),
            "reasons": list(self.reasons),
            "flow_run_url": self.flow_run_url,
        }

    @property
    def words(self) -> dict[str, str]:
        """What may stand in braces in arguments, inputs and parameters; a command's environment has them too."""
        return {
            "service": self.release.service,
            "version": self.release.version,
            "release_id": self.release.id,
        }


def _key(what: str, release: Release) -> str:
    return f"{what}-{release.slug}"


def rollback_key(release: Release) -> str:
    """The idempotency key of whichever order rolls this release back."""
    return _key(RollbackOrder.what, release)


@dataclass(frozen=True)
class RollbackOrder(Order):
    """The old version is to be brought back."""

    what: ClassVar[str] = "rollback"

    @property
    def title(self) -> str:
        return "rollback, once more" if self.again else "rollback"


@dataclass(frozen=True, kw_only=True)
class PromoteOrder(Order):
    """The gate of a step has held: the canary is to get its next share of the traffic. `held_at` and `weight` are
    percent; `held_at` is None before the first step. `reasons` are the gate's evidence."""

    held_at: float | None = None
    weight: float

    what: ClassVar[str] = "promote"

    @property
    def idempotency_key(self) -> str:
        return f"{super().idempotency_key}-{self.weight:g}".replace(".", "_")

    @property
    def body(self) -> dict[str, Any]:
        return {**super().body, "from": self.held_at, "to": self.weight}

    @property
    def words(self) -> dict[str, str]:
        return {**super().words, "weight": f"{self.weight:g}"}


async def _webhook(order: Order, load_secret: LoadSecret) -> Send:
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
    return _post(hook.url, body, headers, hook.timeout)


async def _github_workflow(order: Order, load_secret: LoadSecret) -> Send:
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
    return _post(url, json.dumps({"ref": hook.ref, "inputs": inputs}).encode(), headers, hook.timeout)


async def _command(order: Order, _load_secret: LoadSecret) -> Send:
    hook = order.hook.command
    assert hook is not None
    facts = {f"FIRSTWATCH_{name.upper()}": word for name, word in order.words.items()}
    facts["FIRSTWATCH_IDEMPOTENCY_KEY"] = order.idempotency_key
    argv = [_template(part, order) for part in hook.run]

    async def send() -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env={**os.environ, **facts},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as problem:
            raise NotDelivered(f"{argv[0]} could not be started: {problem}", transient=False) from problem
        try:
            output, _ = await asyncio.wait_for(process.communicate(), hook.timeout)
        except TimeoutError as problem:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise Unclear(f"{argv[0]} had not ended after {hook.timeout:.0f} s and was stopped") from problem
        tail = output.decode(errors="replace").strip()[-ANSWER_CHARS // 2 :]
        if process.returncode:
            # Not tried again: what it did before it failed would be done twice.
            raise NotDelivered(f"{argv[0]} ended with exit code {process.returncode}: {tail}", transient=False)
        return f"{argv[0]} ended with exit code 0: {tail}".removesuffix(": ")

    return send


async def _prefect_deployment(order: Order, _load_secret: LoadSecret) -> Send:
    hook = order.hook.prefect_deployment
    assert hook is not None
    parameters = {k: _template(v, order) if isinstance(v, str) else v for k, v in hook.parameters.items()}

    async def send() -> str:
        try:
            flow_run: Any = await run_deployment(  # type: ignore[misc]
                hook.name, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=order.idempotency_key
            )
        except Exception as problem:
            raise NotDelivered(f"the deployment {hook.name} could not be started: {problem}") from problem
        return f"flow run {flow_run.name} of {hook.name} ({flow_run.id})"

    return send


ADAPTERS: dict[str, Callable[[Order, LoadSecret], Awaitable[Send]]] = {
    "webhook": _webhook,
    "command": _command,
    "github_workflow": _github_workflow,
    "prefect_deployment": _prefect_deployment,
}


def _post(url: str, body: bytes, headers: dict[str, str], timeout: float) -> Send:
    """A POST. A failure before the body left, or an answered error, is NotDelivered; silence is Unclear."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable() and value == value.strip()):
            raise NotDelivered(f"the header {name} holds what no header may: a line's end, perhaps?", transient=False)
    try:
        request = httpx.Request("POST", url, headers=headers, content=body)
    except (httpx.InvalidURL, UnicodeError, ValueError, TypeError) as problem:
        raise NotDelivered(f"the hook's URL or headers are not usable: {problem}", transient=False) from None
    tls = tls_context(None, insecure=False)  # before the order is noted as sent: a kill in between leaves it in doubt

    async def send() -> str:
        try:
            async with (
                asyncio.timeout(timeout),
                httpx.AsyncClient(timeout=timeout, verify=tls, trust_env=False) as client,
            ):
                response = await client.send(request, stream=True)
                text = await _first_words(response)
                await response.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
            raise NotDelivered(f"no connection to the hook: {problem or type(problem).__name__}") from problem
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as problem:
            raise NotDelivered(f"the hook cannot be asked: {problem}", transient=False) from problem
        except (httpx.HTTPError, TimeoutError) as problem:
            raise Unclear(f"sent, but no answer within {timeout:g} s ({type(problem).__name__})") from problem
        return _judged(response.status_code, text)

    return send


def _judged(status: int, text: str) -> str:
    """The hook's answer, if it took the order. Raises NotDelivered or Unclear."""
    answer = f"{status} {text}".strip()
    if 200 <= status < 300:
        return answer
    if status in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT):
        raise Unclear(f"a gateway gave up on it: {answer}")
    again = status >= 500 or status in (408, 425, 429)
    raise NotDelivered(f"the hook answered {answer}", transient=again)


async def _first_words(response: httpx.Response) -> str:
    """The beginning of an answer. The status is the answer; its body may be cut off, slow or endless."""
    text = b""
    with contextlib.suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(2):
            async for part in response.aiter_bytes():
                text += part
                if len(text) >= ANSWER_CHARS:
                    break
    return text[:ANSWER_CHARS].decode(errors="replace")


def _template(text: str, order: Order) -> str:
    """Fill in {service}, {version}, {release_id} and what else the order knows; other braces stay as they are."""
    names = "|".join(order.words)
    return re.sub(f"{{({names})}}", lambda found: order.words[found[1]], text)


async def _secret(name: str, load_secret: LoadSecret) -> str:
    try:
        return (await load_secret(name)).reveal()
    except Exception as problem:
        raise NotDelivered(f"secret {name} could not be read: {problem}", transient=False) from problem


async def _filled(value: str, load_secret: LoadSecret) -> str:
    """A header's value, with each `secret:NAME` looked up."""
    for name in SECRET_IN_TEXT.findall(value):
        value = value.replace(f"secret:{name}", await _secret(name, load_secret))
    return value
