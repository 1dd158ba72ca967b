"""Ask a person what to do where nothing is proven: the flow run suspends, holding no process, until it is answered.

The form is what the Prefect UI shows behind *Resume*; whoever calls `resume` on the API answers it as well. Each
question has a deadline, kept by a scheduled run of `answer/production`: it answers in the name of nobody, by the same
door, and the server lets only the first one through. A question's parts are made in an order in which a process may be
killed after any of them: what is asked, and until when, is written down first; the run suspends last.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, FlowRunInput, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause
from prefect.input import RunInput
from prefect.input.run_input import Keyset, keyset_from_base_key
from prefect.states import Completed, Scheduled, Suspended
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model

from firstwatch.report import Answer, Decision, Question, messages
from firstwatch.report.markdown import question_markdown
from firstwatch.report.model import map_text
from firstwatch.report.summary import why
from firstwatch.report.text import plain
from firstwatch.spec.inconclusive import OnInconclusive
from firstwatch.units import show_duration
from tasks.report import publish_report
from tasks.run import Run, unharmed
from tasks.silence import say_it_rests

DEPLOYMENT = "answer/production"
MAX_ROUNDS = 3  # how often a release may be watched on
NOBODY = "nobody"
USUAL_MINUTES = 10.0  # of watching on
_PATIENCE = 60.0  # seconds for a run to be asking what its deadline is about
_DECISIONS = {"rollback": Decision.ROLL_BACK, "proceed": Decision.PROCEED, "stop": Decision.STOP}
_QUESTION = TypeAdapter(Question)


async def decide(run: Run, policy: OnInconclusive) -> Answer:
    """What is to be done with the inconclusive release, as the service file says or as a person does.

    Raises Pause, which ends the process, while the answer is awaited; the run is entered again with it.
    """
    if policy.do != "ask":
        because = f"on_inconclusive: {policy.do}"
        return await _settle(run, Answer(_DECISIONS[policy.do], because, "the service file", run.clock()))
    while True:
        asked = await _question(run, policy)
        if (given := await _given(run, asked)) is not None:
            async with unharmed("the deadline's run is not called off, and will find nothing to do"):
                await _call_off(run, asked)
            try:
                return await _settle(run, _read(given, asked, run.clock()))
            except ValidationError as problem:
                await _refuse(run, plain(_faults(problem), 500))
        elif run.clock() >= asked.deadline:
            return await _settle(run, Answer(asked.otherwise, _nobody_answered(asked), NOBODY, run.clock()))
        else:
            await _ask(run, asked)


# ── what was asked and answered, in the journal ──────────────────────────────────────────────────────────────


async def _question(run: Run, policy: OnInconclusive) -> Question:
    """The question that is open, or else a new one. One that follows a refused answer has the same deadline."""
    number = run.asked + 1
    if (kept := run.journal.get(f"question {number}")) is not None:
        return _QUESTION.validate_python(kept)
    now, refused = run.clock(), str((run.journal.get(f"answer {run.asked}") or {}).get("refused", ""))
    before = run.journal.get(f"question {run.asked}")
    deadline = float(before["deadline"]) if refused else now + policy.within
    asked = Question(number, choices(run), now, deadline, _DECISIONS[policy.otherwise], refused)
    await run.journal.finish(f"question {number}", asked)
    return asked


def choices(run: Run) -> list[Decision]:
    """What may be answered now."""
    possible = {
        Decision.PROCEED: True,
        Decision.ROLL_BACK: run.service.rollback is not None,
        Decision.WATCH: sum(a.decision is Decision.WATCH for a in run.found.answers) < MAX_ROUNDS,
        Decision.STOP: True,
    }
    return [decision for decision, may in possible.items() if may]


async def _settle(run: Run, answer: Answer) -> Answer:
    await run.journal.finish(f"answer {run.asked + 1}", {"answer": answer})
    run.asked += 1
    run.found.answers.append(answer)
    get_run_logger().info("%s decided: %s (%s)", answer.by, answer.decision, run.redactor.text(answer.reason))
    return answer


async def _refuse(run: Run, fault: str) -> None:
    get_run_logger().warning("The answer cannot be taken, and is asked for again: %s", run.redactor.text(fault))
    await run.journal.finish(f"answer {run.asked + 1}", {"refused": fault})
    run.asked += 1


# ── the form ─────────────────────────────────────────────────────────────────────────────────────────────────


def form(offered: Sequence[Decision]) -> type[RunInput]:
    """The questions of the form, in the order in which they are shown."""
    fields: dict[str, Any] = {
        "decision": (Literal[tuple(map(str, offered))], Field(title="Decision", description="What is to be done?")),
        "reason": (
            str,
            Field(title="Reason", min_length=3, max_length=1000, description="Stands in the release's report."),
        ),
        "name": (str, Field(title="Your name", min_length=1, max_length=100, description="Stands there too.")),
    }
    if Decision.WATCH in offered:
        about = "For keep watching only: for how many minutes."
        minutes = Field(USUAL_MINUTES, title="Watch for (minutes)", gt=0, le=1440, description=about)
        fields["watch_for"] = (float, minutes)
    made: type[RunInput] = create_model("Answer", __base__=_Stripped, **fields)
    return made


class _Stripped(RunInput):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


def _read(given: FlowRunInput, asked: Question, now: float) -> Answer:
    """The form as it was filled in. Raises ValidationError where it does not fit: not every door checks it."""
    said: Any = form(asked.choices).model_validate_json(given.value)
    decision = Decision(said.decision)
    created = given.created.timestamp() if given.created else now
    at = min(max(created, asked.asked_at), now)  # by our clock: it tells which of a canary's gates was meant
    until = now + 60 * said.watch_for if decision is Decision.WATCH else None
    return Answer(decision, said.reason, said.name, at, until)


def _faults(problem: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the form'}: {e['msg']}" for e in problem.errors())


def _nobody_answered(asked: Question) -> str:
    return f"nobody answered within {show_duration(round(asked.deadline - asked.asked_at))}"


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────


def _base_key(asked: Question) -> str:
    """Of the form's entries at the server; unique in the run, though it may start over."""
    return f"question-{asked.number}-{round(asked.asked_at * 1000)}"


