"""A local Slack: it takes what Slack takes, refuses what Slack refuses, and shows what people would have read.

    python -m demo.slack --port 8065

Two doors, as at Slack: an incoming webhook (answers `ok`) and the Web API (JSON): chat.postMessage, chat.update,
conversations.history and conversations.replies. What it took is at GET /messages. Tests start it in their own process,
look at `messages`, and order trouble with `trouble`. As a program, its first line is its URL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from demo.block_kit import kept_metadata, refusal

CHANNEL_ID = "C0000000001"  # what chat.postMessage answers, and what reading and updating ask for: the name will not do


@dataclass(frozen=True)
class Posted:
    """A message that Slack took, as it reads now. `thread_ts`: the message that it is a reply to; None through a
    webhook. `earlier`: what it read before each of its updates."""

    ts: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    thread_ts: str | None = None
    broadcast: bool = False
    channel: str = ""
    metadata: dict[str, Any] | None = None
    earlier: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """All that is read in it, as plain text."""
        return "\n".join(_words(self.blocks)) or self.text

    @property
    def edited(self) -> int:
        """How often it was updated."""
        return len(self.earlier)


class Slack:
    """The server. `trouble` holds what happens to the next requests, in order: None (nothing), a status (429, 500, …),
    "hang", "drop" (the connection), "lost" (it does as it is told, and the answer never comes) or "garbage" (an answer
    that is not Slack's). `scopes`: what the token may do; `clock` gives the messages their time, Unix seconds."""

    def __init__(
        self,
        port: int = 0,
        channel: str = "releases",
        token: str = "",
        webhook_path: str = "",
        show: Callable[[Posted], None] | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.token = token or f"xoxb-{secrets.token_hex(12)}"
        self.channel = channel
        self.scopes = {"chat:write", "channels:history"}
        self.retry_after = 1
        self.messages: list[Posted] = []
        self.asked: list[float] = []  # when each request came, monotonic seconds
        self.methods: list[str] = []  # what each of them asked for
        self.trouble: deque[int | str | None] = deque()
        self.released = threading.Event()  # ends all hanging
        self._path = webhook_path or f"/services/T000/B000/{secrets.token_hex(12)}"
        self._show = show
        self._clock = clock
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def webhook_url(self) -> str:
        return self.url + self._path

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    # ── what it answers: status and body ─────────────────────────────────────────────────────────────────────

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, str]:
        address = urlsplit(path)
        message = _sent(body, address.query)
        if address.path == self._path:
            return self._webhook(message)
        methods: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
            "/api/chat.postMessage": ("chat:write", self._post_message),
            "/api/chat.update": ("chat:write", self._update),
            "/api/conversations.history": ("channels:history", self._history),
            "/api/conversations.replies": ("channels:history", self._replies),
        }
        if address.path not in methods:
            return 404, "no_service"
        scope, method = methods[address.path]
        if refused := self._refused(authorization, scope):
            return 200, json.dumps(refused)
        return 200, json.dumps(method(message) if isinstance(message, dict) else _error("invalid_json"))

    def _refused(self, authorization: str, scope: str) -> dict[str, Any] | None:
        """Why nothing is done for this caller; None if it is."""
        if not authorization.startswith("Bearer "):
            return _error("not_authed")
        if authorization != f"Bearer {self.token}":
            return _error("invalid_auth")
        if scope not in self.scopes:
            return _error("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))
        return None

    def _webhook(self, message: Any) -> tuple[int, str]:
        if not isinstance(message, dict):
            return 400, "invalid_payload"
        error = refusal(message)
        if error:
            return 400, str(error["error"])
        self._keep(message, thread_ts=None)
        return 200, "ok"

    def _post_message(self, message: dict[str, Any]) -> dict[str, Any]:
        if str(message.get("channel", "")).lstrip("#") not in (self.channel, CHANNEL_ID):
            return _error("channel_not_found")
        thread_ts = message.get("thread_ts")
        if thread_ts is not None and not any(m.ts == thread_ts and m.thread_ts is None for m in self.messages):
            return _error("thread_not_found")
        error = refusal(message)
        if error:
            return error
        posted = self._keep(message, thread_ts)
        return _done(posted, message)

    def _keep(self, message: dict[str, Any], thread_ts: str | None) -> Posted:
        with self._lock:
            posted = Posted(
                ts=f"{int(self._clock())}.{len(self.messages):06d}",
                text=message.get("text", ""),
                blocks=message.get("blocks") or [],
                thread_ts=thread_ts,
                broadcast=bool(message.get("reply_broadcast")),
                channel=str(message.get("channel", "")),
                metadata=kept_metadata(message),
            )
            self.messages.append(posted)
            if self._show:
                self._show(posted)
        return posted

    def _update(self, message: dict[str, Any]) -> dict[str, Any]:
        """A text without blocks takes the blocks away; metadata stays where none is given."""
        if message.get("channel") != CHANNEL_ID:
            return _error("channel_not_found")
        with self._lock:
            found = [n for n, m in enumerate(self.messages) if m.ts == message.get("ts")]
            if not found:
                return _error("message_not_found")
            before = self.messages[found[0]]
            if not before.channel:  # it came through the webhook: another author's
                return _error("cant_update_message")
            if error := refusal(message):
                return error
            after = replace(
                before,
                text=message.get("text", ""),
                blocks=message.get("blocks") or [],
                metadata=kept_metadata(message) if "metadata" in message else before.metadata,
                earlier=(*before.earlier, before.words),
            )
            self.messages[found[0]] = after
            if self._show:
                self._show(after)
        return _done(after, message)

    def _history(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The channel's messages, newest first. Replies are not among them, unless they were broadcast."""
        if asked.get("channel") != CHANNEL_ID:
            return _error("channel_not_found")
        return _page([m for m in reversed(self.messages) if m.channel and (not m.thread_ts or m.broadcast)], asked)

    def _replies(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A message and the replies to it, oldest first."""
        if asked.get("channel") != CHANNEL_ID:
            return _error("channel_not_found")
        first = [m for m in self.messages if m.ts == asked.get("ts") and m.thread_ts is None]
        if not first:
            return _error("thread_not_found")
        return _page(first + [m for m in self.messages if m.thread_ts == first[0].ts], asked)


def _sent(body: bytes, query: str) -> Any:
    """What a request says: JSON, a form, or the query of its address. None for what is none of these."""
    if not body or body[:1] not in (b"{", b"[", b'"'):
        return dict(parse_qsl(body.decode(errors="replace") or query)) or None
    try:
        return json.loads(body)
    except ValueError:
        return None


def _error(code: str, **more: str) -> dict[str, Any]:
    return {"ok": False, "error": code, **more}


def _done(posted: Posted, message: dict[str, Any]) -> dict[str, Any]:
    """What is answered to a message that was posted or updated."""
    answer = {"ok": True, "channel": CHANNEL_ID, "ts": posted.ts, "message": {"text": posted.text}}
    if message.get("metadata") and posted.metadata is None:
        answer["warning"] = "invalid_metadata_schema"
    return answer


def _page(messages: list[Posted], asked: Mapping[str, Any]) -> dict[str, Any]:
    """As many of them as are asked for: later than `oldest`, from `cursor` on."""
    oldest, begin = float(asked.get("oldest", 0)), int(asked.get("cursor", 0))
    wanted = [m for m in messages if float(m.ts) > oldest]
    end = begin + min(int(asked.get("limit", 100)), 999)
    more = end < len(wanted)
    return {
        "ok": True,
        "messages": [_shown(m, asked.get("include_all_metadata") in ("1", "true")) for m in wanted[begin:end]],
        "has_more": more,
        "response_metadata": {"next_cursor": str(end) if more else ""},
    }


def _shown(posted: Posted, with_metadata: bool) -> dict[str, Any]:
    thread = {"thread_ts": posted.thread_ts} if posted.thread_ts else {}
    metadata = {"metadata": posted.metadata} if with_metadata and posted.metadata else {}
    return {"type": "message", "ts": posted.ts, "text": posted.text, **thread, **metadata}


def _words(value: Any) -> list[str]:
    """The texts within blocks, in reading order."""
    if isinstance(value, list):
        return [text for item in value for text in _words(item)]
    if not isinstance(value, dict):
        return []
    if value.get("type") in ("mrkdwn", "plain_text"):
        return [value["text"]]
    return [text for part in ("text", "fields", "elements", "accessory") for text in _words(value.get(part))]


def _handler(slack: Slack) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                return self._take(b"")
            kept = [asdict(m) | {"words": m.words, "edited": m.edited} for m in slack.messages]
            self._answer(200, json.dumps({"messages": kept}))

        def do_POST(self) -> None:
            self._take(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _take(self, body: bytes) -> None:
            slack.asked.append(time.monotonic())
            slack.methods.append(urlsplit(self.path).path.rpartition("/")[2])
            match slack.trouble.popleft() if slack.trouble else None:
                case None:
                    self._answer(*slack.answer(self.path, self.headers.get("Authorization", ""), body))
                case 429:
                    self._answer(429, '{"ok": false, "error": "ratelimited"}', {"Retry-After": str(slack.retry_after)})
                case int(status):
                    self._answer(status, "internal_error")
                case "hang":
                    slack.released.wait(60)
                case "garbage":
                    self._answer(200, "<html>a captive portal</html>")
                case "lost":
                    slack.answer(self.path, self.headers.get("Authorization", ""), body)
                    self.close_connection = True
                case _:
                    self.close_connection = True  # not a byte in answer

        def _answer(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            kind = "application/json" if body.startswith("{") else "text/html"
            for name, value in {"Content-Type": f"{kind}; charset=utf-8", **(headers or {})}.items():
                self.send_header(name, value)
            data = body.encode()
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """What people read is shown, not the requests."""

    return Handler


def as_lines(posted: Posted) -> str:
    """A message as a terminal shows it: replies are indented, and an update is said to be one."""
    indent = "  │ " if posted.thread_ts else ""
    head = f"slack {posted.channel or 'webhook'}" + (f" (updated, {posted.edited})" if posted.edited else "")
    text = posted.words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return "\n".join(f"{indent}{line}" for line in f"{head}\n{text}".splitlines()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="A local Slack that prints what it is told.")
    parser.add_argument("--port", type=int, default=8065)
    parser.add_argument("--channel", default="releases")
    parser.add_argument("--token", default="xoxb-demo", help="the bot token it accepts")
    parser.add_argument("--webhook-path", default="/services/T000/B000/demo")
    slack = Slack(**vars(parser.parse_args()), show=lambda posted: print(as_lines(posted), flush=True))
    print(slack.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        slack.serve()


if __name__ == "__main__":
    main()
