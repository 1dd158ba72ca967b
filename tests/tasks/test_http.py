"""The transport and the probe against real servers with real faults."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from firstwatch.answer import Answer, NoAnswer, Way
from firstwatch.conditions import HTTP_NAMES, compile_condition
from firstwatch.model import Attempt, Outcome
from firstwatch.spec.models import Rules, Service
from firstwatch.spec.request import Check, Request
from tasks.budget import Budget
from tasks.http import Transport, open_transport, run_check
from tasks.wire import AddressRefused, Resolver, open_client, tls_context
from tests.support.faulty_server import FaultyServer, certificate, faulty_server

LIMIT = 0.6  # seconds a request may take in these tests
PLANTED = "pl4nted/s3cret+&val"


class Lines(logging.Handler):
    """Every line that was logged, by anybody."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class World:
    """A faulty server and a transport to it."""

    def __init__(self, server: FaultyServer, transport: Transport, log: Lines) -> None:
        self.server, self.transport, self.log = server, transport, log

    async def send(self, *, left: float = 30.0, fresh: bool = False, **request: Any) -> Answer | NoAnswer:
        deadline = time.monotonic() + left
        return await self.transport.send("a check", 1, Request(**request), deadline=deadline, fresh_connection=fresh)

    async def attempt(self, *expect: str, left: float = 30.0, **request: Any) -> Attempt:
        check = Check(name="a check", expect=list(expect), **request)
        conditions = [compile_condition(text, HTTP_NAMES) for text in expect]
        return await run_check(self.transport, check, conditions, deadline_monotonic=time.monotonic() + left)


def run(
    test: Callable[[World], Coroutine[Any, Any, None]], *, base_url: str = "", tls: Any = None, **given: Any
) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(faulty_server(tls))
            rules = Rules(**{"timeout": LIMIT, "requests_per_second": 10_000, **given})
            service = Service(service="shop", base_url=base_url or server.url, rules=rules)
            log = Lines()
            logger = logging.Logger("requests", logging.DEBUG)
            logger.addHandler(log)
            budget = Budget("shop", rules.requests_per_second)
            transport = await stack.enter_async_context(open_transport(service, logger=logger, budget=budget))
            await test(World(server, transport, log))
            await budget.aclose()

    asyncio.run(main())


# ── what goes over the wire ──────────────────────────────────────────────────────────────────────────────────


def test_every_hop_carries_the_marks_and_a_trace_of_its_own() -> None:
    async def test(w: World) -> None:
        answer = await w.send(get="/redirect?status=302&to=/redirect%3Fstatus%3D307%26to%3D/ok")
        assert isinstance(answer, Answer)
        assert (answer.status, answer.json) == (200, {"status": "ok"})
        assert [s.path.partition("?")[0] for s in w.server.seen] == ["/redirect", "/redirect", "/ok"]
        assert len(answer.redirected_from) == 2
        for seen in w.server.seen:
            assert seen.all("x-synthetic-request") == ["true"]
            assert seen.all("user-agent") == ["SyntheticMonitor/1.0"]
            assert seen.all("cache-control") == ["no-cache"]
            assert seen.all("host") == [f"127.0.0.1:{w.server.port}"]
            assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", seen.all("traceparent")[0])
        traces = [s.all("traceparent")[0].split("-")[1] for s in w.server.seen]
        assert len(set(traces)) == 3
        assert [r.trace_id for r in w.transport.records] == traces
        assert [r.status for r in w.transport.records] == [302, 307, 200]

    run(test, redirects=5)


@pytest.mark.parametrize("name", ["X-Synthetic-Request", "user-AGENT", "traceparent", "Host", "X-HTTP-Method-Override"])
def test_the_marks_cannot_be_set_by_a_file(name: str) -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 200", get="/ok", headers={name: "other"})
        assert attempt.outcome is Outcome.ERROR
        assert f"{name} is set by the transport" in attempt.why or name.lower() in attempt.why
        assert w.server.seen == []
        assert w.transport.records[0].status is None

    run(test)


