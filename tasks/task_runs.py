"""The task runs of judgements: the state that each ends in, and the end of those whose process was killed first.

Prefect's engine tells the server of task runs by events, some time later. Who is killed before, or a server that is
killed with them in its memory, leaves task runs open for good, or such as nobody has ever heard of. The journal has
what was judged, and in which task run: it is told from there when the run is entered again.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import TaskRunCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    Operator,
    TaskRunFilter,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType, TaskRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.states import Completed, Crashed, Failed, Running, to_state_create
from pydantic import TypeAdapter

from firstwatch.model import Judgement, Outcome
from firstwatch.report.text import plain
from tasks.busy import patiently
from tasks.journal import Journal, JudgedIn

NOT_JUDGED = "was not judged"
_STATE_NAMES = {
    Outcome.PASS: "Pass",
    Outcome.NOT_YET: "NotYet",
    Outcome.NO_DATA: "NoData",
    Outcome.ERROR: "SourceError",
}
_JUDGEMENT = TypeAdapter(Judgement)
_OPEN = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED]
_CRASHED = "Its process was killed; the flow run went on in a new one."
_PAGE = 200


def judged_state(judged: Judgement) -> State[Any]:
    """What the task run of a judgement ends as: its outcome by name, and why."""
    if judged.outcome is Outcome.FAIL or judged.why == NOT_JUDGED:
        return Failed(message=plain(judged.why))
    return Completed(name=_STATE_NAMES[judged.outcome], message=plain(judged.why))


async def settle(client: PrefectClient, flow_run_id: UUID, journal: Journal) -> None:
    """Have no task run of a killed process open: it ends as it was judged, or else as crashed. One that was judged, and
    that the server has never heard of, is there afterwards, too."""
    judged = {by.id: (by, _JUDGEMENT.validate_python(journal.get(step))) for step, by in journal.judged_in.items()}
    known = await _open_or_one_of(client, flow_run_id, list(judged))
    for task_run in known:
        if task_run.state is None or not task_run.state.is_final():
            state = judged_state(judged[task_run.id][1]) if task_run.id in judged else Crashed(message=_CRASHED)
            await client.set_task_run_state(task_run.id, state, force=True)
    for missing in judged.keys() - {task_run.id for task_run in known}:
        await _tell(client, flow_run_id, *judged[missing])


async def _tell(client: PrefectClient, flow_run_id: UUID, by: JudgedIn, judged: Judgement) -> None:
    """The task run as its engine would have told it. Should that be heard of later, it is the same one."""
    told = TaskRunCreate(
        id=by.id,
        name=by.name,
        flow_run_id=flow_run_id,
        task_key=by.task_key,
        dynamic_key=by.dynamic_key,
        state=to_state_create(Running()),
    )
    as_json = told.model_dump(mode="json", exclude_unset=True)
    await patiently(client, partial(client.request, "POST", "/task_runs/", json=as_json))
    await client.set_task_run_state(by.id, judged_state(judged), force=True)


async def _open_or_one_of(client: PrefectClient, flow_run_id: UUID, ids: list[UUID]) -> list[TaskRun]:
    """The flow run's task runs that have not ended, and those of `ids`."""
    read = partial(
        client.read_task_runs,
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(
            operator=Operator.or_,
            id=TaskRunFilterId(any_=ids),
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_OPEN)),
        ),
        sort=TaskRunSort.ID_DESC,
        limit=_PAGE,
    )
    found: list[TaskRun] = []
    while True:
        page = await patiently(client, partial(read, offset=len(found)))
        found += page
        if len(page) < _PAGE:
            return found
