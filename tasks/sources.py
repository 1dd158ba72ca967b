"""What a metric source answers, whichever it is: a Prometheus server, or the embedded one that scrapes the service.

Nobody who measures need know which of the two answers. A source never raises for what the other side does: it says
NoData or SourceError. Its texts never hold a password or a token.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from firstwatch.model import Measurement
from firstwatch.selector import Selector
from firstwatch.spec.models import Metrics
from tasks.access import access_to


class Source(Protocol):
    """Times are Unix seconds. `since` may lie before a deploy: counter resets are taken out.

    `deadline` (Unix seconds) is the next look: until then a failed question is asked again, and no longer. Without
    one, a source gives up after three times its timeout. The embedded source answers at once, from what it holds.

    A series that ended some time ago is given as it is: the reader sees from its times how old it is.

    `holds_history`: nobody else has what it has seen, which dies with the process unless `snapshot` is kept.
    """

    holds_history: bool

    async def counts(
        self, bad: Selector | str, total: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        """Events counted by `total` and, of these, by `bad` in (since, until]: Counts by scrape interval.

        The rules (resets, new series, several targets) are those of firstwatch.series.
        """
        ...

    async def gauge(
        self,
        query: Selector | str,
        since: float,
        until: float,
        *,
        every: float | None = None,
        deadline: float | None = None,
    ) -> Measurement:
        """The values of the one series that `query` gives in [since, until]: Gauge.

        An expression is evaluated at `since` and `every` so many seconds after it, which gives the same values
        whenever it is asked; left out, at `until` and in even steps before it.
        """
        ...

    async def slower_than(
        self, histogram: Selector | str, bound_s: float, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        """Requests that took longer than `bound_s` seconds, of all: Counts. `histogram` is without `_bucket`."""
        ...

    async def histogram(
        self, selector: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        """All buckets of a histogram over time: Histogram. `selector` is without `_bucket`."""
        ...

    async def query(self, promql: str, at: float, *, deadline: float | None = None) -> Measurement:
        """Any PromQL that gives one value at `at`: a Gauge of one sample. The embedded source has only SourceError."""
        ...

    async def alive(
        self, since: float, until: float, *, every: float | None = None, deadline: float | None = None
    ) -> Sequence[float] | None:
        """When the source itself is known to have worked: then a service's silence means something. None: not known.

        `every` is as in `gauge`.
        """
        ...

    def snapshot(self) -> dict[str, Any]:
        """What a restarted process needs to go on, as plain JSON; empty where the history is kept elsewhere."""
        ...

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Takes up a snapshot's history. Raises ValueError if that is no snapshot."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


async def open_source(
    metrics: Metrics,
    *,
    service: str,
    selectors: Iterable[Selector],
    marks: Mapping[str, str],
    client: httpx.AsyncClient | None = None,
    rng: random.Random | None = None,
) -> Source:
    """The source that the file names: `async with await open_source(…) as source`.

    `selectors` is what the embedded source keeps (a histogram's as `_bucket`); `marks` are the synthetic headers it
    sends; `client` sends for it, if given; `rng` spreads the retries. Raises SecretMissing, and ValueError if the
    file names no source or a ca_file that is not there.
    """
    if metrics.ca_file and not os.path.isfile(metrics.ca_file):  # noqa: ASYNC240, PTH113
        raise ValueError(f"metrics.ca_file: there is no file {metrics.ca_file}")
    access = await access_to(metrics)
    if metrics.prometheus:
        from tasks.prometheus import PrometheusSource  # lazily, both: a process needs one of the two

        return PrometheusSource(metrics.prometheus, access, rng=rng, keep=True)
    if metrics.scrape:
        from tasks.scrape import ScrapeSource

        return ScrapeSource(
            metrics.scrape,
            access,
            service=service,
            selectors=selectors,
            marks=marks,
            every=metrics.every,
            client=client,
        )
    raise ValueError("the file names neither metrics.prometheus nor metrics.scrape")
