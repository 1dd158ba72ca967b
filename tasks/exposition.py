"""What the monitors found, as the page that Prometheus reads.

Under blackbox_exporter's names, units and labels where it has them, so that its dashboards and alert rules go on
working, and under `firstwatch_…` for what only we know. What a probe did not find has no series: a 0 that nobody
measured would be taken for one. docs/monitoring-metrics.md lists them all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from firstwatch.answer import Answer
from firstwatch.model import Outcome, as_json
from firstwatch.monitor import Health, Kind, Probe

_HTTP = frozenset({Kind.HTTP, Kind.JOURNEY, Kind.DEPENDENCY, Kind.DRIFT})
_ONE_REQUEST = _HTTP - {Kind.JOURNEY}  # a status of one of a journey's steps is not the journey's

Encode = Callable[[Collector], bytes]


@dataclass(frozen=True, slots=True)
class Sample:
    """What the newest round of a location says of one check, and of itself. Times are Unix seconds.

    `cancelled` counts the location's rounds that were cancelled because the one before had not ended. `alert_open` and
    `incident_open` are the service's, whichever location found it. None: not known, and left out.
    """

    service: str
    location: str
    probe: Probe
    health: Health
    planned_at: float
    started_at: float
    every: float  # seconds from one round to the next
    cancelled: int | None = None
    alert_open: bool | None = None
    incident_open: bool | None = None


def answer_facts(answer: Answer) -> dict[str, float | str]:
    """The facts of a probe that an HTTP answer shows by itself."""
    facts: dict[str, float | str] = {
        "status": answer.status,
        "bytes": answer.bytes,
        "redirects": len(answer.redirected_from),
    }
    if answer.headers.get("content-encoding", "identity").strip().lower() in ("", "identity"):
        facts["uncompressed_bytes"] = answer.bytes
    return facts | {name: value for name, value in as_json(answer.way).items() if value}


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────


def exposition(samples: Sequence[Sample], encode: Encode = generate_latest) -> bytes:
    """The samples in Prometheus' text format, or in that of `encode` (prometheus_client's). Of several samples of one
    check at one location, the one of the round that started last counts."""
    registry = CollectorRegistry()
    registry.register(_Page(samples))
    return encode(registry)


class _Page(Collector):
    """The samples as prometheus_client collects them. Made for one page."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        newest: dict[tuple[str, str, str], Sample] = {}
        for sample in sorted(samples, key=lambda sample: (sample.started_at, sample.probe.at), reverse=True):
            newest.setdefault((sample.service, sample.location, sample.probe.check), sample)
        self._samples = list(reversed(newest.values()))

    def collect(self) -> Iterator[Metric]:
        for name, (text, read) in _OF_A_CHECK.items():
            yield from _family(
                name, text, (({**_check(s), **labels}, value) for s in self._samples for labels, value in read(s))
            )
        for name, (text, labels_of, value_of) in _OF_A_ROUND.items():
            yield from _family(name, text, ((labels_of(s), value_of(s)) for s in self._samples))


def _family(name: str, text: str, found: Iterable[tuple[dict[str, str], float | None]]) -> Iterator[Metric]:
    """One metric with its series, if it has any. What several samples say of the same series, the newest says."""
    series = {tuple(sorted(labels.items())): float(value) for labels, value in found if value is not None}
    if not series:
        return
    family = CounterMetricFamily(name, text) if name.endswith("_total") else GaugeMetricFamily(name, text)
    for labels, value in series.items():
        family.add_sample(name, dict(labels), value)
    yield family


def _check(sample: Sample) -> dict[str, str]:
    return {**_round(sample), "check": sample.probe.check, "kind": sample.probe.kind.value}


def _round(sample: Sample) -> dict[str, str]:
    return {"service": sample.service, "location": sample.location}


def _service(sample: Sample) -> dict[str, str]:
    return {"service": sample.service}


def _service_check(sample: Sample) -> dict[str, str]:
    return {"service": sample.service, "check": sample.probe.check}


# ── from what a probe found to values ────────────────────────────────────────────────────────────────────────

_Series = tuple[Mapping[str, str], float | None]
_Read = Callable[[Sample], Iterable[_Series]]


