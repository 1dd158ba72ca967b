"""The requests-per-second budget of a service: one bucket for all our traffic to it, retries included.

Across processes the bucket is a Prefect global concurrency limit `firstwatch:SERVICE` with slot decay. Each process
also paces itself by a bucket of its own, so that it seldom asks in vain, and holds to the rate without a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

LONGEST_BACK_OFF = 10.0  # seconds: what a Retry-After may ask of us
_SERVER_PATIENCE = 3.0  # seconds for one answer of the Prefect server
_SERVER_AGAIN = 30.0  # seconds until a server that was lost is asked again
_CROWDED = 5.0  # seconds for which we look before we ask, after another process has been met

_log = logging.getLogger(__name__)


class BudgetExhausted(Exception):
    """The request's turn did not come in time."""


class Bucket:
    """Lets `rate` requests a second through, in bursts of at most a tenth of a second's worth (or one request).

    Filled and drained as Prefect does it: `level` rises by each request and decays by `rate`. Pure arithmetic on the
    monotonic clock, so that it outlives any event loop.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.limit = burst(rate)
        self.not_before = 0.0
        self._level = 0.0
        self._at = 0.0

    def wait(self, count: int, now: float) -> float:
        """Seconds until `count` requests may go."""
        return max(0.0, self.not_before - now, (self._level_at(now) + count - self.limit) / self.rate)

    def fill(self, count: int, now: float) -> None:
        self._level, self._at = self._level_at(now) + count, now

    def _level_at(self, now: float) -> float:
        return max(0.0, self._level - max(0.0, now - self._at) * self.rate)


def burst(rate: float) -> int:
    """How many requests may go at once: then no second sees more than rate × 1.1 (or rate + 1)."""
    return max(1, int(rate / 10))


_buckets: dict[str, Bucket] = {}  # one a service in this process, whoever asks


class SharedLimit:
    """The bucket that all processes share: a Prefect global concurrency limit whose slots decay.

    The server keeps whole slots, and a refusal sets its decay back to zero; so after one we look for free slots, which
    costs nothing, before we ask again.
    """

    def __init__(self, client: PrefectClient, service: str, rate: float) -> None:
        self.name = f"firstwatch:{service}"
        self._client = client
        self._rate = rate
        self._crowded_until = 0.0
        self._lost_until = 0.0
        self._told = False

    async def acquire(self, count: int) -> int:
        """Take `count` slots, or as many as are free where others ask too; returns how many. Waits for at least one.

        Without an answer from the server all are given: the process' own bucket still holds to the rate.
        """
        while time.monotonic() >= self._lost_until:
            try:
                async with asyncio.timeout(_SERVER_PATIENCE):
                    free = await self._free() if time.monotonic() < self._crowded_until else count
                    if free >= 1 and await self._increment(min(count, free)):
                        return min(count, free)
            except Exception as broken:
                self._lose(broken)
                break
            self._crowded_until = time.monotonic() + _CROWDED
            await asyncio.sleep(max(0.02, random.uniform(0.5, 1.0) / self._rate))
        return count

    async def ensure(self) -> None:
        """Create the limit, or bring it to the file's rate. Safe when several processes do it at once."""
        from prefect.exceptions import ObjectAlreadyExists

        for _ in range(2):
            try:
                await self._client.upsert_global_concurrency_limit_by_name(self.name, burst(self._rate), self._rate)
                return
            except ObjectAlreadyExists:  # another process was faster: look at what it made
                continue

    async def _free(self) -> int:
        limit = await self._client.read_global_concurrency_limit_by_name(self.name)
        return limit.limit - limit.active_slots

    async def _increment(self, slots: int) -> bool:
        """Did the server give the slots? A limit that is gone or of another size is put right, and the answer is no."""
        import httpx

        try:
            answer = await self._client.increment_concurrency_slots(names=[self.name], slots=slots, mode="rate_limit")
        except httpx.HTTPStatusError as refused:
            if refused.response.status_code == httpx.codes.LOCKED:
                return False
            if refused.response.status_code != httpx.codes.UNPROCESSABLE_ENTITY:
                raise
            await self.ensure()
            return False
        if answer.json():
            return True
        await self.ensure()  # the server lets everything pass under a name that it does not know
        return False

    def _lose(self, broken: Exception) -> None:
        self._lost_until = time.monotonic() + _SERVER_AGAIN
        if not self._told:
            self._told = True
            _log.warning(
                "the Prefect server does not keep the budget %s (%s): this process holds to %g requests a second alone",
                self.name, type(broken).__name__, self._rate,
            )  # fmt: skip


class Budget:
    """The budget of one service. `take()` one turn for each request, redirect hop and retry."""

    def __init__(self, service: str, rate: float, shared: SharedLimit | None = None) -> None:
        self.service = service
        self.rate = rate
        self._shared = shared
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pump: asyncio.Task[None] | None = None
        bucket = _buckets.get(service)
        if bucket is None or bucket.rate != rate:
            bucket = _buckets[service] = Bucket(rate)
        self._bucket = bucket

    async def take(self, timeout: float) -> None:
        """Wait for one request's turn, at most `timeout` seconds. Raises BudgetExhausted."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._serve(), name=f"budget {self.service}")
        try:
            async with asyncio.timeout(timeout):
                await turn
        except TimeoutError:
            raise BudgetExhausted(
                f"its turn in the budget of {self.rate:g} requests a second did not come within {max(timeout, 0):.1f}s"
            ) from None

    def back_off(self, seconds: float) -> None:
        """Send nothing for so long (a Retry-After), at most LONGEST_BACK_OFF."""
        until = time.monotonic() + min(max(seconds, 0.0), LONGEST_BACK_OFF)
        self._bucket.not_before = max(self._bucket.not_before, until)

    async def aclose(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pump

    async def _serve(self) -> None:
        """Let the waiting through, as many at a time as the burst allows: one question to the server for all."""
        await asyncio.sleep(0)  # those who come together go together
        while self._drop_who_left():
            count = min(len(self._waiting), self._bucket.limit)
            if (pause := self._bucket.wait(count, time.monotonic())) > 0:
                await asyncio.sleep(pause)
                continue
            if self._shared is not None:
                count = await self._shared.acquire(count)
            self._bucket.fill(count, time.monotonic())
            self._let_go(count)

    def _drop_who_left(self) -> bool:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    def _let_go(self, count: int) -> None:
        while count and self._drop_who_left():
            self._waiting.popleft().set_result(None)
            count -= 1


@contextlib.asynccontextmanager
async def open_budget(service: str, rate: float) -> AsyncIterator[Budget]:
    """The service's budget at `rate` requests a second, shared by all processes of a Prefect server if there is one."""
    async with contextlib.AsyncExitStack() as stack:
        budget = Budget(service, rate, await _shared_limit(stack, service, rate))
        stack.push_async_callback(budget.aclose)
        yield budget


async def _shared_limit(stack: contextlib.AsyncExitStack, service: str, rate: float) -> SharedLimit | None:
    from prefect.settings import PREFECT_API_URL  # lazily: the transport must do without Prefect

    if not PREFECT_API_URL.value():
        return None
    from prefect.client.orchestration import get_client

    shared = SharedLimit(await stack.enter_async_context(get_client()), service, rate)
    try:
        async with asyncio.timeout(_SERVER_PATIENCE):
            await shared.ensure()
    except Exception as broken:
        shared._lose(broken)
    return shared
