"""What a flow run has finished, kept on the Prefect server, so that a killed run goes on where it stopped.

An append-only log: each finished step is one table artifact under the run's own key. It is written before the
step is reported as done, so a step that shows as Completed is never repeated. It needs no disk that the next
worker would have to share, and it can be read in the UI.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.context import TaskRunContext
from pydantic import TypeAdapter

from firstwatch.model import Judgement, as_json
from tasks.busy import patiently

PATIENCE = 300.0  # seconds for a server that is away or ill: without this record, what was found would be lost
_PAGE = 200
_STARTED_OVER = "started over"


@dataclass(frozen=True)
class JudgedIn:
    """The task run that has judged a step, as the Prefect server tells it from others."""

    id: UUID
    name: str
    task_key: str
    dynamic_key: str


@dataclass(frozen=True)
class _Entry:
    found: Any  # plain JSON
    judged_in: JudgedIn | None = None


_JUDGED_IN = TypeAdapter(JudgedIn)


class Journal:
    """The finished steps of one flow run by name, each with what it found (plain JSON, redacted)."""

    def __init__(
        self,
        client: PrefectClient,
        flow_run_id: UUID,
        entries: dict[str, _Entry],
        redact: Callable[[Any], Any],
    ):
        self._client = client
        self._flow_run_id = flow_run_id
        self._entries = entries
        self._redact = redact

    @classmethod
    async def open(
        cls, client: PrefectClient, flow_run_id: UUID, redact: Callable[[Any], Any] = lambda plain: plain
    ) -> Journal:
        """Read what earlier processes of this flow run have finished (nothing, for a new run)."""
        entries: dict[str, _Entry] = {}
        async for step, entry in _newest_first(client, flow_run_id):
            if step == _STARTED_OVER:
                break
            entries.setdefault(step, entry)  # of a step that was recorded again, the latest word counts
        return cls(client, flow_run_id, entries, redact)

    def __contains__(self, step: str) -> bool:
        return step in self._entries

    def get(self, step: str) -> Any:
        """What the step found, or None if it is not finished."""
        entry = self._entries.get(step)
        return None if entry is None else entry.found

    @property
    def steps(self) -> list[str]:
        return list(self._entries)

    @property
    def judged_in(self) -> dict[str, JudgedIn]:
        """The steps that a task run has judged, each with that one."""
        return {step: entry.judged_in for step, entry in self._entries.items() if entry.judged_in is not None}

    async def finish(self, step: str, found: Any) -> None:
        """Record the step as finished. It counts as finished only once the server has it."""
        await self.finish_all({step: found})

    async def finish_all(self, found: Mapping[str, Any]) -> None:
        """Record several steps at once: all of them, or none. With a judgement, the task run that we are in is kept."""
        entries = {step: _Entry(self._redact(as_json(each)), _judged_in(each)) for step, each in found.items()}
        artifact = ArtifactCreate(
            key=_key(self._flow_run_id),
            type="table",
            description="What this run has finished. A restarted run goes on from here.",
            data=json.dumps([_row(step, entry) for step, entry in entries.items()]),
            flow_run_id=self._flow_run_id,
        )
        await patiently(self._client, lambda: self._client.create_artifact(artifact), PATIENCE)
        self._entries |= entries

    async def start_over(self) -> None:
        """Let nothing count as finished any more: a person has asked for this run once more."""
        await self.finish(_STARTED_OVER, None)
        self._entries = {}


def _judged_in(found: object) -> JudgedIn | None:
    context = TaskRunContext.get()
    if context is None or not isinstance(found, Judgement):
        return None
    of = context.task_run
    return JudgedIn(of.id, of.name, of.task_key, of.dynamic_key)


def _row(step: str, entry: _Entry) -> dict[str, str]:
    """As it stands in the artifact's table."""
    row = {"step": step, "found": json.dumps(entry.found, allow_nan=False)}
    return row if entry.judged_in is None else {**row, "judged_in": _JUDGED_IN.dump_json(entry.judged_in).decode()}


def _entry(row: Mapping[str, str]) -> _Entry:
    by = row.get("judged_in")
    return _Entry(json.loads(row["found"]), None if by is None else _JUDGED_IN.validate_json(by))


async def _newest_first(client: PrefectClient, flow_run_id: UUID) -> AsyncIterator[tuple[str, _Entry]]:
    """The entries of a run's journal, by step."""
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
                yield row["step"], _entry(row)
        if len(page) < _PAGE:
            return
        offset += len(page)


def _key(flow_run_id: UUID) -> str:
    return f"journal-{flow_run_id}"
