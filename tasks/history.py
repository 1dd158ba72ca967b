"""Past releases from a Prometheus' history: each one's series fetched once, and replayed in processes of their own.

Fetching waits and replaying computes, so several releases are fetched at a time while others are replayed. Whatever
goes wrong with one release is told as that release's result, and the others go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar

from firstwatch import backtest
from firstwatch.backtest import Backtest, BacktestResult, Case, Part, Threshold
from firstwatch.gate import History
from firstwatch.model import SourceError, Verdict
from firstwatch.past import PastRelease
from firstwatch.spec import Service
from firstwatch.thresholds import rules_of, threshold
from firstwatch.timeline import Measured
from tasks.access import access_to
from tasks.canary import Meter
from tasks.measure import measure
from tasks.prometheus import PrometheusSource

_A_FEW = 4  # releases that are replayed sooner than further processes are started

T = TypeVar("T")


class Replay:
    """A backtest as it goes on: `so_far` may be asked at any time, after it was broken off too.

    `service` is not filled in yet; `jobs` is how many processes replay; `only` leaves out the window or the canary's
    gate. Raises ReleasesError where a placeholder has no value, and ValueError where the file names no Prometheus.
    """

    def __init__(
        self,
        service: Service,
        releases: Sequence[PastRelease],
        jobs: int | None = None,
        only: Part | None = None,
    ) -> None:
        if not service.metrics.prometheus:
            raise ValueError("only a Prometheus has a history: give metrics.prometheus, or --prometheus")
        self._metrics, self._releases = service.metrics, tuple(releases)
        self._services = backtest.prepare(service, releases, only)
        self._only = only
        self._jobs = min(jobs or os.cpu_count() or 1, max(1, len(releases)))
        self._results: dict[int, BacktestResult] = {}
        self._failed: dict[int, Case] = {}
        self._thresholds: tuple[Threshold, ...] = ()
        self._unreachable = ""
        self._pool: Executor | None = None

    @property
    def so_far(self) -> Backtest:
        """What is done, in the order of the releases."""
        results = tuple(self._results[i] for i in sorted(self._results))
        return Backtest(results, self._thresholds, wanted=len(self._releases))

    async def run(self, tell: Callable[[BacktestResult], None]) -> Backtest:
        """Everything, calling `tell` with each result as it comes. Raises SecretMissing."""
        access = await access_to(self._metrics)
        to_do = iter(range(len(self._releases)))

        async def work() -> None:
            async with PrometheusSource(self._metrics.prometheus, access) as source:
                for i in to_do:
                    self._results[i] = await self._one(i, source)
                    tell(self._results[i])

        try:
            async with PrometheusSource(self._metrics.prometheus, access) as source:
                await self._try_out(source)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(2 * self._jobs + 2, len(self._releases))):
                    group.create_task(work())
            self._thresholds = await self._search()
        finally:
            self._end_pool()
        return self.so_far

    # ── one release ──────────────────────────────────────────────────────────────────────────────────────────

    async def _one(self, i: int, source: PrometheusSource) -> BacktestResult:
        past, service = self._releases[i], self._services[i]
        if self._unreachable:
            return backtest.undecided(past, self._unreachable)
        try:
            case = await self._measured(past, service, source)
            if not _answered(case):
                await self._try_out(source)
            result = await self._computed(backtest.decide, case)
        except Exception as problem:
            return backtest.undecided(past, f"the replay itself failed: {type(problem).__name__}: {problem}")
        if result.verdict is Verdict.UNHEALTHY:
            self._failed[i] = case
        return result

    async def _measured(self, past: PastRelease, service: Service, source: PrometheusSource) -> Case:
        """All that live runs would have seen of the release, side by side for its window and its gate."""
        at, now = past.release.deployed_at, time.time()
        ends = {"window": backtest.window_end(service, at), "canary": backtest.gate_end(service, at)}

        async def window() -> Measured | None:
            if self._only == "canary":
                return None
            return await measure(source, service, service.window.checkpoints, at, min(ends["window"], now), None)

        async def gate() -> History | None:
            if service.canary is None:
                return None
            async with Meter(service, at) as meter:
                return await meter.history(min(ends["canary"], now))

        measured, history = await asyncio.gather(window(), gate())
        return Case(service, past, min(max(ends.values()), now), measured, history)

    async def _try_out(self, source: PrometheusSource) -> None:
        """One simple question: where it has no answer, no release need wait for its own."""
        deadline = time.time() + self._metrics.timeout
        answer = await source.query("vector(1)", time.time(), deadline=deadline)
        self._unreachable = answer.why if isinstance(answer, SourceError) else ""

    # ── computing ────────────────────────────────────────────────────────────────────────────────────────────

    async def _search(self) -> tuple[Threshold, ...]:
        """Each rule's threshold, from the releases that were rolled back."""
        cases = [self._failed[i] for i in sorted(self._failed)]
        if not cases:
            return ()
        rules = rules_of(cases[0])
        return tuple(await asyncio.gather(*(self._computed(threshold, *rule, cases) for rule in rules)))

    async def _computed(self, work: Callable[..., T], *arguments: object) -> T:
        """In another process; once more, should that one have died of something else. Raises what `work` raises."""
        for last in (False, True):
            pool = self._pool = self._pool or self._new_pool()
            try:
                with _interrupts_ignored():
                    computing = asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
                return await computing
            except BrokenProcessPool:
                if self._pool is pool:
                    self._end_pool()
                if last:
                    raise
        raise AssertionError("unreachable")

    def _new_pool(self) -> Executor:
        if self._jobs == 1 or len(self._releases) <= _A_FEW:
            return ThreadPoolExecutor(1)
        return ProcessPoolExecutor(self._jobs, get_context("spawn"))

    def _end_pool(self) -> None:
        if self._pool is not None:
            to_them = getattr(self._pool, "_call_queue", None)  # of processes
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():  # what they still compute, nobody will read
                process.terminate()
            if to_them is not None:
                # Before Python 3.11.5, the thread that writes to them waits for ever once they are dead (CPython's
                # issue 94777), and the program with it.
                to_them._reader.close()
            self._pool = None


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; only this one has something to tell. A process that is started
    meanwhile ignores it from its first moment on: one that died of it while it started would leave the pool waiting."""
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answered(case: Case) -> bool:
    """Whether there is an answer to anything that was asked."""
    answers: list[object] = list(case.measured.checkpoints.values()) if case.measured else []
    for known in case.history.answers.values() if case.history else ():
        answers += known.values() if isinstance(known, Mapping) else [known]
    return any(not isinstance(answer, SourceError) for answer in answers)
