"""From the first word to the last: what every flow that verifies a release has in common.

The steps find a verdict; then a proven failure is rolled back, people are told, the report is published, and the flow
run ends in the state that CI acts on. A verdict is written down before anything is done about it, so that a run that
is killed in between goes on with the same one.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from firstwatch.model import Verdict
from firstwatch.report import messages
from firstwatch.report.model import Decision, RollbackRecord, RollbackState
from firstwatch.report.summary import answer_sentence, rollback_sentence, why
from firstwatch.report.text import plain
from firstwatch.verdict import of_smoke
from tasks.ask import decide
from tasks.check import bad_version_is_gone
from tasks.hooks import RollbackOrder
from tasks.report import publish_report, publish_requests
from tasks.rollback import roll_back
from tasks.run import NotVerifiable, Reasons, Run, unharmed, window_ruling
from tasks.secrets import load_secret
from tasks.shared_alerts import share_smoke

Steps = Callable[[Run], Awaitable[tuple[Verdict, Reasons]]]

_LOST_ANSWER_PATIENCE = 30.0  # seconds for the old version to come back, where the rollback's answer was lost


async def verify(opening: AbstractAsyncContextManager[Run], steps: Steps) -> State[None]:
    """Open a run, take its steps, and conclude it. Only a healthy release ends in a Completed state, or one that a
    person (or, without one, the service file) lets through.

    What goes wrong on our side (a file, a secret, a defect) is never the release's fault: inconclusive.
    """
    try:
        async with opening as run:
            run.tell(messages.started(run.report()))
            await _find_verdict(run, steps)
            while await _goes_on(run):
                await _find_verdict(run, steps)
            await run.still_ours()
            state = await _act(run)
            run.tell(messages.verdict(run.report(state.name or "")))
            await run.told()
            async with unharmed("the monitors' alerts do not know of this smoke test"):
                await share_smoke(run)
            await _publish(run, state.name or "")
            return state
    except NotVerifiable as problem:
        get_run_logger().error("Nothing could be verified: %s", problem)
        return Failed(name="Inconclusive", message=plain(f"Nothing could be verified: {problem}", 3000))


async def _find_verdict(run: Run, steps: Steps) -> None:
    """The steps' verdict; or, after a restart, the one that was written down."""
    run.restore_smoke()
    kept = run.journal.get("verdict")
    if kept is not None and kept.get("round", 0) == run.rounds:
        run.found.verdict, run.found.reasons = Verdict(kept["verdict"]), tuple(kept["reasons"])
        return
    try:
        run.found.verdict, run.found.reasons = await steps(run)
    except Exception as problem:
        get_run_logger().error("The checker itself failed:\n%s", run.redactor.text(traceback.format_exc()))
        why = run.redactor.text(f"the checker itself failed: {type(problem).__name__}: {problem}")
        run.found.verdict, run.found.reasons = _proven(run) or (Verdict.INCONCLUSIVE, (why,))
    async with unharmed("the verdict was not written down"):
        await run.journal.finish("verdict", _verdict(run))


def _verdict(run: Run) -> dict[str, Any]:
    return {"verdict": run.found.verdict, "reasons": run.found.reasons, "round": run.rounds}


async def _goes_on(run: Run) -> bool:
    """Where nothing is proven: have somebody decide, as the service file says. True: the release is watched on, or a
    canary proceeds to its next step.

    Raises Pause while the answer is awaited. A question that cannot be asked is no answer: inconclusive.
    """
    policy = run.service.on_inconclusive
    if run.found.verdict is not Verdict.INCONCLUSIVE or run.dry_run or policy is None:
        return False
    if run.decision is not None:  # by an earlier process
        return False
    try:
        answer = await decide(run, policy)
    except Exception as problem:
        get_run_logger().error("Nobody could be asked:\n%s", run.redactor.text(traceback.format_exc()))
        run.found.notes.append(f"Nobody could be asked what to do ({type(problem).__name__}: {problem}).")
        return False
    if answer.decision is Decision.WATCH:
        run.watch_on()
    return answer.decision is Decision.WATCH or (answer.decision is Decision.PROCEED and run.part_way)


