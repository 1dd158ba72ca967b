"""What the parts of a request took, against real servers that dawdle in one of them."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from firstwatch.answer import Answer, NoAnswer
from firstwatch.model import Attempt, Outcome, Phases
from tasks.wire import Resolver
from tests.support.faulty_server import certificate, dawdling_door, faulty_server
from tests.tasks.test_http import LIMIT, World, run

PARTS = ("resolve", "connect", "tls", "processing", "transfer")


def there(phases: Phases) -> set[str]:
    """The parts that the request had."""
    return {part for part in PARTS if getattr(phases, part) is not None}


BUSY = 0.25  # seconds that a busy machine may add


def add_up(found: Answer | NoAnswer | Attempt) -> Phases:
    """The phases, which come to what the request took."""
    assert found.phases is not None
    assert found.elapsed is not None
    assert found.phases.total == pytest.approx(found.elapsed, rel=0.2, abs=0.02)
    assert all(value is None or value >= 0 for value in (getattr(found.phases, part) for part in PARTS))
    return found.phases


def tls_world(test: Callable[[World], Awaitable[None]], folder: Path, **given: Any) -> None:
    async def body(w: World) -> None:
        await test(w)

    server, ca = certificate(folder)
    run(body, tls=server, ca_file=str(ca), **{"timeout": 5, **given})


def test_each_part_of_a_request_is_told(tmp_path: Path) -> None:
    async def test(w: World) -> None:
        phases = add_up(await w.send(get="/ok"))
        assert there(phases) == set(PARTS)
        assert phases.tls is not None
        assert phases.tls > 0.0005  # a handshake: two round trips, and the certificate's check

    tls_world(test, tmp_path)


def test_a_connection_that_was_there_is_not_opened_again(tmp_path: Path) -> None:
    async def test(w: World) -> None:
        for n in range(3):
            phases = add_up(await w.send(get="/ok"))
            assert there(phases) == (set(PARTS) if n == 0 else {"processing", "transfer"})
        assert there(add_up(await w.send(get="/ok", fresh=True))) == set(PARTS)
        assert w.server.connections == 2

    tls_world(test, tmp_path)


def test_an_address_that_is_known_is_not_looked_up_again() -> None:
    async def test(w: World) -> None:
        await w.send(get="/close")
        assert there(add_up(await w.send(get="/ok"))) == {"connect", "processing", "transfer"}

    run(test)


@pytest.mark.parametrize(("path", "part"), [("/slow?s=0.3", "processing"), ("/slow-body?s=0.3", "transfer")])
def test_a_slow_part_is_told_from_the_others(path: str, part: str) -> None:
    async def test(w: World) -> None:
        phases = add_up(await w.attempt("status == 200", get=path))
        assert 0.29 < getattr(phases, part) < 0.3 + BUSY
        assert phases.total - getattr(phases, part) < BUSY
        (record,) = w.transport.records
        assert record.phases == phases
        assert json.loads(w.log.lines[0])["phases"][part] == getattr(phases, part)

    run(test)


def through_a_door(seconds: float, timeout: float, server: ssl.SSLContext, ca: Path) -> Answer | NoAnswer:
    """What comes of a request whose handshake begins only `seconds` after it is connected."""
    found: list[Answer | NoAnswer] = []

    async def main() -> None:
        async with faulty_server(server) as behind, dawdling_door(behind.port, seconds) as port:
            await asyncio.to_thread(run, ask, base_url=f"https://localhost:{port}", ca_file=str(ca), timeout=timeout)

    async def ask(w: World) -> None:
        found.append(await w.send(get="/ok"))

    asyncio.run(main())
    return found[0]


def test_a_slow_handshake_is_told_from_the_others(tmp_path: Path) -> None:
    answer = through_a_door(0.3, 5, *certificate(tmp_path))
    phases = add_up(answer)
    assert isinstance(answer, Answer)
    assert 0.29 < phases.tls < 0.3 + BUSY
    assert phases.total - phases.tls < BUSY


def test_a_handshake_that_does_not_end_has_the_time_so_far(tmp_path: Path) -> None:
    hung = through_a_door(30, 0.4, *certificate(tmp_path))
    assert isinstance(hung, NoAnswer)
    assert "the TLS handshake did not end" in hung.why
    phases = add_up(hung)
    assert there(phases) == {"resolve", "connect", "tls"}
    assert 0.35 < phases.tls < 0.4 + BUSY


@pytest.mark.parametrize(
    ("path", "hung", "parts"),
    [
        ("/hang", "processing", {"resolve", "connect", "processing"}),
        ("/drip-headers", "processing", {"resolve", "connect", "processing"}),
        ("/half", "transfer", {"resolve", "connect", "processing", "transfer"}),
    ],
)
def test_what_hangs_has_the_time_so_far_in_the_part_where_it_hangs(path: str, hung: str, parts: set[str]) -> None:
    async def test(w: World) -> None:
        phases = add_up(await w.attempt("status == 200", get=path))
        assert there(phases) == parts
        assert getattr(phases, hung) == pytest.approx(LIMIT, abs=BUSY)

    run(test)


def test_what_is_refused_never_got_further_than_connecting() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 200", get="/ok")
        assert attempt.why == "connection refused"
        assert there(add_up(attempt)) == {"resolve", "connect"}

    run(test, base_url="http://127.0.0.1:1")


def test_what_was_never_sent_has_no_phases() -> None:
    async def test(w: World) -> None:
        attempt = await w.attempt("status == 200", get="/payments")
        assert (attempt.outcome, attempt.elapsed, attempt.phases) == (Outcome.ERROR, None, None)

    run(test)


def test_all_addresses_that_are_tried_are_one_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Resolver.addresses

    async def first_a_dead_one(self: Resolver, host: str, port: int) -> list[str]:
        return ["127.0.0.3", *await known(self, host, port)]  # nobody listens there

    async def test(w: World) -> None:
        monkeypatch.setattr(Resolver, "addresses", first_a_dead_one)
        phases = add_up(await w.send(get="/ok"))
        assert there(phases) == {"resolve", "connect", "processing", "transfer"}

    run(test)


def test_hops_add_up() -> None:
    async def test(w: World) -> None:
        path = "/redirect?status=302&to=/slow%3Fs=0.2"
        phases = add_up(await w.send(get=path))
        first, second = (record.phases for record in w.transport.records)
        assert first is not None
        assert second is not None
        assert phases == first + second
        assert (there(first), there(second)) == (
            {"resolve", "connect", "processing", "transfer"},
            {"processing", "transfer"},
        )
        assert 0.19 < phases.processing < 0.2 + BUSY
        hung = add_up(await w.send(get="/redirect?status=302&to=/hang"))
        assert hung.processing == pytest.approx(LIMIT, abs=BUSY)

    run(test, redirects=1)


def test_the_clock_of_the_phases_stands_still_while_the_budget_waits() -> None:
    async def test(w: World) -> None:
        started = time.monotonic()
        await w.send(get="/ok")
        answer = await w.send(get="/ok")
        assert time.monotonic() - started > 0.2
        assert add_up(answer).total < BUSY

    run(test, requests_per_second=4)


def test_phases_add_up_where_one_has_no_such_part() -> None:
    assert Phases(connect=1, processing=2) + Phases(processing=3) == Phases(connect=1, processing=5)
    assert Phases(connect=1.0, tls=0.5).total == 1.5
    assert Phases().total == 0
