"""Heartbeats of a service's own jobs: Prefect events, so that any job that reaches the server can call in.

    firstwatch beat shop "nightly backup"
    curl -X POST $PREFECT_API_URL/events -H 'Content-Type: application/json' -d '[{"event": "firstwatch.heartbeat", …}]'

Prefect keeps events for a week (PREFECT_EVENTS_RETENTION_PERIOD), so a job must call in more often than that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect.client.orchestration import PrefectClient

from firstwatch.model import rfc3339

EVENT = "firstwatch.heartbeat"
_KEPT = timedelta(days=7)


def resource(service: str, name: str) -> str:
    """The id of the resource whose events are the job's heartbeats: `firstwatch.heartbeat.shop.nightly-backup`.

    A name that cannot be read from it is told apart by a digest, or one job would call in for another.
    """
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    plain = words.replace("-", " ") == name.replace("-", " ")
    digest = "" if plain else f"-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"
    return f"{EVENT}.{service}.{words}{digest}"


def event(service: str, name: str, at: float) -> dict[str, Any]:
    """One heartbeat, as Prefect's API takes it. `at` is Unix seconds."""
    return {
        "id": str(uuid4()),
        "occurred": rfc3339(at),
        "event": EVENT,
        "resource": {
            "prefect.resource.id": resource(service, name),
            "prefect.resource.name": f"{service}: {name}",
        },
        "payload": {"service": service, "heartbeat": name},
    }


async def beat(client: PrefectClient, service: str, name: str, at: float) -> None:
    """Call in. Raises httpx.HTTPError where the server does not take it."""
    await client._client.post("/events", json=[event(service, name, at)])


async def last_beats(client: PrefectClient, service: str, names: Sequence[str], now: float) -> dict[str, float | None]:
    """When each job last called in (Unix seconds), None for one that has not within a week. Raises httpx.HTTPError."""
    return {name: await _last(client, resource(service, name), now) for name in names}


async def _last(client: PrefectClient, resource_id: str, now: float) -> float | None:
    until = datetime.fromtimestamp(now, UTC) + timedelta(minutes=5)  # a job's clock may be ahead of ours
    answer = await client._client.post(
        "/events/filter",
        json={
            "filter": {
                "event": {"name": [EVENT]},
                "resource": {"id": [resource_id]},
                "occurred": {"since": (until - _KEPT).isoformat(), "until": until.isoformat()},
                "order": "DESC",
            },
            "limit": 1,
        },
    )
    events = answer.json()["events"]
    return datetime.fromisoformat(events[0]["occurred"].replace("Z", "+00:00")).timestamp() if events else None
