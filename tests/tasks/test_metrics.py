"""The metrics as they go out: a real server that is scraped, and a real Pushgateway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest

from demo.stack import free_port
from firstwatch.monitor import Health
from firstwatch.redaction import Secret
from tasks.metrics import Sample, exposition, group_url, page, push, serve
from tests.support.answering import Said, answering
from tests.support.faulty_server import faulty_server
from tests.support.programs import program
from tests.support.samples import Page, a_sample

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
TOKEN = Secret("pushgateway", "t0ken-that-nobody-sees")


# ── served ───────────────────────────────────────────────────────────────────────────────────────────────────


class Reader:
    """Gives what it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.samples: Sequence[Sample] = [a_sample()]
        self.problem: Exception | None = None
        self.takes = 0.0

    async def __call__(self) -> Sequence[Sample]:
        self.asked += 1
        await asyncio.sleep(self.takes)
        if self.problem is not None:
            raise self.problem
        return self.samples


@contextlib.asynccontextmanager
async def served(reader: Reader) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `serve`, on a free port."""
    port = free_port()
    serving = asyncio.create_task(serve(reader, "127.0.0.1", port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        for _ in range(100):
            with contextlib.suppress(httpx.ConnectError):
                await client.get("/-/healthy")
                break
            await asyncio.sleep(0.05)
        try:
            yield client
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
    with socket.create_server(("127.0.0.1", port)):
        pass  # it has let go of its port


@contextlib.asynccontextmanager
async def asked(reader: Reader, clock: Callable[[], float], patience: float = 5) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, without a network between: for what time decides."""
    app = httpx.ASGITransport(app=page(reader, clock=clock, patience=patience))
    async with httpx.AsyncClient(transport=app, base_url="http://127.0.0.1") as client:
        yield client


def test_the_page_is_served_in_the_format_that_is_asked_for() -> None:
    async def main() -> None:
        reader = Reader()
        async with served(reader) as client:
            plain = await client.get("/metrics", headers={"Accept": "text/plain"})
            modern = await client.get("/metrics", headers={"Accept": OPENMETRICS})
            odd = await client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=new"})
            healthy = await client.get("/-/healthy")
            missing = await client.get("/")
            posted = await client.post("/metrics")
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert plain.content == exposition(reader.samples) == odd.content
        assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert modern.text.endswith("# EOF\n")
        assert (healthy.status_code, healthy.text) == (200, "ok\n")
        assert (missing.status_code, posted.status_code) == (404, 405)

    asyncio.run(main())


def test_an_address_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        asyncio.run(serve(Reader(), "127.0.0.1", taken.getsockname()[1]))


def test_values_are_read_when_they_are_asked_for_and_once_a_second_at_most() -> None:
    async def main() -> None:
        reader, now = Reader(), [0.0]
        async with asked(reader, lambda: now[0]) as client:
            reader.takes = 0.05
            together = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
            assert {answer.status_code for answer in together} == {200}
            assert reader.asked == 1
            now[0] = 0.9
            reader.samples = [a_sample(health=Health.DOWN)]
            assert Page((await client.get("/metrics")).text).value("probe_success") == 1
            now[0] = 1.0
            assert Page((await client.get("/metrics")).text).value("probe_success") == 0
            assert reader.asked == 2

    asyncio.run(main())


def test_what_cannot_be_read_is_said_and_old_values_do_not_stand_in() -> None:
    async def main() -> None:
        reader, now = Reader(), [0.0]
        async with asked(reader, lambda: now[0], patience=0.1) as client:
            assert (await client.get("/metrics")).status_code == 200
            now[0], reader.problem = 1.0, ConnectionError("no answer from http://me:pa55word@127.0.0.1:4200/api")
            failed = await client.get("/metrics")
            assert failed.status_code == 503
            assert (
                failed.text
                == "what the monitors found could not be read: no answer from http://***@127.0.0.1:4200/api\n"
            )
            assert (await client.get("/metrics")).status_code == 503
            assert reader.asked == 2  # a server in need is not asked more often
            now[0], reader.problem = 2.0, TimeoutError()
            assert (await client.get("/metrics")).text == "what the monitors found could not be read: TimeoutError\n"
            now[0], reader.problem, reader.takes = 3.0, None, 60
            assert "no answer within 0.1 s" in (await client.get("/metrics")).text
            assert (await client.get("/-/healthy")).status_code == 200
            now[0], reader.takes = 4.0, 0
            assert (await client.get("/metrics")).status_code == 200

    asyncio.run(main())


# ── pushed ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def pushgateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its base URL."""
    with program(tmp_path_factory.mktemp("pushgateway"), "prometheus-pushgateway") as url:
        yield url


