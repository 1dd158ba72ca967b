"""What is known of one release, as its report shows it: the one input of the markdown page, the charts and Slack.

A report may be built at any time, from the first second on: what is not known yet is None or empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from firstwatch.model import CheckResult, Judgement, Outcome, Release, RequestRecord, Verdict


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint and what its judge said, oldest first. `at` is seconds after the deploy. `history` need not be
    complete: the first failure and the last judgement are what is shown."""

    name: str
    at: float
    signal: str = ""
    judge: str = ""
    history: Sequence[Judgement] = ()

    @property
    def last(self) -> Judgement | None:
        return self.history[-1] if self.history else None

    @property
    def first_failure(self) -> Judgement | None:
        return next((j for j in self.history if j.outcome is Outcome.FAIL), None)

    @property
    def decisive(self) -> Judgement | None:
        """The judgement that the checkpoint is remembered for: its first failure, or else its last word."""
        return self.first_failure or self.last

    @property
    def outcome(self) -> Outcome | None:
        """None where the checkpoint was never reached."""
        return self.decisive.outcome if self.decisive else None


@dataclass(frozen=True, slots=True)
class Chart:
    """A signal over time, in `unit` (as in `Judgement.unit`). `points` are (Unix seconds, value); a value that is not
    finite leaves a gap. `failed_at` is when a judge first failed it."""

    title: str
    unit: str
    points: Sequence[tuple[float, float]]
    deployed_at: float
    limit: float | None = None
    failed_at: float | None = None


class RollbackState(StrEnum):
    SENT = "sent"  # on its way, no answer yet
    ACCEPTED = "accepted"
    FAILED = "failed"  # refused, or provably never delivered
    UNKNOWN = "unknown"  # sent, and nobody knows whether it arrived


@dataclass(frozen=True, slots=True)
class RollbackAttempt:
    at: float
    answer: str  # what came back, or why nothing did


@dataclass(frozen=True, slots=True)
class RollbackRecord:
    """The one rollback of a release: by which adapter, how it stands, and each attempt with its answer."""

    adapter: str
    state: RollbackState
    idempotency_key: str
    attempts: Sequence[RollbackAttempt] = ()


class Decision(StrEnum):
    """What may be done where nothing is proven. The words are those of the form that people answer."""

    PROCEED = "proceed"
    ROLL_BACK = "roll back"
    WATCH = "keep watching"
    STOP = "stop"  # the run ends as inconclusive


@dataclass(frozen=True, slots=True)
class Question:
    """What people are asked of an inconclusive release. `number` counts from 1 over the whole run; `deadline` is Unix
    seconds, at which `otherwise` is done. `refused` says why the answer before could not be taken."""

    number: int
    choices: Sequence[Decision]
    asked_at: float
    deadline: float
    otherwise: Decision
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided of an inconclusive release, by whom (a person, or nobody: the service file) and when."""

    decision: Decision
    reason: str
    by: str
    at: float
    until: float | None = None  # keep watching: until then (Unix seconds)


@dataclass(frozen=True, slots=True)
class MetricRecord:
    """A canary metric with all its measurements, first to last. `phase` is Argo's word for how it stands."""

    name: str
    held_against: str  # its conditions, or its judge and signal
    phase: str
    dry_run: bool
    judgements: Sequence[Judgement]


@dataclass(frozen=True, slots=True)
class GateRecord:
    """One gate of the canary: at which share of the traffic (percent; None without steps), and what came of it."""

    weight: int | None
    start: float
    metrics: Sequence[MetricRecord]
    promoted: RollbackRecord | None = None  # the promotion to the next step


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message to people. `ts` is its thread's timestamp, where there are threads."""

    message: str
    ok: bool
    attempts: int
    error: str = ""
    ts: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    release: Release
    started: float
    verdict: Verdict | None = None  # None while it runs
    state: str = ""  # the run's final state: Healthy, RolledBack, RollbackFailed, Proceeded, Inconclusive
    reasons: Sequence[str] = ()  # plain sentences, the decisive one first
    version_check: CheckResult | None = None
    smoke: Sequence[CheckResult] = ()
    smoke_budget: float | None = None  # seconds allowed
    smoke_took: float | None = None  # seconds used
    checkpoints: Sequence[CheckpointRecord] = ()
    gates: Sequence[GateRecord] = ()
    charts: Sequence[Chart] = ()
    rollback: RollbackRecord | None = None
    answers: Sequence[Answer] = ()  # where the verdict was inconclusive, the last one decided
    requests: Sequence[RequestRecord] = ()
    deliveries: Sequence[Delivery] = ()
    notes: Sequence[str] = ()  # the policy it was judged by, and whatever else people should know
    dry_run: bool = False
    flow_run_url: str = ""
    ended: float | None = None

    @property
    def checks(self) -> Sequence[CheckResult]:
        """The version check, if there is one, and then the suite."""
        return [*([self.version_check] if self.version_check else []), *self.smoke]


T = TypeVar("T")


def map_text(value: T, change: Callable[[str], str]) -> T:
    """`value` with `change` applied to each text within it: how a report is redacted before anything is cut or
    escaped, because half a secret, or an escaped one, would not be recognised any more."""
    return _map_text(value, change)  # type: ignore[no-any-return]


def _map_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, StrEnum) else change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: _map_text(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        )
    if isinstance(value, list | tuple):
        return type(value)(_map_text(v, change) for v in value)
    if isinstance(value, dict):
        return {k: _map_text(v, change) for k, v in value.items()}
    return value
