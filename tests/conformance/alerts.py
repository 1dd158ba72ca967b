"""The vectors' words for our state machine: results in, messages out, through the outbox that delivers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firstwatch.alerting import AlertState, CheckState, Delivery, Incident, Level, Notice, NoticeKind, Outbox
from firstwatch.alerting import delivered as heard
from firstwatch.alerting import outbox as box
from firstwatch.alerting import step as next_round
from firstwatch.monitor import Health, Seen
from firstwatch.spec.alerts import Alerts

HEALTHS = {"F": Health.DOWN, "S": Health.UP, "?": Health.UNKNOWN, "L": Health.DEGRADED}
CHECK = "check"


def policy(opens: Any = 1, closes: Any = 1, **more: Any) -> Alerts:
    """A policy that counts nothing as flapping: none of the systems does."""
    closing = {"after": closes, "tell": more.pop("tell", True)}
    still = {"changes": 100, "within": 1}
    return Alerts.model_validate({"open": {"after": opens}, "close": closing, "flapping": still, **more})


@dataclass
class Sent:
    """A message as it was tried. `again`: an earlier try failed."""

    notice: Notice
    arrived: bool
    again: bool


@dataclass
class Play:
    """One service under one policy, round by round, each with its deliveries; `channel` is False where there is none to
    deliver by."""

    policy: Alerts
    channel: bool = True
    needs: Mapping[str, Sequence[str]] = field(default_factory=lambda: {CHECK: ()})
    state: AlertState = field(default_factory=lambda: AlertState("service"))
    outbox: Outbox = field(default_factory=Outbox)
    rounds: int = 0

    def begin(self, row: int, is_open: bool, check: str = CHECK, at: float = -1.0) -> None:
        """Start with so many votes in a row (bad ones below zero), and an alert that people know of."""
        votes = ("u" if row > 0 else "d") * min(abs(row), 100)
        level = Level.DOWN if is_open else Level.NONE
        known = CheckState(results=votes, row=row, level=level, since=at if row < 0 or is_open else None)
        incident = Incident("before", at, (check,), told_at=at) if is_open else self.state.incident
        self.state = AlertState("service", {**self.state.checks, check: known}, incident)

    def round(self, results: Mapping[str, str] | str, at: float, works: bool = True) -> list[Sent]:
        """One round's results (letters; several of one check count together), and what is sent."""
        by_check = {CHECK: results} if isinstance(results, str) else results
        seen = [Seen(name, HEALTHS[x], x, at) for name, letters in by_check.items() for x in letters]
        self.rounds += 1
        self.state, notices = next_round(self.state, self.policy, f"round {self.rounds}", seen, self.needs, at)
        self.outbox = box.add(self.outbox, notices)
        return self._deliver(at, works) if self.channel else []

    def _deliver(self, at: float, works: bool) -> list[Sent]:
        sent: list[Sent] = []
        for _ in range(100):
            self.outbox, mine = box.claim(self.outbox, "player", at)
            for entry in mine:
                delivery = Delivery.OK if works else Delivery.FAILED
                self.outbox = box.settle(self.outbox, entry.notice.id, "player", delivery, at)
                self.state = heard(self.state, entry.notice, works, at)
                sent.append(Sent(entry.notice, works, again=entry.tries > 1))
            if not mine:
                return sent
        raise AssertionError("the outbox never ends")

    def check(self, name: str = CHECK) -> CheckState:
        return self.state.checks.get(name, CheckState())

    @property
    def told_open(self) -> bool:
        """Whether an alert is open of which people know: what the other systems call open."""
        incident = self.state.open_incident
        return incident is not None and incident.told_at is not None


def kinds(sent: Sequence[Sent], words: Mapping[NoticeKind, str]) -> list[str]:
    """What was sent, in a system's words; `!` where it did not arrive."""
    return [words[s.notice.kind] + ("" if s.arrived else "!") for s in sent if s.notice.kind in words]
