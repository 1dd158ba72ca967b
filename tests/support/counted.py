"""What this process asks of a Prefect server, written down as `GET /flow_runs/…`. Nothing else is changed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import httpx

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@contextlib.contextmanager
def counted(api: str) -> Iterator[list[str]]:
    """The requests to the API at `api` that go out while this lasts, an id in their path as `…`. A door in between
    would have to outlive Prefect's threads, which keep their web sockets."""
    asked: list[str] = []
    ordinary, blocking = httpx.AsyncHTTPTransport.handle_async_request, httpx.HTTPTransport.handle_request

    def note(request: httpx.Request) -> None:
        url = str(request.url)
        if url.startswith(api):
            asked.append(f"{request.method} {_ID.sub('…', url.removeprefix(api).partition('?')[0])}")

    async def noted(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        note(request)
        return await ordinary(self, request)

    def noted_blocking(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        note(request)
        return blocking(self, request)

    httpx.AsyncHTTPTransport.handle_async_request = noted  # type: ignore[method-assign]  # a meter, not a stand-in
    httpx.HTTPTransport.handle_request = noted_blocking  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        httpx.AsyncHTTPTransport.handle_async_request = ordinary  # type: ignore[method-assign]
        httpx.HTTPTransport.handle_request = blocking  # type: ignore[method-assign]
