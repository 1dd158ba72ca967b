"""Which alerts people must be told of in bench/day.py: worked out from the scripts alone, by a plain loop over minutes.

Nothing of the alerts' code is used: an alert opens after three bad results in a row, and closes after two good ones; a
service is slow while eight of its last ten answers were, until no more than four are; six changes within an hour are
flapping, which is told once, until an hour has passed without one. A round that a process did not live to write down is
told as trouble of the check `schedule`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.day_script import DOWN, MINUTE, SLOW, UP, Script

OPEN, CLOSE, CHANGES, STEADY_AFTER = 3, 2, 6, 3600.0
STORM_AFTER, STORM_WITHIN = 5, 300.0
WORDS = {SLOW: "degraded", DOWN: "down"}
# In one round, all of one kind are told together, and the kinds in this order.
ORDER = ("opened", "again", "worse", "better", "closed", "flapping", "steady")


@dataclass
class Incident:
    """What must stand in Slack of one outage: how its thread begins, and the replies in it. Minutes of the day."""

    service: str
    opened: int
    words: str  # "1 of 2 checks down"
    closed: int | None = None
    replies: list[str] = field(default_factory=list)


@dataclass
class _Alert:
    """Of the service's own check."""

    votes: str = ""
    answers: list[bool] = field(default_factory=list)  # whether each was slow
    slow: bool = False
    level: str = UP
    row_since: float = 0.0
    changes: list[float] = field(default_factory=list)
    flapping: bool = False

    def see(self, state: str, at: float) -> str:
        """What happens with a minute's result: one of ORDER, or nothing."""
        vote = self._vote(state)
        if self.votes and (vote == UP) != (self.votes[-1] == UP):
            self.changes.append(at)
        if not self.votes or (vote == UP) != (self.votes[-1] == UP):
            self.row_since = at
        self.changes = [t for t in self.changes if t > at - 3600][-CHANGES:]
        self.votes += vote
        return self._flaps(vote, at) or self._follows(vote)

    def _vote(self, state: str) -> str:
        if state == DOWN:
            return DOWN
        self.answers.append(state == SLOW)
        slow = sum(self.answers[-10:])
        if len(self.answers) >= 10:
            self.slow = slow > 4 if self.slow else slow >= 8
        return SLOW if self.slow else UP

    def _flaps(self, vote: str, at: float) -> str:
        if self.flapping and at - self.row_since >= STEADY_AFTER:
            self.flapping, self.changes = False, []
            if self.votes.endswith(UP * CLOSE):
                self.level = UP
                return "closed"
            return "steady"
        if self.flapping or len(self.changes) < CHANGES:
            return ""
        if self.level != UP:
            self.flapping = True
            return "flapping"
        if vote == UP:
            return ""
        self.flapping, self.level = True, self._due() if self._due() != UP else SLOW
        return "opened"

    def _follows(self, vote: str) -> str:
        if self.level != UP and not self.flapping and self.votes.endswith(UP * CLOSE):
            self.level = UP
            return "closed"
        if self.level == DOWN and not self.flapping and vote == SLOW and DOWN not in self.votes[-CLOSE:]:
            self.level = SLOW
            return "better"
        due = self._due()
        if (due == DOWN and self.level != DOWN) or (due == SLOW and self.level == UP):
            happened = "opened" if self.level == UP else "worse"
            self.level = due
            return happened
        return ""

    def _due(self) -> str:
        last = self.votes[-OPEN:]
        if len(last) < OPEN or UP in last:
            return UP
        return DOWN if last == DOWN * OPEN else SLOW


