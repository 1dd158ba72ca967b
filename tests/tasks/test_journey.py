"""Journeys against a real server that answers whatever its caller is told to carry on."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.states import Completed

from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.spec.synthetic import Journey
from tasks import journey as journeys
from tasks.journey import probe_journey
from tasks.looks import AsTaskRuns, Look, Plainly
from tests.support.faulty_server import certificate
from tests.tasks.test_http import World, run

OK = ["status == 200"]
LISTED = [
    {"request": "DELETE /cart/${cart}", "because": "the journey's own cart"},
    {"request": "POST /cart/${cart}/items", "because": "the journey's own cart"},
    {"request": "POST /login", "because": "a session of the test account"},
]


def says(body: Any, status: int = 200) -> str:
    """The path on which the server answers with this as JSON."""
    return f"/says?status={status}&body={quote(json.dumps(body))}"


def log_in(**answer: Any) -> dict[str, Any]:
    """A step that saves `cart` and `token` of what the service answers."""
    body = {"cart": "c-17", "token": "tok3n-of-the-journey", **answer}
    return {"name": "log in", "get": says(body), "expect": OK, "save": {"cart": "json.cart", "token": "json.token"}}


ADD = {
    "name": "add to cart",
    "post": "/cart/${cart}/items",
    "json": {"cart": "${cart}", "note": "for ${cart}"},
    "headers": {"Authorization": "Bearer ${token}"},
    "expect": OK,
}
EMPTY = {"name": "empty the cart", "delete": "/cart/${cart}", "expect": OK}
BREAK = {"name": "look", "get": says({}, 500), "expect": OK}


def tea(*steps: dict[str, Any], cleanup: Any = (), **given: Any) -> Journey:
    return Journey(**{"name": "buy tea", "steps": list(steps), "cleanup": list(cleanup), "retries": 0, **given})


async def take(w: World, journey: Journey, left: float = 30.0, **given: Any) -> Probe:
    """As a round takes it: with the attempts that confirm a failure."""
    deadline = time.monotonic() + left

    async def probe(n: int) -> Probe:
        return await probe_journey(w.transport, journey, n, deadline=deadline, **given)

    timed = {"retries": journey.retries, "delay": journey.retry_delay, "deadline": deadline}
    return await Plainly().check(Look(journey.name, Kind.JOURNEY, "", probe, grace=journeys.CLEANUP_TIME, **timed))


def asked(w: World) -> list[str]:
    return [f"{s.method} {s.path.partition('?')[0]}" for s in w.server.seen]


async def until_asked(w: World, times: int) -> None:
    for _ in range(500):
        if len(w.server.seen) >= times:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"only {asked(w)} came")


def world(test: Callable[[World], Awaitable[None]], **given: Any) -> None:
    async def body(w: World) -> None:
        await test(w)

    run(body, **{"allow": LISTED, **given})


class Named:
    """A runner that keeps the names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def step(self, name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        self.names.append(name)
        return await take()


# ── the way through ──────────────────────────────────────────────────────────────────────────────────────────


def test_values_are_carried_over_and_cleaned_up() -> None:
    async def test(w: World) -> None:
        named = Named()
        at = time.time()
        probe = await take(w, tea(log_in(), ADD, cleanup=[EMPTY]), runner=named.step)
        assert (probe.check, probe.kind, probe.outcome, probe.why) == ("buy tea", Kind.JOURNEY, Outcome.PASS, "")
        assert (probe.warning, probe.facts) == ("", {"steps": 2})
        assert asked(w) == ["GET /says", "POST /cart/c-17/items", "DELETE /cart/c-17"]
        assert named.names == ["buy tea 1/2 log in", "buy tea 2/2 add to cart", "buy tea cleanup empty the cart"]
        add = w.server.seen[1]
        assert json.loads(add.body) == {"cart": "c-17", "note": "for c-17"}
        assert add.all("authorization") == ["Bearer tok3n-of-the-journey"]
        assert probe.target.startswith(f"GET {w.server.url}/says?")
        assert probe.target.endswith(" and 1 more")
        assert at <= probe.at <= time.time()
        assert probe.elapsed is not None
        assert probe.phases.total == pytest.approx(probe.elapsed, rel=0.2, abs=0.02)
        steps = sum(r.milliseconds for r in w.transport.records[:2])
        assert probe.elapsed == pytest.approx(steps / 1000, abs=0.002)  # without the clean-up

    world(test)


def test_a_journey_over_tls_shakes_hands_once(tmp_path: Path) -> None:
    server, ca = certificate(tmp_path)

    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(), ADD, cleanup=[EMPTY]))
        assert probe.outcome is Outcome.PASS, probe.why
        assert probe.phases.tls is not None
        assert w.server.connections == 1
        assert [r.phases.tls is None for r in w.transport.records if r.phases] == [False, True, True]

    world(test, tls=server, ca_file=str(ca), timeout=5)