def pushed(url: str, *samples: Sample, timeout: float = 10, **given: Any) -> str:
    service, location = given.pop("service", "shop"), given.pop("location", "paris")
    return asyncio.run(push(samples, url, service=service, location=location, timeout=timeout, **given))


@pytest.mark.parametrize("location", ["paris", "rack 4/b", "..", "", "Zürich", "a+b?c#d%2F"])
def test_a_push_replaces_what_the_service_had_at_the_location(pushgateway: str, location: str) -> None:
    service = f"shop of {location!r}"
    mine = {"service": service, "location": location}
    first = [a_sample(**mine), a_sample("gone", **mine), a_sample("not mine")]
    assert pushed(f"{pushgateway}/", *first, **mine) == ""
    assert pushed(pushgateway, a_sample(health=Health.DOWN, **mine), **mine) == ""
    found = Page(httpx.get(f"{pushgateway}/metrics", trust_env=False).text)
    named = {"service": service, "job": "firstwatch", **({"location": location} if location else {})}
    assert found.value("probe_success", check="health", **named) == 0
    assert found.value("probe_success", check="gone", **named) is None
    assert found.value("probe_success", check="not mine") is None


def test_a_push_without_samples_would_delete_and_is_not_sent(pushgateway: str) -> None:
    mine = {"service": "quiet", "location": "paris"}
    assert pushed(pushgateway, a_sample(**mine), **mine) == ""
    assert pushed(pushgateway, **mine) == "nothing was pushed: there is no sample of quiet at paris"
    found = Page(httpx.get(f"{pushgateway}/metrics", trust_env=False).text)
    assert found.value("probe_success", service="quiet") == 1


def test_a_pushgateway_that_refuses_is_quoted(pushgateway: str) -> None:
    with answering(Said("who are you?", 401)) as gateway:  # it knows GET and POST only
        assert pushed(gateway.url, a_sample()).startswith("the Pushgateway did not take it: 501 ")
    assert pushed(f"{pushgateway}/nothing-here", a_sample()).startswith("the Pushgateway did not take it: 404 ")


def test_no_failure_of_a_push_is_raised_and_none_shows_the_token() -> None:
    async def main() -> None:
        async def sent(url: str, timeout: float = 5, token: Secret = TOKEN) -> str:
            return await push([a_sample()], url, service="shop", location="paris", bearer=token, timeout=timeout)

        async with faulty_server() as gateway:
            assert await sent(gateway.url) == ""
            seen = gateway.seen[-1]
            assert (seen.method, seen.path) == ("PUT", "/metrics/job/firstwatch/service/shop/location/paris")
            assert seen.all("authorization") == [f"Bearer {TOKEN.reveal()}"]
            assert seen.body == exposition([a_sample()])
            assert await sent(f"{gateway.url}/half?x=", timeout=2) == ""  # the status is the answer
            began = time.monotonic()
            errors = [
                await sent(f"{gateway.url}/hang?x=", timeout=0.2),
                await sent(f"{gateway.url}/limited?s=1&x="),
                await sent(f"{gateway.url}/echo-garbage?x="),
                await sent(f"{gateway.url}/redirect?status=307&to={gateway.url}/elsewhere&x="),
                await sent(f"http://127.0.0.1:{free_port()}"),
                await sent("not a URL"),
                await sent("http://[::1"),
                await sent(gateway.url, token=Secret("two lines", "t0ken-that\nnobody-sees")),
            ]
            assert time.monotonic() - began < 5
        assert "no answer within 0.2 s" in errors[0]
        assert ": 429" in errors[1]
        assert ": 307" in errors[3]
        assert "connection refused" in errors[4]
        for error in errors:
            assert error.startswith("the Pushgateway did not take it: ")
            assert "t0ken" not in error and "nobody" not in error

    asyncio.run(main())


def test_a_gateway_that_repeats_the_token_is_quoted_without_it() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        told = next(line for line in head.split("\r\n") if line.lower().startswith("authorization"))
        said = f"not with {told}"
        writer.write(f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(said)}\r\n\r\n{said}".encode())
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as gateway:
            url = f"http://127.0.0.1:{gateway.sockets[0].getsockname()[1]}"
            error = await push([a_sample()], url, service="shop", location="paris", bearer=TOKEN)
        assert error.lower() == "the pushgateway did not take it: 403 not with authorization: bearer ***"

    asyncio.run(main())


def test_a_group_is_written_as_the_pushgateway_documents_it() -> None:
    assert group_url("http://gw/", "shop", "") == "http://gw/metrics/job/firstwatch/service/shop/location@base64/="
    assert (
        group_url("http://gw/a", "a/b", "x.y") == "http://gw/a/metrics/job/firstwatch/service@base64/YS9i/location/x.y"
    )
