"""Both metric sources watch the same real shop through a release, and answer the same questions the same way.

What the test sent is the measure: it knows each request that it sent, when, and how it was answered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from firstwatch import series
from firstwatch.model import Counts, Gauge, Histogram, Measurement, NoData, SourceError
from firstwatch.selector import parse
from firstwatch.spec.models import Metrics
from tasks.access import access_to
from tasks.prometheus import PrometheusSource
from tasks.scrape import ScrapeSource
from tasks.sources import Source, open_source
from tests.support.prometheus import RunningPrometheus, prometheus
from tests.support.shop import DemoShop, demo_shop

pytestmark = pytest.mark.e2e

REQUESTS = parse('http_requests_total{service="shop"}')
ERRORS = parse('http_requests_total{service="shop",status=~"5.."}')
LATENCY = parse('http_request_duration_seconds{service="shop"}')
MEMORY = parse('process_resident_memory_bytes{service="shop"}')
POOL = parse('db_pool_connections_in_use{service="shop"}')
NAN = parse('no_such_metric{service="shop"}')
SELECTORS = (REQUESTS, LATENCY.with_suffix("_bucket"), MEMORY, POOL, NAN)
BASE = 20_000_000  # bytes the shop holds before it leaks


@dataclass(frozen=True)
class Seen:
    """One release as it went: v1 answers `good`, then has its first errors; v2 is slow, fails and leaks."""

    prometheus: RunningPrometheus
    snapshot: dict[str, Any]
    since: float
    deployed_at: float
    until: float


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with demo_shop() as shop, prometheus(tmp_path_factory.mktemp("prometheus"), {"shop": shop.url}) as server:
        yield asyncio.run(_release(shop, server))


async def _release(shop: DemoShop, server: RunningPrometheus) -> Seen:
    async with _scraping(shop) as scrape, PrometheusSource(server.url) as prom:

        async def scraped() -> None:
            """Until both have seen all that was sent so far."""
            now = time.time()
            for source in (scrape, prom):
                while not isinstance(await source.gauge(MEMORY, now, time.time()), Gauge):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        await _send(shop, 1)
        await scraped()
        since = time.time()
        await scraped()
        await _send(shop, 40)
        await scraped()
        shop.faults(errors=1)
        await _send(shop, 3)
        await scraped()
        deployed_at = time.time()
        shop.deploy("v2", latency=0.3, leak=2_000_000)
        await _send(shop, 5)
        await scraped()
        shop.faults(errors=1)
        await _send(shop, 2)
        shop.faults()
        await _send(shop, 10)
        await scraped()
        return Seen(server, scrape.snapshot(), since, deployed_at, time.time())


@asynccontextmanager
async def _scraping(shop: DemoShop) -> AsyncIterator[ScrapeSource]:
    marks = {"X-Synthetic-Request": "true"}
    source = ScrapeSource(f"{shop.url}/metrics", service="shop", selectors=SELECTORS, marks=marks, every=1)
    async with source:
        yield source


async def _send(shop: DemoShop, requests: int) -> None:
    def send() -> None:
        for _ in range(requests):
            shop.http.get("/products")

    await asyncio.to_thread(send)


Ask = Callable[[Callable[[Source], Awaitable[Measurement]]], Measurement]


@pytest.fixture(params=["prometheus", "embedded"])
def ask(request: pytest.FixtureRequest, seen: Seen) -> Ask:
    """Asks one of the two sources. The embedded one answers from a restored snapshot, as after a restart."""

    async def asked(question: Callable[[Source], Awaitable[Measurement]]) -> Measurement:
        source: Source = PrometheusSource(seen.prometheus.url)
        if request.param == "embedded":
            source = ScrapeSource("http://127.0.0.1:9/metrics", service="shop", selectors=SELECTORS)
            source.restore(seen.snapshot)
            return await question(source)
        async with source:
            return await question(source)

    return lambda question: asyncio.run(asked(question))


def counts_of(measured: Measurement) -> Counts:
    assert isinstance(measured, Counts), measured
    return measured


def gauge_of(measured: Measurement) -> Gauge:
    assert isinstance(measured, Gauge), measured
    return measured


# ── the same answers from both ───────────────────────────────────────────────────────────────────────────────


def test_all_that_was_sent_is_counted_across_the_reset_at_the_deploy(ask: Ask, seen: Seen) -> None:
    found = counts_of(ask(lambda source: source.counts(ERRORS, REQUESTS, seen.since, seen.until)))
    assert (sum(found.bad), sum(found.total)) == (3 + 2, 40 + 3 + 5 + 2 + 10)
    assert list(found.at) == sorted(set(found.at))
    assert seen.since <= found.since < found.at[0]
    assert found.at[-1] <= seen.until


def test_from_the_deploy_on_only_the_new_release_counts(ask: Ask, seen: Seen) -> None:
    found = counts_of(ask(lambda source: source.counts(str(ERRORS), str(REQUESTS), seen.deployed_at, seen.until)))
    assert (sum(found.bad), sum(found.total)) == (2, 5 + 2 + 10)


def test_before_the_deploy_is_a_baseline(ask: Ask, seen: Seen) -> None:
    found = counts_of(ask(lambda source: source.counts(ERRORS, REQUESTS, seen.since, seen.deployed_at)))
    assert (sum(found.bad), sum(found.total)) == (3, 40 + 3)


def test_a_service_without_errors_has_none(ask: Ask, seen: Seen) -> None:
    never = REQUESTS.with_matcher("status", "=", "599")
    found = counts_of(ask(lambda source: source.counts(never, REQUESTS, seen.since, seen.until)))
    assert (sum(found.bad), sum(found.total)) == (0, 60)


def test_requests_that_were_never_counted_are_no_data(ask: Ask, seen: Seen) -> None:
    other = REQUESTS.with_matcher("path", "=", "/nowhere")
    assert isinstance(ask(lambda source: source.counts(other, other, seen.since, seen.until)), NoData)


@pytest.mark.parametrize(("bound", "slow"), [(0.25, 5), (0.3, 5 * 0.8), (1, 0), (2.5, 0)])
def test_slow_requests_are_counted_and_interpolated(ask: Ask, seen: Seen, bound: float, slow: float) -> None:
    found = counts_of(ask(lambda source: source.slower_than(LATENCY, bound, seen.deployed_at, seen.until)))
    assert sum(found.total) == 17
    assert sum(found.bad) == pytest.approx(slow)


def test_a_bound_beyond_the_buckets_is_an_error_with_a_hint(ask: Ask, seen: Seen) -> None:
    found = ask(lambda source: source.slower_than(LATENCY, 30, seen.since, seen.until))
    assert isinstance(found, SourceError)
    assert "ends at 10s" in found.why
    assert "add a bucket at 30" in found.why


def test_histograms_are_whole_and_say_what_slower_than_says(ask: Ask, seen: Seen) -> None:
    found = ask(lambda source: source.histogram(LATENCY, seen.deployed_at, seen.until))
    assert isinstance(found, Histogram), found
    assert found.bounds[-1] == math.inf
    assert {len(row) for row in found.counts} == {len(found.bounds)}
    assert sum(map(sum, found.counts)) == 17
    slow = counts_of(ask(lambda source: source.slower_than(LATENCY, 0.3, seen.deployed_at, seen.until)))
    derived = series.above(found, 0.3)
    assert (derived.at, derived.total) == (slow.at, slow.total)
    assert derived.bad == pytest.approx(slow.bad)


def test_a_histogram_that_does_not_exist_is_no_data(ask: Ask, seen: Seen) -> None:
    nobody = LATENCY.with_matcher("path", "=", "/nowhere")
    assert isinstance(ask(lambda source: source.histogram(nobody, seen.since, seen.until)), NoData)


def test_gauges_show_what_the_shop_held(ask: Ask, seen: Seen) -> None:
    before = gauge_of(ask(lambda source: source.gauge(MEMORY, seen.since, seen.deployed_at)))
    after = gauge_of(ask(lambda source: source.gauge(str(MEMORY), seen.deployed_at, seen.until)))
    assert set(before.value) == {BASE}
    assert after.value[-1] > BASE + 2_000_000
    assert list(after.value) == sorted(after.value)
    assert gauge_of(ask(lambda source: source.gauge(POOL, seen.since, seen.until))).value[0] == 4


def test_several_series_are_no_gauge(ask: Ask, seen: Seen) -> None:
    found = ask(lambda source: source.gauge(REQUESTS, seen.since, seen.until))
    assert isinstance(found, SourceError)
    assert "2 series where one is expected" in found.why
    assert "sum(…)" in found.why


def test_a_series_that_does_not_exist_is_no_data(ask: Ask, seen: Seen) -> None:
    assert isinstance(ask(lambda source: source.gauge(NAN, seen.since, seen.until)), NoData)


def test_a_source_knows_when_it_worked(ask: Ask, seen: Seen) -> None:
    async def alive(source: Source) -> Measurement:
        at = await source.alive(seen.since, seen.until)
        return Gauge(at or (), at or ())

    at = gauge_of(ask(alive)).at
    assert len(at) >= 4
    assert max(b - a for a, b in zip([seen.since, *at], [*at, seen.until], strict=True)) < 3


def test_both_say_the_same(seen: Seen) -> None:
    """Not only in sum: interval for interval, as near as two scrapers can agree on when an interval ends."""

    async def both() -> list[Counts]:
        embedded = ScrapeSource("http://127.0.0.1:9/metrics", service="shop", selectors=SELECTORS)
        embedded.restore(seen.snapshot)
        async with PrometheusSource(seen.prometheus.url) as server:
            return [counts_of(await s.counts(ERRORS, REQUESTS, seen.since, seen.until)) for s in (embedded, server)]

    for found in asyncio.run(both()):
        bad_at = [t for t, bad in zip(found.at, found.bad, strict=True) if bad]
        assert len(bad_at) in (2, 3)
        assert bad_at[0] <= seen.deployed_at + 1 < bad_at[-1] + 2


# ── what only a Prometheus can ───────────────────────────────────────────────────────────────────────────────


def test_any_promql_is_answered_by_a_prometheus_only(seen: Seen) -> None:
    async def ask_both(promql: str) -> tuple[Measurement, Measurement]:
        embedded = ScrapeSource("http://127.0.0.1:9/metrics", service="shop", selectors=SELECTORS)
        async with PrometheusSource(seen.prometheus.url) as server:
            return await server.query(promql, seen.until), await embedded.query(promql, seen.until)

    ours, not_ours = asyncio.run(ask_both('sum(http_requests_total{service="shop"})'))
    assert gauge_of(ours).value == (17,)
    assert isinstance(not_ours, SourceError)
    assert "needs a Prometheus" in not_ours.why


@pytest.mark.parametrize(
    ("promql", "kind", "said"),
    [
        ("42", Gauge, ""),
        ("vector(42)", Gauge, ""),
        ("no_such_metric", NoData, "gives nothing"),
        ("vector(0) / 0", NoData, "nan"),
        ("vector(1) / 0", NoData, "inf"),
        ('"a text"', SourceError, "a text where one number"),
        ("up[1m]", SourceError, "a range"),
        ("http_requests_total", SourceError, "2 series where one is expected"),
        ("sum(", SourceError, "parse error"),
    ],
)
def test_what_is_no_number_says_so(seen: Seen, promql: str, kind: type, said: str) -> None:
    async def ask() -> Measurement:
        async with PrometheusSource(seen.prometheus.url) as server:
            return await server.query(promql, seen.until)

    found = asyncio.run(ask())
    assert isinstance(found, kind), found
    assert said in getattr(found, "why", "")


def test_an_expression_is_a_gauge_over_time(seen: Seen) -> None:
    async def ask(promql: str) -> Measurement:
        async with PrometheusSource(seen.prometheus.url) as server:
            return await server.gauge(promql, seen.since, seen.until)

    found = gauge_of(asyncio.run(ask('sum(http_requests_total{service="shop"})')))
    assert found.at[-1] == pytest.approx(seen.until, abs=0.01)
    assert found.value[-1] == 17
    assert isinstance(asyncio.run(ask("vector(0) / 0")), NoData)
    assert isinstance(asyncio.run(ask("http_requests_total")), SourceError)


def test_a_prometheus_that_dies_is_an_error_in_time(tmp_path: Path) -> None:
    async def ask(url: str, seconds: float) -> Measurement:
        async with PrometheusSource(url) as server:
            now = time.time()
            return await server.counts(ERRORS, REQUESTS, now - 60, now, deadline=now + seconds)

    with demo_shop() as shop, prometheus(tmp_path, {"shop": shop.url}) as server:
        shop.http.get("/products")
        while not isinstance(asyncio.run(ask(server.url, 5)), Counts):
            time.sleep(0.1)
        server.kill()
        started = time.monotonic()
        found = asyncio.run(ask(server.url, 2))
        assert isinstance(found, SourceError)
        assert "connection refused" in found.why
        assert time.monotonic() - started < 3


# ── from the file to the source ──────────────────────────────────────────────────────────────────────────────


def test_the_file_names_the_source_and_its_secrets_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROM_TOKEN", "quiet-4711")
    monkeypatch.setenv("PROM_KEY", "quiet-0815")
    metrics = Metrics(
        prometheus="http://127.0.0.1:9",
        bearer="secret:prom-token",
        headers={"X-Key": "secret:prom-key", "X-Scope-OrgID": "tea"},
    )
    access = asyncio.run(access_to(metrics))
    sent = {"Authorization": "Bearer quiet-4711", "X-Key": "quiet-0815", "X-Scope-OrgID": "tea"}
    assert access.plain_headers() == sent
    assert "quiet" not in repr(access)

    async def opened(metrics: Metrics) -> Source:
        return await open_source(metrics, service="shop", selectors=SELECTORS, marks={})

    assert isinstance(asyncio.run(opened(metrics)), PrometheusSource)
    assert isinstance(asyncio.run(opened(Metrics(scrape="http://127.0.0.1:9/metrics"))), ScrapeSource)
    with pytest.raises(ValueError, match="neither"):
        asyncio.run(opened(Metrics()))
    with pytest.raises(ValueError, match=r"no file /no/such/ca.pem"):
        asyncio.run(opened(Metrics(prometheus="https://127.0.0.1:9", ca_file="/no/such/ca.pem")))
