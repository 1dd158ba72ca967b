"""A Prometheus server (or Thanos, Mimir, VictoriaMetrics: what speaks its HTTP API) as a metric source.

Counters and plain gauges are read as raw samples (an instant query with a range selector), so that resets, new
series and their times are ours to judge; expressions go through query_range. The questions themselves are
prometheus-api-client's; what it leaves open is closed here (retries that end before the next look), in
tasks.prometheus_session (a request's total time, an answer's size, redirects, errors that the server explains) and in
tasks.shared_reading (all sources of a process that ask the same server share their requests).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from firstwatch import series
from firstwatch.batching import Asked, among, covers, ranged
from firstwatch.kept import Kept
from firstwatch.model import Gauge, Measurement, SourceError, Values
from firstwatch.redaction import Secret
from firstwatch.selector import Selector, SelectorError, is_plain, parse
from firstwatch.series import LOOK_BACK, RawSeries
from firstwatch.units import show_duration
from tasks.access import Access
from tasks.prometheus_answers import all_series, numbers, one_value
from tasks.prometheus_session import Refusal, TooSlow
from tasks.shared_reading import WHOLE, Apart, Patience, Reader, reader_for

MOST_KEPT = 50_000  # samples of one source: 0.8 MB; a window of the default five signals has some 6,000
MOST_POINTS = 10_000  # of a query_range; Prometheus refuses more than 11,000
_ALIKE = 80  # steps in which windows may begin and still ask alike: ten minutes of a window's usual pace
_PATIENCE = 3  # timeouts, where no deadline is given
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds between tries; doubled each time

T = TypeVar("T")


class PrometheusSource:
    """See tasks.sources.Source. `url` is the server's base URL; a user name in it is taken as basic authentication.

    `keep`: who asks the same again and again, up to a later time, reads what is new only (firstwatch.kept).
    """

    holds_history = False

    def __init__(
        self, url: str, access: Access | None = None, *, rng: random.Random | None = None, keep: bool = False
    ) -> None:
        access = access or Access()
        parts = urlsplit(url)
        if parts.password is not None and access.basic is None:
            access = Access(**{**vars(access), "basic": (parts.username or "", Secret("metrics", parts.password))})
        self._host = parts.netloc.rpartition("@")[2]
        self._url = parts._replace(netloc=self._host).geturl().rstrip("/")
        self._access, self._redactor, self._rng = access, access.redactor(), rng or random.Random()
        self._lent: Reader | None = None
        self._keep, self._kept = keep, dict[Hashable, Kept]()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lent is not None:
            self._lent.release()
            self._lent = None
        self._kept.clear()

    def snapshot(self) -> dict[str, Any]:
        return {}  # the server keeps the history

    def restore(self, kept: Mapping[str, Any]) -> None:
        pass

    async def counts(
        self, bad: Selector | str, total: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        span = _span(since, until)
        query = f"sum(increase({bad}[{span}])) / sum(increase({total}[{span}]))"

        async def measure(patience: Patience) -> Measurement:
            every, failed = _plain(total), _plain(bad)
            if covers(every, failed):
                totals = await self._samples(every, since - LOOK_BACK, until, patience)
                return series.counts(among(failed, totals), totals, since, until, query)
            # Bad first: a scrape that comes in between adds requests without their errors, and the next look corrects
            # that; the other way round there would be errors without requests.
            bads = await self._samples(failed, since - LOOK_BACK, until, patience)
            totals = await self._samples(every, since - LOOK_BACK, until, patience)
            return series.counts(bads, totals, since, until, query)

        return await self._guarded(measure, query, deadline)

    async def slower_than(
        self, histogram: Selector | str, bound_s: float, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"requests slower than {bound_s:g}s in {histogram}[{_span(since, until)}]"

        async def measure(patience: Patience) -> Measurement:
            buckets = await self._samples(_buckets(histogram), since - LOOK_BACK, until, patience)
            return series.slower_than(buckets, bound_s, since, until, query)

        return await self._guarded(measure, query, deadline)

    async def histogram(
        self, selector: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"buckets of {selector}[{_span(since, until)}]"

        async def measure(patience: Patience) -> Measurement:
            buckets = await self._samples(_buckets(selector), since - LOOK_BACK, until, patience)
            return series.histogram(buckets, since, until, query)

        return await self._guarded(measure, query, deadline)

    async def gauge(
        self,
        query: Selector | str,
        since: float,
        until: float,
        *,
        every: float | None = None,
        deadline: float | None = None,
    ) -> Measurement:
        async def measure(patience: Patience) -> Measurement:
            try:
                selector = _plain(query)
            except SelectorError:
                found = await self._evaluated(str(query), since, until, patience, every)
            else:
                found = await self._samples(selector, since, until, patience)
            return series.gauge(found, since, until, str(query))

        return await self._guarded(measure, str(query), deadline)

    async def query(self, promql: str, at: float, *, deadline: float | None = None) -> Measurement:
        async def measure(patience: Patience) -> Measurement:
            return one_value(await self._instant(promql, at, patience), promql)

        return await self._guarded(measure, promql, deadline)

    async def values(self, promql: str, at: float, *, deadline: float | None = None) -> Values | SourceError:
        """Whatever numbers a query gives at `at`: one (a scalar), or as many as it has series (none, perhaps)."""

        async def measure(patience: Patience) -> Values:
            return Values(at, numbers(await self._instant(promql, at, patience)), promql)

        return await self._guarded(measure, promql, deadline)

    async def values_over(
        self, promql: str, since: float, until: float, step: float, *, deadline: float | None = None
    ) -> list[RawSeries] | SourceError:
        """The series that a query gives, evaluated at `since` and every `step` seconds after it. NaN is kept."""

        async def measure(patience: Patience) -> list[RawSeries]:
            return await self._evaluated(promql, since, until, patience, step)

        return await self._guarded(measure, promql, deadline)

    async def all_series(
        self, promql: str, since: float, until: float, *, every: float | None = None
    ) -> list[RawSeries] | SourceError:
        """Every series in [since, until]: an expression's values, `every` so many seconds, or a selector's samples."""

        async def measure(patience: Patience) -> list[RawSeries]:
            if every is not None:
                return await self._evaluated(promql, since, until, patience, every)
            if is_plain(promql):
                return await self._samples(_plain(promql), since, until, patience)
            return all_series(await self._instant(*ranged(promql, since, until), patience))  # of several metrics

        return await self._guarded(measure, promql, None)

    async def alive(
        self, since: float, until: float, *, every: float | None = None, deadline: float | None = None
    ) -> Sequence[float] | None:
        """When Prometheus scraped anything at all, well or in vain.

        Asked on a grid that is everybody's: what one window has read, the others know.
        """
        step = every or _step(since, until)
        begin = math.floor(since / (_ALIKE * step)) * _ALIKE * step
        end = math.floor(until / step) * step
        scraped = f"count(count_over_time(up[{round(1000 * step)}ms]))"

        async def measure(patience: Patience) -> Measurement:
            async def read(known: float) -> list[RawSeries]:
                first = math.ceil(known / step - 1e-6) * step
                return await self._evaluated(scraped, first, end, patience, step)

            # A value says what was scraped in its own step: none of them changes later, but by late samples.
            return series.gauge(await self._known_to_all((scraped, step), begin, end, read), begin, end, scraped)

        measured = await self._guarded(measure, scraped, deadline)
        return [at for at in measured.at if since <= at <= until] if isinstance(measured, Gauge) else None

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _samples(self, selector: Selector, since: float, until: float, patience: Patience) -> list[RawSeries]:
        """The raw samples in [since, until]."""

        async def read(begin: float) -> list[RawSeries]:
            asked = Asked(selector, begin, until)
            return await self._ask(lambda reader, apart: reader.samples(asked, patience, apart=apart), patience)

        return await self._known(selector, since, until, read)

    async def _known(
        self, key: Hashable, since: float, until: float, read: Callable[[float], Awaitable[list[RawSeries]]]
    ) -> list[RawSeries]:
        """What `read`, given the time from which on, says of [since, until]; what is kept under `key` is not read."""
        if not self._keep:
            return await read(since)
        kept = self._kept.get(key)
        begin = kept.begin(since, until) if kept is not None else None
        if kept is not None and begin is not None:
            joined = kept.joined(await read(begin), begin, since, until)
            if joined is not None:
                self._kept[key] = joined
                return list(joined.series)
        known = Kept.of(await read(since), since, until)
        others = sum(other.samples for k, other in self._kept.items() if k != key)
        self._kept.pop(key, None)
        if others + known.samples <= MOST_KEPT:
            self._kept[key] = known
        return list(known.series)

    async def _known_to_all(
        self, key: Hashable, since: float, until: float, read: Callable[[float], Awaitable[list[RawSeries]]]
    ) -> list[RawSeries]:
        """As `_known`, of what is the same for all who ask this server: who comes first reads on, for the others too.
        It may hold more than was asked for, and goes back at most as long again."""
        if not self._keep:
            return await read(since)
        known = self._reader().known
        kept = known.get(key)
        if kept is not None and kept.since <= since and until <= kept.until:
            return list(kept.series)
        joined = None
        if kept is not None:
            since = min(since, max(kept.since, since - (until - since)))
            if (begin := kept.begin(since, until)) is not None:
                joined = kept.joined(await read(begin), begin, since, until)
        joined = joined or Kept.of(await read(since), since, until)
        if key not in known or known[key].until <= until:
            known[key] = joined
        return list(joined.series)

    async def _instant(self, promql: str, at: float | str, patience: Patience) -> Any:
        """An expression's result at that time."""
        reader = self._reader()

        def work(timeout: float) -> Any:
            return reader.server.custom_query(promql, params={"time": at, **WHOLE}, timeout=timeout)

        return await self._expression(("query", promql, at), work, patience)

    async def _evaluated(
        self, promql: str, since: float, until: float, patience: Patience, every: float | None
    ) -> list[RawSeries]:
        """An expression's values: from `since` on every so many seconds, or at `until` and in even steps before it."""
        step = every or _step(since, until)
        start_ms, end_ms = math.floor(since * 1000), math.floor(until * 1000)  # whole ones, or the last value gets lost
        if not every:
            start_ms = end_ms - math.floor(max(0.0, until - since) / step) * round(step * 1000)
        exact = {"start": f"{start_ms / 1000:.3f}", "end": f"{end_ms / 1000:.3f}", **WHOLE}
        start, end = (datetime.fromtimestamp(t, UTC) for t in (since, until))  # params: the client rounds to seconds
        reader = self._reader()

        def work(timeout: float) -> list[RawSeries]:
            asked = reader.server.custom_query_range(promql, start, end, f"{step:g}", params=exact, timeout=timeout)
            return all_series(asked)

        return await self._expression(("query_range", promql, start_ms, end_ms, f"{step:g}"), work, patience)

    async def _expression(self, key: Hashable, work: Callable[[float], T], patience: Patience) -> T:
        return await self._ask(lambda reader, _: reader.result(key, work, patience), patience)

    def _reader(self) -> Reader:
        """The door to the server that all in this event loop share. Only here is it known which loop that is."""
        if self._lent is None or self._lent.loop is not asyncio.get_running_loop():
            self._lent = reader_for(self._url, self._access)
        return self._lent

    async def _guarded(
        self, measure: Callable[[Patience], Awaitable[T]], query: str, deadline: float | None
    ) -> T | SourceError:
        """Measures until `deadline` at most; whatever goes wrong is a SourceError without secrets."""
        left = _PATIENCE * self._access.timeout if deadline is None else deadline - time.time()
        try:
            return await measure(Patience(time.monotonic() + left, self._access.timeout, unhurried=deadline is None))
        except (Refusal, SelectorError) as refusal:
            return SourceError(self._redactor.text(str(refusal)), query)

    async def _ask(self, once: Callable[[Reader, bool], Awaitable[T]], patience: Patience) -> T:
        """Asks until there is an answer, a refusal that will not pass, or no time left. Raises Refusal."""
        apart, pause = False, _FIRST_PAUSE
        last: Refusal | None = None
        while patience.left > 0:
            try:
                return await once(self._reader(), apart)
            except Apart:
                apart = True
                continue
            except TooSlow as slow:
                if last is None or slow.seconds >= patience.timeout:  # a try cut short does not hide what went wrong
                    last = slow
            except Refusal as refusal:
                last = refusal
            wait = self._rng.uniform(pause / 2, pause)
            if not last.may_pass or wait >= patience.left:
                break
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise last or Refusal(f"Prometheus at {self._host} was not asked: the next look is due")


def _plain(selector: Selector | str) -> Selector:
    return selector if isinstance(selector, Selector) else _parsed(selector)


@lru_cache(maxsize=4096)
def _buckets(histogram: Selector | str) -> Selector:
    return _plain(histogram).with_suffix("_bucket")


_parsed = lru_cache(maxsize=4096)(parse)  # each look of each window asks for the same ones


def _step(since: float, until: float) -> int:
    """Whole seconds between an expression's values: a 240th of the time, 15 s at most, and never too many points."""
    span = until - since
    return max(1, round(min(15.0, span / 240)), math.ceil(span / MOST_POINTS))


def _span(since: float, until: float) -> str:
    """A PromQL duration that people can read."""
    return show_duration(max(1, round(until - since)))