def test_bodies_are_sent_as_the_file_says() -> None:
    async def test(w: World) -> None:
        await w.send(post="/a", json={"x": [1, "ü"]})
        await w.send(post="/a", form={"user": "a b", "pass": "c&d"})
        await w.send(post="/a", body="plain", headers={"Content-Type": "text/csv"})
        bodies = [(s.body, s.all("content-type")) for s in w.server.seen]
        assert json.loads(bodies[0][0]) == {"x": [1, "ü"]}
        assert bodies[0][1] == ["application/json"]
        assert bodies[1] == (b"user=a+b&pass=c%26d", ["application/x-www-form-urlencoded"])
        assert bodies[2] == (b"plain", ["text/csv"])

    run(test, allow=[{"request": "POST /a", "because": "it is a test"}])


def test_an_answer_tells_which_way_it_came(tmp_path: Path) -> None:
    server, ca = certificate(tmp_path)

    async def test(w: World) -> None:
        for _ in range(2):  # the second time over the connection that is there
            answer = await w.send(get="/ok")
            assert isinstance(answer, Answer)
            assert answer.way == Way("HTTP/1.1", 4, "TLSv1.3" if w.server.url.startswith("https") else "")

    run(test)
    run(test, tls=server, ca_file=str(ca), timeout=5)


def test_a_fresh_connection_is_one_that_nobody_used() -> None:
    async def test(w: World) -> None:
        for fresh in (False, False, True, True, False):
            assert isinstance(await w.send(get="/ok", fresh=fresh), Answer)
        assert [s.connection for s in w.server.seen] == [1, 1, 2, 3, 1]

    run(test)


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def test(w: World) -> None:
        assert isinstance(await w.send(get="/ok"), Answer)

    run(test)


def test_cookies_of_one_answer_are_not_sent_with_the_next() -> None:
    async def test(w: World) -> None:
        answer = await w.send(get="/cookie")
        assert isinstance(answer, Answer)
        assert answer.headers["set-cookie"] == "session=1; Path=/"
        await w.send(get="/ok")
        assert w.server.seen[1].all("cookie") == []

    run(test)


def test_the_client_marks_last_keeps_no_cookie_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with (
            faulty_server() as server,
            open_client(tls_context(None, False), Resolver("127.0.0.1", server.port)) as client,
        ):
            for _ in range(2):
                await client.get(f"{server.url}/cookie", headers={"USER-agent": "me", "X-Synthetic-Request": "false"})
            assert not client.cookies
            for seen in server.seen:
                assert seen.all("user-agent") == ["SyntheticMonitor/1.0"]
                assert seen.all("x-synthetic-request") == ["true"]
                assert seen.all("cookie") == []

    asyncio.run(main())
    assert not [r for r in caplog.records if r.name.startswith(("httpx", "httpcore"))]


# ── servers that do not behave ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/hang", "no answer within 600ms (connected, headers never came)"),
        ("/drip-headers", "no answer within 600ms (connected, headers never came)"),
        ("/drip", "no answer within 600ms (status 200 and "),
        ("/half", "no answer within 600ms (status 200 and 50 bytes came, not the end)"),
    ],
)
def test_a_server_that_dawdles_does_not_outlive_the_deadline(path: str, said: str) -> None:
    async def test(w: World) -> None:
        started = time.monotonic()
        attempt = await w.attempt("status < 500", get=path)
        assert time.monotonic() - started < LIMIT + 0.5
        assert attempt.outcome is Outcome.FAIL
        assert attempt.why.startswith(said)
        assert attempt.elapsed == pytest.approx(LIMIT, abs=0.5)
        assert w.transport.records[0].error.startswith(said)

    run(test)


