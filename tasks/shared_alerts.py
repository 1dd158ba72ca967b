"""What a release's smoke test finds counts for the alerts of the monitors too: one state, whoever has looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from firstwatch import alerting
from firstwatch.alerting import outbox
from firstwatch.model import CheckResult, Outcome
from firstwatch.monitor import Health, Seen
from firstwatch.report.told import read_book, written
from firstwatch.spec import Service
from firstwatch.spec.monitored import needs_of
from tasks import store
from tasks.deliver import deliver_outbox
from tasks.run import Run
from tasks.secrets import load_secret

_HEALTH = {Outcome.PASS: Health.UP, Outcome.FAIL: Health.DOWN}  # anything else is no vote


async def share_smoke(run: Run) -> None:
    """Count each smoke check that is monitored too as one more result of it, once a release, and tell what follows.

    Where several locations vote, one more place has no say. Raises what the Prefect server does.
    """
    service, seen = run.service, shared(run.service, run.found.smoke)
    if not seen:
        return
    now, key = run.clock(), f"smoke {run.release.id}"

    def counted(kept: Any) -> Any:
        book = read_book(kept, service.service)
        state, notices = alerting.step(book.state, service.alerts, key, seen, needs_of(service), now, partial=True)
        return written(kept, replace(book, state=state, outbox=outbox.add(book.outbox, notices)))

    await store.change(run.client, store.alerts_key(service.service), counted)
    owner = f"{run.flow_run.id}/{run.flow_run.run_count}"
    await deliver_outbox(run.client, service, run.redactor, load_secret, owner=owner, clock=run.clock, store=store)


def shared(service: Service, smoke: Sequence[CheckResult]) -> list[Seen]:
    """The results as the alerts take them; none where the service's monitor does not take the smoke checks."""
    synthetic = service.synthetic
    if synthetic is None or not synthetic.smoke or (synthetic.locations and len(synthetic.locations.names) > 1):
        return []
    return [
        Seen(check.name, _HEALTH.get(check.outcome, Health.UNKNOWN), check.why, check.attempts[-1].at)
        for check in smoke
        if check.attempts
    ]
