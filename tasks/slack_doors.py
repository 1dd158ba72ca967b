"""The two ways into Slack, one request at a time (blocking). What to make of a failure is `tasks.slack`'s business.

A bot's message carries a marker in its metadata, by which it is found again when its answer was lost. A webhook can
only send: it neither threads, nor updates, nor reads.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError

from firstwatch.redaction import Secret

EVENT_TYPE = "firstwatch_notice"  # of the metadata; Slack allows letters, digits, underscores and hyphens
SKEW = 60.0  # seconds that Slack's clock may be behind ours
_PAGES, _PAGE = 5, 100  # of a history that are read, and messages on each

_TRANSIENT = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_DONE_PERHAPS = frozenset({"internal_error", "fatal_error"})  # Slack: some of it may have succeeded
_SHAPE = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long"}
    | {"thread_not_found", "invalid_thread_ts", "message_not_found", "cannot_reply_to_message"}
)

# The SDK's own log lines hold the webhook's URL and the token. This logger has no parent and no handler.
_SILENCE = logging.Logger("slack_sdk (silenced)", level=logging.CRITICAL + 1)


class TryAgain(Exception):
    """This try failed, a further one may not. `after`: the seconds that Slack asks us to wait; `unclear`: Slack may
    have done it all the same."""

    def __init__(self, why: str, after: float | None = None, *, unclear: bool = False):
        super().__init__(why)
        self.after = after
        self.unclear = unclear


class Refused(Exception):
    """Slack does not want this message. `shape`: it may take it as bare text, outside of the thread."""

    def __init__(self, why: str, *, shape: bool = False):
        super().__init__(why)
        self.shape = shape


class Unknowable(Exception):
    """Slack does not tell whether it has a message: a webhook, a scope or the channel's id is missing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands: its timestamp, and the id of its channel."""

    ts: str
    channel: str


class Door(Protocol):
    """Each request takes at most `timeout` seconds, and raises TryAgain or Refused."""

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> Place | None:
        """Send once; returns where the message stands, where that can be told."""

    def update(self, place: Place, payload: dict[str, Any], timeout: float) -> bool:
        """Have the message read otherwise; False where this door cannot."""

    def find(self, marker: str, since: float, thread: Place | None, timeout: float) -> Place | None:
        """The message with this marker, sent after `since` (Unix seconds), in that thread; None: it is not there.
        Raises Unknowable."""


def marked(payload: dict[str, Any], marker: str) -> dict[str, Any]:
    """The payload with the marker by which `find` knows it."""
    return {**payload, "metadata": {"event_type": EVENT_TYPE, "event_payload": {"id": marker}}}


@dataclass(frozen=True)
class Webhook:
    """An incoming webhook. It cannot thread: each message stands alone."""

    url: Secret

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> Place | None:
        client = WebhookClient(self.url.reveal(), timeout=timeout, retry_handlers=[], logger=_SILENCE)  # type: ignore[arg-type]
        client.proxy = None  # leaves it to urllib, which reads NO_PROXY too
        shown = {name: part for name, part in payload.items() if name != "metadata"}
        answer = client.send(**shown, unfurl_links=False, unfurl_media=False)
        if answer.status_code == 200 and answer.body == "ok":
            return None
        raise _problem(answer.status_code, answer.body, dict(answer.headers))

    def update(self, place: Place, payload: dict[str, Any], timeout: float) -> bool:
        return False

    def find(self, marker: str, since: float, thread: Place | None, timeout: float) -> Place | None:
        raise Unknowable("a webhook cannot read")


