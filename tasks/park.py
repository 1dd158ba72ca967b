"""Give the process up while there is nothing to do: the flow run parks itself, and is entered again when it is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.states import Scheduled

from firstwatch.units import show_duration
from tasks.silence import say_it_rests

WORTHWHILE = 60.0
"""Seconds of waiting from which on it pays. Parking costs a start of the process, 4 to 8 CPU seconds, against some
100 MB held. A window that looks every 15 s never waits so long once its first checkpoint has begun."""


async def park_until(client: PrefectClient, flow_run: FlowRun, moment: float, what: str, now: float) -> None:
    """Schedule this flow run again for `moment` (Unix seconds) and leave it, if the wait is worth it.

    Raises Pause, which ends the process; everything that it knows must be in the journal. It comes back up to a
    second early.
    """
    if moment - now < WORTHWHILE:
        return
    get_run_logger().info("Parked until %s, in %s", what, show_duration(round(moment - now)))
    due = datetime.fromtimestamp(moment, UTC)
    answer: Any = await client.set_flow_run_state(flow_run.id, Scheduled(scheduled_time=due, name=f"Waiting {what}"))
    say_it_rests(flow_run)
    raise Pause(state=answer.state)
