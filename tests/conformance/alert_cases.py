"""What else those systems do, by their own tests and code: vectors that we made, in the shape of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Vector = Mapping[str, Any]

STATES = ("UP", "DOWN", "PENDING", "MAINTENANCE")
_RECORDED = "UP>DOWN UP>MAINTENANCE DOWN>UP DOWN>MAINTENANCE PENDING>DOWN MAINTENANCE>UP MAINTENANCE>DOWN"
_NOTIFIES = "UP>DOWN DOWN>UP PENDING>DOWN MAINTENANCE>DOWN None>DOWN"


def kuma(previous: str | None, now: str) -> Vector:
    change = f"{previous}>{now}"
    recorded = previous is None or change in _RECORDED.split()
    return {"kind": "transitions", "previous": previous, "now": now,
            "recorded_as_event": recorded, "notifies": change in _NOTIFIES.split()}  # fmt: skip


def _gatus(thresholds: tuple[int, int], results: str, sent: str, opened: str, broken: str) -> Vector:
    """A sequence, a minute a letter: `sent` by t(rigger), r(esolve), m (reminder) or -, `broken` where x is."""
    words = {"t": ["trigger"], "r": ["resolve"], "m": ["reminder"], "-": []}
    steps, failures, successes = [], 0, 0
    for i, letter in enumerate(results):
        failures, successes = (failures + 1, 0) if letter == "F" else (0, successes + 1)
        fails = broken[i] == "x"
        after = {"failures_in_a_row": failures, "successes_in_a_row": successes, "open": opened[i] == "o"}
        tried = [word + "!" * fails for word in words[sent[i]]]
        delivery = {"delivery": "error"} if fails else {}
        steps.append({"t_s": 60 * i, "ok": letter == "S", "after": after, "sent": tried, **delivery})
    rule = {"failure_threshold": thresholds[0], "success_threshold": thresholds[1], "reminder_min_s": 0}
    none = {"failures_in_a_row": 0, "successes_in_a_row": 0, "open": False}
    return {"kind": "sequences", "policy": rule, "initial": none, "steps": steps}


BROKEN = {
    "always, then well": _gatus((2, 2), "FFFFFSSFFSS", "-tttt-r-t-r", "----oo--oo-", ".xxx..x...."),
    "on resolve": _gatus((1, 1), "FSFSFFSS", "trtrt-r-", "o-o-oo--", ".x.x...."),
    "on trigger": _gatus((1, 1), "FFSFS", "ttrtr", "-o-o-", "x...."),
    "on trigger, good before it arrives": _gatus((1, 1), "FSFS", "t-tr", "--o-", "x..."),
}


OTHERS: tuple[Vector, ...] = (
    {"kind": "windows", "policy": {"failures": 1, "out_of": 1, "repeat_s": 0}, "open_at_end": True,
     "batches": [{"attempts": 1, "failures": 1}] * 2,
     "notifications": [{"after_batch": 1, "failures_counted": 1}, {"after_batch": 2, "failures_counted": 1}]},
    {"kind": "windows", "policy": {"failures": 2, "out_of": 0, "repeat_s": 3600}, "open_at_end": True,
     "batches": [{"attempts": 1, "failures": n} for n in (0, 1, 1)],
     "notifications": [{"after_batch": 3, "failures_counted": 2}]},
    {"kind": "windows", "policy": {"failures": 3, "out_of": 5, "repeat_s": 3600}, "open_at_end": True,
     "batches": [{"attempts": n, "failures": 1} for n in (1, 2, 2, 2)],
     "notifications": [{"after_batch": 3, "failures_counted": 3}]},
    {"kind": "retry_then_down", "policy": {"max_retries": 1, "resend_every": 2}, "results": "FFFFFS",
     "states": ["PENDING", *["DOWN"] * 4, "UP"], "sent": [[], ["down"], [], ["down"], [], ["up"]]},
    {"kind": "retry_waits", "strategy": "exponential", "base_s": 5, "max_retries": 3, "waits_s": [5, 25, 125]},
    {"kind": "escalation", "policy": {"kind": "run", "failed_runs": 3}},
    {"kind": "escalation", "policy": {"kind": "reminders", "amount": 2, "interval_min": 5}},
    {"kind": "escalation", "policy": {"kind": "parallel", "percentage": 50}},
    {"kind": "defaults", "given": {}, "becomes": {"failure_threshold": 3, "success_threshold": 2}},
    {"kind": "defaults", "given": {"description": "plain"}, "becomes": "accepted"},
    {"kind": "defaults", "given": {}, "becomes": {"enabled": True, "notify_on_resolve": False}},
    {"kind": "quorum", "regions": 2, "in_new_state": 1, "monitor_changes": True},
    {"kind": "dependencies", "parent": "down", "child_result": "S", "child_alert_open_before": True,
     "child_resolves_alert": True, "child_state_recorded": "up"},
    {"kind": "maintenance", "start": "23:00", "duration_h": 25, "valid": False},
    {"kind": "maintenance", "start": "23:00", "duration_h": 1, "timezone": "invalid-timezone", "valid": False},
    {"kind": "maintenance", "start": "23:00", "duration_h": 1, "timezone": "Etc/GMT+5", "valid": True},
    {"kind": "maintenance", "days": ["invalid-day"], "start": "23:00", "duration_h": 1, "valid": False},
    {"kind": "maintenance", "start": "14:00", "duration_h": 24, "days": ["two days later"], "now": "14:20",
     "under": False},
    {"kind": "maintenance", "start": "14:00", "duration_h": 2, "timezone": "America/Los_Angeles", "days": ["today"],
     "now": "14:20", "under": False},
)  # fmt: skip
