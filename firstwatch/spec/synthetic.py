"""What is monitored day and night: journeys and endpoint checks, on a schedule.

Every check of a service has a name of its own, whichever kind it is: alerts, histories and metrics go by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from firstwatch.monitor import Kind
from firstwatch.spec.base import Model, Ratio, Seconds, SecretName
from firstwatch.spec.request import Check, Request

SAVED = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
"""Where a step of a journey asks for a value that an earlier one has saved."""

RETRIES, RETRY_DELAY = 1, 1.0
"""How often, and after how many seconds, a failure of what has no retries of its own is confirmed."""

RecordType = Literal["A", "AAAA", "CNAME", "MX", "NS", "TXT", "SRV", "CAA", "SOA"]


class Monitored(Check):
    """An endpoint of the service, checked as the smoke test does it."""

    needs: list[str] = Field(
        default_factory=list, description="checks without which this one cannot work: their alert stands for it too"
    )


class Step(Request):
    """One request of a journey. `${name}` in it is what an earlier step has saved."""

    name: str = Field(min_length=1, description="as people read it in the report")
    expect: list[str] = Field(min_length=1, description="CEL conditions over status, headers, json, text, elapsed")
    save: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], str] = Field(
        default_factory=dict, description="name: CEL expression of the answer, as in token: json.token"
    )


def _one_or_many(given: Any) -> Any:
    return given if isinstance(given, list) else [given]


class Journey(Model):
    """Steps in order, as a user takes them; the first that fails ends it. Clean-up runs whatever happened."""

    name: str = Field(min_length=1, description="as people read it in alerts")
    steps: list[Step] = Field(min_length=1, description="requests, one after the other")
    cleanup: Annotated[list[Step], BeforeValidator(_one_or_many)] = Field(
        default_factory=list, description="a step, or several, that always run at the end"
    )
    retries: int = Field(1, ge=0, le=3, description="how often a failure is confirmed, from the first step on")
    retry_delay: Seconds = Field(1.0, description="how long is waited before that")
    needs: list[str] = Field(default_factory=list, description="checks without which this one cannot work")


class Certificate(Model):
    """The TLS certificates of the service: chain, host name, and how soon the first of the chain expires."""

    warn: Seconds = Field(21 * 86400.0, description="a reminder, once, when it expires sooner")
    fail: Seconds = Field(7 * 86400.0, description="a failure when it expires sooner")
    hosts: list[str] = Field(
        default_factory=list, description="host or host:port; left out: base_url's, where that is https"
    )
    needs: list[str] = Field(default_factory=list, description="checks without which this one cannot work")


class Record(Model):
    """One name that must resolve, from each resolver."""

    name: str = Field(min_length=1, description="the domain name that is asked for")
    type: RecordType = Field("A", description="which of its records")
    values: list[str] | None = Field(
        None, min_length=1, description="exactly these answers, in any order; left out: some answer"
    )
    least_ttl: Seconds | None = Field(None, description="a failure when the records may be kept for less")
    most_ttl: Seconds | None = Field(None, description="a failure when they may be kept for longer")


class Dns(Model):
    resolvers: list[str] = Field(
        default_factory=list, description="addresses, as in 192.0.2.53 or 192.0.2.53:5353; left out: the system's"
    )
    records: list[Record] = Field(min_length=1, description="what is asked for")
    timeout: Seconds = Field(5.0, description="of one question to one resolver, with its repeats")
    needs: list[str] = Field(default_factory=list, description="checks without which this one cannot work")


class Dependency(Model):
    """An outside endpoint that the service relies on. It is only read, under the same rules."""

    name: str = Field(min_length=1, description="as people read it in alerts")
    get: str = Field(description="an absolute URL; its host may be asked for this alone")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with it; values may be secret:NAME")
    expect: list[str] = Field(min_length=1, description="CEL conditions over status, headers, json, text, elapsed")
    timeout: Seconds | None = Field(None, description="total time of one try; left out: that of rules")
    retries: int = Field(1, ge=0, le=5, description="how often a failure is confirmed before it counts")
    retry_delay: Seconds = Field(1.0, description="how long is waited before a failure is confirmed")


class Drift(Model):
    """An answer that must not change without a release: fields of it, or all of its body."""

    name: str = Field(min_length=1, description="as people read it in alerts")
    get: str = Field(description="path and query, below base_url")
    watch: list[str] = Field(
        default_factory=list,
        description='CEL expressions of the answer, as in headers["x-frame-options"]; left out: status and body',
    )
    version: str | None = Field(
        None, description="CEL expression of the release; when it changes, the new answer is the baseline"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="sent with it; values may be secret:NAME")
    needs: list[str] = Field(default_factory=list, description="checks without which this one cannot work")


class Heartbeat(Model):
    """A job of the service's that must call in: `firstwatch beat SERVICE NAME`, or a Prefect event."""

    name: str = Field(min_length=1, description="as people read it in alerts")
    every: Seconds = Field(description="how often it calls in")
    grace: Seconds = Field(300.0, description="how late it may be")


