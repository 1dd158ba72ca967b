"""The state machine of a service's alerts: one round in, the new state and what there is to tell out.

Pure and deterministic: the same rounds give the same notices with the same ids, so a run that was killed between
deciding and telling may decide again. What a policy's words mean is in docs/service-file.md; one check's rules are in
`firstwatch.alerting.check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from firstwatch.alerting import maintenance
from firstwatch.alerting.check import Event, judged, recorded, still_open, warned
from firstwatch.alerting.incidents import incident_after, told
from firstwatch.alerting.model import ROUNDS_KEPT, AlertState, CheckState, Level, Notice, NoticeKind, Part
from firstwatch.monitor import Health, Seen
from firstwatch.spec.alerts import Alerts

Needs = Mapping[str, Sequence[str]]
"""Each monitored check with those that it cannot work without."""

_NEWS = (NoticeKind.OPENED, NoticeKind.WORSENED, NoticeKind.IMPROVED, NoticeKind.FLAPPING)
_SAYS_OPEN = (*_NEWS, NoticeKind.REOPENED, NoticeKind.REMINDER, NoticeKind.STEADY, NoticeKind.DIGEST)


def step(
    state: AlertState,
    policy: Alerts,
    round_key: str,
    seen: Sequence[Seen],
    needs: Needs,
    now: float,
    partial: bool = False,
) -> tuple[AlertState, tuple[Notice, ...]]:
    """Apply one round; one that was applied already changes nothing and gives nothing.

    `seen` holds the round's results; of a check that has several (rounds that are caught up on), all count, in order,
    and what follows is decided once. A check of `needs` without a result is UNKNOWN. One that neither names is no
    longer monitored: it is forgotten, and its alert closes. A `partial` round leaves all that it has no result of as it
    was.
    """
    if round_key in state.rounds:
        return state, ()
    results = _results(seen, {} if partial else needs, now)
    counted = {
        name: recorded(
            state.checks.get(name, CheckState()), found, maintenance.under(policy.maintenance, name, now) or "", policy
        )
        for name, found in results.items()
    }
    others = state.checks if partial else {}
    decided, events = _decided(state, counted, {**others, **counted}, results, policy, needs, now)
    checks = {**others, **decided}
    events += [_gone(name, check) for name, check in state.checks.items() if name not in checks and check.is_open]
    after = replace(state, checks=checks, rounds=(*state.rounds, round_key)[-ROUNDS_KEPT:])
    after = replace(after, incident=incident_after(after, now))
    events += [] if partial else _reminded(after, events, policy, results, now)
    return after, told(state, after, events, policy, round_key, now)


def delivered(state: AlertState, notice: Notice, ok: bool, now: float) -> AlertState:
    """The state once a notice was delivered, or was not: only what people have heard moves the reminders' clock."""
    incident = state.open_incident
    if not ok or incident is None or incident.id != notice.incident or notice.kind not in _SAYS_OPEN:
        return state
    return replace(state, incident=replace(incident, told_at=max(now, incident.told_at or now)))


def _results(seen: Sequence[Seen], needs: Needs, now: float) -> dict[str, list[Seen]]:
    """Each monitored check's results, in a fixed order: parents need not come first."""
    results: dict[str, list[Seen]] = {name: [] for name in needs}
    for one in seen:
        results.setdefault(one.check, []).append(one)
    return {
        name: found or [Seen(name, Health.UNKNOWN, "the round has no result of it", now)]
        for name, found in sorted(results.items())
    }


def _decided(
    before: AlertState,
    counted: Mapping[str, CheckState],
    known: Mapping[str, CheckState],
    results: Mapping[str, Sequence[Seen]],
    policy: Alerts,
    needs: Needs,
    now: float,
) -> tuple[dict[str, CheckState], list[Event]]:
    """Every counted check after the round; `known` are all, with their votes. A child looks at its parents' votes and
    at their alerts as they were before the round, so that the order in which checks are taken does not matter, and
    cycles end."""
    checks: dict[str, CheckState] = {}
    events: list[Event] = []
    for name, check in counted.items():
        last = results[name][-1]

        def held(level: Level, name: str = name, check: CheckState = check) -> str:
            under = f"maintenance ({check.maintenance})" if check.maintenance else ""
            return under or _held_by(level, needs.get(name, ()), name, before, known)

        check, found = judged(check, last, policy, held, now)
        checks[name], warning = warned(check, last)
        events += [*found, *([warning] if warning else [])]
    return checks, events


def _held_by(
    level: Level, parents: Sequence[str], name: str, before: AlertState, counted: Mapping[str, CheckState]
) -> str:
    """The parent whose trouble stands for this one: its alert is open, or it is down by its last vote. A parent that is
    only slow does not explain a child that is down."""
    for parent in parents:
        if parent == name or parent not in counted:
            continue
        alert = before.checks.get(parent, CheckState()).level
        if alert.rank >= level.rank or counted[parent].health is Health.DOWN:
            return f"as it needs {parent!r}, which is {Health.DOWN if alert is Level.NONE else alert.health}"
    return ""


def _gone(name: str, check: CheckState) -> Event:
    return Event(NoticeKind.CLOSED, Part(name, Health.UNKNOWN, "no longer monitored", since=check.since))


def _reminded(
    state: AlertState, events: Sequence[Event], policy: Alerts, results: Mapping[str, Sequence[Seen]], now: float
) -> list[Event]:
    """One reminder for all that is open, when it is due and nothing else is told of the incident in this round. What
    flaps, what is under maintenance and what was good when it was last seen is silent."""
    incident = state.open_incident
    if not policy.remind or incident is None or incident.told_at is None or now - incident.told_at < policy.remind:
        return []
    if any(event.kind in _NEWS for event in events):
        return []
    open_checks = ((name, state.checks[name]) for name in state.open_checks)
    return [
        still_open(check, results[name][-1], policy)
        for name, check in open_checks
        if not check.flapping and not check.maintenance and check.health is not Health.UP
    ]
