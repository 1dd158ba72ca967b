"""Every check of a service as a look that a round takes: which kinds there are, and how each is asked.

What a kind finds is judged in firstwatch/; here is what it is asked with: the transport, under the service's rules.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from firstwatch import drift, heartbeat
from firstwatch.answer import Answer, NoAnswer
from firstwatch.conditions import HTTP_NAMES, compile_condition
from firstwatch.hosts import split_host
from firstwatch.model import Outcome, Phases, as_json
from firstwatch.monitor import Kind, Probe
from firstwatch.rounds import Place
from firstwatch.spec import Check, Request, Service
from firstwatch.spec.monitored import certificate_hosts
from firstwatch.spec.synthetic import (
    RETRIES,
    RETRY_DELAY,
    Dependency,
    Drift,
    Heartbeat,
    Journey,
    Record,
    certificate_name,
    dns_name,
)
from tasks.certificate import probe_certificate
from tasks.dns import probe_record
from tasks.exposition import answer_facts
from tasks.http import Transport, judge_answer
from tasks.journey import CLEANUP_TIME, probe_journey
from tasks.looks import Look, Runner

_BASELINE = TypeAdapter(drift.Baseline)
_CONFIRMED = {"retries": RETRIES, "delay": RETRY_DELAY}

LastBeats = Callable[[Sequence[str]], Awaitable[Mapping[str, float | None]]]
"""When each heartbeat last came (Unix seconds), None for never. Raises where nobody can say."""


@dataclass
class Probing:
    """What the looks of one round ask with, and what they leave behind: `baselines` and `ttls` to be remembered."""

    service: Service
    transport: Transport
    outside: Mapping[str, Transport]  # by dependency: each under rules of its own
    place: Place
    deadline: float  # monotonic seconds
    runner: Runner
    last_beats: LastBeats
    remembers: bool = True  # there is a Prefect server, which knows of earlier rounds
    clock: Callable[[], float] = time.time
    baselines: dict[str, Any] = field(default_factory=dict)
    ttls: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """What one transport learns to hide, all hide: a dependency may answer with what a journey has saved."""
        for outside in self.outside.values():
            outside.redactor = self.transport.redactor

    def looks(self) -> Iterator[Look]:
        """Every check of the service, in the order of the file's sections."""
        synthetic, smoke = self.service.synthetic, self.service.smoke
        assert synthetic is not None
        for check in (*(smoke.checks if smoke and synthetic.smoke else ()), *synthetic.checks):
            yield self._http(check)
        for journey in synthetic.journeys:
            yield self._journey(journey)
        for host in certificate_hosts(self.service):
            yield self._certificate(host)
        for record in synthetic.dns.records if synthetic.dns else ():
            yield self._dns(record)
        for dependency in synthetic.dependencies:
            yield self._dependency(dependency)
        if self.remembers:
            yield from (self._drift(watched) for watched in synthetic.drift)
            yield from (self._heartbeat(job) for job in synthetic.heartbeats)

    @property
    def left_out(self) -> list[str]:
        """Checks that nothing can be said of where nothing is remembered."""
        synthetic = self.service.synthetic
        if self.remembers or synthetic is None:
            return []
        return [drifting.name for drifting in synthetic.drift] + [job.name for job in synthetic.heartbeats]

    def _look(self, name: str, kind: Kind, target: str, take: Callable[[int], Awaitable[Probe]], **more: Any) -> Look:
        return Look(name, kind, target, take, deadline=self.deadline, clock=self.clock, **more)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────

    def _http(self, check: Check) -> Look:
        async def take(n: int) -> Probe:
            return await self._asked(self.transport, check.name, Kind.HTTP, check, check.expect, n)

        return self._look(
            check.name, Kind.HTTP, _target(check, self.transport), take, retries=check.retries, delay=check.retry_delay
        )

    def _dependency(self, dependency: Dependency) -> Look:
        transport = self.outside[dependency.name]
        request = Request(get=dependency.get, headers=dependency.headers, timeout=dependency.timeout)

        async def take(n: int) -> Probe:
            return await self._asked(transport, dependency.name, Kind.DEPENDENCY, request, dependency.expect, n)

        retries = {"retries": dependency.retries, "delay": dependency.retry_delay}
        return self._look(dependency.name, Kind.DEPENDENCY, _target(request, transport), take, **retries)

    async def _asked(
        self, transport: Transport, name: str, kind: Kind, request: Request, expect: Sequence[str], n: int
    ) -> Probe:
        """One request and its conditions."""
        at = self.clock()
        answer = await transport.send(name, n, request, deadline=self.deadline)
        attempt = judge_answer(answer, [compile_condition(c, HTTP_NAMES) for c in expect], at, transport.redactor)
        return Probe(
            name,
            kind,
            _target(request, transport),
            attempt.outcome,
            attempt.why,
            at,
            attempt.elapsed,
            phases=attempt.phases or Phases(),
            attempts=(attempt,),
            facts=answer_facts(answer) if isinstance(answer, Answer) else {},
        )

    def _journey(self, journey: Journey) -> Look:
        async def take(n: int) -> Probe:
            return await probe_journey(
                self.transport, journey, n, deadline=self.deadline, clock=self.clock, runner=self.runner.step
            )

        return self._look(
            journey.name,
            Kind.JOURNEY,
            f"{len(journey.steps)} steps",
            take,
            retries=journey.retries,
            delay=journey.retry_delay,
            grace=CLEANUP_TIME,
        )

    def _drift(self, watched: Drift) -> Look:
        request = Request(get=watched.get, headers=watched.headers)
        target = _target(request, self.transport)

        async def take(n: int) -> Probe:
            at = self.clock()
            answer = await self.transport.send(watched.name, n, request, deadline=self.deadline)
            if isinstance(answer, NoAnswer):
                return Probe(watched.name, Kind.DRIFT, target, answer.outcome, answer.why, at)
            kept = self.place.baselines.get(watched.name)
            baseline = _baseline(kept)
            sight = drift.watched(watched, answer, self.transport.redactor)
            compared = drift.compare(baseline, sight, at)
            if kept and baseline is None and compared.found.outcome is Outcome.PASS:  # changed or not: nobody knows
                why = f"its baseline could not be read (damaged, or of another version): {compared.found.why}"
                compared = replace(compared, found=replace(compared.found, outcome=Outcome.ERROR, why=why))
            # What is seen is kept too, so that a person can accept it as it was shown.
            now = compared.baseline or baseline
            if now is not None:
                seen = drift.accept(sight, at)
                self.baselines[watched.name] = as_json(
                    {"baseline": now, "seen": seen if not sight.broken else now, "diff": compared.diff}
                )
            return compared.found.probe(watched.name, Kind.DRIFT, target, at)

        return self._look(watched.name, Kind.DRIFT, target, take, **_CONFIRMED)

    # ── everything else ──────────────────────────────────────────────────────────────────────────────────────

    def _certificate(self, written: str) -> Look:
        policy = self.service.synthetic.certificate if self.service.synthetic else None
        assert policy is not None
        host, port = split_host(written, 443)
        rules = self.service.rules

        async def turn() -> None:
            await self.transport.turn(self.deadline)

        async def take(_: int) -> Probe:
            return await probe_certificate(
                host,
                port,
                policy,
                resolver=self.transport.resolver,
                turn=turn,
                ca_file=rules.ca_file,
                timeout=rules.timeout,
                clock=self.clock,
                check=certificate_name(written),
            )

        return self._look(certificate_name(written), Kind.CERTIFICATE, f"TLS {written}", take, **_CONFIRMED)

    def _dns(self, record: Record) -> Look:
        dns = self.service.synthetic.dns if self.service.synthetic else None
        assert dns is not None
        name = dns_name(record)

        async def take(_: int) -> Probe:
            probe = await probe_record(
                record, dns.resolvers, dns.timeout, ttl_before=self.place.ttls.get(name), clock=self.clock
            )
            if probe.facts.get("authoritative") and isinstance(ttl := probe.facts.get("ttl"), int | float):
                self.ttls[name] = float(ttl)
            return probe

        return self._look(name, Kind.DNS, f"DNS {record.name} {record.type}", take, **_CONFIRMED)

    def _heartbeat(self, job: Heartbeat) -> Look:
        async def take(_: int) -> Probe:
            at = self.clock()
            try:
                last = (await self.last_beats([job.name]))[job.name]
            except Exception as problem:
                why = f"the Prefect server could not be asked for heartbeats ({type(problem).__name__})"
                return Probe(job.name, Kind.HEARTBEAT, "heartbeat", Outcome.ERROR, why, at)
            since = self.place.watched_since.get(job.name, at)
            return heartbeat.judge(job, last, since, at).probe(job.name, Kind.HEARTBEAT, "heartbeat", at)

        return self._look(job.name, Kind.HEARTBEAT, "heartbeat", take, retries=0)


def _baseline(kept: Any) -> drift.Baseline | None:
    """As it was remembered; None where it was not, or cannot be read any more."""
    try:
        return _BASELINE.validate_python(kept["baseline"]) if kept else None
    except (ValidationError, KeyError, TypeError):
        return None


def _target(request: Request, transport: Transport) -> str:
    """`GET https://shop.example.com/health`, redacted."""
    path = request.path if "://" in request.path else f"{transport.base_url.rstrip('/')}{request.path}"
    return f"{request.method} {transport.redactor.url(path)}"