def test_the_first_step_that_fails_ends_it() -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(), BREAK, ADD, cleanup=[EMPTY]))
        assert (probe.outcome, probe.facts) == (Outcome.FAIL, {"steps": 3, "failed_step": "look"})
        assert probe.why == "step 2/3 look: status == 200: status is 500"
        assert probe.attempts[0].status == 500
        assert asked(w) == ["GET /says", "GET /says", "DELETE /cart/c-17"]

    world(test)


def test_what_is_not_there_to_be_saved_fails_its_step() -> None:
    async def test(w: World) -> None:
        no_cart = {"name": "log in", "get": says({"id": 1}), "expect": OK, "save": {"cart": "json.cart"}}
        probe = await take(w, tea(no_cart, ADD))
        assert (probe.outcome, probe.facts["failed_step"]) == (Outcome.FAIL, "log in")
        assert probe.why == 'step 1/2 log in: cannot save cart: json.cart: json has no key "cart"'
        assert len(w.server.seen) == 1

    world(test)


def test_a_step_that_asks_for_what_is_not_there_is_an_error_and_sends_nothing() -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea({"name": "look", "get": "/x/${nope}", "expect": OK}))
        assert (probe.outcome, probe.why) == (
            Outcome.ERROR,
            "step 1/1 look: not sent: nothing has been saved as nope",
        )
        assert w.server.seen == []

    world(test)


# ── clean-up ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_failing_step_has_made_is_cleaned_up() -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea({**log_in(), "expect": ["status == 201"]}, cleanup=[EMPTY]))
        assert probe.outcome is Outcome.FAIL
        assert asked(w) == ["GET /says", "DELETE /cart/c-17"]

    world(test)


def test_a_failing_clean_up_is_a_warning_and_does_not_end_the_others() -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(), cleanup=[{**BREAK, "name": "log out"}, EMPTY]))
        assert (probe.outcome, probe.why) == (Outcome.PASS, "")
        assert probe.warning == "cleanup log out: status == 200: status is 500"
        assert asked(w) == ["GET /says", "GET /says", "DELETE /cart/c-17"]

    world(test)


def test_clean_up_without_what_it_needs_is_skipped_and_says_so() -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea(BREAK, cleanup=[EMPTY, {"name": "log out", "get": "/ok", "expect": OK}]))
        assert probe.facts["cleanup_skipped"] == "empty the cart was skipped: cart was never saved"
        assert (probe.outcome, probe.warning) == (Outcome.FAIL, "")
        assert asked(w) == ["GET /says", "GET /ok"]

    world(test)


def test_clean_up_has_time_of_its_own() -> None:
    async def test(w: World) -> None:
        hang = {"name": "wait", "get": "/hang", "expect": OK}
        probe = await take(w, tea(log_in(), hang, cleanup=[EMPTY], retries=3), left=0.3)
        assert probe.outcome is Outcome.FAIL
        assert "when the suite's time was up" in probe.why
        assert asked(w)[-1] == "DELETE /cart/c-17"
        assert len(probe.attempts) == 1  # nothing is confirmed without time

    world(test, timeout=20)


def test_a_slow_clean_up_after_the_rounds_end_does_not_hide_what_failed() -> None:
    async def test(w: World) -> None:
        hang = {"name": "wait", "get": "/hang", "expect": OK}
        slow = {"name": "log out", "get": "/slow?s=3", "expect": OK}
        probe = await take(w, tea(log_in(), hang, cleanup=[slow, EMPTY]), left=0.3)
        assert probe.outcome is Outcome.FAIL
        assert probe.why.startswith("step 2/2 wait: no answer within ")
        assert asked(w)[-1] == "DELETE /cart/c-17"

    world(test, timeout=20)


def test_clean_up_that_hangs_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journeys, "CLEANUP_TIME", 0.3)

    async def test(w: World) -> None:
        started = time.monotonic()
        hang = {"name": "wait", "get": "/hang", "expect": OK}
        probe = await take(w, tea(log_in(), cleanup=[hang, EMPTY]))
        assert time.monotonic() - started < 0.8
        assert probe.outcome is Outcome.PASS
        assert "cleanup wait: no answer within" in probe.warning
        assert "cleanup empty the cart: not sent" in probe.warning

    world(test, timeout=20)


