"""What can be wrong with a synthetic section although every single field is in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from firstwatch import schedule
from firstwatch.conditions import HTTP_NAMES, compile_expression
from firstwatch.spec import dns_findings, journey_findings, round_budget
from firstwatch.spec.diagnostics import Finding, did_you_mean
from firstwatch.spec.findings import Loc, condition, expression, is_host, passes, url
from firstwatch.spec.models import Service
from firstwatch.spec.monitored import certificate_hosts, needs_of, watched_of
from firstwatch.spec.request import Check
from firstwatch.spec.synthetic import Certificate, Drift, Heartbeat, Locations, Synthetic, Watched
from firstwatch.units import show_duration

DAY = 86400.0
EVENTS_ARE_KEPT = 7 * DAY
RAREST_HEARTBEAT = 6 * DAY
OWN_CHECK = "schedule"
"""The monitor's own check, of whether its rounds begin in time; with locations `schedule NAME`."""

_APART = "their results could not be told apart"
_APART_FROM_SMOKE = "the other is in the smoke suite, which is monitored too unless smoke is false"


def findings(service: Service) -> Iterator[Finding]:
    """Every fault of meaning in the service's synthetic section, except for what its requests may be (see plan)."""
    synthetic = service.synthetic
    if synthetic is None:
        return
    yield from _every(synthetic)
    yield from round_budget.findings(service, synthetic)
    for i, check in enumerate(synthetic.checks):
        yield from _check(("synthetic", "checks", i), check)
    for i, journey in enumerate(synthetic.journeys):
        yield from journey_findings.findings(("synthetic", "journeys", i), journey)
    if synthetic.certificate is not None:
        yield from _certificate(service, synthetic.certificate)
    if synthetic.dns is not None:
        yield from dns_findings.findings(("synthetic", "dns"), synthetic.dns)
    for i, dependency in enumerate(synthetic.dependencies):
        place: Loc = ("synthetic", "dependencies", i)
        yield from _conditions(place, dependency.expect)
        yield from passes((*place, "timeout"), dependency.timeout, "for example 5s")
    for i, drift in enumerate(synthetic.drift):
        yield from _drift(("synthetic", "drift", i), drift)
    for i, heartbeat in enumerate(synthetic.heartbeats):
        yield from _heartbeat(("synthetic", "heartbeats", i), heartbeat)
    yield from _degraded(synthetic)
    yield from _locations(synthetic.locations)
    if synthetic.metrics.pushgateway:
        yield from url(("synthetic", "metrics", "pushgateway"), synthetic.metrics.pushgateway)
    yield from _names(service, list(watched_of(service)))
    yield from _needs(list(watched_of(service)), needs_of(service))


def _every(synthetic: Synthetic) -> Iterator[Finding]:
    if not schedule.fits_the_hour(synthetic.every):
        told = f"an hour cannot be divided into {show_duration(synthetic.every)} each"
        yield Finding(("synthetic", "every"), told, "1m, 2m, 3m, 4m, 5m, 6m, 10m, 12m, 15m, 20m, 30m or 1h")


# ── one check ────────────────────────────────────────────────────────────────────────────────────────────────


def _conditions(loc: Loc, expect: list[str]) -> Iterator[Finding]:
    for i, text in enumerate(expect):
        yield from condition((*loc, "expect", i), text)


def _check(loc: Loc, check: Check) -> Iterator[Finding]:
    yield from _conditions(loc, check.expect)
    yield from passes((*loc, "timeout"), check.timeout, "for example 5s")


def _certificate(service: Service, certificate: Certificate) -> Iterator[Finding]:
    place = ("synthetic", "certificate")
    if certificate.fail > certificate.warn:
        told = f"it fails {show_duration(certificate.fail)} before it expires, and would warn later than that"
        yield Finding((*place, "fail"), told, f"less than `warn`, which is {show_duration(certificate.warn)}")
    for i, host in enumerate(certificate.hosts):
        if not is_host(host):
            yield Finding((*place, "hosts", i), "this is not a host", "write cdn.example.com or cdn.example.com:8443")
    if not certificate_hosts(service):
        hint = "add hosts: [shop.example.com], or take certificate out"
        yield Finding(place, "there is no certificate to look at: base_url is not https", hint, ("base_url",))


def _drift(loc: Loc, drift: Drift) -> Iterator[Finding]:
    for i, text in enumerate(drift.watch):
        yield from _lasting((*loc, "watch", i), text)
    if drift.version is not None:
        yield from _lasting((*loc, "version"), drift.version)


