"""What the automation that looks after silent releases is told by ourselves (tasks/setup.py has it).

Prefect's server tells it of each state, but behind the state before: after a restart, a server that keeps its events in
memory no longer knows that it has seen that one, and lets what follows wait for fifteen minutes. In between, a run's
heartbeats would start the count of its silence, and no end would stop it: it would be entered again for ever. The
words here follow nothing that a server may have forgotten.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.events import Event, emit_event
from prefect.events.related import tags_as_related_resources

from tasks.run_loop import run_name

RELEASE, MONITOR = "firstwatch", "firstwatch-monitor"
TAGS = [RELEASE, MONITOR]  # of what `firstwatch setup` deploys
HEARTBEAT = "prefect.flow-run.heartbeat"
VOUCHED_FOR = "firstwatch.flow-run.vouched-for"
"""Of a run that does not beat itself: whether it lives is its worker's to say."""
RESTS = "firstwatch.flow-run.rests"
"""Of a run in a process of its own that has ended, is parked, or asks a person: nothing is to be heard of it now."""

BEATS_EVERY = 10.0
"""Seconds between two heartbeats of a release in a process of its own. Prefect's own come every 30 s and no sooner:
whoever waits for three of them finds no dead run within a minute."""
DEAD_AFTER = 45.0  # seconds without one, after which it is dead: four may be dropped, or late

_pulses: dict[UUID, Pulse] = {}  # of the releases that beat in this process


class Pulse:
    """Beats for a run, in a thread, until it is stopped."""

    def __init__(self, flow_run: FlowRun) -> None:
        self._flow_run, self._over = flow_run, threading.Event()
        beat = contextvars.copy_context().run  # the settings say which server is to hear it
        self._thread = threading.Thread(target=beat, args=(self._beat,), name="heartbeats", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Once this returns, it does not beat any more."""
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEATS_EVERY):
            say(HEARTBEAT, self._flow_run)


@contextmanager
def beating(flow_run: FlowRun) -> Iterator[None]:
    """Beat for a release in a process of its own: for the `with` block, or until it says that it rests."""
    if not _beats(flow_run):
        yield
        return
    _pulses[flow_run.id] = Pulse(flow_run)
    try:
        yield
    finally:
        _stop(flow_run)


def vouch(flow_run: FlowRun, since: State[Any] | None = None) -> None:
    """Say that the run's worker answers for it; the server is to hear it after it has heard of the state `since`, if
    that is given. A thread sends it."""
    if RELEASE in flow_run.tags:
        # A state's id is that of the server's own event of it.
        heard = Event(id=since.id, event="", resource=_resource(flow_run), occurred=since.timestamp) if since else None
        say(VOUCHED_FOR, flow_run, heard)


def say_it_rests(flow_run: FlowRun) -> None:
    """Call it when its state says so already: a run that died before has to be heard of by its silence.

    The server hears several events at once. So that this one comes after the run's heartbeats, it follows one more.
    """
    if _beats(flow_run):
        _stop(flow_run)
        say(RESTS, flow_run, follows=say(HEARTBEAT, flow_run))


def has_ended(flow: object, flow_run: FlowRun, state: State[Any]) -> None:
    """`say_it_rests`, as a hook of a flow's final states."""
    say_it_rests(flow_run)


WHEN_IT_ENDS: dict[str, Any] = {
    f"on_{state}": [has_ended] for state in ("completion", "failure", "cancellation")
}  # for the flows that verify a release


def _beats(flow_run: FlowRun) -> bool:
    """Whether it is a release in a process of its own; inside a worker, the worker's heartbeat stands for it."""
    return RELEASE in flow_run.tags and run_name.get(None) is None


def _stop(flow_run: FlowRun) -> None:
    if (pulse := _pulses.pop(flow_run.id, None)) is not None:
        pulse.stop()


def say(event: str, flow_run: FlowRun, follows: Event | None = None) -> Event | None:
    """Send an event of this run, to be heard behind the one that it follows. A thread sends it."""
    related = tags_as_related_resources(flow_run.tags)
    return emit_event(event, resource=_resource(flow_run), related=related, follows=follows)


def _resource(flow_run: FlowRun) -> Any:
    return {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": flow_run.name}
