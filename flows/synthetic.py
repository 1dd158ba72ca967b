"""Synthetic monitoring: one round of a service's checks, on a cron schedule, day and night.

    prefect deployment run synthetic/production -p service=shop
    prefect deployment run synthetic/production --params '{"service": ["shop", "cart"]}'
    python -m flows.synthetic --service shop --once

Every check and every step of a journey is a task run. What is found is remembered, joined with what other locations
have found, and told to Slack when it is time to. A run that takes the rounds of several services costs little more than
one of one.
"""

from __future__ import annotations

import asyncio
import sys

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from firstwatch.report.text import plain
from firstwatch.schedule import begins_after
from firstwatch.spec import Service
from tasks.afterwards import broken_off, ended, ended_together, publish, say_alive, tell, unknown
from tasks.opening_monitor import Overlapping, Shift, monitored_each, open_monitor, open_shift
from tasks.run import NotVerifiable


def _name() -> str:
    """`synthetic shop eu`, `synthetic shop and 9 more`"""
    given = runtime.flow_run.parameters
    services = _listed(given["service"])
    more = f"and {len(services) - 1} more" if len(services) > 1 else ""
    return " ".join(word for word in ("synthetic", *services[:1], more, given.get("location", "")) if word)


@flow(name="synthetic", flow_run_name=_name, persist_result=False)
async def synthetic(service: str | list[str], location: str = "") -> State[None]:
    """Take one round of a service's monitor, or of those of several services, a few at a time.

    Args:
        service: a file in services/, without .yaml; or a list of them.
        location: where this runs, as the file's synthetic.locations names it; left out where it names none.
    """
    try:
        services, unreadable = monitored_each(_listed(service), location)
        states = {name: unknown(problem) for name, problem in unreadable.items()}
        if services:
            async with open_shift(services, location) as shift:
                rounds = (_round(each, shift, begins_after(n)) for n, each in enumerate(services))
                ends = await asyncio.gather(*rounds)
                states |= {each.service: end for each, end in zip(services, ends, strict=True)}
        return ended_together(states)
    except Overlapping as problem:
        return Cancelled(name="Overlapped", message=plain(str(problem)))
    except NotVerifiable as problem:
        return unknown(problem)
    except Exception as bug:
        return broken_off(bug)


async def _round(service: Service, shift: Shift, after: float) -> State[None]:
    """A round of one of the services, after so many seconds. Whatever becomes of it, the others go their way."""
    await asyncio.sleep(after)
    try:
        async with open_monitor(service, shift) as monitor:
            try:
                await monitor.look()
                await monitor.remember()
                await monitor.judge()
            finally:  # what earlier rounds have left to be told does not wait for our own faults
                await tell(monitor)
            await publish(monitor)
            await say_alive(monitor)
            return ended(monitor)
    except NotVerifiable as problem:
        return unknown(problem)
    except Exception as bug:
        return broken_off(bug)


def _listed(service: str | list[str]) -> list[str]:
    return [service] if isinstance(service, str) else list(dict.fromkeys(service))


if __name__ == "__main__":
    from tasks.once import main

    sys.exit(main())