class Degraded(Model):
    """Slow is not down: when a check counts as degraded."""

    slower: Ratio = Field(0.3, description="slower than its own history by more than this share")
    limit: Seconds | None = Field(None, description="or slower than this; left out: the p95 of objectives.latency")
    history: Seconds = Field(7 * 86400.0, description="how far back its history goes")


class Locations(Model):
    """Where the monitor runs from. Each is a Prefect work pool (or queue) with a schedule of its own."""

    names: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]] = Field(
        min_length=1, description="as the schedules in prefect.yaml call them"
    )
    reference: str | None = Field(
        None, description="a URL that each location must reach: one that does not has no vote"
    )


class Pushed(Model):
    """Where what was found is pushed, for dashboards. `firstwatch metrics` serves the same to be scraped."""

    pushgateway: str = Field("", description="base URL of a Prometheus Pushgateway")
    bearer: SecretName | None = Field(None, description="token for it")


def _locations(given: Any) -> Any:
    return {"names": given} if isinstance(given, list) else given


class Synthetic(Model):
    every: Seconds = Field(300.0, ge=60, le=3600, description="how often; as the cron schedule in prefect.yaml")
    budget: Seconds | None = Field(
        None, description="hard: what has not answered by then has failed; left out: two thirds of `every`"
    )
    smoke: bool = Field(True, description="the smoke suite's checks are monitored too")
    checks: list[Monitored] = Field(default_factory=list, description="further endpoints, as in the smoke suite")
    journeys: list[Journey] = Field(default_factory=list, description="steps in order, as users take them")
    certificate: Certificate | None = Field(None, description="TLS certificates: chain, name, expiry")
    dns: Dns | None = Field(None, description="names that must resolve")
    dependencies: list[Dependency] = Field(default_factory=list, description="outside endpoints it relies on")
    drift: list[Drift] = Field(default_factory=list, description="answers that must not change without a release")
    heartbeats: list[Heartbeat] = Field(default_factory=list, description="jobs that must call in")
    degraded: Degraded = Field(default_factory=Degraded, description="when slow counts as degraded")
    locations: Annotated[Locations, BeforeValidator(_locations)] | None = Field(
        None, description="where it runs from; left out: one place"
    )
    metrics: Pushed = Field(default_factory=Pushed, description="where its metrics are pushed")

    @property
    def time(self) -> float:
        """Seconds that a round may take."""
        return self.budget if self.budget is not None else self.every * 2 / 3


class Watched(NamedTuple):
    """One monitored check: what alerts, histories and metrics call it, and where the file names it."""

    name: str
    kind: Kind
    needs: tuple[str, ...]
    name_at: tuple[str | int, ...]
    needs_at: tuple[str | int, ...] = ()


def watched(synthetic: Synthetic, smoke_checks: list[str], certificate_hosts: list[str]) -> Iterator[Watched]:
    """All checks of a service, in the order of the file's sections."""
    for i, name in enumerate(smoke_checks if synthetic.smoke else ()):
        yield Watched(name, Kind.HTTP, (), ("smoke", "checks", i, "name"))
    yield from _needing("checks", Kind.HTTP, synthetic.checks)
    yield from _needing("journeys", Kind.JOURNEY, synthetic.journeys)
    certificate = ("synthetic", "certificate")
    for i, host in enumerate(certificate_hosts):
        needs = tuple(synthetic.certificate.needs) if synthetic.certificate else ()
        yield Watched(certificate_name(host), Kind.CERTIFICATE, needs, (*certificate, "hosts", i), certificate)
    for i, record in enumerate(synthetic.dns.records if synthetic.dns else ()):
        needs, place = tuple(synthetic.dns.needs) if synthetic.dns else (), ("synthetic", "dns")
        yield Watched(dns_name(record), Kind.DNS, needs, (*place, "records", i, "name"), place)
    for i, dependency in enumerate(synthetic.dependencies):
        yield Watched(dependency.name, Kind.DEPENDENCY, (), ("synthetic", "dependencies", i, "name"))
    yield from _needing("drift", Kind.DRIFT, synthetic.drift)
    for i, heartbeat in enumerate(synthetic.heartbeats):
        yield Watched(heartbeat.name, Kind.HEARTBEAT, (), ("synthetic", "heartbeats", i, "name"))


def _needing(key: str, kind: Kind, checks: Sequence[Monitored | Journey | Drift]) -> Iterator[Watched]:
    for i, check in enumerate(checks):
        place = ("synthetic", key, i)
        yield Watched(check.name, kind, tuple(check.needs), (*place, "name"), place)


def check_names(synthetic: Synthetic, smoke_checks: list[str], certificate_hosts: list[str]) -> Iterator[str]:
    """The names of all checks of a service, as alerts, histories and metrics know them."""
    yield from (check.name for check in watched(synthetic, smoke_checks, certificate_hosts))


def certificate_name(host: str) -> str:
    return f"certificate {host}"


def dns_name(record: Record) -> str:
    return f"dns {record.name} {record.type}"
