"""Whose turn it is to take a monitor's round: of two runs at once, only one looks.

A turn ends by itself, or with its run, so that a dead run blocks nobody for long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from tasks import store

TURN = 20.0  # seconds that a turn lasts; whoever has it renews it in time, so that a dead run blocks nobody for long


class Turn(NamedTuple):
    """Whether it is ours, and how many rounds of the monitor have been cancelled so far, as it was another's."""

    ours: bool
    overlapped: int


async def take_turn(client: PrefectClient, key: str, run: str, now: float) -> Turn:
    """Be the only run of a monitor for TURN seconds, if no other one is. A run that has ended is none, whether it has
    given its turn back or not.

    A turn that lasts longer than any can is of a clock that is ahead: nobody waits for it.
    """

    def taken(kept: Any, ended: str = "") -> Any:
        turn = _turn(kept)
        if turn["run"] not in ("", run, ended) and now < turn["until"] <= now + 2 * TURN:
            return kept
        return {**turn, "run": run, "until": now + TURN}

    def taken_from(ended: str) -> store.Change:
        def change(kept: Any) -> Any:
            turn = taken(kept, ended)
            return turn if turn["run"] == run else {**turn, "overlapped": turn["overlapped"] + 1}

        return change

    turn = await store.change(client, key, taken)
    if turn["run"] != run:
        ended = turn["run"] if await _has_ended(client, turn["run"]) else ""
        turn = await store.change(client, key, taken_from(ended))
    return Turn(turn["run"] == run, int(turn["overlapped"]))


async def _has_ended(client: PrefectClient, run: str) -> bool:
    """Whether the server knows that the flow run has ended. One that it does not know may be anybody's."""
    try:
        state = (await client.read_flow_run(UUID(run))).state
    except (ValueError, ObjectNotFound):
        return False
    return state is not None and state.is_final()


def _turn(kept: Any) -> dict[str, Any]:
    """Whose turn it is; nobody's where that cannot be read."""
    match kept:
        case {"run": str(), "until": float() | int(), "overlapped": int()}:
            return {**kept}
    return {"run": "", "until": 0.0, "overlapped": 0}


@asynccontextmanager
async def keeping_turn(
    client: PrefectClient, key: str, run: str, clock: Callable[[], float], *, gives_back: bool = True
) -> AsyncIterator[None]:
    """Renew the turn for as long as this lasts, and give it back, which a flow run need not do: its end says so. What
    the server does not take harms nobody: a turn ends by itself, and what two runs at once find is told once."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(TURN / 2)
            with contextlib.suppress(Exception):  # the next time may succeed
                await renew_turn(client, key, run, clock())

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing
        if gives_back:
            with contextlib.suppress(Exception):
                await give_turn_back(client, key, run)


async def renew_turn(client: PrefectClient, key: str, run: str, now: float) -> None:
    """Have the turn last longer, if it is still ours."""

    def renewed(kept: Any) -> Any:
        return {**kept, "until": now + TURN} if kept and _turn(kept)["run"] == run else kept

    await store.change(client, key, renewed)


async def give_turn_back(client: PrefectClient, key: str, run: str) -> None:
    """Let the next round begin."""
    await store.change(client, key, lambda kept: {**kept, "run": ""} if kept and _turn(kept)["run"] == run else kept)
