"""Send an order at most once, however often a process dies on the way.

The order is claimed by a Prefect variable, which the server creates for one caller only. Its state says what may be
done next; `sent` is written right before the first byte leaves:

    failed    nothing was sent yet, or the hook provably did not take it: the run that owns the claim may send.
    sent      an answer is awaited. Found after a crash, nobody knows whether the hook got it: it is not sent again.
    accepted  done; later callers get this record.
    unknown   sent, and the answer never came: not sent again. People are told.

Only an order that `may_be_repeated` is sent in any state but accepted.
The variable stays, as the record: to allow another rollback of the same release, a person deletes it in the UI.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import ObjectAlreadyExists
from prefect.tasks import Task, exponential_backoff

from firstwatch.model import Release, as_json
from firstwatch.report.model import RollbackAttempt, RollbackRecord, RollbackState
from firstwatch.report.text import plain
from tasks.busy import patiently
from tasks.counts import ORDERS
from tasks.hooks import ADAPTERS, ANSWER_CHARS, LoadSecret, NotDelivered, Order, Unclear, rollback_key

_ATTEMPTS = 8  # that are kept; Prefect holds at most 5,000 characters in a variable
_WAIT_FOR_OWNER = 60.0  # seconds that another run's order of the same kind may take before we stop waiting


def _variable(key: str) -> str:
    return f"firstwatch-{key}"


async def rollback_is_claimed(client: PrefectClient, release: Release) -> bool:
    """Has any run begun to roll this release back?"""
    name = _variable(rollback_key(release))
    return await patiently(client, lambda: client.read_variable_by_name(name)) is not None


@dataclass
class Claim:
    """The server's record of an order. Every change is written before it is acted on."""

    client: PrefectClient
    owner: str
    record: RollbackRecord
    release_id: str
    _name: str = field(default="")

    @classmethod
    async def read(cls, client: PrefectClient, order: Order) -> Claim | None:
        name = _variable(order.idempotency_key)
        variable = await patiently(client, lambda: client.read_variable_by_name(name))
        if variable is None:
            return None
        value: Any = variable.value
        attempts = tuple(RollbackAttempt(**a) for a in value["record"]["attempts"])
        record = RollbackRecord(
            **{**value["record"], "state": RollbackState(value["record"]["state"]), "attempts": attempts}
        )
        return cls(client, value["owner"], record, order.release.id, name)

    @classmethod
    async def take(cls, client: PrefectClient, order: Order) -> tuple[Claim, bool]:
        """The order's claim, and whether this caller may send."""
        record = RollbackRecord(order.adapter, RollbackState.FAILED, order.idempotency_key)
        claim = cls(client, str(order.owner), record, order.release.id, _variable(order.idempotency_key))
        try:
            variable = VariableCreate(name=claim._name, value=claim._value(), tags=["firstwatch"])
            await patiently(client, lambda: client.create_variable(variable))
        except ObjectAlreadyExists:
            standing = await cls.read(client, order)
            if standing is None:  # deleted by a person in this very moment: start over
                return await cls.take(client, order)
            claim = standing
        if claim.owner != str(order.owner) or await _superseded(client, order):
            return claim, False
        if order.may_be_repeated:
            return claim, claim.record.state is not RollbackState.ACCEPTED
        return claim, claim.record.state is RollbackState.FAILED

    async def attempt(self, now: float) -> None:
        """One more try begins: its first byte leaves when the server has this."""
        attempts = (*self.record.attempts, RollbackAttempt(now, "sent, no answer yet"))[-_ATTEMPTS:]
        await self._write(dataclasses.replace(self.record, state=RollbackState.SENT, attempts=attempts))

    async def refuse(self, now: float, why: str) -> None:
        """It must not be sent, and so was not."""
        attempts = (*self.record.attempts, RollbackAttempt(now, plain(why, ANSWER_CHARS)))[-_ATTEMPTS:]
        await self._write(dataclasses.replace(self.record, state=RollbackState.FAILED, attempts=attempts))

    async def settle(self, state: RollbackState, answer: str) -> None:
        """The last try ended so. `answer` is redacted already."""
        last = dataclasses.replace(self.record.attempts[-1], answer=plain(answer, ANSWER_CHARS))
        await self._write(dataclasses.replace(self.record, state=state, attempts=(*self.record.attempts[:-1], last)))

    async def _write(self, record: RollbackRecord) -> None:
        self.record = record
        variable = VariableUpdate(name=self._name, value=self._value())
        await patiently(self.client, lambda: self.client.update_variable(variable))

    def _value(self) -> dict[str, Any]:
        value: dict[str, Any] = as_json({"release_id": self.release_id, "owner": self.owner, "record": self.record})
        return value


