"""The canary: its metrics must hold before it gets more traffic. Below 99 % three times in a row: rolled back.

    prefect deployment run canary/production -p service=shop -p version=$SHA -p stable=$OLD --watch

Without `canary.steps` it gates once, for CI to act on the exit code. With them, the deploy has put the canary on the
first step; a gate that holds promotes it to the next one, the last one to all of the traffic. So does the decision to
proceed where a gate proves nothing (on_inconclusive); then the next step's gate has its own say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from firstwatch.model import Verdict
from firstwatch.report import messages
from firstwatch.report.model import Answer, Decision, RollbackState
from firstwatch.report.summary import answer_sentence
from firstwatch.spec.canary import ALL
from flows.conclude import verify
from tasks.gate import GateRun
from tasks.hooks import PromoteOrder
from tasks.opening import open_gate, open_run
from tasks.promote import promote
from tasks.run import Reasons, Run, promotion_step
from tasks.secrets import load_secret
from tasks.silence import WHEN_IT_ENDS


@flow(name="canary", flow_run_name="canary {service} {version}", persist_result=False, **WHEN_IT_ENDS)
async def canary(
    service: str,
    version: str,
    stable: str = "",
    args: dict[str, str] | None = None,
    deployed_at: datetime | None = None,
    dry_run: bool = False,
) -> State[None]:
    """Gate a canary on its metrics, step by step.

    Args:
        service: a file in services/, without .yaml.
        version: the canary's version.
        stable: the version that it is compared with; what {{args.stable}} stands for.
        args: what {{args.NAME}} stands for in the file's queries, beyond service, version and stable.
        deployed_at: when the canary was deployed; left out, now.
        dry_run: judge and report; no promotion, no rollback.
    """
    gate_args = {**({"stable": stable} if stable else {}), **(args or {})}
    return await verify(open_run(service, version, deployed_at, dry_run, gate_args=gate_args), gates)


async def gates(run: Run) -> tuple[Verdict, Reasons]:
    """Gate after gate, and a promotion between two, until one does not hold or the canary has all traffic."""
    assert run.service.canary is not None
    steps: Sequence[int | None] = run.service.canary.steps or [None]
    numbers = itertools.count(1)
    for weight, after in zip(steps, [*steps[1:], None], strict=True):
        gate = await _hold(run, numbers, weight)
        verdict, reasons = gate.said
        goes_on = verdict is Verdict.HEALTHY or _decided(run, gate, Decision.PROCEED)
        if not goes_on or weight is None or weight == ALL:
            return verdict, reasons
        if run.dry_run:
            run.found.notes.append(f"Dry run: the gate at {weight} % holds; not promoted.")
            return verdict, reasons
        if failed := await _promote(run, gate, weight, after or ALL):
            return Verdict.INCONCLUSIVE, (failed, *reasons)
    return verdict, reasons


async def _hold(run: Run, numbers: Iterator[int], weight: int | None) -> GateRun:
    """Measure until the verdict of the step's gate is certain; and all over, where people have since asked for that."""
    while True:
        gate = await open_gate(run, next(numbers), weight)
        while (due := gate.gate.due) is not None:
            await gate.wait(due)
            await run.still_ours()
            await gate.measure(due)
        if not _decided(run, gate, Decision.WATCH):
            return gate


def _decided(run: Run, gate: GateRun, decision: Decision) -> Answer | None:
    """The answer to a gate that had proven nothing (the first one that was given after it), if it was this one."""
    ruling = gate.gate.ruling
    if ruling.verdict is not Verdict.INCONCLUSIVE:
        return None
    answer = next((a for a in run.found.answers if a.at > ruling.decided_at), None)
    return answer if answer is not None and answer.decision is decision else None


async def _promote(run: Run, gate: GateRun, weight: int, after: int) -> str:
    """Give the canary its next share, once. Empty, or why it has not provably got it."""
    hook = run.service.canary.promote if run.service.canary else None
    assert hook is not None
    step = promotion_step(after)
    answer = _decided(run, gate, Decision.PROCEED)
    because = run.redactor.text(answer_sentence(answer)) if answer else f"Its gate at {weight} % holds."
    if (kept := run.journal.get(step)) is not None:
        gate.restore_promotion(kept)
        return ""
    evidence = (because, *(f"{r.check}: {r.why}" for r in gate.gate.ruling.reasons))
    order = PromoteOrder(
        run.release,
        evidence,
        hook,
        run.flow_run.id,
        run.flow_run_url,
        run_count=run.flow_run.run_count,
        redact=run.redactor.text,
        held_at=weight,
        weight=after,
    )
    gate.promoted = await promote(order, run.client, load_secret, run.clock)
    run.tell(messages.promoted(run.report(), gate.record(), after, because))
    if gate.promoted.state is RollbackState.ACCEPTED:
        await run.journal.finish(step, gate.promoted)
        return ""
    said = gate.promoted.attempts[-1].answer if gate.promoted.attempts else "never sent"
    return f"the promotion from {weight} % to {after} % is {gate.promoted.state}: {said}"