def _lasting(loc: Loc, text: str) -> Iterator[Finding]:
    """An expression of what the next answer can have too: a version that is always new would let every change pass."""
    found = list(expression(loc, text))
    yield from found
    if not found and any(path[0] == "elapsed" for path in compile_expression(text, HTTP_NAMES)):
        yield Finding(loc, "elapsed differs from answer to answer", "see degraded for what is slow")


def _heartbeat(loc: Loc, heartbeat: Heartbeat) -> Iterator[Finding]:
    yield from passes((*loc, "every"), heartbeat.every, "for example 1h")
    kept = "Prefect keeps events for 7 days: one that is due later would be missed for sure"
    if heartbeat.every > RAREST_HEARTBEAT:
        yield Finding((*loc, "every"), kept, "6d at most; let rare jobs call in more often")
    elif heartbeat.every + heartbeat.grace > EVENTS_ARE_KEPT:
        yield Finding((*loc, "grace"), kept, f"{show_duration(EVENTS_ARE_KEPT - heartbeat.every)} at most")


def _degraded(synthetic: Synthetic) -> Iterator[Finding]:
    place, degraded = ("synthetic", "degraded"), synthetic.degraded
    if degraded.slower <= 0:
        told = "every answer that is slower than the one before would count as degraded"
        yield Finding((*place, "slower"), told, "for example 30%")
    yield from passes((*place, "limit"), degraded.limit)
    yield from passes((*place, "history"), degraded.history)


def _locations(locations: Locations | None) -> Iterator[Finding]:
    if locations is None:
        return
    place = ("synthetic", "locations")
    for i, name in enumerate(locations.names):
        if name in locations.names[:i]:
            # The list may stand there by itself, or under `names`: what is not in the file is skipped.
            told = f"two locations are named {name!r}"
            yield Finding((*place, "names", i), told, _APART)
    if locations.reference is not None:
        yield from url((*place, "reference"), locations.reference, query=True)


# ── all checks together ──────────────────────────────────────────────────────────────────────────────────────


def _names(service: Service, checks: list[Watched]) -> Iterator[Finding]:
    """Names are of all kinds together. Two of the smoke suite itself are told there."""
    if not checks and service.synthetic is not None and service.synthetic.certificate is None:
        hint = "add checks, journeys, certificate, dns, dependencies, drift or heartbeats"
        yield Finding(("synthetic",), "synthetic watches nothing", hint, needs=("synthetic", "smoke"))
    seen: dict[str, Loc] = {}
    for check in checks:
        before = seen.setdefault(check.name, check.name_at)
        if before != check.name_at and not before[0] == check.name_at[0] == "smoke":
            told = f"two checks are named {check.name!r}"
            hint = (
                "the other is in the smoke suite" if before[0] == "smoke" else "their results could not be told apart"
            )
            yield Finding(check.name_at, told, hint)
        if check.name.partition(" ")[0] == OWN_CHECK:
            told = f"{check.name!r} is the monitor's own check: whether its rounds begin in time"
            yield Finding(check.name_at, told, "give it another name")


def _needs(checks: list[Watched], needs: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    told: set[Loc] = set()  # what a certificate or DNS section needs stands for each of its hosts or records
    for check in checks:
        for i, name in enumerate(check.needs):
            place = (*check.needs_at, "needs", i)
            if place in told:
                continue
            told.add(place)
            if name == check.name:
                yield Finding(place, f"{name!r} needs itself", "take it out")
            elif name not in needs:
                hint = did_you_mean(name, needs)
                yield Finding(place, f"there is no check named {name!r}", hint, needs=("synthetic", "smoke"))
    yield from _circles(checks, needs)


def _circles(checks: list[Watched], needs: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Each circle once, where the first of its checks stands."""
    done: set[str] = set()
    for check in checks:
        circle = _circle(check.name, needs)
        if len(circle) > 1 and not done & set(circle):
            done |= set(circle)
            told = f"these need each other: {' → '.join([*circle, circle[0]])}"
            yield Finding((*check.needs_at, "needs"), told, "each would wait for the other: take one out")


def _circle(start: str, needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The checks from `start` back to itself, the shortest way; empty if there is none."""
    ways, seen = [[start]], {start}
    for way in ways:
        for name in needs.get(way[-1], ()):
            if name == start:
                return way
            if name in needs and name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []
