"""One check's alert: what a round's votes make of it. Pure; `firstwatch.alerting.machine` puts the checks together.

`recorded` counts the votes, `judged` says what follows. An alert opens by enough bad votes and closes by enough good
ones; between them it stays as it is, whatever the single vote says. UNKNOWN is no vote: it counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from firstwatch.alerting.model import BAD, DOWN, LETTERS, SLOW, UP, CheckState, Level, NoticeKind, Part
from firstwatch.monitor import Health, Seen
from firstwatch.spec.alerts import Alerts, Opening, Streak
from firstwatch.units import show_duration

Held = Callable[[Level], str]
"""Why an alert of that level must not open now; "" where it may."""


@dataclass(frozen=True, slots=True)
class Event:
    """What has happened to one check in one round."""

    kind: NoticeKind
    part: Part


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────


def recorded(check: CheckState, seen: Sequence[Seen], window: str, policy: Alerts) -> CheckState:
    """The check with the round's results, in their order; `window` is the maintenance that the round lies in, or "".

    What was counted in a maintenance is forgotten when it ends: results count anew.
    """
    if check.maintenance and not window:
        kept = check.since if check.is_open else None
        check = replace(check, results="", row=0, unknown=0, since=kept, held="", changes=())
    check = replace(check, maintenance=window)
    for one in seen:
        check = _voted(check, one, policy) if one.health in LETTERS else replace(check, unknown=check.unknown + 1)
    return check


def _voted(check: CheckState, seen: Seen, policy: Alerts) -> CheckState:
    good, was_good = seen.health is Health.UP, check.row > 0
    turned = check.row == 0 or good != was_good
    row = (1 if good else -1) if turned else check.row + (1 if good else -1)
    changes = check.changes
    if turned and check.row:
        changes = (*changes, seen.at)
    results = (check.results + LETTERS[seen.health])[-_longest(policy) :]
    return replace(
        check,
        results=results,
        at=seen.at,
        row=row,
        row_since=seen.at if turned else check.row_since,
        since=_trouble_since(check, seen, results, policy),
        unknown=0,
        held="" if good else check.held,
        changes=tuple(at for at in changes if at > seen.at - policy.flapping.within)[-policy.flapping.changes :],
    )


def _trouble_since(check: CheckState, seen: Seen, results: str, policy: Alerts) -> float | None:
    """The first bad vote of the trouble. A good vote ends it where bad ones must come in a row, else when the last bad
    one is too long ago to count; that of an open alert ends with the alert."""
    if seen.health is not Health.UP:
        return seen.at if check.since is None else check.since
    rules = [policy.open.after] + ([policy.degraded.after] if policy.degraded else [])
    in_a_row = all(rule.count == rule.out_of for rule in rules)
    over = in_a_row or not any(vote in BAD for vote in results)
    return None if over and not check.is_open else check.since


def _longest(policy: Alerts) -> int:
    """How many votes the policy looks at."""
    rules = [policy.open.after, policy.close.after] + ([policy.degraded.after] if policy.degraded else [])
    return max(rule.out_of for rule in rules)


def _count(check: CheckState, letters: str, rule: Streak) -> int:
    """How many of the last votes that the rule looks at are of these letters."""
    return sum(vote in letters for vote in check.results[-rule.out_of :])


def _reached(check: CheckState, letters: str, rule: Streak) -> bool:
    return _count(check, letters, rule) >= rule.count


# ── what follows ─────────────────────────────────────────────────────────────────────────────────────────────


def judged(check: CheckState, seen: Seen, policy: Alerts, held: Held, now: float) -> tuple[CheckState, list[Event]]:
    """The check after the round whose (last) result is `seen`, and what there is to say."""
    if seen.health not in LETTERS:
        return _unwatched(check, seen, policy)
    events: list[Event] = []
    if check.unwatched:
        check = replace(check, unwatched=False)
        events.append(_event(NoticeKind.WATCHED, check, seen, "there are results again"))
    for rule in (_flapping, _closing, _improving, _opening):
        check, found = rule(check, seen, policy, held, now)
        if found is not None:
            return check, [*events, found]
    return check, events


def _unwatched(check: CheckState, seen: Seen, policy: Alerts) -> tuple[CheckState, list[Event]]:
    """A long row of rounds without a vote is told once, as what it is. It neither opens nor closes anything."""
    if check.unwatched or check.maintenance or check.unknown < policy.open.after.out_of:
        return check, []
    why = f"no result {check.unknown} times in a row: {seen.why}"
    return replace(check, unwatched=True), [_event(NoticeKind.UNWATCHED, check, seen, why)]


def _flapping(check: CheckState, seen: Seen, policy: Alerts, held: Held, now: float) -> tuple[CheckState, Event | None]:
    """Too many changes: said once (by opening the alert at a bad vote, if none is open), and then nothing until it is
    steady, unless it goes down for good."""
    rule = policy.flapping
    if check.flapping and now - check.row_since >= rule.within:
        return _steady(replace(check, flapping=False, changes=()), seen, policy)
    begins = not check.flapping and len(check.changes) >= rule.changes and not check.maintenance
    if not begins:
        return check, None
    why = f"goes up and down: {len(check.changes)} changes in {show_duration(rule.within)}"
    if not check.is_open and seen.health is Health.UP:
        return check, None
    if check.is_open:
        return replace(check, flapping=True), _event(NoticeKind.FLAPPING, check, seen, why)
    level = max(_due(check, policy, now)[0], Level.DEGRADED, key=lambda x: x.rank)
    changed, event = _open(check, level, seen, Streak(count=1, out_of=1), held, now, why)
    return replace(changed, flapping=changed.is_open), event


def _steady(check: CheckState, seen: Seen, policy: Alerts) -> tuple[CheckState, Event | None]:
    """A check that flaps no more: its alert closes, or goes on as any other."""
    if seen.health is Health.UP and _reached(check, UP, policy.close.after):
        return _close(check, seen, policy)
    return check, _event(NoticeKind.STEADY, check, seen, f"goes up and down no more, and is {seen.health}: {seen.why}")


def _closing(check: CheckState, seen: Seen, policy: Alerts, held: Held, now: float) -> tuple[CheckState, Event | None]:
    due = check.is_open and not check.flapping and seen.health is Health.UP
    return _close(check, seen, policy) if due and _reached(check, UP, policy.close.after) else (check, None)


def _improving(
    check: CheckState, seen: Seen, policy: Alerts, held: Held, now: float
) -> tuple[CheckState, Event | None]:
    """Down, and for as many votes as would close it only slow."""
    due = check.level is Level.DOWN and not check.flapping and seen.health is Health.DEGRADED
    if not (due and _reached(check, UP + SLOW, policy.close.after)):
        return check, None
    return replace(check, level=Level.DEGRADED), _event(NoticeKind.IMPROVED, check, seen, seen.why)


def _opening(check: CheckState, seen: Seen, policy: Alerts, held: Held, now: float) -> tuple[CheckState, Event | None]:
    """An alert opens, or a degraded one becomes one of down, by a bad vote: a window that still holds enough of them
    opens nothing by itself."""
    level, rule = _due(check, policy, now)
    if level.rank <= check.level.rank:
        return check, None
    return _open(check, level, seen, rule, held, now, seen.why)


def _due(check: CheckState, policy: Alerts, now: float) -> tuple[Level, Streak]:
    """The level that the latest votes ask for, and the rule by which."""
    last, degraded = check.results[-1:], policy.degraded or policy.open
    if last == DOWN and _asks(check, DOWN, policy.open, now):
        return Level.DOWN, policy.open.after
    if last in (SLOW, DOWN) and _asks(check, BAD, degraded, now):
        return Level.DEGRADED, degraded.after
    return Level.NONE, policy.open.after


def _asks(check: CheckState, letters: str, rule: Opening, now: float) -> bool:
    lasted = rule.lasting is None or (check.since is not None and now - check.since >= rule.lasting)
    return lasted and _reached(check, letters, rule.after)


def _open(
    check: CheckState, level: Level, seen: Seen, rule: Streak, held: Held, now: float, why: str
) -> tuple[CheckState, Event | None]:
    """Open the alert, or make it one of down; or hold that back, which is said once, for the record."""
    if reason := held(level):
        told = None if check.held else _event(NoticeKind.HELD, check, seen, f"held back, {reason}: {why}", rule)
        return replace(check, held=reason), told
    kind = NoticeKind.WORSENED if check.is_open else NoticeKind.OPENED
    began = check.opened_at if check.is_open else now
    opened = replace(check, level=level, opened_at=began, held="", since=check.since or seen.at)
    return opened, _event(kind, opened, seen, why, rule)


def _close(check: CheckState, seen: Seen, policy: Alerts) -> tuple[CheckState, Event]:
    """Without its alert. Its votes stay: a window of several goes on over the end of an alert."""
    event = _event(NoticeKind.CLOSED, check, seen, seen.why, policy.close.after)
    return replace(check, level=Level.NONE, opened_at=None, since=None, held="", flapping=False), event


def closed(check: CheckState) -> CheckState:
    """Without its alert. Its votes stay: a window of several goes on over the end of an alert."""
    return replace(check, level=Level.NONE, opened_at=None, since=None, held="", flapping=False)


def still_open(check: CheckState, seen: Seen, policy: Alerts) -> Event:
    """The reminder of an open alert."""
    rule = policy.open if check.level is Level.DOWN else policy.degraded or policy.open
    return _event(NoticeKind.REMINDER, check, seen, seen.why, rule.after)


def _event(kind: NoticeKind, check: CheckState, seen: Seen, why: str, rule: Streak | None = None) -> Event:
    """Told with the votes of the kind that led to it. The level of an alert that opens is its own, not the vote's."""
    of_level = (NoticeKind.OPENED, NoticeKind.WORSENED, NoticeKind.REMINDER)
    shown = check.level.health if kind in of_level else seen.health
    letters = {NoticeKind.CLOSED: UP}.get(kind, DOWN if shown is Health.DOWN else BAD)
    counted = _count(check, letters, rule) if rule else 0
    part = Part(check=seen.check, health=shown, why=why, since=check.since, results=counted, facts=_facts(seen))
    return Event(kind, replace(part, out_of=rule.out_of) if rule else part)


def _facts(seen: Seen) -> Mapping[str, float | str]:
    return dict(seen.facts)


# ── warnings ─────────────────────────────────────────────────────────────────────────────────────────────────

_WARNINGS_KEPT = 8


def warned(check: CheckState, seen: Seen) -> tuple[CheckState, Event | None]:
    """A warning is told once per threshold and fingerprint, and never within a maintenance (but after it). One that
    names neither is told once until it is gone."""
    key = ":".join(str(seen.facts.get(name, ""))[:16] for name in ("threshold", "fingerprint"))
    if not seen.warning:
        gone = seen.health is Health.UP and ":" in check.warned
        return (replace(check, warned=tuple(k for k in check.warned if k != ":")) if gone else check), None
    if key in check.warned or check.maintenance:
        return check, None
    told = replace(check, warned=(*check.warned, key)[-_WARNINGS_KEPT:])
    return told, Event(NoticeKind.WARNING, Part(seen.check, seen.health, seen.warning, facts=_facts(seen)))
