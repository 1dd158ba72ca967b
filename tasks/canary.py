"""What a canary's metrics are measured from: asked at each moment for a live gate, or at once for a whole history.

Free of Prefect, so that a backtest starts fast. Each query goes to the Prometheus that its metric names, or to the
service's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

from firstwatch.gate import Answer, Gate, History, Seen
from firstwatch.kayenta import CanaryConfig
from firstwatch.model import Counts, Judgement, Measurement, SourceError, Values
from firstwatch.selector import Selector, parse
from firstwatch.spec import Service, signals_of
from firstwatch.spec.canary import CanaryMetric, PrometheusProvider, count_of, interval_of, metrics_of
from firstwatch.spec.canary_findings import moment
from tasks.access import access_of_provider
from tasks.kayenta import read_config, score
from tasks.prometheus import PrometheusSource

_PAGE = 11_000  # values of one range query that Prometheus gives at most
_AT_ONCE = 4  # questions of a history, or of one of its metrics

T = TypeVar("T")


class Meter:
    """Answers for the metrics of one gate: `async with Meter(service, start) as meter`.

    `service` is filled in for the release; `start` (Unix seconds) is when the gate began. Never raises for what a
    source does. Opening a source raises SecretMissing.
    """

    def __init__(self, service: Service, start: float) -> None:
        assert service.canary is not None
        self._service, self._canary, self._start = service, service.canary, start
        self._stack = AsyncExitStack()
        self._sources: dict[str, tuple[PrometheusSource, float]] = {}
        self._opening = asyncio.Lock()
        self._config: CanaryConfig | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # ── at a moment ──────────────────────────────────────────────────────────────────────────────────────────

    async def answer(self, metric: CanaryMetric, at: float, deadline: float | None = None) -> Answer:
        """What is known of the metric at `at`; a failed question is asked again until `deadline` (Unix seconds)."""
        try:
            if metric.provider is not None:
                return await self._values(metric, metric.provider.prometheus, at, deadline)
            if metric.judge is not None:
                return await self._seen(metric, at, deadline)
            return await self._kayenta(at, deadline)
        except Exception as problem:
            return SourceError(f"the metric source failed: {type(problem).__name__}: {problem}")

    async def _values(
        self, metric: CanaryMetric, provider: PrometheusProvider, at: float, deadline: float | None
    ) -> Values | SourceError:
        source = await self._source(provider)
        values = await self._asked(source, provider, at, deadline)
        if isinstance(values, SourceError) or not metric.min_sample:
            return values
        counted = await (await self._source(None)).values(self._counted(metric), at, deadline=deadline)
        return _sampled(values, counted)

    async def _asked(
        self, source: PrometheusSource, provider: PrometheusProvider, at: float, deadline: float | None
    ) -> Values | SourceError:
        if provider.range_query is None:
            return await source.values(provider.query, at, deadline=deadline)
        begin, end = (moment(text, at) for text in (provider.range_query.start, provider.range_query.end))
        found = await source.values_over(provider.query, begin, end, provider.range_query.step, deadline=deadline)
        if isinstance(found, SourceError):
            return found
        return Values(at, tuple(value for series in found for value in series.value), provider.query)

    def _counted(self, metric: CanaryMetric) -> str:
        """PromQL of the requests since the measurement before."""
        return f"sum(increase({self._requests(metric)}[{round(interval_of(metric) * 1000)}ms]))"

    def _requests(self, metric: CanaryMetric) -> Selector:
        return _labelled(signals_of(self._service).requests, metric.canary)

    async def _seen(self, metric: CanaryMetric, until: float, deadline: float | None) -> Seen:
        """Both versions' series from before the gate's start on, and what helps to judge them."""
        source = await self._source(None)
        since = self._start - count_of(metric) * interval_of(metric)
        requests = self._requests(metric)

        async def of(labels: Mapping[str, str]) -> Measurement:
            return await self._series(source, metric, labels, since, until, deadline)

        async def stable() -> Measurement | None:
            return await of(metric.stable) if metric.stable else None

        canary, compared, load, alive = await asyncio.gather(
            of(metric.canary),
            stable(),
            source.counts(requests, requests, since, until, deadline=deadline),
            source.alive(since, until, deadline=deadline),
        )
        return Seen(canary, compared, load if isinstance(load, Counts) else None, alive)

    async def _series(
        self,
        source: PrometheusSource,
        metric: CanaryMetric,
        labels: Mapping[str, str],
        since: float,
        until: float,
        deadline: float | None,
    ) -> Measurement:
        signals, signal = signals_of(self._service), metric.signal or "errors"
        selector = _labelled(getattr(signals, signal), labels)
        if signal == "errors":
            return await source.counts(selector, _labelled(signals.requests, labels), since, until, deadline=deadline)
        if signal != "latency":
            return await source.gauge(selector, since, until, deadline=deadline)
        if metric.judge in ("compare", "distribution"):
            return await source.histogram(selector, since, until, deadline=deadline)
        bound = next(iter(self._service.objectives.latency.values()))
        return await source.slower_than(selector, bound, since, until, deadline=deadline)

    async def _kayenta(self, at: float, deadline: float | None) -> Judgement:
        given = self._canary.kayenta
        assert given is not None
        if self._config is None:
            self._config = await asyncio.to_thread(read_config, given)
        return await score(await self._source(None), given, self._config, self._start, at, deadline)

    # ── a whole history ──────────────────────────────────────────────────────────────────────────────────────

    async def history(self, until: float) -> History:
        """All answers that the gate would ask for up to `until`, each query asked once for all of them if it can be."""
        gate = Gate(self._canary, self._start)
        metrics = metrics_of(self._canary)
        ends = [until if gate.planned_end(m) is None else min(until, gate.deadline(m)) for m in metrics]
        found = await _few_at_a_time(self._history_of(m, end) for m, end in zip(metrics, ends, strict=True))
        return History(dict(zip((m.name for m in metrics), found, strict=True)))

    async def _history_of(self, metric: CanaryMetric, until: float) -> Seen | SourceError | Mapping[int, Answer]:
        if metric.judge is not None:
            try:
                return await self._seen(metric, until, None)
            except Exception as problem:
                return SourceError(f"the metric source failed: {type(problem).__name__}: {problem}")
        first, every = self._start + metric.initial_delay, interval_of(metric)
        moments = [first + i * every for i in range(int((until - first) / every + 1e-6) + 1)]
        answers = await self._at_each(metric, moments, every)
        return {round(at * 1000): answer for at, answer in zip(moments, answers, strict=True)}

    async def _at_each(self, metric: CanaryMetric, moments: Sequence[float], step: float) -> Sequence[Answer]:
        """The answers at moments that are a step apart: each query asked once for all of them, if it can be."""
        provider = metric.provider.prometheus if metric.provider else None
        if provider is None or provider.range_query is not None or not 2 <= len(moments) <= _PAGE:
            return await _few_at_a_time(self.answer(metric, at) for at in moments)
        values = await self._on_grid(provider, provider.query, moments, step)
        if not metric.min_sample:
            return values
        counted = await self._on_grid(None, self._counted(metric), moments, step)
        return [_sampled(one, number) for one, number in zip(values, counted, strict=True)]

    async def _on_grid(
        self, provider: PrometheusProvider | None, query: str, moments: Sequence[float], step: float
    ) -> Sequence[Values | SourceError]:
        """What the query gave at each of the moments, from one range query."""
        try:
            source = await self._source(provider)
            kind = await source.values(query, moments[0])  # a range query does not tell a scalar from a vector
            # Half a step more: a last moment that is rounded down must not be the one that is left out.
            found = await source.values_over(query, moments[0], moments[-1] + step / 2, step)
        except Exception as problem:
            kind = found = SourceError(f"the metric source failed: {type(problem).__name__}: {problem}")
        for failed in (kind, found):
            if isinstance(failed, SourceError):
                return [failed for _ in moments]
        assert isinstance(kind, Values)
        assert isinstance(found, list)
        at_moment: list[list[float]] = [[] for _ in moments]
        for series in found:
            for at, value in zip(series.at, series.value, strict=True):
                at_moment[round((at - moments[0]) / step)].append(value)
        scalar = isinstance(kind.result, float)
        return [
            Values(at, (values[0] if values else None) if scalar else tuple(values), query)
            for at, values in zip(moments, at_moment, strict=True)
        ]

    # ── sources ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _source(self, provider: PrometheusProvider | None) -> PrometheusSource:
        """The metric's own Prometheus, or the service's; opened once, and again when its token ends."""
        key = provider.model_dump_json(exclude={"query", "range_query"}) if provider is not None else ""
        async with self._opening:
            source, ends = self._sources.get(key, (None, 0.0))
            if source is None or time.time() > ends:
                access, ends = await access_of_provider(provider, self._service.metrics)
                url = provider.address if provider is not None and provider.address else ""
                source = PrometheusSource(url or self._service.metrics.prometheus, access)
                self._sources[key] = await self._stack.enter_async_context(source), ends
            return source


async def _few_at_a_time(asked: Iterable[Awaitable[T]]) -> list[T]:
    """All answers, in order, with no more than a few questions under way."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(question: Awaitable[T]) -> T:
        async with few:
            return await question

    return list(await asyncio.gather(*map(one, asked)))


def _sampled(values: Values | SourceError, counted: Values | SourceError) -> Values | SourceError:
    """The values with the number of requests that they rest on."""
    if isinstance(values, SourceError) or isinstance(counted, SourceError):
        return values if isinstance(values, SourceError) else counted
    first = counted.result[0] if isinstance(counted.result, tuple) and counted.result else counted.result
    return Values(values.at, values.result, values.query, first if isinstance(first, float) else None)


def _labelled(selector: str, labels: Mapping[str, str]) -> Selector:
    found = parse(selector)
    for name, value in labels.items():
        found = found.with_matcher(name, "=", value)
    return found