@dataclass(frozen=True)
class Bot:
    """A bot token and a channel. `channel_id`: as an earlier answer had it, where `channel` is a name; Slack takes a
    name to post to, and nothing but the id to update and to read."""

    token: Secret
    channel: str
    api_url: str = "https://slack.com/api/"
    channel_id: str = ""

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> Place | None:
        reply: dict[str, Any] = {"thread_ts": thread_ts, "reply_broadcast": broadcast} if thread_ts else {}
        with _told():
            answer = self._client(timeout).chat_postMessage(
                channel=self.channel, **payload, **reply, unfurl_links=False, unfurl_media=False
            )
        return Place(str(answer["ts"]), str(answer.get("channel") or self._id))

    def update(self, place: Place, payload: dict[str, Any], timeout: float) -> bool:
        with _told():
            self._client(timeout).chat_update(channel=place.channel, ts=place.ts, **payload)
        return True

    def find(self, marker: str, since: float, thread: Place | None, timeout: float) -> Place | None:
        channel = thread.channel if thread else self._id
        if not channel:
            raise Unknowable("the service file has the channel's name; Slack reads by its id")
        try:
            for message in self._read(channel, since, thread, timeout):
                if _has(message, marker):
                    return Place(str(message["ts"]), channel)
        except Refused as problem:  # most of all missing_scope
            raise Unknowable(str(problem)) from None
        return None

    def _read(self, channel: str, since: float, thread: Place | None, timeout: float) -> Iterator[Mapping[str, Any]]:
        """The channel's messages, or the thread's: a reply is in its thread only. Raises Unknowable at the last page
        that is read, if more are left."""
        deadline, cursor = time.monotonic() + timeout, ""
        for _ in range(_PAGES):
            client = self._client(max(deadline - time.monotonic(), 0.1))
            asked: dict[str, Any] = {
                "channel": channel,
                "oldest": f"{max(since - SKEW, 0):.6f}",
                "limit": _PAGE,
                "include_all_metadata": True,
                **({"cursor": cursor} if cursor else {}),
            }
            with _told():
                page = (
                    client.conversations_replies(ts=thread.ts, **asked)
                    if thread
                    else client.conversations_history(**asked)
                )
            yield from page.get("messages") or []
            cursor = str((page.get("response_metadata") or {}).get("next_cursor") or "")
            if not cursor:
                return
        raise Unknowable(f"{channel} has had too many messages since")

    @property
    def _id(self) -> str:
        """The channel's id, as far as it is known."""
        return self.channel_id or (self.channel if re.fullmatch(r"[CGD][A-Z0-9]{6,}", self.channel) else "")

    def _client(self, timeout: float) -> WebClient:
        client = WebClient(
            self.token.reveal(),
            base_url=self.api_url.rstrip("/") + "/",
            timeout=timeout,  # type: ignore[arg-type]
            retry_handlers=[],
            logger=_SILENCE,
        )
        client.proxy = None
        return client


@dataclass(frozen=True)
class Closed:
    """No way in: its secret is missing. Each delivery fails, and says so."""

    why: str

    def post(self, payload: dict[str, Any], thread_ts: str | None, broadcast: bool, timeout: float) -> Place | None:
        raise Refused(self.why)

    def update(self, place: Place, payload: dict[str, Any], timeout: float) -> bool:
        raise Refused(self.why)

    def find(self, marker: str, since: float, thread: Place | None, timeout: float) -> Place | None:
        raise Unknowable(self.why)


def _has(message: Mapping[str, Any], marker: str) -> bool:
    metadata = message.get("metadata") or {}
    payload = metadata.get("event_payload")
    return metadata.get("event_type") == EVENT_TYPE and isinstance(payload, dict) and payload.get("id") == marker


@contextmanager
def _told() -> Iterator[None]:
    """An answer that is no success, as what it means. The SDK's error holds the whole answer: it is not passed on."""
    try:
        yield
    except SlackApiError as refused:
        response: Any = refused.response
        problem = _problem(response.status_code, _error_code(response.data), response.headers)
    else:
        return
    raise problem


def _problem(status: int, error: str, headers: Mapping[str, str]) -> TryAgain | Refused:
    """What an answer means that is no success."""
    code = error.partition(":")[0]
    if status == 429 or code in ("ratelimited", "rate_limited"):
        after = next((v for k, v in headers.items() if k.lower() == "retry-after"), "1")
        return TryAgain(f"Slack asks us to wait {after} s", float(after) if after.isdecimal() else 1.0)
    if status >= 500 or code in _TRANSIENT:
        unclear = code in _DONE_PERHAPS or (status >= 500 and status != 503)
        return TryAgain(f"Slack answered {status} {error}".strip(), unclear=unclear)
    return Refused(f"Slack refused it: {status} {error}", shape=code in _SHAPE)


def _error_code(data: Any) -> str:
    """`invalid_blocks: what is wrong with them`."""
    if not isinstance(data, dict):
        return "an answer that is no JSON"
    needed = [f"the token lacks {data['needed']}"] if data.get("needed") else []
    details = [*needed, *((data.get("response_metadata") or {}).get("messages") or [])]
    return ": ".join([str(data.get("error", "no reason given")), *map(str, details[:3])])
