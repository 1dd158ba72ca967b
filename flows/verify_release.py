"""Is the release that we just shipped really all right? Smoke, observation window, verdict, rollback: one flow run.

    prefect deployment run verify-release/production -p service=shop -p version=$SHA --watch

exits 0 for a healthy release only.
"""

from __future__ import annotations

from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from firstwatch.model import Verdict
from flows.conclude import verify
from flows.observe import observation_window
from flows.smoke import smoke_suite
from tasks.opening import open_run
from tasks.run import Reasons, Run
from tasks.silence import WHEN_IT_ENDS


@flow(name="verify-release", flow_run_name="{service} {version}", persist_result=False, **WHEN_IT_ENDS)
async def verify_release(
    service: str, version: str, deployed_at: datetime | None = None, dry_run: bool = False
) -> State[None]:
    """Verify a release: smoke test, observation window, verdict. A proven failure rolls it back.

    Args:
        service: a file in services/, without .yaml.
        version: the version that was deployed.
        deployed_at: when it was deployed; left out, now.
        dry_run: judge and report; no rollback.
    """
    return await verify(open_run(service, version, deployed_at, dry_run, observes=True), smoke_then_window)


async def smoke_then_window(run: Run) -> tuple[Verdict, Reasons]:
    """A failed smoke test ends it at once; what passes is watched."""
    verdict, reasons = await smoke_suite(run)
    if verdict is not Verdict.HEALTHY:
        return verdict, reasons
    return await observation_window(run)
