"""The requests-per-second budget of a service: one bucket for all our traffic to it, retries included.

Across processes the bucket is a Prefect global concurrency limit `firstwatch:SERVICE` with slot decay. Each process
also paces itself by a bucket of its own, so that it seldom asks in vain, and holds to the rate without a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import httpx

from tasks.busy import is_busy, without_patience
from tasks.together import together

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

LONGEST_BACK_OFF = 10.0  # seconds: what a Retry-After may ask of us
_SERVER_PATIENCE = 6.0  # seconds for one answer of the Prefect server: better late than twice the rate
_SERVER_AGAIN = 10.0  # seconds until a server that was lost is asked again
_STANDS = 300.0  # seconds for which a limit that this process has put right is taken to stand as it is
_CROWDED = 5.0  # seconds for which we step back a little before we ask, after another process has been met

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
_stands: dict[tuple[str, str, float], float] = {}  # API, limit, rate → when it was last put right (monotonic seconds)


class SharedLimit:
    """The bucket that all processes share: a Prefect global concurrency limit whose slots decay.

    The server counts in whole slots, so who asks for many waits until all of them are free; after a refusal (which
    costs nothing) we ask for fewer. Its Retry-After is a guess at random, longer than the slots need: not used.
    """

    def __init__(self, client: PrefectClient, service: str, rate: float) -> None:
        self.name = f"firstwatch:{service}"
        self._client = client
        self._rate = rate
        self._crowded_until = 0.0
        self._lost_until = 0.0
        self._told = False

    async def acquire(self, count: int) -> int:
        """Take `count` slots, or fewer where others ask too; returns how many. Waits for at least one.

        Without an answer from the server all are given: the process' own bucket still holds to the rate.
        """
        slots = count
        period = burst(self._rate) / self._rate
        if time.monotonic() < self._crowded_until:
            await asyncio.sleep(random.uniform(0.0, 1.0) * period)  # or who was first would always be first
        while time.monotonic() >= self._lost_until:
            try:
                async with asyncio.timeout(_SERVER_PATIENCE):
                    if await self._increment(slots):
                        return slots
            except Exception as broken:
                self.lose(broken)
                break
            self._crowded_until = time.monotonic() + _CROWDED
            slots = max(1, slots // 2)
            await asyncio.sleep(random.uniform(0.5, 1.5) * period / 4)
        return count

    async def ensure(self) -> None:
        """Create the limit, or bring it to the file's rate. Safe when several processes do it at once."""
        while True:
            if await self._upsert():
                self._stood(time.monotonic())
                return
            await asyncio.sleep(random.uniform(0.01, 0.05))  # another process was faster: look at what it made

    async def ensure_now_and_then(self) -> None:
        """The same, unless this process has done so a short while ago: one that has gone since is missed when its slots
        are asked for."""
        if time.monotonic() - _stands.get(self._place, float("-inf")) > _STANDS:
            await self.ensure()

    @property
    def _place(self) -> tuple[str, str, float]:
        return str(self._client.api_url), self.name, self._rate

    def _stood(self, now: float) -> None:
        """Known to stand at this rate, and at no other."""
        for other in [place for place in _stands if place[:2] == self._place[:2]]:
            del _stands[other]
        _stands[self._place] = now

    async def _upsert(self) -> bool:
        from prefect.exceptions import ObjectAlreadyExists

        try:
            with without_patience(self._client):
                await self._client.upsert_global_concurrency_limit_by_name(self.name, burst(self._rate), self._rate)
        except ObjectAlreadyExists:
            return False
        except httpx.HTTPStatusError as refused:
            if not is_busy(refused):
                raise
            return False
        return True

    async def _increment(self, slots: int) -> bool:
        """Did the server give the slots? A limit that is gone or of another size is put right, and the answer is no."""
        try:
            if await self._ask(slots):
                return True
        except httpx.HTTPStatusError as refused:
            status = refused.response.status_code
            if status == httpx.codes.LOCKED or is_busy(refused):
                return False
            if status != httpx.codes.UNPROCESSABLE_ENTITY:
                raise
        await self.ensure()
        return False

    async def _ask(self, slots: int) -> bool:
        """Whether the server knows this limit, and has given its slots. Raises httpx.HTTPStatusError where it has not.

        Asked for together with others, and alone where those were refused: one without slots refuses them all.
        """
        if time.monotonic() >= self._crowded_until:
            all_of_them = together(("slots", str(self._client.api_url), slots), functools.partial(_given_to_all, slots))
            if (given := await all_of_them.ask((self._client, self.name))) is not None:
                return given
        return self.name in await _given(self._client, [self.name], slots)

    def lose(self, broken: Exception) -> None:
        """Do without the server for a while, and say so once."""
        self._lost_until = time.monotonic() + _SERVER_AGAIN
        if not self._told:
            self._told = True
            _log.warning(
                "the Prefect server does not keep the budget %s (%s): this process holds to %g requests a second alone",
                self.name, type(broken).__name__, self._rate,
            )  # fmt: skip


Asked = tuple["PrefectClient", str]  # by whom, and the limit's name


async def _given_to_all(slots: int, asked: Sequence[Asked]) -> list[bool | None]:
    """Whether each limit is known and has given so many slots. None: it is to be asked for alone."""
    names = [name for _, name in asked]
    if len(set(names)) < len(names):
        return [None] * len(names)
    try:
        async with asyncio.timeout(_SERVER_PATIENCE):
            given = await _given(asked[0][0], names, slots)  # whoever waits for the answer has an open client
    except httpx.HTTPStatusError as refused:
        if is_busy(refused):
            raise
        return [None] * len(names)
    return [name in given for name in names]


async def _given(client: PrefectClient, names: Sequence[str], slots: int) -> set[str]:
    """The limits of which the server has given so many slots: all that it knows. Raises httpx.HTTPStatusError."""
    with without_patience(client):
        answer = await client.increment_concurrency_slots(list(names), slots, mode="rate_limit")
    return {limit["name"] for limit in answer.json()}


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

    shared = SharedLimit(await stack.enter_async_context(get_client()), service, rate)  # the run's own, in a run
    try:
        async with asyncio.timeout(_SERVER_PATIENCE):
            await shared.ensure_now_and_then()
    except Exception as broken:
        shared.lose(broken)
    return shared
