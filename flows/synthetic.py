"""Synthetic monitoring: one round of a service's checks, on a cron schedule, day and night.

    prefect deployment run synthetic/production -p service=shop
    python -m flows.synthetic --service shop --once

Every check and every step of a journey is a task run. What is found is remembered, joined with what other locations
have found, and told to Slack when it is time to.
"""

from __future__ import annotations

import sys

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from firstwatch.report.text import plain
from tasks.afterwards import broken_off, ended, publish, say_alive, tell
from tasks.opening_monitor import Overlapping, open_monitor
from tasks.run import NotVerifiable


def _name() -> str:
    """`synthetic shop eu`"""
    given = runtime.flow_run.parameters
    return f"synthetic {given['service']} {given.get('location', '')}".strip()


@flow(name="synthetic", flow_run_name=_name, persist_result=False)
async def synthetic(service: str, location: str = "") -> State[None]:
    """Take one round of a service's monitor.

    Args:
        service: a file in services/, without .yaml.
        location: where this runs, as the file's synthetic.locations names it; left out where it names none.
    """
    try:
        async with open_monitor(service, location) as monitor:
            try:
                await monitor.look()
                await monitor.remember()
                await monitor.judge()
            finally:  # what earlier rounds have left to be told does not wait for our own faults
                await tell(monitor)
            await publish(monitor)
            await say_alive(monitor)
            return ended(monitor)
    except Overlapping as problem:
        return Cancelled(name="Overlapped", message=plain(str(problem)))
    except NotVerifiable as problem:
        return Failed(name="Unknown", message=plain(f"Nothing could be monitored: {problem}", 3000))
    except Exception as bug:
        return broken_off(bug)


if __name__ == "__main__":
    from tasks.once import main

    sys.exit(main())
