"""A Prometheus server (or Thanos, Mimir, VictoriaMetrics: what speaks its HTTP API) as a metric source.

Counters and plain gauges are read as raw samples (an instant query with a range selector), so that resets, new
series and their times are ours to judge; expressions go through query_range. The questions themselves are
prometheus-api-client's; what it leaves open is closed here (retries that end before the next look) and in
tasks.prometheus_session (a request's total time, an answer's size, redirects, errors that the server explains).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from prometheus_api_client import PrometheusConnect
from requests.auth import HTTPBasicAuth
from urllib3.util.retry import Retry

from firstwatch import series
from firstwatch.model import Gauge, Measurement, NoData, SourceError, Values
from firstwatch.redaction import Secret
from firstwatch.selector import Selector, SelectorError, is_plain, parse
from firstwatch.series import LOOK_BACK, RawSeries
from firstwatch.units import show_duration
from tasks.access import Access
from tasks.prometheus_session import BoundedSession, Refusal, as_it_is, in_thread

MOST_POINTS = 10_000  # of a query_range; Prometheus refuses more than 11,000
_PATIENCE = 3  # timeouts, where no deadline is given
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds between tries; doubled each time
# A store that is missing makes the answer an error rather than a part of the truth (Thanos, VictoriaMetrics).
_WHOLE = {"partial_response": "false", "deny_partial_response": "1"}

T = TypeVar("T")


class PrometheusSource:
    """See tasks.sources.Source. `url` is the server's base URL; a user name in it is taken as basic authentication."""

    def __init__(self, url: str, access: Access | None = None, *, rng: random.Random | None = None) -> None:
        access = access or Access()
        parts = urlsplit(url)
        if parts.password is not None and access.basic is None:
            access = Access(**{**vars(access), "basic": (parts.username or "", Secret("metrics", parts.password))})
        host = parts.netloc.rpartition("@")[2]
        session = BoundedSession(f"Prometheus at {host}")
        session.verify = access.ca_file or not access.insecure
        self._access, self._redactor, self._rng = access, access.redactor(), rng or random.Random()
        self._session = session
        self._server = PrometheusConnect(
            parts._replace(netloc=host).geturl().rstrip("/"),
            headers=access.plain_headers(),
            auth=HTTPBasicAuth(access.basic[0], access.basic[1].reveal()) if access.basic else as_it_is,
            retry=Retry(0, read=False),
            session=session,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def snapshot(self) -> dict[str, Any]:
        return {}  # the server keeps the history

    def restore(self, kept: Mapping[str, Any]) -> None:
        pass

    async def counts(
        self, bad: Selector | str, total: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        span = _span(since, until)
        query = f"sum(increase({bad}[{span}])) / sum(increase({total}[{span}]))"

        async def measure(ends: float) -> Measurement:
            # Bad first: a scrape that comes in between adds requests without their errors, and the next look corrects
            # that; the other way round there would be errors without requests.
            bads = await self._samples(_plain(bad), since - LOOK_BACK, until, ends)
            if str(bad) == str(total):
                return series.counts(bads, bads, since, until, query)
            totals = await self._samples(_plain(total), since - LOOK_BACK, until, ends)
            return series.counts(bads, totals, since, until, query)

        return await self._guarded(measure, query, deadline)

    async def slower_than(
        self, histogram: Selector | str, bound_s: float, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"requests slower than {bound_s:g}s in {histogram}[{_span(since, until)}]"

        async def measure(ends: float) -> Measurement:
            selector = _plain(histogram).with_suffix("_bucket")
            buckets = await self._samples(selector, since - LOOK_BACK, until, ends)
            return series.slower_than(buckets, bound_s, since, until, query)

        return await self._guarded(measure, query, deadline)

    async def histogram(
        self, selector: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        query = f"buckets of {selector}[{_span(since, until)}]"

        async def measure(ends: float) -> Measurement:
            buckets = await self._samples(_plain(selector).with_suffix("_bucket"), since - LOOK_BACK, until, ends)
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
        async def measure(ends: float) -> Measurement:
            if isinstance(query, Selector) or is_plain(query):
                found = await self._samples(_plain(query), since, until, ends)
            else:
                found = await self._evaluated(query, since, until, ends, every)
            return series.gauge(found, since, until, str(query))

        return await self._guarded(measure, str(query), deadline)

    async def query(self, promql: str, at: float, *, deadline: float | None = None) -> Measurement:
        async def measure(ends: float) -> Measurement:
            result = await self._ask(partial(self._server.custom_query, promql, params={"time": at, **_WHOLE}), ends)
            return _one_value(result, promql)

        return await self._guarded(measure, promql, deadline)

    async def values(self, promql: str, at: float, *, deadline: float | None = None) -> Values | SourceError:
        """Whatever numbers a query gives at `at`: one (a scalar), or as many as it has series (none, perhaps)."""

        async def measure(ends: float) -> Values:
            result = await self._ask(partial(self._server.custom_query, promql, params={"time": at, **_WHOLE}), ends)
            return Values(at, _numbers(result), promql)

        return await self._guarded(measure, promql, deadline)

    async def values_over(
        self, promql: str, since: float, until: float, step: float, *, deadline: float | None = None
    ) -> list[RawSeries] | SourceError:
        """The series that a query gives, evaluated at `since` and every `step` seconds after it. NaN is kept."""

        async def measure(ends: float) -> list[RawSeries]:
            return await self._evaluated(promql, since, until, ends, step)

        return await self._guarded(measure, promql, deadline)

    async def all_series(
        self, promql: str, since: float, until: float, *, every: float | None = None
    ) -> list[RawSeries] | SourceError:
        """Every series in [since, until]: an expression's values, `every` so many seconds, or a selector's samples."""
        ends = time.monotonic() + _PATIENCE * self._access.timeout
        try:
            if every is None:
                return await self._samples(promql, since, until, ends)
            return await self._evaluated(promql, since, until, ends, every)
        except Refusal as refusal:
            return SourceError(self._redactor.text(str(refusal)), promql)

    async def alive(
        self, since: float, until: float, *, every: float | None = None, deadline: float | None = None
    ) -> Sequence[float] | None:
        """When Prometheus scraped anything at all, well or in vain."""
        scraped = f"count(count_over_time(up[{round(1000 * (every or _step(since, until)))}ms]))"
        measured = await self.gauge(scraped, since, until, every=every, deadline=deadline)
        return measured.at if isinstance(measured, Gauge) else None

    async def _samples(self, selector: Selector | str, since: float, until: float, ends: float) -> list[RawSeries]:
        """The raw samples in [since, until]. Prometheus 3 leaves out the range's left end: a millisecond more."""
        promql = f"{selector}[{max(1, math.ceil((until - since) * 1000) + 1)}ms]"
        question = partial(self._server.custom_query, promql, params={"time": until, **_WHOLE})
        return _all_series(await self._ask(question, ends))

    async def _evaluated(
        self, promql: str, since: float, until: float, ends: float, every: float | None
    ) -> list[RawSeries]:
        """An expression's values: from `since` on every so many seconds, or at `until` and in even steps before it."""
        step = every or _step(since, until)
        start_ms, end_ms = math.floor(since * 1000), math.floor(until * 1000)  # whole ones, or the last value gets lost
        if not every:
            start_ms = end_ms - math.floor(max(0.0, until - since) / step) * round(step * 1000)
        exact = {"start": f"{start_ms / 1000:.3f}", "end": f"{end_ms / 1000:.3f}", **_WHOLE}
        start, end = (datetime.fromtimestamp(t, UTC) for t in (since, until))  # params: the client rounds to seconds
        question = partial(self._server.custom_query_range, promql, start, end, f"{step:g}", params=exact)
        return _all_series(await self._ask(question, ends))

    async def _guarded(
        self, measure: Callable[[float], Awaitable[T]], query: str, deadline: float | None
    ) -> T | SourceError:
        """Measures until `deadline` at most; whatever goes wrong is a SourceError without secrets."""
        left = _PATIENCE * self._access.timeout if deadline is None else deadline - time.time()
        try:
            return await measure(time.monotonic() + left)
        except (Refusal, SelectorError) as refusal:
            return SourceError(self._redactor.text(str(refusal)), query)

    async def _ask(self, question: Callable[..., Any], ends: float) -> Any:
        """Asks until there is an answer, a refusal that will not pass, or no time left. Raises Refusal."""
        where, pause = self._session.where, _FIRST_PAUSE
        last: Refusal | None = None
        while (left := ends - time.monotonic()) > 0:
            timeout = min(self._access.timeout, left)
            try:
                async with asyncio.timeout(timeout):
                    return await in_thread(partial(question, timeout=timeout))
            except TimeoutError:
                if last is None or timeout == self._access.timeout:  # a try cut short does not hide what went wrong
                    last = Refusal(f"{where} did not answer within {show_duration(timeout)}", may_pass=True)
            except Refusal as refusal:
                last = refusal
            wait = self._rng.uniform(pause / 2, pause)
            if not last.may_pass or time.monotonic() + wait >= ends:
                break
            await asyncio.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise last or Refusal(f"{where} was not asked: the next look is due")


# ── what the server says ─────────────────────────────────────────────────────────────────────────────────────


def _all_series(result: Any) -> list[RawSeries]:
    """A matrix → its series. Raises Refusal for anything else."""
    if not isinstance(result, list) or not all(isinstance(entry, dict) for entry in result):
        raise Refusal("the answer is a scalar or a string where series are expected")
    try:
        return [_one_series(entry) for entry in result]
    except (KeyError, TypeError, ValueError):
        raise Refusal("the answer holds no samples as numbers; native histograms cannot be read yet") from None


def _one_series(entry: Mapping[str, Any]) -> RawSeries:
    points = [(float(t), float(v)) for t, v in entry["values"]]
    return RawSeries(dict(entry["metric"]), [t for t, _ in points], [v for _, v in points])


def _one_value(result: Any, promql: str) -> Measurement:
    """An instant query's result → a Gauge of one sample, or why it is none."""
    if result == []:
        return NoData("the query gives nothing", promql)
    try:
        if isinstance(result[0], dict):
            if len(result) > 1:
                found = [RawSeries(entry["metric"], (), ()) for entry in result]
                return SourceError(series.several(found), promql)
            at, value = map(float, result[0]["value"])
        else:
            at, value = map(float, result)  # a scalar
    except (KeyError, TypeError, ValueError):
        return SourceError("the query gives a range, a histogram or a text where one number is expected", promql)
    if not math.isfinite(value):
        return NoData(f"the query gives {value}", promql)
    return Gauge((at,), (value,), promql)


def _numbers(result: Any) -> float | tuple[float, ...]:
    """An instant query's numbers: a scalar's, or those of all series in the server's order. Raises Refusal."""
    try:
        if result and not isinstance(result[0], dict):
            return float(result[1])
        return tuple(float(entry["value"][1]) for entry in result)
    except (KeyError, TypeError, ValueError, IndexError):
        raise Refusal("the query gives a range, a histogram or a text where numbers are expected") from None


def _plain(selector: Selector | str) -> Selector:
    return selector if isinstance(selector, Selector) else parse(selector)


def _step(since: float, until: float) -> int:
    """Whole seconds between an expression's values: a 240th of the time, 15 s at most, and never too many points."""
    span = until - since
    return max(1, round(min(15.0, span / 240)), math.ceil(span / MOST_POINTS))


def _span(since: float, until: float) -> str:
    """A PromQL duration that people can read."""
    return show_duration(max(1, round(until - since)))
