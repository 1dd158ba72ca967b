"""A circuit breaker: when a server is not asked any more because it does not answer, and when it is tried again.

After FAILURES requests in a row that failed on their way it opens. Then one request at a time tries, after pauses that
double; the first answer closes it. Times are seconds on any one clock that does not go back.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from firstwatch.units import show_duration

FAILURES = 5  # in a row
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds until the next try; each lies between half of it and all of it
LONGEST_RETRY_AFTER = 60.0  # seconds: what a server may ask for


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failures` in a row since `since`, the last because of `why`. Open once there is a time of the next try."""

    failures: int = 0
    since: float = 0.0
    why: str = ""
    pause: float = 0.0
    next_try: float | None = None
    trying: bool = False

    @property
    def open(self) -> bool:
        return self.next_try is not None

    def wait(self, now: float) -> float:
        """Seconds until the next request may go; infinite while one tries and the others wait for it."""
        if self.next_try is None:
            return 0.0
        return math.inf if self.trying else max(0.0, self.next_try - now)

    def hopeless(self, until: float) -> bool:
        """Is it certain that nothing is asked before `until`?"""
        return self.next_try is not None and not self.trying and self.next_try >= until

    def asked(self) -> Breaker:
        """A request goes: where it is open, this is the one that tries."""
        return replace(self, trying=True) if self.open else self

    def answered(self) -> Breaker:
        """An answer came, whatever it says: the server is there."""
        return Breaker()

    def given_up(self, now: float) -> Breaker:
        """The one that tried was left without having an outcome; the next may try at once."""
        return replace(self, trying=False, next_try=now) if self.trying else self

    def failed(
        self, now: float, why: str, rng: random.Random, *, tried: bool = False, retry_after: float = 0
    ) -> Breaker:
        """A request failed on its way; `tried`: it was the one that was let through. `retry_after` is the server's."""
        asked_for = now + min(max(retry_after, 0.0), LONGEST_RETRY_AFTER)
        failed = replace(self, failures=self.failures + 1, why=why, since=self.since if self.failures else now)
        if self.next_try is not None and not tried:  # it had been sent before this opened
            return replace(failed, next_try=max(self.next_try, asked_for))
        if failed.failures < FAILURES:
            return failed
        pause = min(2 * self.pause, LONGEST_PAUSE) if self.open else FIRST_PAUSE
        following = max(now + rng.uniform(pause / 2, pause), asked_for)
        return replace(failed, pause=pause, next_try=following, trying=False)

    def told(self, where: str, now: float) -> str:
        """Why nothing is asked: since when, what is wrong, and when it is tried again."""
        again = show_duration(math.ceil(self.wait(now))) if math.isfinite(self.wait(now)) else "a moment"
        return (
            f"{where} has failed for {show_duration(round(now - self.since))}, {self.failures} times in a row, and is "
            f"asked again in {again}: {self.why}"
        )