def _one(value_of: Callable[[Probe], float | None]) -> _Read:
    """A metric with one series a check."""
    return lambda sample: [({}, value_of(sample.probe))]


def _number(fact: str) -> Callable[[Probe], float | None]:
    """A fact that is a finite number, or nothing."""

    def read(probe: Probe) -> float | None:
        value = probe.facts.get(fact)
        numeric = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if numeric and value is not None else None

    return read


def _text(probe: Probe, fact: str) -> str:
    return str(probe.facts.get(fact, "")).strip()


def _success(probe: Probe) -> float | None:
    """Nothing where we could not look: `probe_success == 0` wakes people up, and it is not the service that failed."""
    return {Outcome.PASS: 1.0, Outcome.FAIL: 0.0}.get(probe.outcome)


def _duration(probe: Probe) -> float | None:
    if probe.elapsed is None and probe.attempts:
        return probe.attempts[-1].elapsed
    return probe.elapsed


def _status(probe: Probe) -> float | None:
    status = _number("status")(probe)
    if status is None and probe.kind in _ONE_REQUEST and probe.attempts:
        return probe.attempts[-1].status
    return status


def _failed_by_condition(probe: Probe) -> float | None:
    """Whether there was an answer that did not meet the check's CEL conditions."""
    answered = probe.kind in _ONE_REQUEST and _status(probe) is not None
    return {Outcome.PASS: 0.0, Outcome.FAIL: 1.0}.get(probe.outcome) if answered else None


def _ssl(probe: Probe) -> float | None:
    """Whether the last answer came over TLS. A redirect may lead from http to https, never back."""
    if probe.kind not in _ONE_REQUEST or _status(probe) is None:
        return None
    if re.match("([A-Z]+ )?https://", probe.target) or _text(probe, "tls_version"):
        return 1.0
    return 0.0 if probe.facts.get("redirects") == 0 else None


def _http_version(probe: Probe) -> float | None:
    """1.1 of `HTTP/1.1`, or of 1.1."""
    found = re.fullmatch(r"(?:HTTP/)?([0-9]+(?:\.[0-9]+)?)", _text(probe, "http_version"), re.IGNORECASE)
    return float(found[1]) if found else None


def _http_phases(sample: Sample) -> Iterator[_Series]:
    if sample.probe.kind in _HTTP:
        for phase in ("resolve", "connect", "tls", "processing", "transfer"):
            yield {"phase": phase}, getattr(sample.probe.phases, phase)


def _dns_phases(sample: Sample) -> Iterator[_Series]:
    probe = sample.probe
    if probe.kind is Kind.DNS:
        yield {"phase": "resolve"}, probe.phases.resolve
        yield {"phase": "connect"}, probe.phases.connect
        asked = probe.phases.processing
        yield {"phase": "request"}, _number("lookup_seconds")(probe) if asked is None else asked


def _lookup(probe: Probe) -> float | None:
    """How long a name took: the question that a DNS check is, or what another check had to look up."""
    return _number("lookup_seconds")(probe) if probe.kind is Kind.DNS else probe.phases.resolve


def _dns_answered(probe: Probe) -> float | None:
    """Whether a resolver answered at all, whatever it said."""
    if probe.kind is not Kind.DNS:
        return None
    if _text(probe, "rcode"):
        return 1.0
    return 0.0 if probe.outcome is Outcome.FAIL else None


def _info(fact_of_label: Mapping[str, str], shown: Callable[[str], str] = str) -> _Read:
    """1, with the facts that are known as labels; no series where none is."""

    def read(sample: Sample) -> Iterator[_Series]:
        known = {label: shown(_text(sample.probe, fact)) for label, fact in fact_of_label.items()}
        if labels := {label: value for label, value in known.items() if value}:
            yield labels, 1.0

    return read


def _chain(sample: Sample) -> Iterator[_Series]:
    """The fingerprint is written as blackbox_exporter does: lower-case, without colons."""
    for labels, value in _info({"fingerprint_sha256": "fingerprint", "issuer": "issuer", "subject": "subject"})(sample):
        print_ = labels.get("fingerprint_sha256", "").replace(":", "").lower()
        yield {**labels, "fingerprint_sha256": print_} if print_ else labels, value