def test_the_suites_deadline_cuts_a_request_short() -> None:
    async def test(w: World) -> None:
        started = time.monotonic()
        attempt = await w.attempt("status == 200", get="/hang", timeout="20s", left=0.3)
        assert time.monotonic() - started < 0.8
        assert attempt.outcome is Outcome.FAIL
        assert "when the suite's time was up" in attempt.why
        late = await w.attempt("status == 200", get="/ok", left=-1)
        assert late.outcome is Outcome.ERROR
        assert late.why.startswith("not sent")
        assert len(w.server.seen) == 1

    run(test)


def test_ten_gigabytes_are_not_read() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 200", get="/endless", timeout="10s")
        assert (attempt.outcome, attempt.why) == (Outcome.FAIL, "answer longer than 1 MB")
        assert w.transport.records[0].bytes <= 1_000_000 + 65_536
        await asyncio.sleep(0.1)
        sent = w.server.sent
        await asyncio.sleep(0.1)
        assert w.server.sent == sent < 20_000_000  # the connection is closed: the server stopped
        assert isinstance(await w.send(get="/ok"), Answer)

    run(test)


def test_a_gzip_bomb_is_not_unpacked() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 200", get="/bomb", timeout="10s")
        assert (attempt.outcome, attempt.why) == (Outcome.FAIL, "answer longer than 1 MB")

    run(test)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/short", "the answer breaks HTTP: "),
        ("/garbage", "the answer breaks HTTP: "),
        ("/close", "the answer breaks HTTP: Server disconnected without sending a response."),
        ("/brotli", "the answer cannot be read: its content encoding 'br' was not asked for"),
        ("/torn-gzip", "the answer cannot be read: its compressed body ends too early"),
    ],
)
def test_broken_answers_fail(path: str, said: str) -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status < 500", get=path)
        assert attempt.outcome is Outcome.FAIL
        assert attempt.why.startswith(said)

    run(test)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nan", "it holds NaN"),
        ("/infinity", "a number is too large"),
        ("/twice", "the name 'status' stands twice"),
        ("/latin", "it is not UTF-8"),
        ("/html", "the body is not JSON"),
        ("/empty", "the body is empty"),
    ],
)
def test_what_is_not_json_has_no_json(path: str, said: str) -> None:
    async def test(w: World) -> None:
        answer = await w.send(get=path)
        assert isinstance(answer, Answer)
        assert "json" not in answer.names()
        assert said in answer.json_why
        attempt = await w.attempt("status == 200", 'json.value != 5.0 || json.status == "ok"', get=path)
        assert attempt.outcome is Outcome.FAIL
        assert said in attempt.why

    run(test)


def test_all_failing_expectations_are_named() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 201", 'json.status == "ok"', 'json.version == "7"', get="/ok")
        assert attempt.outcome is Outcome.FAIL
        assert "status == 201" in attempt.why
        assert "json.version" in attempt.why
        assert 'json.status == "ok"' not in attempt.why
        good = await w.attempt("status == 200", 'json.status == "ok"', "elapsed < 0.5", get="/ok")
        assert (good.outcome, good.why, good.status) == (Outcome.PASS, "", 200)

    run(test)


def test_gzip_head_and_caches() -> None:
    async def test(w: World) -> None:
        packed = await w.send(get="/gzip")
        assert isinstance(packed, Answer)
        assert packed.json == {"status": "ok"}
        head = await w.send(head="/big-head")
        assert isinstance(head, Answer)
        assert head.status == 200
        cached = await w.attempt("status == 200", get="/cached")
        assert (cached.outcome, cached.why) == (Outcome.PASS, "a cache answered (Age: 30)")

    run(test)


def test_nobody_there() -> None:
    async def refused(w: World) -> None:
        attempt = await w.attempt("status < 500", get="/ok")
        assert (attempt.outcome, attempt.why) == (Outcome.FAIL, "connection refused")

    run(refused, base_url="http://127.0.0.1:1")

    async def unknown(w: World) -> None:
        attempt = await w.attempt("status < 500", get="/ok")
        assert attempt.outcome is Outcome.FAIL
        assert attempt.why.startswith(("DNS: ", "no answer within"))

    run(unknown, base_url="http://no-such-host.invalid")


