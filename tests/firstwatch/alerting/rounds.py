"""Rounds as letters, one a minute: u(p), s(low), d(own), ? (no vote)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firstwatch.alerting import AlertState, Notice, NoticeKind, delivered, step
from firstwatch.monitor import Health, Seen
from firstwatch.spec.alerts import Alerts

HEALTHS = {"u": Health.UP, "s": Health.DEGRADED, "d": Health.DOWN, "?": Health.UNKNOWN}
START = 1_800_000_000.0
MINUTE = 60.0


def alerts(opens: Any = 3, closes: Any = 2, **more: Any) -> Alerts:
    return Alerts.model_validate({"open": {"after": opens}, "close": {"after": closes}, **more})


def seen(check: str, letter: str, at: float, **more: Any) -> Seen:
    return Seen(check, HEALTHS[letter], f"it is {letter}", at, **more)


class Days:
    """A service through its rounds: what was told of it, each as `minute kind checks`."""

    def __init__(self, policy: Alerts, needs: Mapping[str, Sequence[str]] | None = None, start: float = START) -> None:
        self.policy, self.needs, self.start = policy, needs or {}, start
        self.state = AlertState("shop")
        self.notices: list[Notice] = []
        self.minute = 0
        self.arrives = True

    @property
    def now(self) -> float:
        return self.start + MINUTE * self.minute

    def round(self, *results: Seen) -> tuple[Notice, ...]:
        """One round of these results; what it tells arrives at once, unless `arrives` is False."""
        self.state, notices = step(self.state, self.policy, f"r{self.minute}", results, self.needs, self.now)
        for notice in notices:
            self.state = delivered(self.state, notice, self.arrives, self.now)
        self.notices += notices
        self.minute += 1
        return notices

    def play(self, **letters: str) -> list[str]:
        """Each check's letters, side by side; what that told, from here on. A space is a round without the check."""
        before = len(self.notices)
        for i in range(max(map(len, letters.values()))):
            now = self.now
            self.round(*(seen(name, row[i], now) for name, row in letters.items() if row[i : i + 1].strip()))
        return told(self.notices[before:], self.start)


def told(notices: Sequence[Notice], start: float = START) -> list[str]:
    return [f"{(n.at - start) / MINUTE:g} {n.kind} {'+'.join(n.checks)}" for n in notices]


def of_kind(notices: Sequence[Notice], kind: NoticeKind) -> list[Notice]:
    return [notice for notice in notices if notice.kind is kind]
