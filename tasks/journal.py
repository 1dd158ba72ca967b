"""What a flow run has finished, kept on the Prefect server, so that a killed run goes on where it stopped.

An append-only log: each finished step is one table artifact under the run's own key. It is written before the
step is reported as done, so a step that shows as Completed is never repeated. It needs no disk that the next
worker would have to share, and it can be read in the UI.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
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
from tasks.busy import patiently

PATIENCE = 300.0  # seconds for a server that is away or ill: without this record, what was found would be lost
_PAGE = 200
_STARTED_OVER = "started over"


class Journal:
    """The finished steps of one flow run by name, each with what it found (plain JSON, redacted)."""

    def __init__(self, client: PrefectClient, flow_run_id: UUID, entries: dict[str, Any], redact: Callable[[Any], Any]):
        self._client = client
        self._flow_run_id = flow_run_id
        self._entries = entries
        self._redact = redact

    @classmethod
    async def open(
        cls, client: PrefectClient, flow_run_id: UUID, redact: Callable[[Any], Any] = lambda plain: plain
    ) -> Journal:
        """Read what earlier processes of this flow run have finished (nothing, for a new run)."""
        entries: dict[str, Any] = {}
        async for step, found in _newest_first(client, flow_run_id):
            if step == _STARTED_OVER:
                break
            entries.setdefault(step, found)  # of a step that was recorded again, the latest word counts
        return cls(client, flow_run_id, entries, redact)

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
        await self.finish_all({step: found})

    async def finish_all(self, found: Mapping[str, Any]) -> None:
        """Record several steps at once: all of them, or none."""
        plain = {step: self._redact(as_json(each)) for step, each in found.items()}
        rows = [{"step": step, "found": json.dumps(each, allow_nan=False)} for step, each in plain.items()]
        artifact = ArtifactCreate(
            key=_key(self._flow_run_id),
            type="table",
            description="What this run has finished. A restarted run goes on from here.",
            data=json.dumps(rows),
            flow_run_id=self._flow_run_id,
        )
        await patiently(self._client, lambda: self._client.create_artifact(artifact), PATIENCE)
        self._entries |= plain

    async def start_over(self) -> None:
        """Let nothing count as finished any more: a person has asked for this run once more."""
        await self.finish(_STARTED_OVER, None)
        self._entries = {}

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


async def _newest_first(client: PrefectClient, flow_run_id: UUID) -> AsyncIterator[tuple[str, Any]]:
    """The entries of a run's journal: step and what it found."""
    ours = ArtifactFilter(
        key=ArtifactFilterKey(any_=[_key(flow_run_id)]), flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id])
    )
    read = partial(client.read_artifacts, artifact_filter=ours, sort=ArtifactSort.CREATED_DESC, limit=_PAGE)
    offset = 0
    while True:
        page = await patiently(client, partial(read, offset=offset))
        for artifact in page:
            rows: Any = json.loads(artifact.data) if isinstance(artifact.data, str) else artifact.data
            for row in rows:
                yield row["step"], json.loads(row["found"])
        if len(page) < _PAGE:
            return
        offset += len(page)


def _key(flow_run_id: UUID) -> str:
    return f"journal-{flow_run_id}"
