"""What is monitored day and night: journeys and endpoint checks, on a schedule.

Every check of a service has a name of its own, whichever kind it is: alerts, histories and metrics go by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from firstwatch.spec.base import Model, Ratio, Seconds, SecretName
from firstwatch.spec.request import Check, Request

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
    steps: list[Step] = Field(min_length=1)
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
    type: RecordType = "A"
    values: list[str] | None = Field(
        None, min_length=1, description="exactly these answers, in any order; left out: some answer"
    )
    least_ttl: Seconds | None = Field(None, description="a failure when the records may be kept for less")
    most_ttl: Seconds | None = Field(None, description="a failure when they may be kept for longer")


class Dns(Model):
    resolvers: list[str] = Field(
        default_factory=list, description="addresses, as in 192.0.2.53 or 192.0.2.53:5353; left out: the system's"
    )
    records: list[Record] = Field(min_length=1)
    timeout: Seconds = Field(5.0, description="of one question to one resolver, with its repeats")
    needs: list[str] = Field(default_factory=list, description="checks without which this one cannot work")


class Dependency(Model):
    """An outside endpoint that the service relies on. It is only read, under the same rules."""

    name: str = Field(min_length=1, description="as people read it in alerts")
    get: str = Field(description="an absolute URL")
    headers: dict[str, str] = Field(default_factory=dict)
    expect: list[str] = Field(min_length=1, description="CEL conditions over status, headers, json, text, elapsed")
    timeout: Seconds | None = None
    retries: int = Field(1, ge=0, le=5)
    retry_delay: Seconds = 1.0


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
    headers: dict[str, str] = Field(default_factory=dict)
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

    names: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]] = Field(min_length=1)
    reference: str | None = Field(
        None, description="a URL that each location must reach: one that does not has no vote"
    )


class Metrics(Model):
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
    metrics: Metrics = Field(default_factory=Metrics, description="where its metrics are pushed")

    @property
    def time(self) -> float:
        """Seconds that a round may take."""
        return self.budget if self.budget is not None else self.every * 2 / 3


def check_names(synthetic: Synthetic, smoke_checks: list[str], certificate_hosts: list[str]) -> Iterator[str]:
    """The names of all checks of a service, as alerts, histories and metrics know them."""
    if synthetic.smoke:
        yield from smoke_checks
    yield from (check.name for check in synthetic.checks)
    yield from (journey.name for journey in synthetic.journeys)
    yield from (certificate_name(host) for host in certificate_hosts)
    yield from (dns_name(record) for record in (synthetic.dns.records if synthetic.dns else ()))
    yield from (dependency.name for dependency in synthetic.dependencies)
    yield from (drift.name for drift in synthetic.drift)
    yield from (heartbeat.name for heartbeat in synthetic.heartbeats)


def certificate_name(host: str) -> str:
    return f"certificate {host}"


def dns_name(record: Record) -> str:
    return f"dns {record.name} {record.type}"
