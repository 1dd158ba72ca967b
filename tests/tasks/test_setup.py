"""What restarts a killed run must leave alone those that rest or have ended: by each name that a flow gives a state."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger
from prefect.events.actions import ChangeFlowRunState

from tasks import afterwards
from tasks.setup import restart_automations
from tasks.silence import RESTS, VOUCHED_FOR

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("flows/*.py"), ROOT / "tasks/park.py", ROOT / "tasks/ask.py"]
NAMED = re.compile(r"\b(?:Completed|Failed|Scheduled|Suspended)\([^)]*?name=f?\"([A-Za-z]+)")
RESTS_WHATEVER_ITS_NAME = {"Suspended"}


def states() -> set[str]:
    return {name for source in SOURCES for name in NAMED.findall(source.read_text())} | RESTS_WHATEVER_ITS_NAME


def test_a_run_that_rests_or_has_ended_is_not_silent() -> None:
    assert {"Healthy", "RolledBack", "Proceeded", "Inconclusive", "Waiting", "Suspended"} <= states()
    [silent] = [a for a in restart_automations() if "silent" in a.name]
    assert isinstance(silent.trigger, EventTrigger)
    expected = silent.trigger.expect
    unexpected = [s for s in states() if not any(fnmatch(f"prefect.flow-run.{s}", event) for event in expected)]
    assert not unexpected, "these would be taken for dead"


def test_a_run_that_is_killed_before_its_first_heartbeat_falls_silent_too() -> None:
    [silent] = [a for a in restart_automations() if "silent" in a.name]
    assert isinstance(silent.trigger, EventTrigger)
    assert {"prefect.flow-run.heartbeat", "prefect.flow-run.Running"} <= silent.trigger.after
    # A run in its worker's process beats not at all, so that one word of its worker must do.
    assert VOUCHED_FOR in silent.trigger.expect and VOUCHED_FOR not in silent.trigger.after
    assert RESTS in silent.trigger.expect and RESTS not in silent.trigger.after
    # Taken up by another process, it is not silent while that one starts; a crash is no reason to stop counting.
    assert {"prefect.flow-run.Restarting", "prefect.flow-run.Pending"} <= silent.trigger.expect
    assert "prefect.flow-run.Crashed" not in silent.trigger.expect
    [action] = silent.actions
    # Crashed would be refused where it is Crashed already, and only the event of that was lost.
    assert isinstance(action, ChangeFlowRunState) and action.state is StateType.SCHEDULED


def test_a_run_that_beats_or_is_vouched_for_has_started() -> None:
    """The event of its state may be heard late, where the server was started again: nobody is to crash it for that."""
    [pending] = [a for a in restart_automations() if "never started" in a.name]
    assert isinstance(pending.trigger, EventTrigger)
    assert {"prefect.flow-run.heartbeat", VOUCHED_FOR, RESTS} <= pending.trigger.expect


def test_a_round_that_has_ended_is_not_begun_again() -> None:
    """By no event that may come late: a heartbeat's may come after that of the end."""
    [unended] = [a for a in restart_automations(40.0) if "has not ended" in a.name]
    assert isinstance(unended.trigger, EventTrigger)
    assert unended.trigger.after == {"prefect.flow-run.Running"} and unended.trigger.within.total_seconds() >= 60
    ends = {f"prefect.flow-run.{name}" for name in (*afterwards.NAMES.values(), "Overlapped", "Cancelled")}
    assert ends <= unended.trigger.expect
    assert not any("heartbeat" in event for event in unended.trigger.expect)
