"""The requests-per-second budget: alone, side by side, and across processes on a real Prefect server."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.context import AsyncClientContext

from demo.stack import Stack
from tasks.budget import Budget, BudgetExhausted, burst, open_budget
from tests.support.counted import counted

ROOT = Path(__file__).parents[2]

WORKER = """
import asyncio, sys, time
from tasks.budget import open_budget

async def main(service, rate, seconds):
    taken = []
    async with open_budget(service, rate) as budget:
        print("ready", flush=True)
        sys.stdin.readline()
        end = time.monotonic() + seconds
        async def one():
            while (left := end - time.monotonic()) > 0:
                try:
                    await budget.take(left)
                except Exception:
                    return
                taken.append(time.time())
        await asyncio.gather(*(one() for _ in range(8 if rate < 100 else 60)))
    print(" ".join(map(str, taken)))

asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
"""


def busiest_second(times: list[float]) -> int:
    times = sorted(times)
    return max(sum(1 for t in times if start <= t < start + 1) for start in times)


async def taken_by(budget: Budget, count: int, timeout: float = 30) -> list[float]:
    """When each of `count` requests that come together got its turn."""

    async def one() -> float:
        await budget.take(timeout)
        return time.monotonic()

    return await asyncio.gather(*(one() for _ in range(count)))


def name() -> str:
    return f"shop-{uuid4().hex[:8]}"


# ── one process ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("rate", "limit"), [(0.5, 1), (5, 1), (19, 1), (20, 2), (1000, 100)])
def test_a_burst_is_a_tenth_of_a_second(rate: float, limit: int) -> None:
    assert burst(rate) == limit


@pytest.mark.parametrize(("rate", "count"), [(10, 25), (100, 250), (1000, 2500)])
def test_no_second_sees_more_than_the_rate(rate: float, count: int) -> None:
    async def main() -> list[float]:
        return await taken_by(Budget(name(), rate), count)

    times = asyncio.run(main())
    assert busiest_second(times) <= rate * 1.1 + 1
    assert max(times) - min(times) <= count / rate * 1.15 + 0.1  # and it is not slower than it need be


def test_who_cannot_have_a_turn_in_time_is_told() -> None:
    async def main() -> None:
        budget = Budget(name(), 2)
        await budget.take(1)
        started = time.monotonic()
        with pytest.raises(BudgetExhausted, match=r"budget of 2 requests a second did not come within 0\.2s"):
            await budget.take(0.2)
        assert time.monotonic() - started < 0.3
        await budget.take(1)  # the one that left costs nothing
        assert time.monotonic() - started < 0.8
        await budget.aclose()

    asyncio.run(main())


def test_back_off_is_obeyed_and_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.budget.LONGEST_BACK_OFF", 0.4)

    async def main() -> None:
        budget = Budget(name(), 100)
        started = time.monotonic()
        budget.back_off(3600)
        await budget.take(5)
        assert 0.35 < time.monotonic() - started < 0.8

    asyncio.run(main())


def test_two_budgets_of_one_process_share_the_bucket() -> None:
    async def main() -> None:
        service = name()
        times = await asyncio.gather(taken_by(Budget(service, 20), 15), taken_by(Budget(service, 20), 15))
        assert busiest_second(times[0] + times[1]) <= 20 * 1.1 + 1

    asyncio.run(main())


def test_without_a_server_the_process_keeps_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def main() -> None:
        async with open_budget(name(), 1000) as budget:
            assert len(await taken_by(budget, 50)) == 50

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        asyncio.run(main())


def test_a_server_that_is_not_there_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def main() -> None:
        async with open_budget(name(), 20) as budget:
            assert busiest_second(await taken_by(budget, 30)) <= 23

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        asyncio.run(main())
    assert len([r for r in caplog.records if r.name == "tasks.budget"]) == 1


# ── processes and a server ───────────────────────────────────────────────────────────────────────────────────


def limit_of(api: str, service: str, method: str = "GET") -> Any:
    """The service's limit as the server has it (or DELETE it)."""
    return httpx.request(method, f"{api}/v2/concurrency_limits/firstwatch:{service}").raise_for_status()


