"""Samples of every kind of check, for the page of metrics; and what is read on such a page."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from firstwatch.model import Outcome
from firstwatch.monitor import Health, Kind, Phases, Probe
from tasks.exposition import Sample

NOW = 1_800_000_000.0
DAY = 86_400.0
CHAIN: dict[str, float | str] = {
    "expires_at": NOW + 30 * DAY,
    "last_chain_expires_at": NOW + 60 * DAY,
    "fingerprint": "AB:CD:01",
    "issuer": "CN=Test Issuer",
    "subject": "CN=shop.example.com",
    "tls_version": "TLSv1.3",
}
ANSWER: dict[str, float | str] = {
    "status": 200,
    "bytes": 120,
    "uncompressed_bytes": 340,
    "redirects": 1,
    "http_version": "HTTP/1.1",
    "ip_protocol": 4,
}
RECORD: dict[str, float | str] = {"rcode": "NOERROR", "answers": 2, "ttl": 300, "lookup_seconds": 0.012}


def a_sample(check: str = "health", kind: Kind = Kind.HTTP, health: Health = Health.UP, **given: Any) -> Sample:
    """One check of the shop, seen from paris. What is given goes into the sample or its probe, by its name."""
    outcome = {Health.DOWN: Outcome.FAIL, Health.UNKNOWN: Outcome.ERROR}.get(health, Outcome.PASS)
    probe = Probe(check, kind, f"GET https://shop.example.com/{check}", outcome, "", NOW)
    probe = replace(probe, **{name: given.pop(name) for name in list(given) if name in Probe.__slots__})
    sample = Sample("shop", "paris", probe, health, planned_at=NOW - 2, started_at=NOW - 0.5, every=300)
    return replace(sample, **given)


def every_kind() -> list[Sample]:
    """A round at each of two locations, with all that a probe may find."""
    phases = Phases(resolve=0.001, connect=0.002, tls=0.003, processing=0.004, transfer=0.005)
    paris = [
        a_sample("health", elapsed=0.2, phases=phases, facts=ANSWER | CHAIN, cancelled=3, alert_open=False),
        a_sample("slow", health=Health.DEGRADED, elapsed=2.5, phases=phases, facts=ANSWER),
        a_sample("broken", health=Health.DOWN, elapsed=0.3, facts=ANSWER | {"status": 500}, alert_open=True),
        a_sample("locked", health=Health.UNKNOWN, incident_open=True),
        a_sample("certificate shop.example.com", Kind.CERTIFICATE, facts=CHAIN, warning="expires in 30 days"),
        a_sample("dns shop.example.com A", Kind.DNS, elapsed=0.02, phases=Phases(resolve=0, connect=0), facts=RECORD),
        a_sample("buy tea", Kind.JOURNEY, elapsed=0.9, phases=phases, facts={"steps": 4}),
    ]
    return [*paris, *(replace(sample, location="oslo", alert_open=None, cancelled=0) for sample in paris)]


def moved_to_now(samples: list[Sample]) -> list[Sample]:
    """The same, as if it had been found just now."""
    by = time.time() - NOW
    moved = []
    for sample in samples:
        facts = {
            name: at + by if "expires_at" in name and isinstance(at, float) else at
            for name, at in sample.probe.facts.items()
        }
        probe = replace(sample.probe, at=sample.probe.at + by, facts=facts)
        moved.append(replace(sample, probe=probe, planned_at=sample.planned_at + by, started_at=sample.started_at + by))
    return moved


class Page:
    """A page of metrics in Prometheus' text format, as it was read."""

    def __init__(self, page: bytes | str) -> None:
        text = page.decode() if isinstance(page, bytes) else page
        self.types: dict[str, str] = {}
        self.series: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for series in family.samples:
                key = series.name, frozenset(series.labels.items())
                assert key not in self.series, f"{series.name} is there twice: Prometheus drops one"
                self.types[series.name] = family.type
                self.series[key] = series.value

    def value(self, name: str, **labels: str) -> float | None:
        """That of the one series with these labels, whichever it has besides; None if there is none."""
        found = [value for (key, has), value in self.series.items() if key == name and labels.items() <= has]
        assert len(found) < 2, f"there are {len(found)} series {name} with {labels}"
        return found[0] if found else None

    def labels(self, name: str) -> set[str]:
        """The label names that its series have."""
        return {label for key, has in self.series if key == name for label, _ in has}
