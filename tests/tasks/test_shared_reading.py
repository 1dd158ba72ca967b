"""Many ask one Prometheus: each gets what it would get alone, in far fewer requests, whatever the server does."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from firstwatch.batching import FEW
from firstwatch.breaker import FAILURES
from firstwatch.model import Counts, Gauge, Measurement, NoData, SourceError
from firstwatch.redaction import Secret
from firstwatch.selector import Selector
from firstwatch.timeline import Measured
from tasks.access import Access
from tasks.measure import measure
from tasks.prometheus import PrometheusSource
from tasks.prometheus_turns import AT_ONCE, AT_ONCE_UNHURRIED
from tests.support.metered import NOTHING, TOO_MUCH, VECTOR, Metered, Said, metered
from tests.support.prometheus import RunningPrometheus, openmetrics, prometheus_of
from tests.support.services import DEPLOYED, UNTIL, history, service_file
from tests.support.unshared import UnsharedSource

NAMES = [f"shop-{i}" for i in range(50)]
AWKWARD = ["a.b", "axb", "a|b", "a", "b", "(x)+", "xx", 'q"q', "back\\slash", "$", "^a", "[ab]", "ü", "a b", "{2}", "*"]
BUSY = Said(503, "busy")


def inside(test: Callable[[Metered], Coroutine[Any, Any, None]], behind: str = "") -> None:
    async def run() -> None:
        async with metered(behind) as door:
            await test(door)

    asyncio.run(run())


async def gauge(url: str, selector: str, seconds: float = 10, access: Access | None = None) -> Measurement:
    """One question by an asker of its own, who wants to know within so many seconds."""
    async with PrometheusSource(url, access, rng=random.Random(1)) as source:
        return await source.gauge(selector, 1000, 1100, deadline=time.time() + seconds)


async def query(url: str, promql: str, seconds: float = 10, access: Access | None = None) -> Measurement:
    async with PrometheusSource(url, access, rng=random.Random(1)) as source:
        return await source.query(promql, 1000, deadline=time.time() + seconds)


def why(found: object) -> str:
    assert isinstance(found, SourceError), found
    return found.why


# ── against a real Prometheus ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrometheus]:
    with prometheus_of(tmp_path_factory.mktemp("prometheus"), history(NAMES)) as running:
        yield running


@pytest.mark.e2e
def test_fifty_windows_measure_the_same_as_alone_with_a_fraction_of_the_requests(server: RunningPrometheus) -> None:
    async def looks(door: Metered, kind: type[PrometheusSource]) -> tuple[list[Measured], int]:
        async def look(number: int, name: str) -> Measured:
            file = service_file(name, door.url)
            async with kind(door.url) as source:
                until = UNTIL + number / 100  # nobody looks at quite the same moment
                return await measure(source, file, file.window.checkpoints, DEPLOYED, until, time.time() + 60)

        before = len(door.queries)
        return list(await asyncio.gather(*map(look, range(50), NAMES))), len(door.queries) - before

    async def test(door: Metered) -> None:
        shared, few = await looks(door, PrometheusSource)
        assert door.most <= AT_ONCE
        alone, many = await looks(door, UnsharedSource)
        assert shared == alone
        assert {type(m) for measured in shared for m in measured.checkpoints.values()} == {Counts, Gauge}
        assert len({repr(m.checkpoints) for m in shared}) == 50
        assert many == 50 * 5
        assert few <= 50 * 2 + 10  # each its expressions; all samples in a handful

    inside(test, server.url)


@pytest.mark.e2e
def test_what_labels_may_hold_is_written_as_prometheus_reads_it(tmp_path: Path) -> None:
    def label(value: str) -> str:
        return str(Selector("x").with_matcher("service", "=", value)).removeprefix("x{").removesuffix("}")

    stored = {label(value): [(1000.0 + t, float(i)) for t in range(0, 100, 10)] for i, value in enumerate(AWKWARD)}

    async def test(door: Metered) -> None:
        async with PrometheusSource(door.url) as source:
            asked = [f"{name}{{{label(v)}}}" for v in AWKWARD for name in ("m", "n")]
            ends = time.time() + 30
            found = await asyncio.gather(*(source.gauge(a, 1000, 1050.5, deadline=ends) for a in asked))
        assert len(door.queries) == 1
        for i in range(len(AWKWARD)):
            both = found[2 * i : 2 * i + 2]
            assert [(f.at, set(f.value)) for f in both if isinstance(f, Gauge)] == [
                (tuple(range(1000, 1051, 10)), {float(i)}),
                (tuple(range(1000, 1051, 10)), {float(i)}),
            ], AWKWARD[i]

    with prometheus_of(tmp_path / "p", openmetrics({"m": stored, "n": stored})) as running:
        inside(test, running.url)


# ── merged requests that come to nothing ─────────────────────────────────────────────────────────────────────


def series_for(query: str) -> Said:
    """One sample of the series that is asked for by `m{service="…"}`."""
    service = query.partition('service="')[2].partition('"')[0]
    entry = f'{{"metric":{{"__name__":"m","service":"{service}"}},"values":[[1050,"1"]]}}'
    return Said(body=f'{{"status":"success","data":{{"resultType":"matrix","result":[{entry}]}}}}')


@pytest.mark.parametrize(
    "refusal",
    [
        TOO_MUCH,
        Said(400, "no"),
        Said(503, "query timed out"),
        Said(body="<html>"),
        Said(body="x" * 6_000_000),
        Said(status=None),
        Said(after=60),
        series_for('m{service="somebody else"}'),
    ],
    ids=["too many samples", "400", "503", "garbage", "too large", "cut off", "hanging", "foreign series"],
)
def test_a_merged_request_that_is_refused_is_asked_one_by_one(refusal: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.prometheus_session.MOST_BYTES", 5_000_000)

    async def test(door: Metered) -> None:
        def says(query: str) -> Said:
            if "=~" in query:
                return refusal
            return TOO_MUCH if "shop-3" in query else series_for(query)

        door.says = says
        found = await asyncio.gather(*(gauge(door.url, f'm{{service="shop-{i}"}}', 3) for i in range(8)))
        assert "too many samples" in why(found.pop(3))
        assert [f.value for f in found if isinstance(f, Gauge)] == [(1.0,)] * 7
        assert len(door.merged) == 1
        assert len(door.queries) == 9

    inside(test)


def test_what_cannot_be_merged_is_learned() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: TOO_MUCH if "=~" in query else NOTHING
        async with AsyncExitStack() as stack:
            sources = [await stack.enter_async_context(PrometheusSource(door.url)) for _ in range(10)]
            for _ in range(16):
                ends = time.time() + 10
                asked = [s.gauge(f'm{{service="{i}"}}', 0, 99, deadline=ends) for i, s in enumerate(sources)]
                assert {type(found) for found in await asyncio.gather(*asked)} == {NoData}
        assert len(door.merged) < 12

    inside(test)


def test_where_a_query_for_many_takes_too_long_fewer_are_asked_for_together_and_not_each_alone() -> None:
    """To ask for each alone would take longer still: a thousand windows would ask a thousand times."""

    async def test(door: Metered) -> None:
        door.says = lambda query: Said(after=60) if query.count("|") >= 12 else NOTHING
        access = Access(timeout=1.0)
        found = await asyncio.gather(*(gauge(door.url, f'm{{service="shop-{i}"}}', 10, access) for i in range(48)))
        assert {type(each) for each in found} == {NoData}
        sizes = [query.count("|") + 1 for query in door.queries]
        # On a busy machine they come back in two or three lots, and what is left over of one may be a single one.
        assert sizes[0] == 48 and sizes.count(1) < FEW and len(sizes) < 48 / FEW + 10, sizes

    inside(test)


# ── who asks the same, who leaves, and who waits ─────────────────────────────────────────────────────────────


def test_the_same_expression_is_asked_once_and_who_leaves_takes_nothing_away() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(body=VECTOR.body, after=0.4)
        asking = [asyncio.create_task(query(door.url, "sum(x)")) for _ in range(20)]
        late = asyncio.create_task(query(door.url, "sum(x)", seconds=0.2))
        await asyncio.sleep(0.1)
        asking[0].cancel()
        found = await asyncio.gather(*asking[1:])
        assert [f.value for f in found if isinstance(f, Gauge)] == [(7.0,)] * 19
        assert asking[0].cancelled()
        assert "did not answer within" in why(await late)
        assert door.queries == ["sum(x)"]

    inside(test)


def test_samples_that_are_asked_for_later_are_not_those_that_were_asked_for_before() -> None:
    """Requests are asked for after errors, so that no scrape in between adds errors alone."""

    async def test(door: Metered) -> None:
        door.says = lambda query: Said(body=NOTHING.body, after=0.3)
        first = asyncio.create_task(gauge(door.url, "m"))
        await asyncio.sleep(0.1)
        await asyncio.gather(first, gauge(door.url, "m"), gauge(door.url, "m"))
        assert door.queries == ["m[100001ms]"] * 2

    inside(test)


def test_nothing_is_left_when_all_have_gone() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(after=60)
        before = asyncio.all_tasks()
        asking = [asyncio.create_task(gauge(door.url, f'm{{service="{i}",x="{i}"}}')) for i in range(30)]
        await asyncio.sleep(0.2)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.sleep(0.05)
        assert {task for task in asyncio.all_tasks() - before if "serve" not in repr(task)} == set()
        door.says = lambda query: VECTOR
        assert isinstance(await query(door.url, "1", seconds=2), Gauge)

    inside(test)


def test_few_requests_are_under_way_at_once() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(body=VECTOR.body, after=0.05)
        await asyncio.gather(*(query(door.url, f"f({i})") for i in range(40)))
        assert door.most == AT_ONCE
        async with PrometheusSource(door.url) as source:
            await asyncio.gather(*(source.query(f"g({i})", 0) for i in range(40)))
        assert door.most == AT_ONCE_UNHURRIED

    inside(test)


def test_who_gets_no_turn_in_time_says_so_and_who_has_no_deadline_waits_for_it() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(body=VECTOR.body, after=0.4 if "slow" in query else 0)
        slow = [asyncio.create_task(query(door.url, f"slow({i})")) for i in range(AT_ONCE)]
        await asyncio.sleep(0.1)
        assert "was not asked within" in why(await query(door.url, "hasty", seconds=0.2))
        assert "hasty" not in door.queries
        await asyncio.gather(*slow)
        async with PrometheusSource(door.url, Access(timeout=1)) as source:  # 3 s, and nine rounds of 0.4 s
            found = await asyncio.gather(*(source.query(f"slow(b{i})", 0) for i in range(9 * AT_ONCE_UNHURRIED)))
        assert {type(f) for f in found} == {Gauge}

    inside(test)


# ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────


def test_credentials_are_never_mixed() -> None:
    async def test(door: Metered) -> None:
        tenants = [Access(headers={"X-Tenant": name}) for name in ("tea", "coffee")]
        await asyncio.gather(*(gauge(door.url, f'm{{service="{i}"}}', 10, tenants[i % 2]) for i in range(10)))
        await asyncio.gather(*(query(door.url, "sum(m)", 10, tenants[i % 2]) for i in range(10)))
        assert sorted(door.tenants) == ["coffee", "coffee", "tea", "tea"]
        for asked, tenant in zip(door.queries, door.tenants, strict=True):
            assert asked == "sum(m)" or set(asked) & set("0123456789") >= set("02468" if tenant == "tea" else "13579")
        merged = {tenant: asked for asked, tenant in zip(door.queries, door.tenants, strict=True) if "=~" in asked}
        assert 'service=~"0|2|4|6|8"' in merged["tea"]
        assert 'service=~"1|3|5|7|9"' in merged["coffee"]

    inside(test)


def test_what_is_wrong_for_all_is_told_without_anybodys_secret() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(500, "no entry with tok-4711-quiet")
        owner = Access(bearer=Secret("token", "tok-4711-quiet"))
        async with PrometheusSource(door.url, owner) as keeps, PrometheusSource(door.url) as other:
            now = time.time()
            await asyncio.gather(*(keeps.query(f"f({i})", 0, deadline=now + 0.2) for i in range(FAILURES)))
            told = why(await other.query("x", 0, deadline=time.time() + 0.02))
        assert "no entry with ***" in told

    inside(test)


# ── a server in trouble ──────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_fails_is_left_alone_and_says_since_when_and_why() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: BUSY
        async with PrometheusSource(door.url) as keeps:
            asked = (keeps.query(f"f({i})", 0, deadline=time.time() + 3) for i in range(200))
            found = await asyncio.gather(*asked)
            assert {type(f) for f in found} == {SourceError}
            assert len(door.queries) <= FAILURES + AT_ONCE + 5  # today's pace for one alone: six tries
            started, before = time.monotonic(), len(door.queries)
            told = why(await keeps.query("x", 0, deadline=time.time() + 0.05))
            assert time.monotonic() - started < 0.5
            assert len(door.queries) == before
        assert re.search(r"has failed for [23]s, \d+ times in a row", told)
        assert "503 with 'busy'" in told

    inside(test)


def test_a_blip_costs_nobody_an_answer() -> None:
    """Two seconds of refusals, and looks with ten seconds of patience: all of them are answered soon after."""

    async def test(door: Metered) -> None:
        well = time.monotonic() + 2
        door.says = lambda query: series_for(query) if time.monotonic() > well else BUSY
        found = await asyncio.gather(*(gauge(door.url, f'm{{service="shop-{i}",x="{i}"}}') for i in range(30)))
        assert {type(f) for f in found} == {Gauge}
        assert time.monotonic() < well + 2.5
        assert len(door.queries) < 30 + 20

    inside(test)


def test_nobody_listening_is_told_and_tried_again() -> None:
    async def test(door: Metered) -> None:
        url = "http://127.0.0.1:9"
        async with PrometheusSource(url) as source:
            found = await asyncio.gather(*(source.query(f"f({i})", 0, deadline=time.time() + 1) for i in range(50)))
        assert all("connection refused" in why(f) for f in found)

    inside(test)


def test_retry_after_is_kept() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(429, "slow down", {"Retry-After": "2"})
        async with PrometheusSource(door.url) as source:
            asking = [
                asyncio.create_task(source.query(f"f({i})", 0, deadline=time.time() + 8)) for i in range(FAILURES)
            ]
            await asyncio.sleep(0.7)
            before, since = len(door.queries), time.monotonic()
            door.says = lambda query: VECTOR
            assert "has failed for" in why(await source.query("hasty", 0, deadline=time.time() + 1))
            assert time.monotonic() - since < 0.5  # at once, while the others wait
            assert {type(f) for f in await asyncio.gather(*asking)} == {Gauge}
            assert time.monotonic() - since > 1.0
        assert len(door.queries) == before + FAILURES

    inside(test)


def test_bad_questions_are_no_trouble_of_the_server() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: VECTOR if query == "good" else Said(400, '{"status":"error","error":"parse error"}')
        async with PrometheusSource(door.url) as source:
            for i in range(2 * FAILURES):
                assert "parse error" in why(await source.query(f"bad({i}", 0, deadline=time.time() + 5))
            assert isinstance(await source.query("good", 0, deadline=time.time() + 5), Gauge)

    inside(test)


def test_any_answer_in_between_shows_that_the_server_is_there() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: {"good": VECTOR, "bad": Said(400, "no")}.get(query, BUSY)
        async with PrometheusSource(door.url) as source:
            for promql in [*"abcd", "bad", *"efgh", "good"]:
                found = await source.query(promql, 0, deadline=time.time() + 0.2)
                assert promql == "bad" or isinstance(found, Gauge) or "has failed" not in why(found)
        assert isinstance(found, Gauge)

    inside(test)


def test_who_has_no_time_says_nothing_of_the_server() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: Said(body=VECTOR.body, after=0.4)
        async with PrometheusSource(door.url) as source:
            for i in range(2 * FAILURES):
                told = why(await source.query(f"f({i})", 0, deadline=time.time() + 0.1))
                assert told.startswith(f"Prometheus at {door.url.removeprefix('http://')} did not answer within")
            assert isinstance(await source.query("x", 0, deadline=time.time() + 5), Gauge)
            started = time.monotonic()
            assert isinstance(await source.query("y", 0, deadline=time.time() + 0.9), Gauge)
            assert time.monotonic() - started < 0.7

    inside(test)


def test_who_waited_for_a_server_in_trouble_hears_of_it() -> None:
    async def test(door: Metered) -> None:
        door.says = lambda query: BUSY
        async with PrometheusSource(door.url) as source:
            first = [source.query(f"f({i})", 0, deadline=time.time() + 0.2) for i in range(FAILURES)]
            await asyncio.gather(*first)
            door.says = lambda query: Said(after=60)
            asked = [source.query(f"g({i})", 0, deadline=time.time() + 1) for i in range(5)]
            found = [why(f) for f in await asyncio.gather(*asked)]
        assert sum("has failed for" in f for f in found) >= 4, found
        assert len(door.queries) == FAILURES + 1

    inside(test)
