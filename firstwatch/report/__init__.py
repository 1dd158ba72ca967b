"""What people get to read: the report of a release, its charts, and the messages on the way."""

from firstwatch.report.model import (
    Answer,
    Chart,
    CheckpointRecord,
    Decision,
    Delivery,
    Question,
    ReleaseReport,
    RollbackAttempt,
    RollbackRecord,
    RollbackState,
)

__all__ = [
    "Answer",
    "Chart",
    "CheckpointRecord",
    "Decision",
    "Delivery",
    "Question",
    "ReleaseReport",
    "RollbackAttempt",
    "RollbackRecord",
    "RollbackState",
]
