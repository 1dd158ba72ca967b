"""What the monitors found, as samples for the metrics page: from one round, or from what the Prefect server keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect.client.orchestration import PrefectClient
from pydantic import TypeAdapter, ValidationError

from firstwatch.alerting import AlertState
from firstwatch.monitor import Health
from firstwatch.report.told import read_book
from firstwatch.rounds import Place
from firstwatch.spec import Service
from tasks import store
from tasks.exposition import Sample
from tasks.store import alerts_key, place_key

_PLACE = TypeAdapter(Place)


def samples_of(service: Service, location: str, place: Place, state: AlertState | None) -> list[Sample]:
    """What one location's last round says."""
    return list(_samples(service, location, place, state))


async def read_samples(client: PrefectClient, services: Sequence[Service]) -> list[Sample]:
    """What every location of these services has found last. Raises httpx.HTTPError where the server does not answer.

    A location of which nothing is kept, or nothing that can be read, is left out: its series are missing, not old.
    """
    found: list[Sample] = []
    for service in services:
        if service.synthetic is None:
            continue
        book = read_book(await store.read(client, alerts_key(service.service)), service.service)
        for location in service.synthetic.locations.names if service.synthetic.locations else [""]:
            kept = await store.read(client, place_key(service.service, location))
            try:
                place = _PLACE.validate_python(kept) if kept else None
            except ValidationError:
                continue
            if place is not None:
                found += samples_of(service, location, place, book.state)
    return found


def _samples(service: Service, location: str, place: Place, state: AlertState | None) -> Iterator[Sample]:
    health = {seen.check: seen.health for seen in place.seen}
    for probe in place.probes:
        check = state.checks.get(probe.check) if state else None
        yield Sample(
            service=service.service,
            location=location,
            probe=probe,
            health=health.get(probe.check, Health.UNKNOWN),
            planned_at=place.planned,
            started_at=place.started,
            every=place.every,
            cancelled=place.overlapped,
            alert_open=check.is_open if check else None,
            incident_open=state.open_incident is not None if state else None,
        )
