"""Synthetic monitoring: one round of a service's checks, on a cron schedule, day and night.

    prefect deployment run synthetic/production -p service=shop
    prefect deployment run synthetic/production --params '{"service": ["shop", "cart"]}'
    python -m flows.synthetic --service shop --once

Every check and every step of a journey is a task run; in a run that takes the rounds of several services, each round
is one, and each check that does not pass at once. What is found is remembered, joined with what other locations have
found, and told to Slack when it is time to.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from firstwatch.report.text import plain
from firstwatch.schedule import begins_after
from firstwatch.spec import Service
from tasks.afterwards import broken_off, ended, ended_together, publish, say_alive, tell, unknown
from tasks.opening_monitor import Overlapping, Shift, as_task_run, monitored_each, open_monitor, open_shift
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
                states |= await (_all(services, shift) if shift.several else _alone(services[0], shift))
        return ended_together(states)
    except Overlapping as problem:
        return Cancelled(name="Overlapped", message=plain(str(problem)))
    except NotVerifiable as problem:
        return unknown(problem)
    except Exception as bug:
        return broken_off(bug)


async def _alone(service: Service, shift: Shift) -> dict[str, State[None]]:
    return {service.service: await _round(service, shift)}


async def _all(services: Sequence[Service], shift: Shift) -> dict[str, State[None]]:
    """The rounds of several services, each a task run of its name."""

    async def later(after: float, service: Service) -> State[None]:
        await asyncio.sleep(after)
        return await as_task_run(_round, service, shift)

    ends = await asyncio.gather(*(later(begins_after(n), each) for n, each in enumerate(services)))
    return {each.service: end for each, end in zip(services, ends, strict=True)}


async def _round(service: Service, shift: Shift) -> State[None]:
    """A round of one of the services. Whatever becomes of it, the others go their way."""
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
