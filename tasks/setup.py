"""Prepare a Prefect server for this checkout: work pool, deployments, and the automations that restart killed runs and
tell when a monitor falls silent.

Safe to repeat: whatever is there already is brought up to date.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectAlreadyExists

from firstwatch.spec import Service
from tasks.commands import read_services
from tasks.restart import RESTARTING
from tasks.secrets import load_secret
from tasks.silence import DEAD_AFTER, HEARTBEAT, RESTS, TAGS, VOUCHED_FOR
from tasks.watchdog import ensure_watchdogs

WORK_POOL = "production"
MONITORS_QUEUE = "monitors"  # of that pool; everything else is in Prefect's default queue, whose priority is 1
PROCESS = "process"  # the type of a pool each of whose runs has a process of its own
RELEASES, MONITORS = (f"prefect.tag.{tag}" for tag in TAGS)
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled")}
ENDED_OURS = {
    f"prefect.flow-run.{name}"
    for name in ("Healthy", "RolledBack", "RollbackFailed", "Unhealthy", "Inconclusive", "Proceeded")
} | {f"prefect.flow-run.{name}" for name in ("Up", "Degraded", "Down", "Unknown", "Overlapped", "Refused")}
# A run that is parked ("Waiting T+2m …"), or asks a person what to do, has no process, and so no heartbeat.
AT_REST = {"prefect.flow-run.Waiting*", "prefect.flow-run.Suspended"}
# Of one that was scheduled again, or is being started, the next automation looks after until it runs.
TAKEN_UP = {f"prefect.flow-run.{name}" for name in (RESTARTING, "Pending")}
_AFTERWARDS = 40.0  # seconds that a round may take beyond its looking, to begin, to remember and to tell


def restart_automations(longest_round: float = 60.0, monitors: bool = True) -> list[Automation]:
    """A crashed run is scheduled again, and so is one whose process fell silent; one that never started has crashed.

    They are proactive: a reactive trigger on the same events fires twice. Proactive triggers cannot expect
    anything sooner than after 10 s. Prefect drops events when its database is busy, so each death has two ways back:
    its Crashed event, and the silence after it, on which the run is scheduled at once, whatever its state. (Crashed
    would be refused where it is Crashed already.) A run that has ended, and whose last event was dropped, is entered
    once more and ends as it did: `tasks.opening` sees to that.

    The event of a state may be heard long after it happened (tasks/silence.py has why): that a run began, or has ended,
    it is told in two ways.

    A monitor's round is short, and the event of its one heartbeat may come after that of its end, from which on the
    silence would be counted. It is given the time of the longest round (seconds) instead.
    """

    def on_silence(
        name: str, tags: list[str], after: set[str], expect: set[str], within: timedelta, action: ChangeFlowRunState
    ) -> Automation:
        return Automation(
            name=name,
            description="Set up by `firstwatch setup`.",
            trigger=EventTrigger(
                after=after,
                expect=expect,
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related={"prefect.resource.role": "tag", "prefect.resource.id": tags},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=within,
            ),
            actions=[action],
        )

    started = {"prefect.flow-run.Pending", "prefect.flow-run.Running"}
    automations = [
        on_silence(
            "firstwatch: go on after a crash",
            [RELEASES, MONITORS],
            after={"prefect.flow-run.Crashed"},
            expect=started | {"prefect.flow-run.Scheduled", f"prefect.flow-run.{RESTARTING}"},
            within=timedelta(seconds=10),
            action=ChangeFlowRunState(
                state=StateType.SCHEDULED, name=RESTARTING, message="Its process was killed; it goes on in a new one."
            ),
        ),
        on_silence(
            "firstwatch: a silent run has crashed",
            [RELEASES],
            after={HEARTBEAT, "prefect.flow-run.Running"},  # killed before its first one, too
            expect={HEARTBEAT, VOUCHED_FOR, RESTS} | TAKEN_UP | AT_REST | ENDED | ENDED_OURS,
            within=timedelta(seconds=DEAD_AFTER),
            action=ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name=RESTARTING,
                message=f"No heartbeat for {DEAD_AFTER:g} s; a new process goes on.",
            ),
        ),
        on_silence(
            "firstwatch: a run that never started has crashed",
            [RELEASES, MONITORS],
            after={"prefect.flow-run.Pending"},
            expect={"prefect.flow-run.Running", "prefect.flow-run.Crashed", HEARTBEAT, VOUCHED_FOR, RESTS}
            | ENDED
            | ENDED_OURS,
            within=timedelta(seconds=60),
            action=ChangeFlowRunState(state=StateType.CRASHED, message="Pending for 60 seconds without starting."),
        ),
    ]
    if monitors:  # each automation costs the server some of every event
        automations.append(
            on_silence(
                "firstwatch: a monitor's round has not ended",
                [MONITORS],
                after={"prefect.flow-run.Running"},
                expect=ENDED | ENDED_OURS,
                within=timedelta(seconds=longest_round + _AFTERWARDS),
                action=ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name=RESTARTING,
                    message="It had not ended when the longest round would have; a new process goes on.",
                ),
            )
        )
    return automations


async def ensure_work_pool(pool_type: str = PROCESS) -> None:
    """Create the work pool. Prefect cannot change the type of one that is there: that is said where it differs."""
    async with get_client() as client:
        try:
            await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type=pool_type))
            print(f"work pool {WORK_POOL!r} created, of type {pool_type}")
        except ObjectAlreadyExists:
            there = (await client.read_work_pool(WORK_POOL)).type
            print(f"work pool {WORK_POOL!r} is there, of type {there}")
            if there != pool_type:
                print(f"  for type {pool_type}: prefect work-pool delete {WORK_POOL}, then this command again")


async def ensure_monitors_queue() -> None:
    """Where a worker's room is limited (`prefect worker start --limit`, or the pool's), rounds wait behind releases."""
    async with get_client() as client:
        try:
            await client.create_work_queue(MONITORS_QUEUE, priority=2, work_pool_name=WORK_POOL)
            print(f"work queue {MONITORS_QUEUE!r} created: it comes after all others")
        except ObjectAlreadyExists:
            print(f"work queue {MONITORS_QUEUE!r} is there")


async def ensure_automations(services: Sequence[Service]) -> None:
    rounds = [service.synthetic.time for service in services if service.synthetic is not None]
    for wanted in restart_automations(max(rounds, default=60.0), monitors=bool(rounds)):
        try:
            existing = await Automation.aread(name=wanted.name)
        except ValueError:
            await wanted.acreate()
            print(f"automation {wanted.name!r} created")
            continue
        wanted.id = existing.id
        await wanted.aupdate()
        print(f"automation {wanted.name!r} brought up to date")


def deploy() -> None:
    """`prefect deploy --all`, from prefect.yaml in the current folder, shown. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], check=True)


async def watch_the_watcher(services: Sequence[Service], all_read: bool) -> None:
    """Have the server tell when a service's monitor falls silent."""
    async with get_client() as client:
        for line in await ensure_watchdogs(client, services, load_secret, time.time(), all_read=all_read):
            print(line)


def main(pool_type: str = PROCESS) -> None:
    """`pool_type`: `process`, or `firstwatch` for workers that run everything in their own process (tasks.worker)."""
    services, all_read = read_services()
    asyncio.run(ensure_work_pool(pool_type))
    asyncio.run(ensure_monitors_queue())
    deploy()
    asyncio.run(ensure_automations(services))
    asyncio.run(watch_the_watcher(services, all_read))


if __name__ == "__main__":
    main()
