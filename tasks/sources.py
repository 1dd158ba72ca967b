"""What a metric source answers, whichever it is: a Prometheus server, or the embedded one that scrapes the service.

Nobody who measures need know which of the two answers. A source never raises for what the other side does: it says
NoData or SourceError. Its texts never hold a password or a token.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from firstwatch.model import Measurement
from firstwatch.redaction import Redactor, Secret
from firstwatch.selector import Selector
from firstwatch.spec.models import Metrics
from tasks.secrets import load_secret


class Source(Protocol):
    """Times are Unix seconds. `since` may lie before a deploy: counter resets are taken out.

    `deadline` (Unix seconds) is the next look: until then a failed question is asked again, and no longer. Without
    one, a source gives up after three times its timeout. The embedded source answers at once, from what it holds.

    A series that ended some time ago is given as it is: the reader sees from its times how old it is.
    """

    async def counts(
        self, bad: Selector | str, total: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        """Events counted by `total` and, of these, by `bad` in (since, until]: Counts by scrape interval.

        The rules (resets, new series, several targets) are those of firstwatch.series.
        """
        ...

    async def gauge(
        self, query: Selector | str, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        """The values of the one series that `query` gives in [since, until]: Gauge."""
        ...

    async def slower_than(
        self, histogram: Selector | str, bound_s: float, since: float, until: float, *, deadline: float | None = None
    ) -> Measurement:
        """Requests that took longer than `bound_s` seconds, of all: Counts. `histogram` is without `_bucket`."""
        ...

    async def query(self, promql: str, at: float, *, deadline: float | None = None) -> Measurement:
        """Any PromQL that gives one value at `at`: a Gauge of one sample. The embedded source has only SourceError."""
        ...

    async def alive(self, since: float, until: float, *, deadline: float | None = None) -> Sequence[float] | None:
        """When the source itself is known to have worked: then a service's silence means something. None: not known."""
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


@dataclass(frozen=True)
class Access:
    """How a source is let in: headers (values may be secret), basic or bearer authentication, TLS, patience."""

    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    basic: tuple[str, Secret] | None = None
    bearer: Secret | None = None
    ca_file: str | None = None
    insecure: bool = False
    timeout: float = 10.0  # seconds for one question, connect to last byte

    def plain_headers(self) -> dict[str, str]:
        """The headers as they are sent: only for what is about to be sent."""
        sent = {name: value.reveal() if isinstance(value, Secret) else value for name, value in self.headers.items()}
        return {**sent, "Authorization": f"Bearer {self.bearer.reveal()}"} if self.bearer else sent

    def redactor(self) -> Redactor:
        """Takes out of a text all that must not be told."""
        held = [*self.headers.values(), self.bearer, self.basic[1] if self.basic else None]
        return Redactor(value.reveal() for value in held if isinstance(value, Secret))


async def access_to(metrics: Metrics) -> Access:
    """The file's `metrics:` with its secrets looked up. Raises SecretMissing."""
    headers: dict[str, str | Secret] = {}
    for name, value in metrics.headers.items():
        prefix, _, secret = value.partition(":")
        headers[name] = await load_secret(secret) if prefix == "secret" else value
    return Access(
        headers=headers,
        basic=(metrics.basic.username, await load_secret(metrics.basic.password)) if metrics.basic else None,
        bearer=await load_secret(metrics.bearer) if metrics.bearer else None,
        ca_file=metrics.ca_file,
        insecure=metrics.insecure,
        timeout=metrics.timeout,
    )


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

        return PrometheusSource(metrics.prometheus, access, rng=rng)
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


def system_reason(error: BaseException | None) -> str:
    """What the operating system or TLS said at the bottom of a client library's exception; empty if they did not."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and isinstance(error.errno, int) and error.strerror:
            own_numbers = isinstance(error, ssl.SSLError | socket.gaierror)  # not those of the operating system
            return str(error.strerror if own_numbers else os.strerror(error.errno)).lower()
        group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        inner = [getattr(error, "reason", None), *error.args, *group, error.__cause__, error.__context__]
        error = next((e for e in inner if isinstance(e, BaseException) and e not in seen), None)
    return ""
