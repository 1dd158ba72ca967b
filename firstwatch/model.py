"""The nouns that every layer shares: releases, measurements, judgements, results and verdicts.

Times are Unix seconds (float) unless a name says otherwise; durations are seconds; ratios are 0..1.
Everything here is frozen, compares by value and turns into JSON with `as_json`, so that a verdict can be
stored, shown and replayed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What one check, measurement or judgement came to. Only PASS counts towards healthy, only FAIL rolls back."""

    PASS = "pass"
    FAIL = "fail"
    NOT_YET = "not yet"  # a judge that needs more evidence
    NO_DATA = "no data"  # the source answered, and had nothing
    ERROR = "error"  # the source, the file or the checker itself is at fault


class Verdict(StrEnum):
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Release:
    """One deploy of one service."""

    service: str
    version: str
    deployed_at: float

    @property
    def id(self) -> str:
        return f"{self.service}@{self.version}@{rfc3339(self.deployed_at)}"

    @property
    def slug(self) -> str:
        """The id as Prefect's keys allow it (a-z, 0-9, dash), unique by a digest, at most 80 characters."""
        words = re.sub(r"[^a-z0-9]+", "-", f"{self.service}-{self.version}".lower()).strip("-")[:60].strip("-")
        return f"{words}-{hashlib.sha256(self.id.encode(errors='surrogatepass')).hexdigest()[:12]}"


# ── measurements: what a source answers ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Counts:
    """Events over time: of `total[i]` events in (at[i-1], at[i]], `bad[i]` were bad. The first interval starts
    at `since`. Increments, never cumulative; counter resets are already taken out. `at` strictly ascends.

    `single`: the same by single samples, where an interval holds samples of several times (several targets)."""

    since: float
    at: Sequence[float]
    bad: Sequence[float]
    total: Sequence[float]
    query: str = ""
    single: Counts | None = field(default=None, repr=False, compare=False)

    def until(self, now: float) -> Counts:
        """As it was at `now`: of an interval that is not over, the samples that were there already."""
        n = bisect_right(self.at, now)
        if n == len(self.at) and self.single is None:
            return self
        cut = dataclasses.replace(self, at=self.at[:n], bad=self.bad[:n], total=self.total[:n])
        if self.single is None:
            return cut
        known = self.single.until(now)
        begun = bisect_right(known.at, cut.at[-1]) if n else 0
        if begun == len(known.at):
            return dataclasses.replace(cut, single=known)
        return dataclasses.replace(
            cut,
            at=(*cut.at, known.at[-1]),
            bad=(*cut.bad, sum(known.bad[begun:])),
            total=(*cut.total, sum(known.total[begun:])),
            single=known,
        )


@dataclass(frozen=True, slots=True)
class Gauge:
    """One series' values over time. `at` strictly ascends; values are finite."""

    at: Sequence[float]
    value: Sequence[float]
    query: str = ""

    def until(self, now: float) -> Gauge:
        n = bisect_right(self.at, now)
        if n == len(self.at):
            return self
        return dataclasses.replace(self, at=self.at[:n], value=self.value[:n])


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values over time, by how large they were: of the events in (at[i-1], at[i]], `counts[i][j]` lay in the bucket
    (bounds[j-1], bounds[j]]. The first interval starts at `since`, the first bucket has no lower bound, and the last
    one ends at infinity. Increments, as in Counts. `at` and `bounds` strictly ascend."""

    since: float
    at: Sequence[float]
    bounds: Sequence[float]
    counts: Sequence[Sequence[float]]
    query: str = ""

    def until(self, now: float) -> Histogram:
        n = bisect_right(self.at, now)
        return dataclasses.replace(self, at=self.at[:n], counts=self.counts[:n])


@dataclass(frozen=True, slots=True)
class Values:
    """What a query gave at a time: a number, several (a vector, or a matrix laid flat), or None for nothing at all.
    `sample` is the number of requests since the measurement before, where the metric asks for some."""

    at: float
    result: float | tuple[float, ...] | None
    query: str = ""
    sample: float | None = None


@dataclass(frozen=True, slots=True)
class NoData:
    """The source answered and had nothing (an empty vector, a NaN, no sample in the range, none of late). `last` is
    what it had before it fell silent, so that a service that is gone can be told from one that never was."""

    why: str
    query: str = ""
    last: Series | None = None


@dataclass(frozen=True, slots=True)
class SourceError:
    """The source did not answer, or answered what cannot be used (several series where one is expected). `before` is
    what it would have answered earlier than `at`."""

    why: str
    query: str = ""
    at: float | None = None
    before: Gauge | None = None

    def until(self, now: float) -> SourceError | Gauge:
        if self.at is None or self.before is None or now >= self.at:
            return self
        return self.before.until(now)


Series = Counts | Gauge | Histogram
Measurement = Series | NoData | SourceError


# ── judgements ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of a measurement at a time, with the evidence.

    `value` and `limit` are in `unit` ("ratio", "seconds", "bytes", "connections", "per hour", "" for plain numbers);
    `sample` counts what the judgement rests on (requests or samples); `since` is where the evidence begins.
    """

    outcome: Outcome
    why: str
    at: float
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    sample: int | None = None
    since: float | None = None
    query: str = ""


# ── checks: what the smoke suite found ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds that the parts of a request took; None where there was no such part (a connection that was there already
    is not opened again, an address that is known not looked up). What ended in the middle has the time so far in the
    part where it hung, and None in those that were yet to come."""

    resolve: float | None = None
    connect: float | None = None  # to all addresses that were tried
    tls: float | None = None
    processing: float | None = None  # from the request's first byte to the end of the answer's head
    transfer: float | None = None  # from there to the answer's last byte

    def __add__(self, other: Phases) -> Phases:
        """Of two requests one after the other: each part's sum."""

        def both(a: float | None, b: float | None) -> float | None:
            return b if a is None else a if b is None else a + b

        return Phases(
            both(self.resolve, other.resolve),
            both(self.connect, other.connect),
            both(self.tls, other.tls),
            both(self.processing, other.processing),
            both(self.transfer, other.transfer),
        )

    @property
    def total(self) -> float:
        """Seconds of all parts together."""
        return sum(part or 0.0 for part in (self.resolve, self.connect, self.tls, self.processing, self.transfer))


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One synthetic request as it was sent; `url` and `error` are redacted. `status` is None without an answer."""

    at: float
    check: str
    attempt: int
    method: str
    url: str
    status: int | None
    bytes: int
    milliseconds: float
    trace_id: str
    error: str = ""
    phases: Phases | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a check: what was expected, and why it did not hold (empty for a pass)."""

    outcome: Outcome
    why: str
    at: float
    elapsed: float | None = None  # seconds
    status: int | None = None
    phases: Phases | None = None  # of its request, redirects included


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check with all its attempts, first to last. A retry confirms; it never overwrites."""

    name: str
    request: str  # "GET /health"
    expect: Sequence[str]
    attempts: Sequence[Attempt] = field(default_factory=tuple)

    @property
    def outcome(self) -> Outcome:
        return self.attempts[-1].outcome if self.attempts else Outcome.ERROR

    @property
    def passed_on_retry(self) -> bool:
        return self.outcome is Outcome.PASS and len(self.attempts) > 1

    @property
    def why(self) -> str:
        return self.attempts[-1].why if self.attempts else "was never sent"


# ── time and JSON ────────────────────────────────────────────────────────────────────────────────────────────


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond, without trailing zeros."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z").replace(".000Z", "Z")


def as_json(value: Any) -> Any:
    """Any of the above as plain JSON values. NaN and infinities become None: JSON has neither."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
