"""The embedded metric source: scrapes the service's own metrics page, so that nothing else need be installed.

It keeps what the given selectors match, for as long as a window lasts; `snapshot` and `restore` carry that over a
restart, and the counters bridge the gap. What it cannot do is PromQL: it has series, not expressions.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from firstwatch import series
from firstwatch.model import Measurement, NoData, Series, SourceError
from firstwatch.selector import Selector, SelectorError, parse
from firstwatch.series import RawSeries
from firstwatch.units import show_duration
from tasks.access import Access, system_reason

MOST_BYTES = 10_000_000  # of a metrics page
FAILED_SCRAPES = 3  # in a row, and the page counts as gone
_KEPT = 4 * 3600.0  # seconds of history
_ACCEPT = "text/plain;version=0.0.4"

_Key = tuple[tuple[str, str], ...]
_Scrape = tuple[float, str, bool]  # when; what was wrong, empty for a good one; whether its server was reached
_log = logging.getLogger(__name__)


class ScrapeSource:
    """See tasks.sources.Source. Scrapes `url` every `every` seconds from `async with` on.

    Only samples that one of `selectors` matches are kept; where a sample has no label `service`, it gets this one's
    name, as a Prometheus would add it to the target. `marks` (the synthetic headers) go with each request. `client`
    sends the requests if one is given; it is not closed here. `clock` gives Unix seconds.
    """

    holds_history = True

    def __init__(
        self,
        url: str,
        access: Access | None = None,
        *,
        service: str,
        selectors: Iterable[Selector],
        marks: Mapping[str, str] | None = None,
        every: float = 15.0,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url, self._access, self._service = url, access or Access(), service
        self._selectors, self._marks, self._every = tuple(selectors), dict(marks or {}), every
        self._client, self._clock = client, clock
        self._redactor = self._access.redactor()
        self._history: dict[_Key, tuple[list[float], list[float]]] = {}
        self._scrapes: list[_Scrape] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._client is None:
            self._client = await self._open.enter_async_context(_client(self._access))
        scraping = asyncio.create_task(self._scrape_on())
        self._open.push_async_callback(_stop, scraping)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    # ── the questions ────────────────────────────────────────────────────────────────────────────────────────

    async def counts(
        self, bad: Selector | str, total: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"increase of {bad} / increase of {total}"

        def measure() -> Measurement:
            bads, totals = self._kept(bad, until), self._kept(total, until)
            return series.counts(bads, totals, since, until, query, watched_from=self._watched_from)

        return self._guarded(measure, until, query)

    async def slower_than(
        self, histogram: Selector | str, bound_s: float, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"requests slower than {bound_s:g}s in {histogram}"

        def measure() -> Measurement:
            buckets = self._kept(histogram, until, "_bucket")
            return series.slower_than(buckets, bound_s, since, until, query, watched_from=self._watched_from)

        return self._guarded(measure, until, query)

    async def histogram(
        self, selector: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"buckets of {selector}"

        def measure() -> Measurement:
            buckets = self._kept(selector, until, "_bucket")
            return series.histogram(buckets, since, until, query, watched_from=self._watched_from)

        return self._guarded(measure, until, query)

    async def gauge(
        self,
        query: Selector | str,
        since: float,
        until: float,
        *,
        every: float | None = None,
        deadline: float | None = None,
    ) -> Measurement:
        return self._guarded(
            lambda: series.gauge(self._kept(query, until), since, until, str(query)), until, str(query)
        )

    async def query(self, promql: str, at: float, *, deadline: float | None = None) -> Measurement:
        return SourceError("a query needs a Prometheus: set metrics.prometheus", promql)

    async def alive(
        self, since: float, until: float, *, every: float | None = None, deadline: float | None = None
    ) -> Sequence[float] | None:
        """When the page's server answered, or at least was there to refuse: else it may be us who are cut off."""
        return [at for at, _, reached in self._scrapes if reached and since <= at <= until]

    def _guarded(self, measure: Callable[[], Measurement], until: float, query: str) -> Measurement:
        """What was measured; where the page has not answered of late that it is so, with what was measured before."""
        try:
            measured, silent = measure(), self._silence(until)
        except SelectorError as error:
            return SourceError(f"without a Prometheus only plain selectors can be measured: {error}", query)
        if silent and isinstance(measured, Series):
            return NoData(silent, query, last=measured)
        return SourceError(silent, query) if silent else measured

    def _silence(self, until: float) -> str:
        """What to say of a page that failed the newest scrapes; empty for one that answers."""
        scrapes = self._scrapes[: bisect_right(self._scrapes, until, key=_time)]
        if len(scrapes) < FAILED_SCRAPES or not all(why for _, why, _ in scrapes[-FAILED_SCRAPES:]):
            return ""
        answered = [at for at, why, _ in scrapes if not why]
        since = f"for {show_duration(round(until - answered[-1]))}" if answered else "once"
        return f"the service's metrics page has not answered {since}: {scrapes[-1][1]}"

    def _kept(self, selector: Selector | str, until: float, suffix: str = "") -> list[RawSeries]:
        """The series that the selector matches, up to `until`. Raises SelectorError if they were not to be kept."""
        wanted = (selector if isinstance(selector, Selector) else parse(selector)).with_suffix(suffix)
        if all(wanted.name != kept.name for kept in self._selectors):
            raise SelectorError(f"{wanted} was not scraped, because no signal of the file names it")
        found = []
        for key, (at, value) in self._history.items():
            labels = dict(key)
            n = bisect_right(at, until)
            if n and wanted.matches(labels["__name__"], labels):
                found.append(RawSeries(labels, at[:n], value[:n]))
        return found

    @property
    def _watched_from(self) -> float | None:
        return next((at for at, why, _ in self._scrapes if not why), None)

    # ── scraping ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _scrape_on(self) -> None:
        """Scrapes at even times, whatever a scrape takes; rounds that are missed are left out."""
        started = time.monotonic()
        while True:
            await self.scrape()
            passed = time.monotonic() - started
            await asyncio.sleep((math.floor(passed / self._every) + 1) * self._every - passed)

    async def scrape(self) -> None:
        """Scrapes once, now. A failure is remembered, not raised."""
        at = self._clock()
        if self._scrapes and at <= self._scrapes[-1][0]:
            return  # the clock was set back: times before the newest sample's cannot be used
        try:
            page = await self._page()
            samples = await asyncio.to_thread(self._samples, page)
        except Exception as error:  # whatever it is, it is the page's, and the next scrape may be better
            why = self._redactor.text(_why(error, self._access.timeout))
            _log.warning("the service's metrics page was not scraped: %s", why)
            self._scrapes.append((at, why, _reached(error)))
            return
        self._scrapes.append((at, "", True))
        for key, value in samples.items():
            times, values = self._history.setdefault(key, ([], []))
            times.append(at)
            values.append(value)
        self._forget(at - _KEPT)

    async def _page(self) -> str:
        """The metrics page. Raises ValueError for what is none, httpx.HTTPError and TimeoutError for no answer."""
        if self._client is None:
            raise ValueError("the source is not open")
        patience = httpx.Timeout(self._access.timeout, connect=self._access.timeout / 2)
        headers = {"Accept": _ACCEPT, **self._access.plain_headers(), **self._marks}
        async with (
            asyncio.timeout(self._access.timeout),
            self._client.stream(
                "GET", self._url, headers=headers, auth=_auth(self._access), timeout=patience, follow_redirects=False
            ) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError(f"it answers {answer.status_code}")
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    raise ValueError(f"it is longer than {MOST_BYTES // 1_000_000} MB")
        return body.decode()

    def _samples(self, page: str) -> dict[_Key, float]:
        """The finite samples that somebody wants; of two for one series the first. Raises ValueError for no page.

        Comments are left out, for with the types that they give the parser would rename counters.
        """
        found: dict[_Key, float] = {}
        lines = "\n".join(line for line in page.splitlines() if not line.startswith("#"))
        try:
            for family in text_string_to_metric_families(lines):
                for sample in family.samples:
                    labels = {"service": self._service, **sample.labels}
                    if any(selector.matches(sample.name, labels) for selector in self._selectors):
                        key = tuple(sorted({**labels, "__name__": sample.name}.items()))
                        found.setdefault(key, float(sample.value))
        except Exception as error:  # the parser raises what it happens to stumble over
            raise ValueError(f"it is not in the text format of metrics ({error})") from None
        return {key: value for key, value in found.items() if math.isfinite(value)}

    def _forget(self, before: float) -> None:
        """Drops what no window looks back to."""
        if self._scrapes[0][0] >= before:
            return
        self._scrapes = self._scrapes[bisect_right(self._scrapes, before, key=_time) :]
        for key, (at, value) in list(self._history.items()):
            n = bisect_right(at, before)
            self._history[key] = at[n:], value[n:]
            if n == len(at):
                del self._history[key]

    # ── over a restart ───────────────────────────────────────────────────────────────────────────────────────

    def snapshot(self) -> dict[str, Any]:
        """The history as plain JSON: `scrapes` as [time, error, reached], `series` as {labels, at, value}."""
        kept = [
            {"labels": dict(key), "at": list(at), "value": list(value)} for key, (at, value) in self._history.items()
        ]
        return {"scrapes": [list(scrape) for scrape in self._scrapes], "series": kept}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Puts a snapshot before what was scraped since. Raises ValueError if it is none."""
        if not kept:
            return
        try:
            scrapes = [(float(at), str(why), bool(reached)) for at, why, reached in kept["scrapes"]]
            held = {
                tuple(sorted((str(k), str(v)) for k, v in one["labels"].items())): (
                    [float(t) for t in one["at"]],
                    [float(v) for v in one["value"]],
                )
                for one in kept["series"]
            }
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"this is no snapshot of scraped metrics: {error!r}") from None
        first = self._scrapes[0][0] if self._scrapes else math.inf
        self._scrapes = [scrape for scrape in scrapes if scrape[0] < first] + self._scrapes
        for key, (at, value) in held.items():
            n = sum(1 for t in at if t < first)
            newer_at, newer_value = self._history.get(key, ([], []))
            self._history[key] = at[:n] + newer_at, value[:n] + newer_value


def _client(access: Access) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=access.ca_file)
    if access.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return httpx.AsyncClient(verify=context)


def _auth(access: Access) -> httpx.Auth:
    """Basic authentication, or one that adds nothing; with none at all, httpx would send what it finds in ~/.netrc."""
    return httpx.BasicAuth(access.basic[0], access.basic[1].reveal()) if access.basic else httpx.Auth()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _time(scrape: _Scrape) -> float:
    return scrape[0]


def _reached(error: Exception) -> bool:
    """Whether there was a server behind a failed scrape: one that answered wrongly, broke off, hung, or refused."""
    refused = "refused" in system_reason(error)
    return refused or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {show_duration(timeout)}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    if isinstance(error, httpx.HTTPError):
        return system_reason(error) or str(error) or type(error).__name__
    return str(error) or type(error).__name__
