"""Who watches the watcher: the Prefect server notices by itself when a service's monitor falls silent, and tells Slack.

Each round ends with the event `firstwatch.round` of the resource `firstwatch.monitor.shop` (with a location,
`firstwatch.monitor.shop@eu`). An automation of that service expects the next one in time; the server sends the message
by itself, as no worker may be left to do so. One silence is one message: the next round that ends arms it again.

The server cannot tell of its own death. For that, `alerts.ping` names a dead-man switch elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient
from prefect.events import EventTrigger, Posture
from prefect.events.actions import SendNotification

from firstwatch.redaction import Secret
from firstwatch.spec import Service, Slack
from firstwatch.units import show_duration
from tasks.hooks import LoadSecret
from tasks.together import together
from tasks.wire import tls_context

EVENT = "firstwatch.round"
_TOLERATED = 2.5  # intervals without a round; two may be lost to a restart
_PREFIX = "firstwatch: the monitor of "


@dataclass(frozen=True, slots=True)
class Watched:
    """A service's monitor at one location (empty: the only one)."""

    service: str
    location: str
    within: float  # seconds in which the next round must have ended

    @property
    def name(self) -> str:
        return f"{_PREFIX}{self.shown} is alive"

    @property
    def shown(self) -> str:
        return f"{self.service} at {self.location}" if self.location else self.service

    @property
    def resource(self) -> dict[str, str]:
        return {
            "prefect.resource.id": monitor_resource(self.service, self.location),
            "prefect.resource.name": f"monitor of {self.shown}",
        }


def monitor_resource(service: str, location: str) -> str:
    """The id of the resource whose events say that the monitor lives. A service may have a dot in its name, and none
    has an @: no monitor speaks for another."""
    return f"firstwatch.monitor.{service}" + (f"@{location}" if location else "")


def watched(service: Service) -> Iterator[Watched]:
    """What must be alive for a service: its monitor at each location."""
    if service.synthetic is None:
        return
    within = max(_TOLERATED * service.synthetic.every, service.synthetic.every + service.synthetic.time + 30)
    for location in service.synthetic.locations.names if service.synthetic.locations else [""]:
        yield Watched(service.service, location, within)


async def round_ended(client: PrefectClient, service: str, location: str, health: str, at: float) -> None:
    """Say that a round has ended. Raises httpx.HTTPError where the server does not take it."""
    event = {
        "id": str(uuid4()),
        "occurred": datetime.fromtimestamp(at, UTC).isoformat(),
        "event": EVENT,
        "resource": {
            "prefect.resource.id": monitor_resource(service, location),
            "prefect.resource.name": f"monitor of {service}",
        },
        "payload": {"health": health},
    }
    await together(("rounds", str(client.api_url)), _tell_all).ask((client, event))


async def _tell_all(told: Sequence[tuple[PrefectClient, dict[str, Any]]]) -> list[None]:
    await told[0][0]._client.post("/events", json=[event for _, event in told])
    return [None] * len(told)


async def ping(url: Secret, timeout: float = 5.0) -> str:
    """Tell a dead-man switch outside that we live. Returns what went wrong, without the URL; empty: nothing."""
    try:
        async with httpx.AsyncClient(timeout=timeout, trust_env=False, verify=tls_context(None, False)) as client:
            answer = await client.get(url.reveal(), headers={"User-Agent": "Firstwatch"})
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
        return f"the dead-man switch could not be reached ({type(problem).__name__})"
    return "" if answer.is_success else f"the dead-man switch answered {answer.status_code}"


# ── set up, once ─────────────────────────────────────────────────────────────────────────────────────────────


async def ensure_watchdogs(
    client: PrefectClient, services: Sequence[Service], load_secret: LoadSecret, now: float, *, all_read: bool = True
) -> list[str]:
    """One automation for each monitor, brought up to date; those of monitors that are no more are deleted, unless there
    are service files that could not be read (`all_read`): theirs are the ones that are needed now. What was done comes
    back, a line each."""
    lines = []
    wanted = {each.name: (service, each) for service in services for each in watched(service)}
    for standing in await client.read_automations():
        if standing.name.startswith(_PREFIX) and standing.name not in wanted and not all_read:
            lines.append(f"automation {standing.name!r} stays: a service file could not be read, it may be that one's")
        elif standing.name.startswith(_PREFIX) and standing.name not in wanted:
            await client.delete_automation(standing.id)
            lines.append(f"automation {standing.name!r} deleted: there is no such monitor any more")
    for name, (service, each) in wanted.items():
        block = await _notification_block(service, load_secret)
        if isinstance(block, str):
            lines.append(f"nobody will be told when the monitor of {each.shown} falls silent: {block}")
            continue
        done = await _ensure(automation(each, block))
        await round_ended(client, each.service, each.location, "unknown", now)  # so that a first round is expected too
        lines.append(f"automation {name!r} {done}")
    return lines


def automation(each: Watched, block: UUID) -> Automation:
    """The server's watch over one monitor."""
    return Automation(
        name=each.name,
        description="Set up by `firstwatch setup`.",
        trigger=EventTrigger(
            after={EVENT},
            expect={EVENT},
            match={"prefect.resource.id": monitor_resource(each.service, each.location)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=each.within),
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject=f"🔴 Nobody watches {each.shown}",
                body=(
                    f"Its monitor has been silent for {show_duration(each.within)}: no round has ended. "
                    "Is a worker running for its work pool? Are its runs late or crashed?"
                ),
            )
        ],
    )


async def _ensure(wanted: Automation) -> str:
    try:
        existing = await Automation.aread(name=wanted.name)
    except ValueError:
        await wanted.acreate()
        return "created"
    wanted.id = existing.id
    await wanted.aupdate()
    return "brought up to date"


async def _notification_block(service: Service, load_secret: LoadSecret) -> UUID | str:
    """The Prefect block by which the server tells the service's Slack; or why there is none."""
    slack = service.alerts.slack
    if slack is None:
        return "the service file names no alerts.slack"
    try:
        secret = await load_secret(slack.webhook or slack.token or "")
    except Exception as missing:
        return str(missing)
    block = CustomWebhookNotificationBlock(name=f"firstwatch {service.service}", **_request(slack, secret))
    saved: UUID = await block.asave(_block_name(service.service), overwrite=True)
    return saved


def _block_name(service: str) -> str:
    """As Prefect allows it: small letters, digits, dashes. Services whose names look alike do not share one."""
    words = re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-")
    return f"firstwatch-{words}" + ("" if words == service else f"-{hashlib.sha256(service.encode()).hexdigest()[:8]}")


def _request(slack: Slack, secret: Secret) -> dict[str, Any]:
    """What Prefect is to send; the secret lies encrypted in the block."""
    text = "*{{subject}}*\n{{body}}"
    if slack.webhook:
        return {"url": "{{url}}", "json_data": {"text": text}, "secrets": {"url": secret.reveal()}}
    return {
        "url": f"{slack.api_url.rstrip('/')}/chat.postMessage",
        "headers": {"Authorization": "Bearer {{token}}"},
        "json_data": {"channel": slack.channel, "text": text},
        "secrets": {"token": secret.reveal()},
    }
