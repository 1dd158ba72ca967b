"""Did a service's job call in when it should have?"""

from __future__ import annotations

from firstwatch.found import Found
from firstwatch.model import Outcome, rfc3339
from firstwatch.spec.synthetic import Heartbeat
from firstwatch.units import show_duration

NOT_DUE = "not_due"
"""The fact of a job that need not have called in yet: there is nothing to see of it."""

_CLOCKS_DIFFER = 60.0  # seconds that a job's clock may be ahead of ours


def judge(heartbeat: Heartbeat, last_seen: float | None, first_watched: float, now: float) -> Found:
    """`last_seen` is when the job last called in, None for never; `first_watched` since when we would have known. All
    are Unix seconds.

    A job that has not called in yet is no failure before it was watched for as long as it has time. A call that is
    dated ahead of our clock proves nothing: it would hide all that are missing until then.
    """
    allowed = heartbeat.every + heartbeat.grace
    rule = f"it calls in every {show_duration(heartbeat.every)}"
    if last_seen is None:
        watched = max(0.0, now - first_watched)
        if watched <= allowed:
            left = _show(allowed - watched)
            return Found(
                Outcome.NO_DATA,
                f"has not called in yet, in the {_show(watched)} that it is watched; {left} left",
                facts={NOT_DUE: 1.0},
            )
        return Found(Outcome.FAIL, f"never called in, in the {_show(watched)} that it is watched; {rule}")
    facts = {"last_seen_at": last_seen}
    age = now - last_seen
    if age < -_CLOCKS_DIFFER:
        ahead = f"its last call is dated {rfc3339(last_seen)}, {_show(-age)} ahead of this clock"
        return Found(Outcome.ERROR, f"{ahead}: one of the two clocks is wrong", facts=facts)
    told = f"called in {_show(max(0.0, age))} ago"
    if age > allowed:
        overdue = f"{rule}, with {show_duration(heartbeat.grace)} of grace: {_show(age - allowed)} overdue"
        return Found(Outcome.FAIL, f"last {told}; {overdue}", facts=facts)
    if age > heartbeat.every:
        told += f": late by {_show(age - heartbeat.every)}, within its grace of {show_duration(heartbeat.grace)}"
    return Found(Outcome.PASS, told, facts=facts)


def _show(seconds: float) -> str:
    """Whole seconds, and from an hour on whole minutes: nobody reads more of it."""
    return show_duration(round(seconds) if seconds < 3600 else round(seconds / 60) * 60)