def _keys(asked: Question) -> Keyset:
    return keyset_from_base_key(_base_key(asked))


async def _given(run: Run, asked: Question) -> FlowRunInput | None:
    """The answer to this question, if there is one."""
    return await _input(run.client, run.flow_run.id, _keys(asked)["response"])


async def _input(client: PrefectClient, flow_run_id: UUID, key: str) -> FlowRunInput | None:
    found = await client.filter_flow_run_input(flow_run_id, key_prefix=key, limit=1, exclude_keys=set())
    return found[0] if found else None


async def _ask(run: Run, asked: Question) -> None:
    """Show the form, tell people, and leave: the run is entered again with the answer. Raises Pause."""
    await _alarm(run, asked)
    run.tell(messages.question(run.report(), asked))
    await publish_report(run.report(), run.redactor)
    await _show(run, asked)
    await run.told()
    await run.still_ours()
    state: State[None] = Suspended(
        pause_key=f"{_base_key(asked)}-{run.flow_run.run_count}",
        message=plain(f"Inconclusive, a decision is awaited: {run.redactor.text(why(run.report()))}", 1000),
    )
    state.state_details.run_input_keyset = {str(name): key for name, key in _keys(asked).items()}
    suspended = await run.client.set_flow_run_state(run.flow_run.id, state)
    if suspended.status != SetStateStatus.ACCEPT:
        raise RuntimeError(f"the flow run cannot be suspended: {suspended.details}")
    say_it_rests(run.flow_run)
    get_run_logger().info("A decision is awaited until %s", datetime.fromtimestamp(asked.deadline, UTC))
    raise Pause(state=suspended.state)


async def _show(run: Run, asked: Question) -> None:
    """Lay the form open at the server, if an earlier process of this run has not. It has to be there before the run
    suspends: nobody could answer it otherwise."""
    if await _input(run.client, run.flow_run.id, _keys(asked)["schema"]) is not None:
        return
    ui = re.sub(r"/(flow-)?runs/flow-run/.*", "", run.flow_run_url)
    report_url = f"{ui}/artifacts/key/release-{run.release.slug}" if ui else ""
    shown = form(asked.choices)
    shown._description = run.redactor.text(
        question_markdown(map_text(run.report(), run.redactor.text), asked, report_url)
    )
    await shown.asave(_keys(asked), run.flow_run.id)


# ── the deadline ─────────────────────────────────────────────────────────────────────────────────────────────


async def _alarm(run: Run, asked: Question) -> FlowRun:
    """The run of `answer/production` that keeps the deadline; asked for twice, it is the same one.

    Raises ObjectNotFound where that deployment is missing: without it, nobody might ever answer.
    """
    deployment = await run.client.read_deployment_by_name(DEPLOYMENT)
    key = _base_key(asked)
    default = {"decision": asked.otherwise, "reason": _nobody_answered(asked), "name": NOBODY}
    return await run.client.create_flow_run_from_deployment(
        deployment.id,
        parameters={"flow_run": str(run.flow_run.id), "question": key, "default": default},
        name=plain(f"{run.release.service} {run.release.version} {asked.otherwise}, unless answered", 200),
        state=Scheduled(scheduled_time=datetime.fromtimestamp(asked.deadline, UTC)),
        idempotency_key=f"answer-{run.flow_run.id}-{key}",
    )


async def _call_off(run: Run, asked: Question) -> None:
    alarm = await _alarm(run, asked)
    if alarm.state is not None and alarm.state.is_scheduled():
        await run.client.set_flow_run_state(alarm.id, Completed(message="Answered before the deadline."), force=True)


async def answer_for_nobody(
    client: PrefectClient, flow_run_id: UUID, question: str, default: dict[str, str], clock: Callable[[], float]
) -> str:
    """Give the default answer to the question, if it is still open; what came of that comes back.

    A run that is not asking yet (its process was killed and starts again) is waited for; one that asks after its
    deadline finds that out by itself.
    """
    until = clock() + _PATIENCE
    while True:
        if await _input(client, flow_run_id, f"{question}-response") is not None:
            return "It has been answered."
        flow_run = await client.read_flow_run(flow_run_id)
        state = flow_run.state
        if state is None or state.is_final():
            return f"{flow_run.name} has ended."
        keys = state.state_details.run_input_keyset or {}
        if state.is_paused() and keys.get("response") == f"{question}-response":
            given = await client.resume_flow_run(flow_run_id, run_input=default)
            if given.status == SetStateStatus.ACCEPT:
                return f"{default['decision']}: {default['reason']}"
        if clock() >= until:
            return f"{flow_run.name} does not ask it ({state.name})."
        await asyncio.sleep(1)
