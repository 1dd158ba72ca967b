"""A run whose process or worker is gone is scheduled again, in a state that says so: it goes on, and does not begin."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Scheduled

RESTARTING = "Restarting"
"""The name of that state: of our workers' doing, and of our automations'. One that a person asks for has Prefect's."""


async def schedule_again(client: PrefectClient, flow_run_id: UUID, when: datetime, why: str) -> None:
    """For whichever worker has room then. Raises httpx.HTTPError."""
    again: State[None] = Scheduled(scheduled_time=when, name=RESTARTING, message=why)
    await client.set_flow_run_state(flow_run_id, again, force=True)
