"""The form, and the deadline that answers for nobody: against a real Prefect server, without a process of a flow."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRunInput
from prefect.input.run_input import keyset_from_base_key
from prefect.states import Failed, Pending, Running, State, Suspended
from pydantic import ValidationError

from firstwatch.report import Decision, Question
from tasks import ask

ALL = list(Decision)
ASKED = Question(1, ALL, 1000.0, 4600.0, Decision.STOP)


def given(text: str) -> FlowRunInput:
    created = datetime.fromtimestamp(2000, UTC)
    return FlowRunInput(flow_run_id=uuid.uuid4(), key="question-1-1000-response", value=text, created=created)


def test_an_answer_is_who_what_why_and_when() -> None:
    said = given('{"decision": "keep watching", "reason": "  traffic at ten ", "name": "ann", "watch_for": 15}')
    answer = ask._read(said, ASKED, 2100.0)
    assert (answer.decision, answer.reason, answer.by, answer.at) == (Decision.WATCH, "traffic at ten", "ann", 2000.0)
    assert answer.until == 2100.0 + 900
    assert ask._read(given('{"decision": "stop", "reason": "no idea", "name": "bob"}'), ASKED, 2100.0).until is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '"proceed"',
        "null",
        "no JSON",
        '{"decision": "maybe", "reason": "why not", "name": "ann"}',
        '{"decision": "proceed", "reason": "   .  ", "name": "ann"}',
        '{"decision": "proceed", "reason": "why not", "name": " "}',
        '{"decision": "proceed", "reason": "why not", "name": "ann", "sudo": true}',
        '{"decision": "keep watching", "reason": "why not", "name": "ann", "watch_for": -1}',
        '{"decision": "keep watching", "reason": "why not", "name": "ann", "watch_for": "NaN"}',
    ],
)
def test_nonsense_is_no_answer_and_says_why(text: str) -> None:
    with pytest.raises(ValidationError) as told:
        ask._read(given(text), ASKED, 2100.0)
    assert ask._faults(told.value)


def test_what_is_not_offered_cannot_be_chosen() -> None:
    asked = Question(4, [Decision.PROCEED, Decision.STOP], 1000.0, 4600.0, Decision.STOP)
    assert ask.form(asked.choices).model_json_schema()["properties"]["decision"]["enum"] == ["proceed", "stop"]
    with pytest.raises(ValidationError):
        ask._read(given('{"decision": "keep watching", "reason": "once more", "name": "ann"}'), asked, 2100.0)


# ── the deadline ─────────────────────────────────────────────────────────────────────────────────────────────

DEFAULT = {"decision": "stop", "reason": "nobody answered within 1h", "name": "nobody"}


@flow
def asks() -> None: ...


async def a_run(client: PrefectClient, state: State[Any]) -> UUID:
    """A flow run of a deployment, brought into that state without a process."""
    deployment = await client.create_deployment(await client.create_flow(asks), name=uuid.uuid4().hex)
    run = await client.create_flow_run_from_deployment(deployment)
    for step in (Pending(), Running(), state):
        await client.set_flow_run_state(run.id, step)
    return run.id


async def asking(client: PrefectClient, question: str) -> UUID:
    suspended: State[Any] = Suspended(pause_key=question)
    suspended.state_details.run_input_keyset = {str(k): v for k, v in keyset_from_base_key(question).items()}
    run = await a_run(client, Running())
    await ask.form(ALL).asave(keyset_from_base_key(question), run)
    await client.set_flow_run_state(run, suspended)
    return run


@pytest.mark.usefixtures("prefect_api")
def test_the_deadline_answers_what_is_open_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "_PATIENCE", 0.5)

    async def scenario() -> None:
        async with get_client() as client:

            async def deadline(run: UUID, question: str) -> str:
                return await ask.answer_for_nobody(client, run, question, DEFAULT, time.time)

            run = await asking(client, "question-1-1")
            assert await deadline(run, "question-1-1") == "stop: nobody answered within 1h"
            state = (await client.read_flow_run(run)).state
            assert state is not None and state.is_scheduled(), "it is entered again"
            answered = await ask._input(client, run, "question-1-1-response")
            assert answered is not None and ask._read(answered, ASKED, 0.0).by == "nobody"
            assert await deadline(run, "question-1-1") == "It has been answered."

            run = await asking(client, "question-2-1")
            assert "does not ask it (Suspended)" in await deadline(run, "question-1-1"), "another question"
            person = {"decision": "proceed", "reason": "looks good", "name": "ann"}
            await client.resume_flow_run(run, run_input=person)
            assert await deadline(run, "question-2-1") == "It has been answered."
            taken = await ask._input(client, run, "question-2-1-response")
            assert taken is not None and taken.decoded_value == person

            ended = await a_run(client, Failed())
            assert "has ended" in await deadline(ended, "question-1-1")

    asyncio.run(scenario())