def test_certificates_are_verified_by_name_and_date(tmp_path: Path) -> None:
    good, ca = certificate(tmp_path)
    expired, old_ca = certificate(tmp_path / ".", host="localhost", days=-1)
    other, other_ca = certificate(tmp_path, host="other.example.com")

    def expecting(outcome: Outcome, said: str) -> Callable[[World], Coroutine[Any, Any, None]]:
        async def test(w: World) -> None:
            attempt = await w.attempt("status == 200", get="/ok", timeout="5s")
            assert (attempt.outcome, said in attempt.why) == (outcome, True), attempt.why

        return test

    run(expecting(Outcome.FAIL, "TLS: certificate has expired"), tls=expired, ca_file=str(old_ca))
    run(expecting(Outcome.FAIL, "TLS: Hostname mismatch"), tls=other, ca_file=str(other_ca))
    run(expecting(Outcome.FAIL, "TLS: self-signed certificate"), tls=good)
    run(expecting(Outcome.PASS, ""), tls=good, insecure=True)
    folder = tmp_path / "trusted"
    folder.mkdir()
    good, ca = certificate(folder)
    run(expecting(Outcome.PASS, ""), tls=good, ca_file=str(ca))


# ── redirects ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_redirect_is_an_answer_unless_it_is_allowed() -> None:
    async def test(w: World) -> None:
        answer = await w.send(get="/redirect?status=302&to=/ok")
        assert isinstance(answer, Answer)
        assert answer.status == 302
        assert len(w.server.seen) == 1

    run(test)


def test_a_redirect_to_what_is_no_url() -> None:
    path = "/redirect?status=302&to=http:%2F%2Fa:port"

    async def answered(w: World) -> None:
        answer = await w.send(get=path)
        assert isinstance(answer, Answer)
        assert (answer.status, answer.headers["location"]) == (302, "http://a:port")

    async def followed(w: World) -> None:
        attempt = await w.attempt("status == 302", get=path)
        assert (attempt.outcome, attempt.why) == (Outcome.FAIL, "redirects to something that is no URL")

    run(answered)
    run(followed, redirects=3)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("http://localhost:{port}/ok", "the host localhost:{port} is neither"),
        ("http://169.254.169.254/latest/meta-data", "the host 169.254.169.254 is neither"),
        ("/payments/1", "/payments/1 is a payment path"),
        ("/x/..%252fpaYments", "is a payment path"),
        ("ftp://127.0.0.1/ok", "only http and https"),
        ("http://user:pw@127.0.0.1:{port}/ok", "carries a user name"),
        ("//evil.example.com/ok", "evil.example.com is neither"),
    ],
)
def test_a_redirect_to_a_refused_place_fails(target: str, said: str) -> None:
    async def test(w: World) -> None:
        target_here = target.format(port=w.server.port)
        attempt = await w.attempt("status < 500", get=f"/redirect?status=302&to={target_here}")
        assert attempt.outcome is Outcome.FAIL
        assert "redirects to " in attempt.why
        assert said.format(port=w.server.port) in attempt.why
        assert "pw@" not in attempt.why
        assert len(w.server.seen) == 1
        assert w.transport.records[-1].status is None

    run(test, redirects=3)


def test_a_host_on_the_list_is_asked_only_at_addresses_outside() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status < 500", get="/redirect?status=302&to=http://169.254.169.254/latest")
        assert attempt.outcome is Outcome.FAIL
        assert "169.254.169.254" in attempt.why
        direct = await w.attempt("status < 500", get="http://169.254.169.254/latest")
        assert direct.outcome is Outcome.ERROR
        assert direct.why.startswith("refused: 169.254.169.254 leads to")

    run(test, redirects=3, hosts=["169.254.169.254"])


