"""What people get to read: the report of a release, its charts, and the messages on the way."""

from firstwatch.report.model import (
    Chart,
    CheckpointRecord,
    Delivery,
    ReleaseReport,
    RollbackAttempt,
    RollbackRecord,
    RollbackState,
)

__all__ = [
    "Chart",
    "CheckpointRecord",
    "Delivery",
    "ReleaseReport",
    "RollbackAttempt",
    "RollbackRecord",
    "RollbackState",
]
