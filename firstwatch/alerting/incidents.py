"""The incident of a service: it opens with its first open alert, others join it, and it closes with the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from firstwatch.alerting.check import Event
from firstwatch.alerting.model import AlertState, Incident, Notice, NoticeKind
from firstwatch.model import rfc3339
from firstwatch.spec.alerts import Alerts

OF_NO_INCIDENT = (NoticeKind.UNWATCHED, NoticeKind.WATCHED, NoticeKind.WARNING)


def incident_after(state: AlertState, now: float) -> Incident | None:
    """The incident that the open alerts make, after a round at `now`."""
    still, names = state.open_incident, set(state.open_checks)
    if still is None:
        if not names:
            return state.incident
        return Incident(f"{state.service}@{rfc3339(now)}", now, tuple(sorted(names)))
    joined = (*still.checks, *sorted(names - set(still.checks)))
    return replace(still, checks=joined, closed_at=None if names else now)


def told(
    before: AlertState, after: AlertState, events: Sequence[Event], policy: Alerts, key: str, now: float
) -> tuple[Notice, ...]:
    """The round's events as notices: one of each kind, of all the checks that it happened to."""
    been = before.open_incident.checks if before.open_incident else ()
    events = [_again(event) if event.part.check in been else event for event in events]
    happened = {event.kind for event in events}
    return tuple(_notice(kind, before, after, events, policy, key, now) for kind in NoticeKind if kind in happened)


def _again(event: Event) -> Event:
    """What opens for the second time in an incident is not news of the first order."""
    return replace(event, kind=NoticeKind.REOPENED) if event.kind is NoticeKind.OPENED else event


def _notice(
    kind: NoticeKind,
    before: AlertState,
    after: AlertState,
    events: Sequence[Event],
    policy: Alerts,
    key: str,
    now: float,
) -> Notice:
    found = after.incident if after.incident and after.incident.closed_at in (None, now) else None
    incident = found.id if found is not None and kind not in OF_NO_INCIDENT else ""
    ends = before.open_incident is not None and after.open_incident is None
    return Notice(
        id=f"{incident or after.service}/{kind}/{key}",
        kind=kind,
        service=after.service,
        incident=incident,
        at=now,
        parts=tuple(event.part for event in events if event.kind is kind),
        first=kind is NoticeKind.OPENED and before.open_incident is None,
        last=kind is NoticeKind.CLOSED and ends,
        tell=kind is not NoticeKind.HELD and (kind is not NoticeKind.CLOSED or policy.close.tell),
    )