async def _superseded(client: PrefectClient, order: Order) -> bool:
    """Has the flow run been picked up by another process, because ours was taken for dead?"""
    if not order.run_count:
        return False
    return (await patiently(client, lambda: client.read_flow_run(order.owner))).run_count != order.run_count


# ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────


async def carry_out(
    send: Task[..., Any], order: Order, client: PrefectClient, load_secret: LoadSecret, clock: Callable[[], float]
) -> RollbackRecord:
    """Have the task `send` send the order, with the file's retries; how it stands then comes back.

    Never raises for what the hook does, or Prefect's server.
    """
    task = send.with_options(
        retries=order.hook.retries, retry_delay_seconds=exponential_backoff(2), retry_jitter_factor=0.5
    )
    task_run: Any = task(order, client, load_secret, clock, return_state=True)
    await task_run
    try:
        claim = await Claim.read(client, order)
    except Exception as problem:  # what was sent before the server went away cannot be told
        why = f"Prefect's server could not be asked how it stands ({type(problem).__name__})"
        attempt = RollbackAttempt(clock(), why)
        return RollbackRecord(order.adapter, RollbackState.UNKNOWN, order.idempotency_key, (attempt,))
    if claim is None:  # it could never be claimed, and so was never sent
        return RollbackRecord(order.adapter, RollbackState.FAILED, order.idempotency_key)
    return claim.record


async def worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whatever went wrong: the claim says whether it may be sent again."""
    problem = await state.aresult(raise_on_failure=False)
    return not isinstance(problem, NotDelivered) or problem.transient


async def send_once(
    order: Order,
    client: PrefectClient,
    load_secret: LoadSecret,
    clock: Callable[[], float],
    forbidden: Callable[[], Awaitable[str]] | None = None,
) -> RollbackRecord:
    """Send the order, unless its claim says that it has been. Returns the record as it stands then.

    `forbidden` is asked last of all: where it gives a reason, nothing is sent. Raises NotDelivered when the hook
    provably did not take the order; Prefect then tries again.
    """
    logger = get_run_logger()
    claim, may_send = await Claim.take(client, order)
    if not may_send:
        logger.warning("%s of %s not sent: it is %s already", order.what, order.release.id, claim.record.state)
        if claim.owner != str(order.owner) or await _superseded(client, order):
            return await _await_owner(client, order, clock)
        if claim.record.state is RollbackState.SENT:  # our own process died while it waited for the answer
            why = "the process was killed before the answer came"
            await _settle(claim, order, RollbackState.UNKNOWN, why)
        return claim.record
    send = await ADAPTERS[order.adapter](order, load_secret)
    if forbidden is not None and (why := await forbidden()):
        await claim.refuse(clock(), why)
        raise NotDelivered(why, transient=False)
    logger.info("%s of %s by %s", order.what, order.release.id, order.adapter)
    await claim.attempt(clock())
    try:
        answer = order.redact(await send())
    except NotDelivered as problem:
        why = order.redact(str(problem))
        await _settle(claim, order, RollbackState.FAILED, why)
        raise NotDelivered(why, problem.transient) from None
    except Unclear as problem:
        await _settle(claim, order, RollbackState.UNKNOWN, order.redact(str(problem)))
        return claim.record
    await _settle(claim, order, RollbackState.ACCEPTED, answer)
    logger.info("%s accepted: %s", order.what, answer)
    return claim.record


async def _settle(claim: Claim, order: Order, state: RollbackState, answer: str) -> None:
    await claim.settle(state, answer)
    ORDERS.labels(order.what, state.value).inc()


async def _await_owner(client: PrefectClient, order: Order, clock: Callable[[], float]) -> RollbackRecord:
    """Another run has claimed the same order: wait for how that ends, within reason."""
    until = clock() + _WAIT_FOR_OWNER
    while (claim := await Claim.read(client, order)) is not None:
        if claim.record.state in (RollbackState.ACCEPTED, RollbackState.UNKNOWN) or clock() >= until:
            return claim.record
        await asyncio.sleep(1)
    raise NotDelivered("the claim on this order was deleted while another run held it", transient=False)