def test_clean_up_follows_a_bug_of_ours() -> None:
    async def broken(name: str, take: Callable[[], Awaitable[Attempt]]) -> Attempt:
        if "look" in name:
            raise RuntimeError("pl4nted")
        return await take()

    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(), BREAK, cleanup=[EMPTY]), runner=broken)
        assert (probe.outcome, probe.why) == (
            Outcome.ERROR,
            "step 2/2 look: the checker itself failed (RuntimeError)",
        )
        assert asked(w) == ["GET /says", "DELETE /cart/c-17"]

    world(test)


def test_clean_up_follows_a_cancellation_which_is_passed_on() -> None:
    async def test(w: World) -> None:
        hang = {"name": "wait", "get": "/hang", "expect": OK}
        named = Named()
        under_way = asyncio.create_task(take(w, tea(log_in(), hang, cleanup=[EMPTY]), runner=named.step))
        await until_asked(w, 2)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert asked(w)[-1] == "DELETE /cart/c-17"
        assert named.names == ["buy tea 1/2 log in", "buy tea 2/2 wait"]  # no further task run is started

    world(test, timeout=20)


def test_a_cancellation_in_mid_clean_up_waits_for_its_end() -> None:
    async def test(w: World) -> None:
        slow = {"name": "log out", "get": "/slow?s=0.3", "expect": OK}
        under_way = asyncio.create_task(take(w, tea(log_in(), cleanup=[slow, EMPTY])))
        await until_asked(w, 2)
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way
        assert asked(w)[-1] == "DELETE /cart/c-17"

    world(test)


# ── confirmation ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failure_is_confirmed_from_the_first_step_on() -> None:
    async def test(w: World) -> None:
        named = Named()
        probe = await take(w, tea(log_in(), BREAK, cleanup=[EMPTY], retries=2, retry_delay="10ms"), runner=named.step)
        assert probe.outcome is Outcome.FAIL
        assert [a.outcome for a in probe.attempts] == [Outcome.FAIL] * 3
        assert asked(w) == ["GET /says", "GET /says", "DELETE /cart/c-17"] * 3
        assert named.names[3] == "buy tea 1/2 log in, attempt 2"
        assert [r.attempt for r in w.transport.records] == [1, 1, 1, 2, 2, 2, 3, 3, 3]

    world(test)


def test_a_stumble_stays_in_the_record() -> None:
    async def test(w: World) -> None:
        unsteady = {"name": "look", "get": "/unsteady?failures=1", "expect": OK}
        logout = {"name": "log out", "get": "/unsteady?failures=1&x=1", "expect": OK}
        probe = await take(w, tea(unsteady, cleanup=[logout], retries=3, retry_delay="10ms"))
        assert [a.outcome for a in probe.attempts] == [Outcome.FAIL, Outcome.PASS]
        assert probe.attempts[0].why == "step 1/1 look: status == 200: status is 503"
        assert (probe.outcome, probe.why) == (Outcome.PASS, "")
        assert probe.warning == "cleanup log out: status == 200: status is 503"  # of the first way through

    world(test)


def test_what_could_not_be_asked_is_tried_once_more_at_most() -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(), {**EMPTY, "delete": "/other"}, retries=3, retry_delay="10ms"))
        assert (probe.outcome, len(probe.attempts)) == (Outcome.ERROR, 2)

    world(test)


def test_one_way_through_is_one_attempt() -> None:
    async def test(w: World) -> None:
        probe = await probe_journey(w.transport, tea(BREAK, retries=3), 2, deadline=time.monotonic() + 5)
        assert (len(probe.attempts), w.transport.records[0].attempt) == (1, 2)

    world(test)


# ── a hostile service ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "cart",
    ["../admin", "x?y", "//evil.example", "..", ".", "", "x/items", "%2e%2e%2fadmin", "..;/admin", "5:purge", "x#y",
     "payments", "\\..\\admin", "x\r\nHost: evil.example", ["a"], {"a": 1}, None],
)  # fmt: skip
def test_no_value_makes_a_listed_request_another_one(cart: Any) -> None:
    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(cart=cart), EMPTY, cleanup=[EMPTY]))
        assert probe.outcome in (Outcome.ERROR, Outcome.FAIL)
        assert asked(w) == ["GET /says"]

    world(test)


@pytest.mark.parametrize("cart", ["../admin", "x?y", "//evil.example", "a b&c=d"])
def test_a_value_in_a_read_stays_where_it_is_put(cart: str) -> None:
    async def test(w: World) -> None:
        look = {"name": "look", "get": "/cart/${cart}/items?id=${cart}", "expect": OK}
        probe = await take(w, tea(log_in(cart=cart), look))
        assert probe.outcome is Outcome.PASS, probe.why
        escaped = quote(cart, safe="")
        assert w.server.seen[1].path == f"/cart/{escaped}/items?id={escaped}"
        assert w.server.seen[1].all("host") == [f"127.0.0.1:{w.server.port}"]

    world(test)


