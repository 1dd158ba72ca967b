"""Slow is not down: a check's durations over days, and whether it is degraded.

Each round: `history = add(history, at, seconds, now)`, `judgement = judge(history, now, degraded, limit)`,
`history = settle(history, judgement)`, and `pack(history)` is stored for the next one.
"""

from __future__ import annotations

from firstwatch.slowness.history import History, Hour, accept, add, pack, unpack
from firstwatch.slowness.judge import judge, judge_by, settle, usual_for
from firstwatch.slowness.usual import Usual

__all__ = [
    "History",
    "Hour",
    "Usual",
    "accept",
    "add",
    "judge",
    "judge_by",
    "pack",
    "settle",
    "unpack",
    "usual_for",
]