def test_a_name_that_moves_inside_later_opens_no_door() -> None:
    async def main() -> None:
        resolver = Resolver("93.184.215.14", 80)  # an outside service
        assert await resolver.addresses("93.184.215.14", 80) == ["93.184.215.14"]
        for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"):
            with pytest.raises(AddressRefused, match=host):
                await resolver.addresses(host, 80)
        resolver.forget()
        with pytest.raises(AddressRefused):
            await resolver.addresses("localhost", 80)

    asyncio.run(main())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_write_is_never_redirected(status: int) -> None:
    async def test(w: World) -> None:
        path = f"/redirect?status={status}&to=/payments"
        attempt = await w.attempt("status < 500", post=path, json={"n": 1})
        assert attempt.outcome is Outcome.FAIL
        assert "a redirect of a POST is not followed" in attempt.why
        assert [s.path for s in w.server.seen] == [path]

    run(test, redirects=3, allow=[{"request": "POST /redirect", "because": "it is a test"}])


def test_redirects_end() -> None:
    async def test(w: World) -> None:
        loop = "/redirect?status=302&to=" + "%2Fredirect%3Fstatus%3D302%26to%3D%252Fok"
        attempt = await w.attempt("status == 302", get=loop)
        assert attempt.outcome is Outcome.FAIL
        assert attempt.why.startswith("redirects more than 1 times, at last to ")
        assert len(w.server.seen) == 2

    run(test, redirects=1)


def test_credentials_stay_with_their_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "t0k3n-of-the-shop")

    async def main() -> None:
        async with faulty_server() as other:

            async def test(w: World) -> None:
                headers = {"Authorization": "Bearer secret:shop-token", "X-Key": "plain", "Accept": "text/plain"}
                await w.send(get=f"/redirect?status=302&to={other.url}/ok", headers=headers)
                await w.send(get="/redirect?status=302&to=/ok", headers=headers)
                assert w.server.seen[0].all("authorization") == ["Bearer t0k3n-of-the-shop"]
                assert w.server.seen[2].all("authorization") == ["Bearer t0k3n-of-the-shop"]
                (seen,) = other.seen
                assert (seen.all("authorization"), seen.all("x-key")) == ([], [])
                assert seen.all("accept") == ["text/plain"]
                assert seen.all("x-synthetic-request") == ["true"]

            async with faulty_server() as shop:
                rules = Rules(redirects=2, hosts=[f"127.0.0.1:{other.port}"], requests_per_second=10_000)
                service = Service(service="shop", base_url=shop.url, rules=rules)
                async with open_transport(
                    service, logger=logging.getLogger("t"), budget=Budget("shop", 10_000)
                ) as transport:
                    await test(World(shop, transport, Lines()))

    asyncio.run(main())


# ── rules of the file's own request ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "request_",
    [
        {"post": "/orders", "json": {}},
        {"delete": "/auth/token"},
        {"get": "/payments"},
        {"get": "https://evil.example.com/"},
        {"get": "@evil.example.com/"},
        {"post": "/auth/token", "json": {"card": "4111 1111 1111 1111"}},
        {"post": "/auth/token", "json": {"query": "mutation { pay }"}},
        {"get": "/ok?token=secret:shop-token"},
        {"get": "/ok", "headers": {"X": "secret:not-there"}},
        {"get": "/ok", "headers": {"X": "line\nbreak"}},
        {"get": "/ok", "headers": {"X": "日本"}},
    ],
)
def test_refusals_are_errors_and_send_nothing(request_: dict[str, Any]) -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status < 500", **request_)
        assert attempt.outcome is Outcome.ERROR, attempt
        assert w.server.seen == []
        assert [r.status for r in w.transport.records] == [None]
        assert w.transport.records[0].error

    run(test, allow=[{"request": "POST /auth/token", "because": "a wrong password creates nothing"}])


