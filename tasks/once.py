"""One round by hand, or in CI: `python -m flows.synthetic --service shop --once`. The same looks as in a flow run,
without a Prefect server: nothing is remembered, and nobody is told."""

from __future__ import annotations

import asyncio
import io
import logging
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import App, CycloptsError, Parameter

from firstwatch.monitor import Health, Probe
from firstwatch.report.incident import MARKS
from firstwatch.report.junit import junit_xml
from firstwatch.report.round import sentence
from firstwatch.report.text import plain, show_value
from firstwatch.rounds import schedule_name
from tasks.looks import Look, Plainly
from tasks.opening_monitor import open_once
from tasks.run import NotVerifiable

FINE, NOT_FINE, USED_WRONGLY = 0, 1, 2
_INSISTS = 0.3  # seconds between two cancellations

T = TypeVar("T")

app = App(
    name="python -m flows.synthetic",
    help_format="plaintext",
    default_parameter=Parameter(show_default=False, negative=()),
)


@app.default
def once(
    *,
    service: Annotated[str, Parameter(help="A file in services/, without .yaml, or a path to one.")],
    once: Annotated[bool, Parameter(help="Take one round now. Without it, rounds are Prefect's to start.")] = False,
    location: Annotated[str, Parameter(help="Where this runs, as the file names its locations.")] = "",
    junit: Annotated[Path | None, Parameter(help="Write the round to this file, as JUnit XML.")] = None,
    verbose: Annotated[bool, Parameter(help="Show every request.")] = False,
) -> int:
    """Take one round of a service's checks, without a Prefect server.

    Exits 0 if every check is up, 1 if one is not (down, or it could not be
    judged), 2 if the service file is wrong or the words are, 130 on Ctrl-C.
    Whether a check has become slow, a single round cannot say.

    In CI, after a deploy; and with a report that the CI server reads:

        python -m flows.synthetic --service shop --once

        python -m flows.synthetic --service shop --once --junit monitor.xml
    """
    if not once:
        print("Say --once. Rounds on a schedule are deployments: firstwatch setup", file=sys.stderr)
        return USED_WRONGLY
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        if junit is not None:
            with junit.open("a"):  # before the round: what was found would be lost
                pass
        code, xml = asyncio.run(_interruptible(_round(service, location)))
        if junit is not None:
            junit.write_text(xml, encoding="utf-8")
        return code
    except NotVerifiable as problem:
        print(f"firstwatch: {problem}", file=sys.stderr)
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        print(f"firstwatch: {place}{problem.strerror or problem}", file=sys.stderr)
    return USED_WRONGLY


class _Telling(Plainly):
    """Tells of each check when it has ended, in that order. `told` is how each was by its probe alone."""

    def __init__(self) -> None:
        self.told: dict[str, Health] = {}

    async def check(self, look: Look) -> Probe:
        probe = await super().check(look)
        self.told[probe.check] = probe.health
        _tell(probe.check, probe.health, probe.elapsed, probe.warning or probe.why)
        return probe


def _tell(check: str, health: Health, elapsed: float | None, why: str) -> None:
    time_taken = show_value(elapsed, "seconds")
    said = plain(f"{check} ({time_taken}) {why}".rstrip(), 1000)
    print(f"{MARKS[health]} {health:8} {said}", flush=True)


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """The work, until Ctrl-C. It is cancelled again and again then: a connection that is just being made swallows that.

    Raises KeyboardInterrupt.
    """
    loop, task, asked = asyncio.get_running_loop(), asyncio.ensure_future(work), asyncio.Event()

    def cancel() -> None:
        asked.set()
        task.cancel()
        loop.call_later(_INSISTS, cancel)

    loop.add_signal_handler(signal.SIGINT, cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if asked.is_set():
            raise KeyboardInterrupt from None
        raise


async def _round(service: str, location: str) -> tuple[int, str]:
    """The exit code, and the round as JUnit XML."""
    async with open_once(service, location, logging.getLogger("firstwatch.requests")) as monitor:
        started, telling = time.monotonic(), _Telling()
        monitor.runner = telling
        await monitor.look()
        await monitor.remember()
        took = time.monotonic() - started
        probes = {probe.check: probe for probe in monitor.probes}
        seen = [each for each in monitor.seen if each.check != schedule_name(location)]
        for each in seen:
            if telling.told[each.check] is not each.health:  # this place has no vote
                _tell(each.check, each.health, probes[each.check].elapsed, each.why)
        for check in monitor.left_out:
            print(plain(f"⚪ left out {check}: it is compared with earlier rounds, and nothing remembers those here"))
        print(plain(monitor.redactor.text(sentence(seen)), 300))
        xml = junit_xml(monitor.service.service, monitor.probes, seen, monitor.left_out, monitor.started, took)
        fine = bool(seen) and all(each.health is Health.UP for each in seen)
        return FINE if fine else NOT_FINE, monitor.redactor.text(xml)


def main() -> int:
    """Runs what the words ask for and returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a CI machine's letters may be few
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        command, bound, _ = app.parse_args(exit_on_error=False, print_error=True)
    except CycloptsError:
        return USED_WRONGLY
    try:
        code = command(*bound.args, **bound.kwargs)
    except KeyboardInterrupt:
        return 130
    return code if isinstance(code, int) else FINE