def test_a_value_does_not_fetch_a_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "pl4nted-passw0rd")

    async def test(w: World) -> None:
        probe = await take(w, tea(log_in(token="secret:shop-password"), ADD))
        assert probe.outcome is Outcome.ERROR
        assert "would name a secret of ours" in probe.why
        assert asked(w) == ["GET /says"]

    world(test)


@pytest.mark.parametrize(("a", "b", "said"), [("41111111", "11111111", "card"), ("muta", "tion { pay }", "GraphQL")])
def test_what_is_refused_is_refused_when_it_is_carried_on(a: str, b: str, said: str) -> None:
    async def test(w: World) -> None:
        first = {**log_in(a=a, b=b), "save": {"whole": "json.a + json.b"}}
        post = {"name": "post", "post": "/login", "json": {"query": "${whole}"}, "expect": OK}
        probe = await take(w, tea(first, post))
        assert probe.outcome is Outcome.ERROR
        assert probe.why.startswith("step 2/2 post: refused: ")
        assert said in probe.why
        assert asked(w) == ["GET /says"]

    world(test)


def test_saved_values_are_written_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    enter = {
        "name": "log in",
        "post": "/echo-body",
        "json": {"token": "pl4nted+/t0ken", "cart": "pl4nted-cart", "sid": "p1n7"},
        "save": {"token": "json.token", "cart": "json.cart", "sid": "json.sid"},
    }
    echo = {"get": "/echo-authorization", "headers": {"Authorization": "${token} ${cart} ${sid}"}}
    steps = [
        {"get": "/cart/${cart}?x=${token}&y=${sid}", "expect": ["status == 201"]},
        {**echo, "expect": ['text == ""', 'headers["x-told"] == ""']},
        {**echo, "get": "/echo-garbage", "expect": OK},
        {"post": "/cart/${cart}/items", "json": "${token}", "expect": ["status == 201"]},
        {"delete": "/unlisted/${cart}", "expect": OK},
    ]

    async def test(w: World) -> None:
        probes = [await take(w, tea({**enter, "expect": ["json.token == 1"]}))]  # the answer shows it before it is used
        probes += [await take(w, tea({**enter, "expect": OK}, {"name": "x", **step})) for step in steps]
        assert {p.outcome for p in probes} == {Outcome.FAIL, Outcome.ERROR}
        assert w.server.seen[2].path == "/cart/pl4nted-cart?x=pl4nted%2B%2Ft0ken&y=p1n7"
        written = repr(probes) + repr(w.transport.records) + "\n".join(w.log.lines) + caplog.text
        for planted in ("pl4nted", "t0ken", "p1n7"):
            assert planted not in written
        assert f"{w.server.url}/cart/***?x=***&y=***" in written

    echo_body = {"request": "POST /echo-body", "because": "it is a test"}
    world(test, allow=[*LISTED, echo_body])


# ── in Prefect ───────────────────────────────────────────────────────────────────────────────────────────────


def test_each_step_is_a_task_run(prefect_api: str) -> None:
    @flow(persist_result=False)
    async def journey_flow(w: World) -> State[Any]:
        wait = {"name": "log out", "get": "/ok", "expect": ["status == 204"]}
        probe = await take(w, tea(log_in(), BREAK, ADD, cleanup=[EMPTY, wait]), runner=AsTaskRuns().step)
        return Completed(message=f"{probe.why}; {probe.warning}")

    async def states(w: World) -> dict[str, tuple[str, str | None]]:
        state = await journey_flow(w, return_state=True)
        assert state.message == (
            "step 2/3 look: status == 200: status is 500; cleanup log out: status == 204: status is 200"
        )
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            for _ in range(100):  # the server records task runs a moment later
                runs = await client.read_task_runs(flow_run_filter=wanted)
                if len(runs) == 4 and all(r.state and r.state.is_final() for r in runs):
                    break
                await asyncio.sleep(0.1)
        return {r.name: (r.state.type.value, r.state.message) for r in runs if r.state}

    async def test(w: World) -> None:
        assert await states(w) == {
            "buy tea 1/3 log in": ("COMPLETED", "as expected"),
            "buy tea 2/3 look": ("FAILED", "status == 200: status is 500"),
            "buy tea cleanup empty the cart": ("COMPLETED", "as expected"),
            "buy tea cleanup log out": ("FAILED", "status == 204: status is 200"),
        }

    world(test)
