"""When people are told: one state machine for every service, pure, from results to notices and their delivery."""

from firstwatch.alerting.machine import delivered, step
from firstwatch.alerting.model import (
    AlertState,
    CheckState,
    Incident,
    Level,
    Notice,
    NoticeKind,
    Part,
    at_rest,
    packed,
    unpacked,
)
from firstwatch.alerting.outbox import Delivery, Outbox

__all__ = [
    "AlertState",
    "CheckState",
    "Delivery",
    "Incident",
    "Level",
    "Notice",
    "NoticeKind",
    "Outbox",
    "Part",
    "at_rest",
    "delivered",
    "packed",
    "step",
    "unpacked",
]