def test_payments_go_to_the_sandbox_with_its_mark() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 200", post="/payments", json={"card": "4111111111111111"})
        assert attempt.outcome is Outcome.PASS, attempt.why
        assert w.server.seen[0].all("x-sandbox") == ["true"]
        false = await w.attempt("status == 200", get="/payments", headers={"x-SANDBOX": "false"})
        assert false.outcome is Outcome.ERROR
        assert len(w.server.seen) == 1

    sandbox = {"header": "X-Sandbox", "value": "true", "paths": ["/payments"]}
    run(test, sandbox=sandbox, allow=[{"request": "POST /payments", "because": "the sandbox takes no money"}])


# ── secrets, records, budget ─────────────────────────────────────────────────────────────────────────────────


def test_a_planted_secret_is_written_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PLANTED", PLANTED)
    caplog.set_level(logging.DEBUG)

    async def test(w: World) -> None:
        spread = {"headers": {"Authorization": "Bearer secret:planted"}, "json": {"p": ["secret:planted"]}}
        attempts = [
            await w.attempt("status == 200", post="/a", **spread),
            await w.attempt('text == ""', get="/echo-authorization", headers={"Authorization": "secret:planted"}),
            await w.attempt("status == 200", get="/echo-garbage", headers={"Authorization": "secret:planted"}),
            await w.attempt("status == 599", post="/a", form={"p": "secret:planted"}),
            await w.attempt("status == 200", get="/ok", headers={"X": "secret:planted\r\nY: 1"}),
            await w.attempt("status == 200", get="/payments", headers={"X": "secret:planted"}),
            await w.attempt("status == 200", get="/hang", headers={"X": "secret:planted"}),
        ]
        assert w.server.seen[0].all("authorization") == [f"Bearer {PLANTED}"]
        assert json.loads(w.server.seen[0].body) == {"p": [PLANTED]}
        written = repr(attempts) + repr(w.transport.records) + "\n".join(w.log.lines) + caplog.text
        for form in (PLANTED, "pl4nted", "s3cret"):
            assert form not in written
        assert len(w.log.lines) == len(w.transport.records)

    run(test, allow=[{"request": "POST /a", "because": "it is a test"}])


def test_each_request_is_one_line_of_json() -> None:
    async def test(w: World) -> None:
        await w.send(get="/ok?token=abc&page=2")
        (line,) = w.log.lines
        told = json.loads(line)
        seen = w.server.seen[0]
        assert told["trace_id"] == seen.all("traceparent")[0].split("-")[1]
        assert told["url"] == f"{w.server.url}/ok?token=***&page=2"
        assert seen.path == "/ok?token=abc&page=2"
        assert (told["method"], told["status"], told["bytes"], told["check"]) == ("GET", 200, 16, "a check")
        assert 0 < told["milliseconds"] < 500

    run(test)


def test_retry_after_holds_back_the_next_request() -> None:
    async def test(w: World) -> None:
        await w.send(get="/limited?s=1")
        await w.send(get="/ok")
        first, second = w.server.seen
        assert 0.9 < second.at - first.at < 1.5

    run(test)


def test_hops_spend_from_the_budget() -> None:
    async def test(w: World) -> None:
        started = time.monotonic()
        for _ in range(3):
            await w.send(get="/redirect?status=302&to=/ok")
        assert time.monotonic() - started > 5 / 8 - 0.05  # six requests, the first at once

    run(test, redirects=1, requests_per_second=8)


def test_fifty_side_by_side_answer_in_little_more_than_one() -> None:
    async def test(w: World) -> None:
        await w.send(get="/ok")
        started = time.monotonic()
        answers = await asyncio.gather(*(w.send(get="/slow?s=0.2", timeout="5s") for _ in range(50)))
        assert all(isinstance(a, Answer) for a in answers)
        assert time.monotonic() - started < 1.0

    run(test, requests_per_second=1000)
