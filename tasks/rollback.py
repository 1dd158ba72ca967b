"""Bring the old version back: at most once per release (tasks/claim.py says how)."""

from __future__ import annotations

from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient

from firstwatch.report.model import RollbackRecord
from tasks.claim import carry_out, send_once, worth_another_try
from tasks.hooks import LoadSecret, RollbackOrder


async def roll_back(
    order: RollbackOrder, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Roll the release back as the task run `rollback`, with the file's retries; how it stands then comes back.

    Never raises for what the hook does, or Prefect's server.
    """
    return await carry_out(send_rollback, order, client, load_secret, clock)


@task(
    name="rollback",
    task_run_name="{order.title}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=worth_another_try,
)
async def send_rollback(
    order: RollbackOrder, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Send the rollback, unless the release's claim says that it has been. Returns the record as it stands then.

    Raises NotDelivered when the hook provably did not take it; Prefect then tries again.
    """
    return await send_once(order, client, load_secret, clock)
