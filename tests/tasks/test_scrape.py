"""The embedded source against pages and servers that are not as they should be, and across restarts."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firstwatch.model import Counts, Gauge, Measurement, NoData, SourceError
from firstwatch.redaction import Secret
from firstwatch.selector import parse
from tasks.access import Access
from tasks.scrape import ScrapeSource
from tests.support.answering import Said, answering
from tests.support.faulty_server import certificate
from tests.support.shop import demo_shop

REQUESTS = parse('http_requests_total{service="shop"}')
MEMORY = parse("memory_bytes")
MARKS = {"X-Synthetic-Request": "true"}


def page(text: str) -> Said:
    return Said(text, kind="text/plain; version=0.0.4")


def ticking(start: float) -> Callable[[], float]:
    """A clock that is 10 s later each time somebody looks."""
    times = itertools.count(start, 10.0)
    return lambda: next(times)


def scraped(
    url: str, times: int, *, access: Access | None = None, kept: dict[str, Any] | None = None, start: float = 1000.0
) -> ScrapeSource:
    """A source that has scraped so often, at `start` and every 10 s, after what it had `kept`."""

    async def scrape() -> ScrapeSource:
        source = ScrapeSource(
            url,
            access,
            service="shop",
            selectors=[REQUESTS, MEMORY],
            marks=MARKS,
            every=3600,  # but for the first one, this test scrapes itself
            clock=ticking(start),
        )
        source.restore(kept or {})
        before = len(source.snapshot()["scrapes"])
        async with source:
            while len(source.snapshot()["scrapes"]) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            for _ in range(times - 1):
                await source.scrape()
        return source

    return asyncio.run(scrape())


def memory(source: ScrapeSource, until: float = 5000) -> Measurement:
    return asyncio.run(source.gauge(MEMORY, 0, until))


def counts(source: ScrapeSource, since: float = 0, until: float = 5000) -> Measurement:
    bad = REQUESTS.with_matcher("status", "=", "500")
    return asyncio.run(source.counts(bad, REQUESTS, since, until))


def test_what_is_kept_and_how_it_is_asked_for() -> None:
    access = Access(headers={"X-Key": "k"}, bearer=Secret("token", "quiet-token"))
    with answering(page("memory_bytes 5\nother_bytes 6\n")) as server:
        source = scraped(server.url + "/metrics", 2, access=access)
        headers = server.seen[0][1]
    assert memory(source) == Gauge((1000, 1010), (5, 5), "memory_bytes")
    assert (headers["x-synthetic-request"], headers["x-key"]) == ("true", "k")
    assert headers["authorization"] == "Bearer quiet-token"
    assert "other_bytes" not in json.dumps(source.snapshot())
    unknown = asyncio.run(source.gauge("other_bytes", 0, 5000))
    assert isinstance(unknown, SourceError)
    assert "no signal of the file names it" in unknown.why


def test_counters_keep_their_names_and_get_the_service_s_label() -> None:
    """The parser would rename a counter without _total; a Prometheus would not."""
    text = '# TYPE http_requests_total counter\nhttp_requests_total{status="500"} %d\n'
    text += "# TYPE memory_bytes counter\nmemory_bytes 1\n"
    with answering(page(text % 1), page(text % 4)) as server:
        source = scraped(server.url, 2)
    found = counts(source)
    assert isinstance(found, Counts)
    assert (found.bad, found.total) == ((3,), (3,))
    assert isinstance(memory(source), Gauge)


def test_a_label_of_the_service_s_own_is_not_overwritten() -> None:
    with answering(page('http_requests_total{service="other"} 1\n')) as server:
        assert isinstance(counts(scraped(server.url, 2)), NoData)


def test_of_two_samples_the_first_counts_and_nan_is_none() -> None:
    with answering(
        page("memory_bytes 5\nmemory_bytes 6\n"), page("memory_bytes NaN\n"), page("memory_bytes +Inf\n")
    ) as server:
        assert memory(scraped(server.url, 3)) == Gauge((1000,), (5,), "memory_bytes")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Said("<html>hello</html>", kind="text/html"), "not in the text format"),
        (page("memory_bytes five\n"), "not in the text format"),
        (page('memory_bytes{a="b 5\n'), "not in the text format"),
        (Said(b"memory_bytes \xff\n"), "it is not text"),
        (Said("no", 503), "it answers 503"),
        (Said(status=302, headers={"Location": "/elsewhere"}), "it answers 302"),
        (page("memory_bytes 5\n" * 700_000), "longer than 10 MB"),
    ],
)
def test_pages_that_are_none(said: Said, told: str) -> None:
    with answering(said) as server:
        source = scraped(server.url, 3)
    found = memory(source)
    assert isinstance(found, SourceError)
    assert "has not answered once" in found.why
    assert told in found.why
    assert isinstance(counts(source), SourceError)


def test_one_bad_scrape_is_bridged_and_three_are_said() -> None:
    good, bad = page("memory_bytes 5\n"), Said("no", 503)
    with answering(good, bad, good, bad, bad, bad) as server:
        source = scraped(server.url, 6)
    assert memory(source, until=1025) == Gauge((1000, 1020), (5, 5), "memory_bytes")
    assert isinstance(memory(source, until=1040), Gauge)
    found = memory(source, until=1050)
    assert isinstance(found, NoData)
    assert found.why == "the service's metrics page has not answered for 30s: it answers 503"
    assert found.last == Gauge((1000, 1020), (5, 5), "memory_bytes")
    assert len(asyncio.run(source.alive(0, 5000)) or ()) == 6


def test_history_and_counters_survive_a_restart() -> None:
    with answering(
        page('http_requests_total{status="200"} 10\n'), page('http_requests_total{status="200"} 12\n')
    ) as server:
        first = scraped(server.url, 2)
    kept = json.loads(json.dumps(first.snapshot()))
    later = 'http_requests_total{status="200"} 15\nhttp_requests_total{status="500"} 2\n'
    with answering(page(later)) as server:
        found = counts(scraped(server.url, 1, kept=kept, start=2000))
    assert isinstance(found, Counts)
    assert (found.at, found.bad, found.total) == ((1010, 2000), (0, 2), (2, 5))


def test_what_is_no_snapshot_is_refused() -> None:
    source = ScrapeSource("http://127.0.0.1:9", service="shop", selectors=[REQUESTS])
    for wrong in ({"scrapes": 3}, {"scrapes": [[1]], "series": []}, {"scrapes": [], "series": [{"at": []}]}):
        with pytest.raises(ValueError, match="no snapshot"):
            source.restore(wrong)


def test_a_clock_that_is_set_back_adds_nothing() -> None:
    times = iter([1000.0, 900.0, 1010.0])
    with answering(page("memory_bytes 5\n")) as server:
        source = ScrapeSource(server.url, service="shop", selectors=[MEMORY], every=3600, clock=lambda: next(times))

        async def scrape() -> None:
            async with source:
                await asyncio.sleep(0.2)
                await source.scrape()
                await source.scrape()

        asyncio.run(scrape())
    assert memory(source) == Gauge((1000, 1010), (5, 5), "memory_bytes")


@pytest.mark.parametrize(
    ("fault", "told", "reached"),
    [
        ("hang", "no answer within 300ms", True),
        ("slow_drip", "no answer within 300ms", True),
        ("down", "", True),
        ("huge", "longer than 10 MB", True),
    ],
)
def test_a_broken_service_is_told_and_holds_nothing(fault: str, told: str, reached: bool) -> None:
    timeout = 5 if fault == "huge" else 0.3
    with demo_shop() as shop:
        shop.faults(**{fault: True})
        started = time.monotonic()
        source = scraped(f"{shop.url}/metrics", 3, access=Access(timeout=timeout))
        assert time.monotonic() - started < 4
    found = memory(source)
    assert isinstance(found, SourceError)
    assert told in found.why
    assert bool(asyncio.run(source.alive(0, 5000))) is reached


def test_a_certificate_is_trusted_by_its_authority_or_not_at_all(tmp_path: Path) -> None:
    tls, authority = certificate(tmp_path)
    with answering(page("memory_bytes 5\n"), tls=tls) as server:
        assert "certificate verify failed" in getattr(memory(scraped(server.url, 3)), "why", "")
        assert isinstance(memory(scraped(server.url, 1, access=Access(ca_file=str(authority)))), Gauge)
        assert isinstance(memory(scraped(server.url, 1, access=Access(insecure=True))), Gauge)


def test_a_refused_connection_proves_that_the_machine_is_there() -> None:
    source = scraped("http://127.0.0.1:9/metrics", 3)
    found = memory(source)
    assert isinstance(found, SourceError)
    assert "connection refused" in found.why
    assert asyncio.run(source.alive(0, 5000)) == [1000, 1010, 1020]
    nowhere = scraped("http://name.invalid/metrics", 3, access=Access(timeout=2))
    assert asyncio.run(nowhere.alive(0, 5000)) == []


def test_scrapes_come_at_even_times_and_end_with_the_block() -> None:
    async def watch(url: str) -> ScrapeSource:
        async with ScrapeSource(url, service="shop", selectors=[MEMORY], every=0.2) as source:
            await asyncio.sleep(1.1)
        return source

    with answering(page("memory_bytes 5\n")) as server:
        source = asyncio.run(watch(server.url))
        asked = len(server.seen)
        time.sleep(0.4)
        assert len(server.seen) == asked
    at = [scrape[0] for scrape in source.snapshot()["scrapes"]]
    assert 4 <= len(at) <= 6
    assert at[-1] - at[0] == pytest.approx(0.2 * (len(at) - 1), abs=0.15)
