"""Smoke: right after a deploy, the critical path only, in under two minutes.

    prefect deployment run smoke/production -p service=shop -p version=$SHA --watch

The new version must be the one that answers; then all checks run side by side. A failure that a retry confirms rolls
the release back.
"""

from __future__ import annotations

from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from firstwatch import verdict
from firstwatch.model import Verdict
from firstwatch.report import messages
from flows.conclude import verify
from tasks.check import Suite, check_version, run_checks
from tasks.opening import open_run
from tasks.run import Reasons, Run
from tasks.silence import WHEN_IT_ENDS


@flow(name="smoke", flow_run_name="smoke {service} {version}", persist_result=False, **WHEN_IT_ENDS)
async def smoke(
    service: str, version: str = "", deployed_at: datetime | None = None, dry_run: bool = False
) -> State[None]:
    """Smoke-test a release.

    Args:
        service: a file in services/, without .yaml.
        version: the version that was deployed; left out, whichever version answers is tested, and nothing rolled back.
        deployed_at: when it was deployed; left out, now.
        dry_run: judge and report; no rollback.
    """
    return await verify(open_run(service, version, deployed_at, dry_run or not version), smoke_suite)


async def smoke_suite(run: Run) -> tuple[Verdict, Reasons]:
    """The version check, then all checks side by side, within the suite's budget."""
    if run.found.version_check is None and not run.found.smoke:  # what an earlier process found has been restored
        await _run_checks(run)
    result, reasons = verdict.of_smoke(run.found.version_check, run.found.smoke)
    if result is not Verdict.HEALTHY:
        run.tell(messages.smoke_failed(run.report()))
    return result, reasons


async def _run_checks(run: Run) -> None:
    suite_spec = run.service.smoke
    if suite_spec is None:
        return
    suite = Suite(run.transport, suite_spec.budget, suite_spec.checks, run.clock)
    if suite_spec.version is not None and run.release.version:
        run.found.version_check = await check_version(suite, suite_spec.version, run.release.version)
    if not suite.other_version:  # checks on another version would say nothing of this release
        run.found.smoke = await run_checks(suite)
    run.found.smoke_took = suite.took
    await run.journal.finish(
        "smoke",
        {
            "version": run.found.version_check,
            "checks": run.found.smoke,
            "took": suite.took,
            "requests": run.requests,
            "round": run.rounds,
        },
    )
