"""What a flow run has finished, kept on the Prefect server, so that a killed run goes on where it stopped.

An append-only log: each finished step is one table artifact under the run's own key. It is written before the
step is reported as done, so a step that shows as Completed is never repeated. It needs no disk that the next
worker would have to share, and it can be read in the UI.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import Completed, Crashed

from firstwatch.model import as_json

_PAGE = 200


class Journal:
    """The finished steps of one flow run by name, each with what it found (plain JSON)."""

    def __init__(self, client: PrefectClient, flow_run_id: UUID, entries: dict[str, Any]):
        self._client = client
        self._flow_run_id = flow_run_id
        self._entries = entries

    @classmethod
    async def open(cls, client: PrefectClient, flow_run_id: UUID) -> Journal:
        """Read what earlier processes of this flow run have finished (nothing, for a new run)."""
        entries: dict[str, Any] = {}
        while page := await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                key=ArtifactFilterKey(any_=[_key(flow_run_id)]),
                flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]),
            ),
            sort=ArtifactSort.KEY_ASC,
            limit=_PAGE,
            offset=len(entries),
        ):
            for artifact in page:
                row = _rows(artifact.data)[0]
                entries[row["step"]] = json.loads(row["found"])
            if len(page) < _PAGE:
                break
        return cls(client, flow_run_id, entries)

    def __contains__(self, step: str) -> bool:
        return step in self._entries

    def get(self, step: str) -> Any:
        """What the step found, or None if it is not finished."""
        return self._entries.get(step)

    @property
    def steps(self) -> list[str]:
        return list(self._entries)

    async def finish(self, step: str, found: Any) -> None:
        """Record the step as finished. It counts as finished only once the server has it."""
        plain = as_json(found)
        await self._client.create_artifact(
            ArtifactCreate(
                key=_key(self._flow_run_id),
                type="table",
                description="What this run has finished. A restarted run goes on from here.",
                data=json.dumps([{"step": step, "found": json.dumps(plain, allow_nan=False)}]),
                flow_run_id=self._flow_run_id,
            )
        )
        self._entries[step] = plain

    async def close_orphans(self) -> list[str]:
        """Settle the task runs that a killed process left open: finished by the journal, or crashed.

        Returns their names.
        """
        open_runs = await self._client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[self._flow_run_id])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(
                    type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED])
                )
            ),
        )
        for task_run in open_runs:
            state: State[Any] = (
                Completed(message="Finished just before its process was killed; the journal has it.")
                if task_run.name in self
                else Crashed(message="Its process was killed; the flow run went on in a new one.")
            )
            await self._client.set_task_run_state(task_run.id, state, force=True)
        return [task_run.name for task_run in open_runs]


def _key(flow_run_id: UUID) -> str:
    return f"journal-{flow_run_id}"


def _rows(data: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(data) if isinstance(data, str) else data
    return rows
