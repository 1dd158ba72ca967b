"""Tell people, in Slack: one thread a release. A message that cannot be delivered changes nothing but its own record.

Every delivery is a task run of its own, so that a lost message is seen in the UI; `tell` never raises.
A message may arrive twice (its answer was lost, and it was sent again): Slack has no key against that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import URLError

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.tasks import Task
from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError, SlackClientError

from firstwatch import spec
from firstwatch.redaction import Redactor, Secret
from firstwatch.report.messages import Message, render
from firstwatch.report.model import Delivery, map_text
from firstwatch.report.text import plain

TOTAL = 10.0  # seconds that one delivery may take, with all its tries
_ONE_TRY = 5.0  # seconds of it for a single try
_PAUSES = (0.5, 1.0, 2.0)  # seconds between tries; the last one repeats

_TRANSIENT = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)
_SHAPE = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long"}
    | {"thread_not_found", "invalid_thread_ts", "message_not_found", "cannot_reply_to_message"}
)

# The SDK's own log lines hold the webhook's URL and the token. This logger has no parent and no handler.
_SILENCE = logging.Logger("slack_sdk (silenced)", level=logging.CRITICAL + 1)

LoadSecret = Callable[[str], Awaitable[Secret]]


class TryAgain(Exception):
    """This try failed, a further one may not; `after`: the seconds that Slack asks us to wait."""

    def __init__(self, why: str, after: float | None = None):
        super().__init__(why)
        self.after = after


class Refused(Exception):
    """Slack does not want this message. `shape`: it may take it as bare text, outside of the thread."""

    def __init__(self, why: str, *, shape: bool = False):
        super().__init__(why)
        self.shape = shape


class NotDelivered(Exception):
    """All tries failed. `worth_retrying`: another round may succeed."""

    def __init__(self, delivery: Delivery, *, worth_retrying: bool):
        super().__init__(f"{delivery.message}: {delivery.error}")
        self.delivery = delivery
        self.worth_retrying = worth_retrying


# ── the two ways into Slack ──────────────────────────────────────────────────────────────────────────────────


class Door(Protocol):
    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> str | None:
        """Send once (blocking); returns the message's timestamp, where there is one. Raises TryAgain or Refused."""


@dataclasses.dataclass(frozen=True)
class Webhook:
    """An incoming webhook. It cannot thread: each message stands alone."""

    url: Secret

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> str | None:
        client = WebhookClient(self.url.reveal(), timeout=timeout, retry_handlers=[], logger=_SILENCE)  # type: ignore[arg-type]
        client.proxy = None  # leaves it to urllib, which reads NO_PROXY too
        answer = client.send(**payload, unfurl_links=False, unfurl_media=False)
        if answer.status_code == 200 and answer.body == "ok":
            return None
        raise _problem(answer.status_code, answer.body, dict(answer.headers))


@dataclasses.dataclass(frozen=True)
class Bot:
    """A bot token and a channel: the first message opens a thread, the others reply to it."""

    token: Secret
    channel: str
    api_url: str = "https://slack.com/api/"

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> str | None:
        client = WebClient(
            self.token.reveal(),
            base_url=self.api_url.rstrip("/") + "/",
            timeout=timeout,  # type: ignore[arg-type]
            retry_handlers=[],
            logger=_SILENCE,
        )
        client.proxy = None
        reply: dict[str, Any] = {"thread_ts": thread_ts, "reply_broadcast": broadcast} if thread_ts else {}
        try:
            answer = client.chat_postMessage(
                channel=self.channel, **payload, **reply, unfurl_links=False, unfurl_media=False
            )
        except SlackApiError as refused:
            response: Any = refused.response
            raise _problem(response.status_code, _error_code(response.data), response.headers) from None
        return str(answer["ts"])


@dataclasses.dataclass(frozen=True)
class Closed:
    """No way in: its secret is missing. Each delivery fails, and says so."""

    why: str

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> str | None:
        raise Refused(self.why)


def _problem(status: int, error: str, headers: dict[str, str]) -> TryAgain | Refused:
    """What an answer means that is no success."""
    if status == 429 or error in ("ratelimited", "rate_limited"):
        after = next((v for k, v in headers.items() if k.lower() == "retry-after"), "1")
        return TryAgain(f"Slack asks us to wait {after} s", float(after) if after.isdecimal() else 1.0)
    if status >= 500 or error in _TRANSIENT:
        return TryAgain(f"Slack answered {status} {error}".strip())
    return Refused(f"Slack refused it: {status} {error}", shape=error.partition(":")[0] in _SHAPE)


def _error_code(data: Any) -> str:
    """`invalid_blocks: what is wrong with them`."""
    if not isinstance(data, dict):
        return "an answer that is no JSON"
    details = (data.get("response_metadata") or {}).get("messages") or []
    return ": ".join([str(data.get("error", "no reason given")), *map(str, details[:3])])