def _proven(run: Run) -> tuple[Verdict, Reasons] | None:
    """What had been proven against the release before the checker failed."""
    smoke = of_smoke(run.found.version_check, run.found.smoke)
    for verdict, reasons in (smoke, window_ruling(run), *(gate.said for gate in run.gates)):
        if verdict is Verdict.UNHEALTHY:
            return verdict, reasons
    return None


async def _act(run: Run) -> State[None]:
    """Do what the verdict asks for, and name the state that the flow run ends in."""
    because = plain(run.redactor.text(why(run.report())))
    match run.found.verdict:
        case Verdict.HEALTHY:
            return Completed(name="Healthy", message=because)
        case Verdict.UNHEALTHY if run.dry_run:
            return Failed(name="Unhealthy", message=f"Dry run, not rolled back: {because}")
        case Verdict.UNHEALTHY if run.service.rollback is None:
            return Failed(name="Unhealthy", message=f"Not rolled back, as the service file names no way to: {because}")
        case Verdict.UNHEALTHY:
            return await _roll_back(run, because)
        case _:
            return await _as_decided(run, because)


async def _as_decided(run: Run, because: str) -> State[None]:
    """Nothing is proven: what was decided is done. Only a decision to proceed ends in a Completed state; where a canary
    could not (its promotion failed), it does not."""
    answer = run.decision
    match answer and answer.decision:
        case Decision.PROCEED if not run.part_way:
            return Completed(name="Proceeded", message=_decided(run, because))
        case Decision.ROLL_BACK:
            return await _roll_back(run, _decided(run, because))
        case _:
            return Failed(name="Inconclusive", message=_decided(run, because))


def _decided(run: Run, because: str) -> str:
    """`ann: proceed. The traffic is low at night. (error rate: …)`"""
    return plain(run.redactor.text(f"{answer_sentence(run.decision)} ({because})"), 600) if run.decision else because


async def _roll_back(run: Run, because: str) -> State[None]:
    """Roll back, once per release, and see whether it worked where the file asks for that (or the answer was lost)."""
    hook = run.service.rollback
    assert hook is not None
    order = RollbackOrder(
        run.release,
        (*run.found.reasons, *map(answer_sentence, run.found.answers)),
        hook,
        run.flow_run.id,
        run.flow_run_url,
        run_count=run.flow_run.run_count,
        redact=run.redactor.text,
    )
    record, gone = await _rolled_back(run, order, hook.confirm)
    if record.state is RollbackState.UNKNOWN and not gone and hook.idempotent:
        record, gone = await _rolled_back(run, replace(order, again=True), hook.confirm)
    if record.state is RollbackState.ACCEPTED and gone is not False:
        return Failed(name="RolledBack", message=because)
    if record.state is RollbackState.UNKNOWN and gone:
        return Failed(name="RolledBack", message=f"{because} (its answer was lost; the old version is back)")
    told = rollback_sentence(record) if gone is not False else "The bad version still answers."
    return Failed(name="RollbackFailed", message=f"{told} {because}")


async def _rolled_back(run: Run, order: RollbackOrder, confirm: float) -> tuple[RollbackRecord, bool | None]:
    """How the rollback stands when it has been sent, or need not be; and whether the bad version is gone."""
    record = run.found.rollback = await roll_back(order, run.client, load_secret, run.clock)
    run.tell(messages.rollback(run.report()))
    return record, await _confirmed(run, record, confirm)


async def _confirmed(run: Run, record: RollbackRecord, patience: float) -> bool | None:
    """Is the bad version gone? None where nobody asked, or where the service does not tell its version."""
    if record.state is RollbackState.UNKNOWN:
        patience = max(patience, _LOST_ANSWER_PATIENCE)
    smoke = run.service.smoke
    if record.state is RollbackState.FAILED or not patience or smoke is None or smoke.version is None:
        return None
    gone = await bad_version_is_gone(run.transport, smoke.version, run.release.version, patience)
    run.found.notes.append(f"After the rollback, {run.release.version} {'is gone' if gone else 'still answers'}.")
    return gone


async def _publish(run: Run, state: str) -> None:
    """The report and the requests, for people; nothing that fails here changes what was found."""
    async with unharmed("the report is not complete"):
        if run.window is not None:
            await run.window.remeasure()
        await asyncio.gather(
            publish_report(run.report(state), run.redactor),
            publish_requests(run.requests, run.release, run.redactor),
        )
        await run.journal.finish("ended", state)
