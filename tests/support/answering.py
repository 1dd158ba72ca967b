"""An HTTP server that answers whatever a test tells it to: for what a sane server never says."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Said:
    """One answer."""

    body: str | bytes = ""
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class Answering:
    """Answers with `answers` in turn, then with the last one again. `seen` lists (path, headers) of what was asked."""

    def __init__(self, url: str, answers: Sequence[Said]) -> None:
        self.url, self.answers = url, list(answers)
        self.seen: list[tuple[str, dict[str, str]]] = []

    def next(self, path: str, headers: dict[str, str]) -> Said:
        self.seen.append((path, headers))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def answering(*answers: Said, tls: ssl.SSLContext | None = None) -> Iterator[Answering]:
    """The server, on 127.0.0.1 (as localhost, with `tls`), for the length of a `with` block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = told.next(self.path, {name.lower(): value for name, value in self.headers.items()})
            body = said.body.encode() if isinstance(said.body, str) else said.body
            self.send_response(said.status)
            for name, value in {"Content-Type": said.kind, "Content-Length": str(len(body)), **said.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    host = "https://localhost" if tls else "http://127.0.0.1"
    told = Answering(f"{host}:{server.server_address[1]}", answers)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
