"""The deadline of a question that nobody has answered: its default is the answer. Scheduled by the run that asks.

A run that asks holds no process, so its deadline cannot be its own. Where somebody answers in time, this run is called
off before it starts.
"""

from __future__ import annotations

import time
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.ask import answer_for_nobody


@flow(name="answer", persist_result=False, retries=5, retry_delay_seconds=30)
async def answer(flow_run: UUID, question: str, default: dict[str, str]) -> State[None]:
    """Answer the question of an inconclusive release in the name of nobody, if it is still open.

    Args:
        flow_run: the id of the flow run that asks.
        question: which of its questions.
        default: the answer, as the form would give it.
    """
    async with get_client() as client:
        return Completed(message=await answer_for_nobody(client, flow_run, question, default, time.time))
