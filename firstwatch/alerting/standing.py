"""How a check stands, in one word, and which changes of it are worth a line in its history."""

from __future__ import annotations

from enum import StrEnum

from firstwatch.alerting.model import CheckState, Level
from firstwatch.monitor import Health


class Standing(StrEnum):
    NEW = "new"  # nothing is known yet
    UP = "up"
    PENDING = "pending"  # bad, and not yet for long enough
    DEGRADED = "degraded"
    DOWN = "down"
    MAINTENANCE = "maintenance"


def standing(check: CheckState) -> Standing:
    """An alert that is held back stands as it would if it were open: holding back hides nothing from the history."""
    if check.maintenance:
        return Standing.MAINTENANCE
    if check.is_open:
        return Standing.DOWN if check.level is Level.DOWN else Standing.DEGRADED
    if check.held and check.health in (Health.DOWN, Health.DEGRADED):
        return Standing.DOWN if check.health is Health.DOWN else Standing.DEGRADED
    if check.row == 0:
        return Standing.NEW
    return Standing.UP if check.row > 0 else Standing.PENDING


def is_event(before: Standing, after: Standing) -> bool:
    """Whether the change belongs in the history: a suspicion that was not confirmed does not."""
    if before is Standing.NEW or after is before:
        return after is not before
    if after is Standing.PENDING:
        return False
    return before is not Standing.PENDING or after in (Standing.DOWN, Standing.DEGRADED)
