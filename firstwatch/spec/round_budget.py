"""How long a round of the monitor may take by its own file, held against the time it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from firstwatch.spec.diagnostics import Finding
from firstwatch.spec.models import Service
from firstwatch.spec.monitored import certificate_hosts
from firstwatch.spec.request import Check
from firstwatch.spec.synthetic import (
    RETRIES,
    RETRY_DELAY,
    Dependency,
    Journey,
    Step,
    Synthetic,
    certificate_name,
    dns_name,
)
from firstwatch.units import show_duration

_HANDSHAKES = 3  # that a bad certificate takes, at one address


class Worst(NamedTuple):
    """The longest that a check may take until it has failed for good: in words, in seconds, in requests."""

    told: str
    seconds: float
    requests: int


def findings(service: Service, synthetic: Synthetic) -> Iterator[Finding]:
    """The budget must be a time, end before the next round begins, and hold the worst case that the file allows."""
    place, usual = ("synthetic", "budget"), "leave it out for two thirds of `every`"
    if synthetic.time <= 0:
        yield Finding(place, "`budget` must be longer than 0s", usual)
    elif synthetic.time >= synthetic.every:
        budget, every = show_duration(synthetic.time), show_duration(synthetic.every)
        told = f"the budget of {budget} ends no sooner than the next round begins, after {every}"
        yield Finding(place, told, usual, needs=("synthetic",))
    else:
        yield from _fits(service, synthetic)


def _fits(service: Service, synthetic: Synthetic) -> Iterator[Finding]:
    """All checks run side by side: what counts is the slowest, and the queue of all requests."""
    checks = list(_worst_cases(service, synthetic))
    if not checks:
        return
    slowest = max(checks, key=lambda worst: worst.seconds)
    requests = sum(worst.requests for worst in checks)
    queue = requests / service.rules.requests_per_second
    if slowest.seconds + queue <= synthetic.time:
        return
    total = show_duration(slowest.seconds + queue)
    rate = f"{requests} requests at {service.rules.requests_per_second:g} a second {show_duration(queue)}"
    yield Finding(
        ("synthetic", "budget"),
        f"the budget of {show_duration(synthetic.time)} cannot hold what the checks may take: "
        f"slowest {slowest.told} = {show_duration(slowest.seconds)} + {rate}, together {total}",
        "lower timeouts and retries, or raise `every` and the budget",
        needs=("rules",),
    )


def _worst_cases(service: Service, synthetic: Synthetic) -> Iterator[Worst]:
    usual = service.rules.timeout
    if synthetic.smoke and service.smoke is not None:
        yield from (_of_check(check, usual) for check in service.smoke.checks)
    yield from (_of_check(check, usual) for check in synthetic.checks)
    yield from (_of_check(dependency, usual) for dependency in synthetic.dependencies)
    yield from (_of_journey(journey, usual) for journey in synthetic.journeys)
    yield from (_confirmed(certificate_name(host), usual, _HANDSHAKES) for host in certificate_hosts(service))
    if synthetic.dns is not None:  # its resolvers have no budget of ours
        yield from (_confirmed(dns_name(record), synthetic.dns.timeout, 0) for record in synthetic.dns.records)
    yield from (_confirmed(f"drift {drift.name!r}", usual, 1) for drift in synthetic.drift)


def _confirmed(name: str, timeout: float, requests: int) -> Worst:
    """What has no retries of its own."""
    tries = 1 + RETRIES
    told = f"{name} {tries} × {show_duration(timeout)}{_pauses(RETRIES, RETRY_DELAY)}"
    return Worst(told, tries * timeout + RETRIES * RETRY_DELAY, tries * requests)


def _of_check(check: Check | Dependency, usual: float) -> Worst:
    timeout, tries = usual if check.timeout is None else check.timeout, 1 + check.retries
    told = f"check {check.name!r} {tries} × {show_duration(timeout)}{_pauses(check.retries, check.retry_delay)}"
    return Worst(told, tries * timeout + check.retries * check.retry_delay, tries)


def _of_journey(journey: Journey, usual: float) -> Worst:
    """A journey that fails is taken again from its first step on, and tidies up each time."""
    one, tries = _taken(journey.steps, usual) + _taken(journey.cleanup, usual), 1 + journey.retries
    told = f"journey {journey.name!r} {tries} × {show_duration(one)}{_pauses(journey.retries, journey.retry_delay)}"
    requests = tries * (len(journey.steps) + len(journey.cleanup))
    return Worst(told, tries * one + journey.retries * journey.retry_delay, requests)


def _taken(steps: list[Step], usual: float) -> float:
    return sum(usual if step.timeout is None else step.timeout for step in steps)


def _pauses(retries: int, delay: float) -> str:
    return f" + {retries} × {show_duration(delay)}" if retries else ""