# ── the thread of a release ──────────────────────────────────────────────────────────────────────────────────


class Thread:
    """The messages of one release, in order. `ts` is the first one's timestamp, under which the others are replies:
    keep it, and give it back after a restart. None: nothing was sent yet, or there are no threads (a webhook)."""

    def __init__(self, door: Door, redactor: Redactor, ts: str | None = None):
        self.ts = ts
        self._door = door
        self._redactor = redactor
        self._one_at_a_time = asyncio.Lock()
        self._not_before = 0.0  # monotonic: until then, Slack does not want to hear from us

    @classmethod
    async def open(
        cls, slack: spec.Slack, load_secret: LoadSecret, redactor: Redactor, ts: str | None = None
    ) -> Thread:
        """The thread that the service file asks for. A secret that is missing is told by each delivery."""
        try:
            secret = await load_secret(slack.webhook or slack.token or "")
        except Exception as missing:
            return cls(Closed(plain(redactor.text(str(missing)))), redactor, ts)
        redactor.add(secret.reveal())
        door = Webhook(secret) if slack.webhook else Bot(secret, slack.channel or "", slack.api_url)
        return cls(door, redactor, ts)

    async def send(self, message: Message) -> Delivery:
        """Deliver, with several tries in at most TOTAL seconds. Raises NotDelivered."""
        async with self._one_at_a_time:
            return await self._send(message)

    async def _send(self, message: Message) -> Delivery:
        payload = map_text(render(map_text(message, self._redactor.text)), self._redactor.text)
        deadline = time.monotonic() + TOTAL
        why = ""
        for tried, pause in enumerate(itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1]))):
            wait = self._not_before - time.monotonic()
            if time.monotonic() + max(wait, 0) >= deadline:
                why = why or f"Slack asks us to wait {wait:.0f} s more"
                raise NotDelivered(Delivery(message.kind, False, tried, why, self.ts), worth_retrying=True)
            await asyncio.sleep(max(wait, 0))
            try:
                ts = await self._try(payload, message.broadcast, min(_ONE_TRY, deadline - time.monotonic()))
            except TryAgain as problem:
                why = plain(self._redactor.text(str(problem)))
                self._not_before = time.monotonic() + (pause if problem.after is None else problem.after)
            except Refused as problem:
                why = plain(self._redactor.text(str(problem)))
                if not problem.shape or "blocks" not in payload:
                    raise NotDelivered(
                        Delivery(message.kind, False, tried + 1, why, self.ts), worth_retrying=False
                    ) from None
                payload, self.ts = {"text": payload["text"]}, None  # better plain than not at all
            else:
                self.ts = self.ts or ts
                return Delivery(message.kind, True, tried + 1, why, self.ts)
        raise AssertionError("the tries never end by themselves")

    async def _try(self, payload: dict[str, Any], broadcast: bool, timeout: float) -> str | None:
        # The message of an error is not passed on where it may hold the URL.
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(self._door.post, payload, self.ts, broadcast, timeout)
        except TimeoutError:
            raise TryAgain(f"Slack did not answer within {timeout:.0f} s") from None
        except URLError as problem:
            raise TryAgain(f"Slack cannot be reached: {problem.reason}") from None
        except (OSError, HTTPException) as problem:
            raise TryAgain(f"the connection to Slack broke ({type(problem).__name__})") from None
        except (SlackClientError, ValueError, KeyError) as problem:
            raise Refused(f"Slack's address or answer is not usable ({type(problem).__name__})") from None


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    problem = await state.aresult(raise_on_failure=False)
    return isinstance(problem, NotDelivered) and problem.worth_retrying


@task(
    name="slack",
    task_run_name="slack: {message.kind}",
    retries=1,
    retry_delay_seconds=3,
    retry_condition_fn=_worth_another_try,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def deliver(message: Message, thread: Thread) -> Delivery:
    """One message as a task run. Raises NotDelivered."""
    return await thread.send(message)


async def tell(thread: Thread | None, message: Message) -> Delivery | None:
    """Deliver and go on, whatever comes of it; what came of it is logged and returned, for the report.
    None where nobody wants to be told."""
    if thread is None:
        return None
    try:
        return await deliver(message, thread)
    except NotDelivered as lost:
        delivery = lost.delivery
    except Exception as problem:  # the task itself could not run: Prefect's server is away
        delivery = Delivery(message.kind, False, 0, f"it could not be sent ({type(problem).__name__})", thread.ts)
    _log().warning("Slack message %r was not delivered: %s", delivery.message, delivery.error)
    return delivery


def _log() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("firstwatch.slack")