def worker(stack: Stack, service: str, rate: float, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, service, str(rate), str(seconds)],
        env={**stack.env, "PREFECT_API_URL": stack.api_url}, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def run_workers(workers: list[subprocess.Popen[str]]) -> list[list[float]]:
    """Start them at the same moment; when each took its turns (Unix seconds)."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    return [[float(t) for t in worker.communicate(timeout=60)[0].split()] for worker in workers]


@pytest.mark.e2e
@pytest.mark.parametrize(("rate", "seconds"), [(5, 6.0), (200, 4.0)])
def test_processes_share_one_budget(prefect_stack: Stack, rate: float, seconds: float) -> None:
    service = name()
    times = run_workers([worker(prefect_stack, service, rate, seconds) for _ in range(2)])
    together = [t for each in times for t in each]
    print(f"rate {rate}: {[len(each) for each in times]} in {seconds}s, busiest second {busiest_second(together)}")
    assert busiest_second(together) <= rate * 1.1 + 1
    assert len(together) >= rate * seconds * 0.3  # crowded on a busy machine, and still much of it is used
    assert min(map(len, times)) >= len(together) * 0.1  # nobody starves


@pytest.mark.e2e
def test_one_process_uses_nearly_all_of_it(prefect_stack: Stack) -> None:
    (times,) = run_workers([worker(prefect_stack, name(), 20, 4.0)])
    assert busiest_second(times) <= 23
    assert len(times) >= 4 * 20 * 0.5


@pytest.mark.e2e
def test_the_limit_is_made_once_and_follows_the_file(prefect_api: str) -> None:
    service = name()

    async def open_one(rate: float) -> None:
        async with open_budget(service, rate) as budget:
            await budget.take(5)

    async def main() -> None:
        await asyncio.gather(*(open_one(50) for _ in range(5)))
        made = limit_of(prefect_api, service).json()
        assert (made["limit"], made["slot_decay_per_second"]) == (5, 50)
        await open_one(7)
        changed = limit_of(prefect_api, service).json()
        assert (changed["limit"], changed["slot_decay_per_second"]) == (1, 7)

    asyncio.run(main())


@pytest.mark.e2e
def test_a_second_run_of_the_process_asks_for_slots_alone_with_the_run_s_client(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    ordinary = ssl.SSLContext.__new__
    monkeypatch.setattr(ssl.SSLContext, "__new__", lambda *given: made.append(given) or ordinary(*given))

    async def main() -> list[str]:
        service = name()
        async with AsyncClientContext.get_or_create(), open_budget(service, 50) as budget:
            await budget.take(5)
            made.clear()
            with counted(prefect_api) as asked:
                async with open_budget(service, 50) as again:
                    await again.take(5)
            return asked

    assert asyncio.run(main()) == ["POST /v2/concurrency_limits/increment"]
    assert made == []  # no TLS context


@pytest.mark.e2e
def test_a_limit_that_somebody_deleted_is_made_again(prefect_api: str) -> None:
    async def main() -> None:
        service = name()
        async with open_budget(service, 50) as budget:
            await budget.take(5)
            limit_of(prefect_api, service, "DELETE")
            await budget.take(5)
            assert limit_of(prefect_api, service).json()["slot_decay_per_second"] == 50

    asyncio.run(main())


@pytest.mark.e2e
def test_fifty_that_come_together_cost_one_question(prefect_api: str) -> None:
    async def main() -> None:
        async with open_budget(name(), 1000) as budget:
            await taken_by(budget, 1)
            took = []
            for _ in range(5):
                await asyncio.sleep(0.2)
                started = time.monotonic()
                times = await taken_by(budget, 50)
                took.append(max(times) - started)
            print("50 requests waited", [f"{t * 1000:.0f}ms" for t in took])
            assert sorted(took)[2] < 0.06

    asyncio.run(main())


@pytest.mark.e2e
def test_services_that_ask_together_cost_one_question_and_the_one_without_slots_keeps_none_from_theirs(
    prefect_api: str,
) -> None:
    names = [name() for _ in range(5)]

    async def main() -> None:
        async with AsyncClientContext.get_or_create(), AsyncExitStack() as stack:
            budgets = [await stack.enter_async_context(open_budget(each, 0.25)) for each in names]
            for budget in budgets:  # so that nobody's limit is yet to be made
                await budget.take(5)
            await asyncio.sleep(4.1)
            with counted(prefect_api) as asked:
                await asyncio.gather(*(budget.take(5) for budget in budgets))
            assert asked == ["POST /v2/concurrency_limits/increment"]
            await asyncio.sleep(4.1)
            increment(prefect_api, names[2])  # another process
            with counted(prefect_api) as asked:
                started, took = time.monotonic(), await asyncio.gather(*(taken_by(budget, 1) for budget in budgets))
            waited = [times[0] - started for times in took]
            others = waited[:2] + waited[3:]
            assert waited[2] - max(others) > 0.5, waited  # it waits for 4 s; they for a few answers
            assert len(asked) >= 7  # all of them, each alone, and the one until it had its slot

    asyncio.run(main())


def increment(api: str, service: str) -> None:
    body = {"names": [f"firstwatch:{service}"], "slots": 1, "mode": "rate_limit"}
    httpx.post(f"{api}/v2/concurrency_limits/increment", json=body).raise_for_status()


@pytest.mark.e2e
def test_a_server_that_vanishes_leaves_the_process_its_own_bucket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def main(stack: Stack) -> None:
        async with open_budget(name(), 20) as budget:
            await taken_by(budget, 5)
            await asyncio.to_thread(stack.__exit__)
            times = await taken_by(budget, 30)
            assert busiest_second(times) <= 23

    with Stack(tmp_path) as stack, caplog.at_level(logging.WARNING, "tasks.budget"):
        stack.prefect_server()
        with temporary_settings({PREFECT_API_URL: stack.api_url}):
            asyncio.run(main(stack))
    assert len([r for r in caplog.records if r.name == "tasks.budget"]) == 1