def _health(sample: Sample) -> Iterator[_Series]:
    for health in Health:
        yield {"health": health.value}, float(sample.health is health)


_OF_A_CHECK: dict[str, tuple[str, _Read]] = {
    "probe_success": ("Displays whether or not the probe was a success", _one(_success)),
    "probe_duration_seconds": ("Returns how long the probe took to complete in seconds", _one(_duration)),
    "probe_failed_due_to_cel": (
        "Indicates if an answer did not meet the check's conditions",
        _one(_failed_by_condition),
    ),
    "probe_ip_protocol": ("Specifies whether probe ip protocol is IP4 or IP6", _one(_number("ip_protocol"))),
    "probe_http_duration_seconds": ("Duration of http request by phase, summed over all redirects", _http_phases),
    "probe_http_status_code": ("Response HTTP status code", _one(_status)),
    "probe_http_content_length": ("Length of http content response", _one(_number("bytes"))),
    "probe_http_uncompressed_body_length": (
        "Length of uncompressed response body",
        _one(_number("uncompressed_bytes")),
    ),
    "probe_http_redirects": ("The number of redirects", _one(_number("redirects"))),
    "probe_http_ssl": ("Indicates if SSL was used for the final redirect", _one(_ssl)),
    "probe_http_version": ("Returns the version of HTTP of the probe response", _one(_http_version)),
    "probe_dns_lookup_time_seconds": ("Returns the time taken for probe dns lookup in seconds", _one(_lookup)),
    "probe_dns_duration_seconds": ("Duration of DNS request by phase", _dns_phases),
    "probe_dns_answer_rrs": ("Returns number of entries in the answer resource record list", _one(_number("answers"))),
    "probe_dns_query_succeeded": ("Displays whether or not the query was executed successfully", _one(_dns_answered)),
    "probe_ssl_earliest_cert_expiry": ("Unix time at which the first certificate expires", _one(_number("expires_at"))),
    "probe_ssl_last_chain_expiry_timestamp_seconds": (
        "Unix time until which some chain is valid",
        _one(_number("last_chain_expires_at")),
    ),
    "probe_ssl_last_chain_info": ("Contains SSL leaf certificate information", _chain),
    "probe_tls_version_info": (
        "Returns the TLS version used",
        _info({"version": "tls_version"}, lambda version: version.replace("TLSv", "TLS ")),
    ),
    "firstwatch_dns_rcode_info": ("What the resolver answered, as a label", _info({"rcode": "rcode"})),
    "firstwatch_dns_ttl_seconds": ("How long the answer may be kept", _one(_number("ttl"))),
    "firstwatch_check_health": ("1 for the health that the check has, 0 for the others", _health),
    "firstwatch_check_warning": (
        "Whether the check passes, and will fail if nobody acts",
        _one(lambda probe: float(bool(probe.warning))),
    ),
    "firstwatch_check_last_timestamp_seconds": ("Unix time of the probe", _one(lambda probe: probe.at)),
}

_OF_A_ROUND: dict[str, tuple[str, Callable[[Sample], dict[str, str]], Callable[[Sample], float | None]]] = {
    "firstwatch_round_interval_seconds": ("Seconds from one round to the next", _round, lambda s: s.every),
    "firstwatch_round_planned_timestamp_seconds": (
        "Unix time for which the last round was planned",
        _round,
        lambda s: s.planned_at,
    ),
    "firstwatch_round_started_timestamp_seconds": (
        "Unix time at which the last round started",
        _round,
        lambda s: s.started_at,
    ),
    "firstwatch_round_lateness_seconds": (
        "How late the last round started",
        _round,
        lambda s: s.started_at - s.planned_at,
    ),
    "firstwatch_rounds_cancelled_total": (
        "Rounds cancelled because the one before had not ended",
        _round,
        lambda s: s.cancelled,
    ),
    "firstwatch_alert_open": ("Whether an alert is open for the check", _service_check, lambda s: s.alert_open),
    "firstwatch_incident_open": ("Whether the service has an open incident", _service, lambda s: s.incident_open),
}
