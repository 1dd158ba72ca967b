"""Give the canary its next share of the traffic: at most once per step and release, and never after a rollback."""

from __future__ import annotations

from collections.abc import Callable

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient

from firstwatch.report.model import RollbackRecord
from tasks.claim import carry_out, rollback_is_claimed, send_once, worth_another_try
from tasks.hooks import LoadSecret, PromoteOrder


async def promote(
    order: PromoteOrder, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Promote as the task run `promote to 25 %`, with the file's retries; how it stands then comes back.

    Only `accepted` is a promotion. After `unknown` (sent, and nobody knows whether it arrived) nothing may be built on
    it. Never raises for what the hook does, or Prefect's server.
    """
    return await carry_out(send_promote, order, client, load_secret, clock)


@task(
    name="promote",
    task_run_name="promote to {order.weight:g} %",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=worth_another_try,
)
async def send_promote(
    order: PromoteOrder, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Send the promotion, unless its claim says that it has been, or the release is being rolled back.

    Raises NotDelivered when the hook provably did not take it; Prefect then tries again.
    """

    async def forbidden() -> str:
        claimed = await rollback_is_claimed(client, order.release)
        return f"{order.release.id} has been rolled back, or is about to be" if claimed else ""

    return await send_once(order, client, load_secret, clock, forbidden)
