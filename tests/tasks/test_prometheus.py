"""What can go wrong between us and a Prometheus: always an error in time, with its cause, and never a secret."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from firstwatch.model import Gauge, Measurement, NoData, SourceError
from firstwatch.redaction import Secret
from tasks.access import Access
from tasks.prometheus import PrometheusSource
from tests.support.answering import Said, answering
from tests.support.faulty_server import certificate
from tests.support.prometheus import PASSWORD, USER, RunningPrometheus, prometheus
from tests.support.shop import demo_shop

SEVEN = Said(
    json.dumps({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "7"]}]}})
)
TOKEN = Secret("token", "tok-4711-quiet")


def asked(url: str, access: Access | None = None, *, seconds: float = 2, promql: str = "x") -> Measurement:
    async def ask() -> Measurement:
        async with PrometheusSource(url, access, rng=random.Random(1)) as source:
            return await source.query(promql, time.time(), deadline=time.time() + seconds)

    return asyncio.run(ask())


def why(found: Measurement) -> str:
    assert isinstance(found, SourceError), found
    return found.why


def result(value: Any, **more: Any) -> Said:
    return Said(json.dumps({"status": "success", "data": {"result": value}, **more}))


# ── being let in ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), {}, login=True) as server:
        yield server


@pytest.mark.e2e
def test_basic_authentication(locked: RunningPrometheus) -> None:
    right = Access(basic=(USER, Secret("watcher", PASSWORD)))
    assert asked(locked.url, right, promql="1 + 1", seconds=10) == Gauge(
        pytest.approx((time.time(),), abs=10), (2,), "1 + 1"
    )
    in_url = locked.url.replace("//", f"//{USER}:{PASSWORD}@")
    assert isinstance(asked(in_url, promql="1 + 1", seconds=10), Gauge)


@pytest.mark.e2e
def test_a_wrong_password_is_an_error_at_once_and_is_not_told(locked: RunningPrometheus) -> None:
    started = time.monotonic()
    for url, access in (
        (locked.url, Access()),
        (locked.url, Access(basic=(USER, Secret("watcher", "not-the-word")))),
        (locked.url.replace("//", "//watcher:not-the-word@"), Access()),
    ):
        told = why(asked(url, access, seconds=30))
        assert "401" in told
        assert "metrics.basic" in told
        assert "not-the-word" not in told
    assert time.monotonic() - started < 10


def test_headers_and_bearer_are_sent_and_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    access = Access(headers={"X-Scope-OrgID": "tea", "X-Key": Secret("key", "key-0815-quiet")}, bearer=TOKEN)
    with answering(SEVEN) as server:
        assert isinstance(asked(server.url, access), Gauge)
        headers = server.seen[0][1]
    sent = headers["authorization"], headers["x-scope-orgid"], headers["x-key"]
    assert sent == ("Bearer tok-4711-quiet", "tea", "key-0815-quiet")
    with answering(Said('{"status":"error","error":"no: Bearer tok-4711-quiet, key-0815-quiet"}', 400)) as echo:
        told = why(asked(echo.url, access))
    assert "no: Bearer ***, ***" in told
    assert "quiet" not in repr(access)


def test_a_redirect_is_not_followed_with_our_credentials() -> None:
    with answering(SEVEN) as elsewhere, answering(Said(status=302, headers={"Location": elsewhere.url})) as server:
        assert "redirect" in why(asked(server.url, Access(bearer=TOKEN)))
        assert elsewhere.seen == []


def test_a_certificate_is_trusted_by_its_authority_or_not_at_all(tmp_path: Path) -> None:
    tls, authority = certificate(tmp_path)
    with answering(SEVEN, tls=tls) as server:
        assert "certificate verify failed" in why(asked(server.url, seconds=0.5))
        assert isinstance(asked(server.url, Access(ca_file=str(authority))), Gauge)
        assert isinstance(asked(server.url, Access(insecure=True)), Gauge)


def test_the_environments_proxy_is_asked_each_time_but_for_servers_that_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask(*urls: str) -> list[Measurement]:
        async with AsyncExitStack() as stack:
            sources = [await stack.enter_async_context(PrometheusSource(url)) for url in urls]
            return [await s.query("x", 1, deadline=time.time() + 2) for s in sources for _ in range(2)]

    with answering(SEVEN) as proxy, answering(SEVEN) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        found = asyncio.run(ask("http://name.invalid", server.url))
        assert {type(f) for f in found} == {Gauge}
        assert (len(proxy.seen), len(server.seen)) == (2, 2)


def test_what_is_no_address_says_so() -> None:
    assert "not an http or https URL" in why(asked("prometheus:9090"))
    assert "cannot be reached" in why(asked("http://name.invalid", seconds=0.5))


# ── answers that are none ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Said("<html>Please log in</html>", kind="text/html"), "not JSON (text/html): is this the URL of Prometheus"),
        (Said("<html>Bad gateway</html>", 404, kind="text/html"), "404"),
        (Said('{"status":"error","errorType":"execution","error":"too many samples"}', 422), "too many samples"),
        (Said('{"status":"error","error":"later"}'), "later"),
        (Said("[" * 100_000), "not JSON"),
        (Said('"text"'), "not JSON"),
        (Said("{}"), "answers"),
        (Said('{"status":"success","data":[]}'), "answers"),
        (result({}), "one number is expected"),
        (result([1]), "one number is expected"),
        (result([{"metric": {}, "values": [[1, "2"]]}]), "one number is expected"),
        (result([{"metric": {}, "histogram": [1, {}]}]), "one number is expected"),
    ],
)
def test_answers_that_cannot_be_used(said: Said, told: str) -> None:
    with answering(said) as server:
        assert told in why(asked(server.url))
        assert len(server.seen) == 1


def test_native_histograms_are_not_mistaken_for_nothing() -> None:
    async def ask(url: str) -> Measurement:
        async with PrometheusSource(url) as source:
            return await source.gauge("x", 0, 10)

    with answering(result([{"metric": {}, "histograms": [[1, {}]]}])) as server:
        assert "native histograms" in why(asyncio.run(ask(server.url)))


def test_part_of_an_answer_is_asked_not_to_be_given_and_nothing_with_a_warning_is_an_error() -> None:
    with answering(result([], warnings=["store eu-1 is away"])) as server:
        assert "store eu-1 is away" in why(asked(server.url, seconds=1))
        assert "partial_response=false" in server.seen[0][0]
    with answering(result([])) as server:
        assert isinstance(asked(server.url), NoData)


# ── trying again ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_may_pass_is_asked_again() -> None:
    busy = Said('{"status":"error","error":"query timed out"}', 503)
    with answering(busy, Said('{"status": "succ'), SEVEN) as server:
        found = asked(server.url, seconds=10)
        assert isinstance(found, Gauge)
        assert found.value == (7,)
        assert len(server.seen) == 3


def test_the_next_look_is_not_missed_for_trying() -> None:
    with answering(Said("busy", 503, kind="text/plain")) as server:
        started = time.monotonic()
        assert "503 with 'busy'" in why(asked(server.url, seconds=1.5))
        assert time.monotonic() - started < 1.8
        assert 2 <= len(server.seen) <= 4
        assert "next look is due" in why(asked(server.url, seconds=-1))


# ── never stuck ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["hang", "slow_drip", "down", "huge"])
def test_a_server_that_hangs_drips_cuts_or_pours_ends_in_time(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.prometheus_session.MOST_BYTES", 5_000_000)
    with demo_shop() as server:
        server.faults(**{fault: True})
        started = time.monotonic()
        told = why(asked(server.url, Access(timeout=1), seconds=1.5))
        assert time.monotonic() - started < 3
    expected = {"hang": "did not answer within", "slow_drip": "did not answer within", "down": "cannot be reached"}
    assert expected.get(fault, "answers more than 5 MB") in told


def test_a_server_that_drips_its_headers_holds_neither_the_answer_nor_the_process() -> None:
    """The thread that reads may hang on; nobody waits for it, not even the interpreter at its end."""
    with dripping_headers() as url:
        program = (
            "import asyncio, time\n"
            "from tasks.prometheus import PrometheusSource\n"
            "from tasks.access import Access\n"
            f"source = PrometheusSource({url!r}, Access(timeout=1))\n"
            "print(asyncio.run(source.query('x', 0, deadline=time.time() + 1.2)).why)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert "did not answer within 1s" in done.stdout


@contextmanager
def dripping_headers() -> Iterator[str]:
    """A server that sends one byte of a header every 0.2 s, for as long as it lives."""
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not stopped.wait(0.2):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    def accept() -> None:
        while not stopped.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stopped.set()
        listening.close()
