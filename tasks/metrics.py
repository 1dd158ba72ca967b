"""What the monitors found, for a Prometheus: served to be scraped, or pushed to a Pushgateway. Works without Prefect.

await serve(read_samples, "127.0.0.1", 9700)
error = await push(samples, "http://127.0.0.1:9091", service="shop", location="paris")
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from firstwatch.redaction import Redactor, Secret
from tasks import wire
from tasks.exposition import Encode, Sample, answer_facts, exposition

__all__ = ["ReadSamples", "Sample", "answer_facts", "exposition", "page", "push", "serve"]

ReadSamples = Callable[[], Awaitable[Sequence[Sample]]]

HOLDS = 1.0  # seconds that what was read is served again: however many scrape, the reader is not asked more often
PATIENCE = 8.0  # seconds for one read; Prometheus gives up a scrape after ten, as a rule, and then shows no reason
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # as a URL's segment; `.` and `..` are not


# ── served ───────────────────────────────────────────────────────────────────────────────────────────────────


async def serve(read_samples: ReadSamples, host: str = "127.0.0.1", port: int = 9700) -> None:
    """Serve GET /metrics and GET /-/healthy until cancelled, or until the process is told to end.

    Raises OSError when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        config = uvicorn.Config(
            page(read_samples),
            access_log=False,
            log_level="warning",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving


def page(
    read_samples: ReadSamples, *, clock: Callable[[], float] = time.monotonic, patience: float = PATIENCE
) -> Starlette:
    """The application behind `serve`. `clock` counts seconds, for how long a read holds."""
    read = _Reading(read_samples, clock, patience)

    async def metrics(request: Request) -> Response:
        encode, content_type = _encoder(request.headers.get("accept", ""))
        try:
            body = exposition(await read(), encode)
        except _Unread as unread:  # what was read before is not served instead: nobody would notice
            return PlainTextResponse(f"{unread}\n", status_code=503)
        return Response(body, headers={"Content-Type": content_type})

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/-/healthy", healthy)])


class _Unread(Exception):
    """The samples could not be read, and why."""


class _Reading:
    """Reads when it is asked, and at most once in HOLDS seconds: who asks meanwhile shares the result, or the error."""

    def __init__(self, read_samples: ReadSamples, clock: Callable[[], float], patience: float) -> None:
        self._read_samples, self._clock, self._patience = read_samples, clock, patience
        self._one_at_a_time = asyncio.Lock()
        self._until: float | None = None
        self._found: Sequence[Sample] = ()
        self._why_not = ""

    async def __call__(self) -> Sequence[Sample]:
        """Raises _Unread."""
        async with self._one_at_a_time:
            if self._until is None or self._clock() >= self._until:
                self._found, self._why_not = await self._read()
                self._until = self._clock() + HOLDS
            if self._why_not:
                raise _Unread(self._why_not)
            return self._found

    async def _read(self) -> tuple[Sequence[Sample], str]:
        limit = asyncio.timeout(self._patience)
        try:
            async with limit:
                return await self._read_samples(), ""
        except Exception as problem:  # whatever it is, who asks is told
            why = f"no answer within {self._patience:g} s" if limit.expired() else Redactor().text(str(problem))[:500]
            return (), f"what the monitors found could not be read: {why or type(problem).__name__}"


def _encoder(accept: str) -> tuple[Encode, str]:
    """The format that is asked for, and its content type. What cannot be understood gets the plain one."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4


# ── pushed ───────────────────────────────────────────────────────────────────────────────────────────────────


async def push(
    samples: Sequence[Sample],
    url: str,
    *,
    service: str,
    location: str,
    bearer: Secret | None = None,
    timeout: float = 10.0,
) -> str:
    """Replace what the Pushgateway at this base URL has of the service at the location, within `timeout` seconds.

    Returns what went wrong, redacted; empty if it was accepted. Raises nothing: a round does not fail by it.
    """
    redactor = Redactor([bearer.reveal()] if bearer else [])
    own = [sample for sample in samples if (sample.service, sample.location) == (service, location)]
    if not own:  # an empty page would delete what is there
        return f"nothing was pushed: there is no sample of {service} at {location}"
    headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer.reveal()}"
    try:
        group, body = group_url(url, service, location), exposition(own)
        async with (
            asyncio.timeout(timeout),
            httpx.AsyncClient(verify=wire.tls_context(None, False), timeout=None, trust_env=False) as client,
            client.stream("PUT", group, content=body, headers=headers) as answer,
        ):
            if answer.is_success:
                return ""
            why = f"{answer.status_code} {await anext(answer.aiter_text(200), '')}".strip()  # it may be endless
    except TimeoutError:
        why = f"no answer within {timeout:g} s"
    except Exception as problem:
        why = wire.describe(problem) if isinstance(problem, httpx.TransportError) else _only_kind(problem)
    return redactor.text(f"the Pushgateway did not take it: {why}")


def group_url(url: str, service: str, location: str) -> str:
    """Where the metrics of a service at a location live on the Pushgateway with this base URL."""
    labels = {"job": "firstwatch", "service": service, "location": location}
    return "/".join([f"{url.rstrip('/')}/metrics", *(_grouped(name, value) for name, value in labels.items())])


def _grouped(name: str, value: str) -> str:
    """`name/value`, as the Pushgateway reads it. What a URL's segment would not leave alone goes in base64."""
    if _PLAIN_VALUE.fullmatch(value):
        return f"{name}/{value}"
    encoded = base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
    return f"{name}@base64/{encoded or '='}"


def _only_kind(problem: Exception) -> str:
    """Its text might quote a header."""
    return f"it cannot be asked ({type(problem).__name__})"
