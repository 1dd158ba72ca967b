"""Whose turn it is to ask a Prometheus: few requests at once, and none while it does not answer.

One for each server and event loop, whoever asks and with whatever credentials.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from contextlib import suppress
from weakref import WeakValueDictionary

from firstwatch.breaker import Breaker
from tasks.prometheus_session import Refusal, TooSlow

AT_ONCE = 4  # requests under way: what comes meanwhile is asked together
AT_ONCE_UNHURRIED = 16  # where no look is waiting (a backtest); Prometheus itself evaluates 20

_lock = threading.Lock()  # event loops of several threads ask
_turns: WeakValueDictionary[tuple[int, str], Turns] = WeakValueDictionary()


class Turns:
    """Requests under way, and how the server is. Used in its own event loop only."""

    def __init__(self, where: str, *, rng: random.Random | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.breaker = Breaker()
        self.under_way = 0
        self._where, self._rng = where, rng or random.Random()
        self._changed = asyncio.Event()

    def free(self, unhurried: bool = False) -> int:
        """How many more requests may go now."""
        if self.breaker.wait(time.monotonic()) > 0:
            return 0
        if self.breaker.open:
            return 1
        return max(0, (AT_ONCE_UNHURRIED if unhurried else AT_ONCE) - self.under_way)

    async def change(self) -> None:
        """Wait until a request has ended, or it is time for the next try."""
        pause = self.breaker.wait(time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(pause if 0 < pause < math.inf else None):
                await self._changed.wait()

    def hopeless(self, until: float) -> Refusal | None:
        """Why nobody who must have an answer by then (of the monotonic clock) need wait for one; None: they may."""
        return self.trouble() if self.breaker.hopeless(until) else None

    def trouble(self) -> Refusal | None:
        """Since when and why the server is not asked as usual; None: it is."""
        return Refusal(self.breaker.told(self._where, time.monotonic())) if self.breaker.open else None

    def begin(self) -> bool:
        """A request goes. True: it is the one that tries whether the server is back."""
        self.under_way += 1
        self.breaker = self.breaker.asked()
        return self.breaker.trying

    def end(self, failure: BaseException | None, *, tried: bool, why: str = "") -> None:
        """It came back, with `failure` or an answer. `why` is the failure without secrets: others will read it."""
        self.under_way -= 1
        if isinstance(failure, Refusal) and (failure.lost or (tried and isinstance(failure, TooSlow))):
            self.breaker = self.breaker.failed(
                time.monotonic(), why, self._rng, tried=tried, retry_after=failure.retry_after
            )
        elif not isinstance(failure, TooSlow):
            self.breaker = self.breaker.answered()
        self._wake()

    def abandon(self, *, tried: bool) -> None:
        """It was given up before anything was known of it."""
        self.under_way -= 1
        if tried:
            self.breaker = self.breaker.given_up(time.monotonic())
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed.clear()


def turns_at(url: str, where: str) -> Turns:
    """The turns of that server in the running event loop."""
    loop = asyncio.get_running_loop()
    with _lock:
        turns = _turns.get((id(loop), url))
        if turns is None or turns.loop is not loop:
            turns = _turns[id(loop), url] = Turns(where)
        return turns
