"""A local Slack: it takes what Slack takes, refuses what Slack refuses, and shows what people would have read.

    python -m demo.slack --port 8065

Two doors, as at Slack: an incoming webhook (answers `ok`) and the Web API's chat.postMessage (answers JSON, and keeps
threads). What it took is at GET /messages. Tests start it in their own process, look at `messages`, and order trouble
with `trouble`. As a program, its first line is its URL.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from demo.block_kit import problems_with

MAX_TEXT = 40_000


@dataclass(frozen=True)
class Posted:
    """A message that Slack took. `thread_ts`: the message that it is a reply to; None through a webhook."""

    ts: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    thread_ts: str | None = None
    broadcast: bool = False
    channel: str = ""

    @property
    def words(self) -> str:
        """All that is read in it, as plain text."""
        return "\n".join(_words(self.blocks)) or self.text


class Slack:
    """The server. `trouble` holds what happens to the next requests, in order: a status (429, 500, …), "hang", "drop"
    (the connection) or "garbage" (an answer that is not Slack's)."""

    def __init__(
        self,
        port: int = 0,
        channel: str = "releases",
        token: str = "",
        webhook_path: str = "",
        show: Callable[[Posted], None] | None = None,
    ):
        self.token = token or f"xoxb-{secrets.token_hex(12)}"
        self.channel = channel
        self.retry_after = 1
        self.messages: list[Posted] = []
        self.asked: list[float] = []  # when each request came, monotonic seconds
        self.trouble: deque[int | str] = deque()
        self.released = threading.Event()  # ends all hanging
        self._path = webhook_path or f"/services/T000/B000/{secrets.token_hex(12)}"
        self._show = show
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
        try:
            message = json.loads(body)
        except ValueError:
            message = None
        if path == self._path:
            return self._webhook(message)
        if path == "/api/chat.postMessage":
            return 200, json.dumps(self._post_message(authorization, message))
        return 404, "no_service"

    def _webhook(self, message: Any) -> tuple[int, str]:
        if not isinstance(message, dict):
            return 400, "invalid_payload"
        error = _refusal(message)
        if error:
            return 400, str(error["error"])
        self._keep(message, thread_ts=None)
        return 200, "ok"

    def _post_message(self, authorization: str, message: Any) -> dict[str, Any]:
        if not authorization.startswith("Bearer "):
            return {"ok": False, "error": "not_authed"}
        if authorization != f"Bearer {self.token}":
            return {"ok": False, "error": "invalid_auth"}
        if not isinstance(message, dict):
            return {"ok": False, "error": "invalid_json"}
        if str(message.get("channel", "")).lstrip("#") != self.channel:
            return {"ok": False, "error": "channel_not_found"}
        thread_ts = message.get("thread_ts")
        if thread_ts is not None and not any(m.ts == thread_ts and m.thread_ts is None for m in self.messages):
            return {"ok": False, "error": "thread_not_found"}
        error = _refusal(message)
        if error:
            return error
        posted = self._keep(message, thread_ts)
        return {"ok": True, "channel": "C0000000001", "ts": posted.ts, "message": {"text": posted.text}}

    def _keep(self, message: dict[str, Any], thread_ts: str | None) -> Posted:
        with self._lock:
            posted = Posted(
                ts=f"{int(time.time())}.{len(self.messages):06d}",
                text=message.get("text", ""),
                blocks=message.get("blocks") or [],
                thread_ts=thread_ts,
                broadcast=bool(message.get("reply_broadcast")),
                channel=str(message.get("channel", "")),
            )
            self.messages.append(posted)
            if self._show:
                self._show(posted)
        return posted


def _refusal(message: dict[str, Any]) -> dict[str, Any] | None:
    """Why Slack would not take the message, as its JSON says it; None if it would."""
    text, blocks = message.get("text"), message.get("blocks")
    if blocks and (problems := problems_with(blocks)):
        return {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": problems}}
    if not blocks and not text:
        return {"ok": False, "error": "no_text"}
    if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
        return {"ok": False, "error": "msg_too_long"}
    return None


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
            self._answer(200, json.dumps({"messages": [asdict(m) | {"words": m.words} for m in slack.messages]}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            slack.asked.append(time.monotonic())
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
    """A message as a terminal shows it: replies are indented."""
    indent = "  │ " if posted.thread_ts else ""
    text = posted.words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return "\n".join(f"{indent}{line}" for line in f"slack {posted.channel or 'webhook'}\n{text}".splitlines()) + "\n"


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