def incidents(script: Script, again: Mapping[int, float]) -> list[Incident]:
    """Every outage of a service. `again`: the minutes whose round was begun by a process that died before it was
    written down, with how many seconds later it was begun again."""
    made: list[Incident] = []
    health, open_checks, been = _Alert(), set[str](), set[str]()
    good = 0  # rounds in time, in a row
    for minute, state in enumerate(script.states):
        happened: dict[str, list[str]] = {}
        if event := health.see(state, minute * MINUTE + again.get(minute, 0.0)):
            happened.setdefault(event, []).append("health")
        good = 0 if minute in again else good + 1
        if minute in again and "schedule" not in open_checks:
            happened.setdefault("opened", []).append("schedule")
        elif "schedule" in open_checks and good == CLOSE:
            happened.setdefault("closed", []).append("schedule")
        before = bool(open_checks)
        been = been if before else set()
        open_checks = (open_checks | set(happened.get("opened", []))) - set(happened.get("closed", []))
        _tell(made, script.service, minute, _named(happened, been), health.level, before, bool(open_checks))
        been |= set(happened.get("opened", []))
    return made


def busy(script: Script) -> set[int]:
    """The minutes around everything that happens: to the service, or to its alert."""
    alert, states = _Alert(), script.states
    news = {m for m, state in enumerate(states) if alert.see(state, m * MINUTE) or (m and state != states[m - 1])}
    return {m + d for m in news for d in (-1, 0, 1, 2)} & {*range(len(states))}


def _named(happened: Mapping[str, Sequence[str]], been: set[str]) -> dict[str, list[str]]:
    """What opens for the second time in an incident is told as such."""
    opened = happened.get("opened", [])
    named = {**{k: list(v) for k, v in happened.items()}, "opened": [c for c in opened if c not in been]}
    return {**named, "again": [c for c in opened if c in been]}


def _tell(
    made: list[Incident],
    service: str,
    minute: int,
    happened: Mapping[str, Sequence[str]],
    level: str,
    before: bool,
    still: bool,
) -> None:
    for kind in ORDER:
        if not (checks := happened.get(kind, [])):
            continue
        if kind == "opened" and not before:
            down = sum(check == "schedule" or level == DOWN for check in checks)
            words = f"{down or len(checks)} of 2 checks {'down' if down else 'degraded'}"
            slow = f", {len(checks) - down} degraded" if 0 < down < len(checks) else ""
            made.append(Incident(service, minute, words + slow))
        else:
            made[-1].replies.append(_reply(kind, checks, level, ends=not still))
    if before and not still:
        made[-1].closed = minute


def _reply(kind: str, checks: Sequence[str], level: str, ends: bool) -> str:
    names, worst = ", ".join(checks), "down" if "schedule" in checks else WORDS.get(level, "up")
    if kind == "closed":
        return "resolved" if ends else f"{names} up again"
    return {
        "opened": f"{names} {worst} too",
        "again": f"{names} {worst} again",
        "worse": f"{names} worse, now down",
        "better": f"{names} better, now degraded",
        "flapping": f"{names} goes up and down",
        "steady": f"{names} steady, and {worst}",
    }[kind]


def storms(found: Sequence[Incident], times: Mapping[int, float]) -> Iterator[list[Incident]]:
    """The incidents of each storm: five or more that open within five minutes, and what opens until none has for so
    long and those from the fifth on, which the digest tells, are closed. `times`: by the id() of each, when it opened
    (Unix seconds)."""
    ordered = sorted(found, key=lambda one: times[id(one)])
    storm: list[Incident] = []
    for i, one in enumerate(ordered):
        now = times[id(one)]
        told_together = any(_open_at(each, one.opened) for each in storm[STORM_AFTER - 1 :])
        if storm and (now - times[id(storm[-1])] < STORM_WITHIN or told_together):
            storm.append(one)
            continue
        if storm:
            yield storm
        of_late = [each for each in ordered[: i + 1] if now - times[id(each)] < STORM_WITHIN]
        storm = of_late if len(of_late) >= STORM_AFTER else []
    if storm:
        yield storm


def _open_at(incident: Incident, minute: int) -> bool:
    return incident.closed is None or incident.closed >= minute
