"""How often a check is looked at in a round, and what its attempts come to, with Prefect and without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.states import Completed

from firstwatch.model import Outcome
from firstwatch.monitor import Kind, Probe
from tasks.looks import AsTaskRuns, Look, Plainly, Runner, WhenAmiss

P, F, E, N = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.NO_DATA

COURSES: list[tuple[Sequence[Outcome], int, Sequence[Outcome]]] = [  # what is found, retries, what is looked at
    ([P], 3, [P]),
    ([F, P], 3, [F, P]),
    ([F], 2, [F, F, F]),
    ([F], 0, [F]),
    ([E], 3, [E, E]),  # ours: it seldom goes away
    ([E], 0, [E]),
    ([E, F], 2, [E, F, F]),
    ([F, E], 3, [F, E]),
    ([N], 3, [N]),
]


def look(finds: Sequence[Outcome], retries: int, left: float = 60.0, **given: Any) -> Look:
    """A check that finds this, attempt by attempt, and the last of it ever after."""

    async def take(n: int) -> Probe:
        outcome = finds[min(n, len(finds)) - 1]
        return Probe("a check", Kind.HTTP, "GET /", outcome, f"why {n}", time.time(), warning=given.get("warning", ""))

    name = given.get("name", "a check")
    return Look(name, Kind.HTTP, "GET /", take, retries, given.get("delay", 0.01), time.monotonic() + left)


def outcomes(probe: Probe) -> list[Outcome]:
    return [attempt.outcome for attempt in probe.attempts]


@pytest.mark.parametrize(("finds", "retries", "tried"), COURSES)
def test_what_is_worth_another_attempt(finds: Sequence[Outcome], retries: int, tried: Sequence[Outcome]) -> None:
    probe = asyncio.run(Plainly().check(look(finds, retries)))
    assert outcomes(probe) == list(tried)
    assert (probe.outcome, probe.why) == (tried[-1], f"why {len(tried)}")


@pytest.mark.parametrize(
    ("runner", "at_once"), [(AsTaskRuns(), {"course 0"}), (WhenAmiss(), set[str]())], ids=["each", "when amiss"]
)
def test_task_runs_are_tried_as_often(prefect_api: str, runner: Runner, at_once: set[str]) -> None:
    """`at_once`: those that pass at once and have a task run."""
    looks = [look(finds, retries, name=f"course {i}") for i, (finds, retries, _) in enumerate(COURSES)]
    late = look([F], 2, left=60.0, delay=90.0, name="late")

    @flow(persist_result=False)
    async def taken() -> Any:
        await asyncio.gather(*(runner.check(each) for each in [*looks, late]))
        return Completed()

    async def states() -> dict[str, tuple[str | None, str | None]]:
        state = await taken(return_state=True)
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            for _ in range(100):  # the server records task runs a moment later
                runs = await client.read_task_runs(flow_run_filter=wanted)
                if len(runs) == len(looks) + len(at_once) and all(r.state and r.state.is_final() for r in runs):
                    break
                await asyncio.sleep(0.1)
        return {run.name: (run.state.name, run.state.message) for run in runs if run.state}

    named = asyncio.run(states())
    assert [outcomes(each.result) for each in looks] == [list(tried) for _, _, tried in COURSES]
    assert {name for name in named if name in ("course 0", "late")} == {*at_once, "late"}
    assert named["course 1"] == ("PassedOnRetry", "Attempt 1 failed: why 1")
    assert named["course 4"] == ("Error", "why 2")
    assert named["course 8"] == ("NoData", "why 1")
    assert outcomes(late.result) == [F]
    assert named["late"] == ("Unconfirmed", "why 1 (no time was left to confirm it)")


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_nothing_is_confirmed_without_time(left: float) -> None:
    started = time.monotonic()
    probe = asyncio.run(Plainly().check(look([F], 3, left=left, delay=1.0)))
    assert time.monotonic() - started < 0.5
    assert len(probe.attempts) == 1
    assert probe.outcome is (F if left else E)  # what was not looked at is neither up nor down


def test_what_does_not_end_by_itself_is_no_failure_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.looks._GRACE", 0.1)

    async def hang(_: int) -> Probe:
        await asyncio.sleep(60)
        raise AssertionError

    stuck = Look("a check", Kind.HTTP, "GET /", hang, deadline=time.monotonic() + 0.1)
    probe = asyncio.run(Plainly().check(stuck))
    assert (probe.outcome, probe.why) == (E, "had not ended when the round was over")


def test_what_earlier_attempts_warned_of_is_kept() -> None:
    async def take(n: int) -> Probe:
        outcome, warning = (F, "the cart was not given back") if n == 1 else (P, "")
        return Probe("a check", Kind.JOURNEY, "GET /", outcome, "", time.time(), warning=warning)

    runner: Runner = Plainly()
    probe = asyncio.run(runner.check(Look("a check", Kind.JOURNEY, "GET /", take, delay=0.01)))
    assert (probe.outcome, probe.warning) == (P, "the cart was not given back")
