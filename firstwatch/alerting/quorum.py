"""What several locations come to: one result of a check, as the alert's state machine takes it.

Only who has looked has a vote: UNKNOWN, and a location from which nothing came (None), do not count. What the votes do
not settle is UNKNOWN, never a pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from firstwatch.monitor import Health, Seen
from firstwatch.spec.alerts import Streak


def join(votes: Mapping[str, Seen | None], needed: Streak | None = None, check: str = "", now: float = 0.0) -> Seen:
    """One result of one check out of each location's; `check` and `now` are for when no location says anything.

    Without `needed`, strictly more than half of those that vote decide; an even split decides nothing. With `2 of 3`,
    two that find it bad make it bad, and it is good once so many find it good that no two of three could be bad: a
    location that is silent is never taken for a good one. DOWN is worse than DEGRADED, and counts for it too.
    """
    voting = {place: seen for place, seen in votes.items() if seen is not None and seen.health is not Health.UNKNOWN}
    down = _of(voting, Health.DOWN)
    bad = _of(voting, Health.DOWN, Health.DEGRADED)
    good = _of(voting, Health.UP)
    for health, found in ((Health.DOWN, down), (Health.DEGRADED, bad)):
        if len(found) >= (needed.count if needed else _majority(voting)):
            return _joined(health, found, voting)
    if len(good) >= (needed.out_of - needed.count + 1 if needed else _majority(voting)):
        return _joined(Health.UP, good, voting)
    given = [seen for seen in votes.values() if seen is not None]
    at = max((seen.at for seen in given), default=now)
    return Seen(given[0].check if given else check, Health.UNKNOWN, _unsettled(votes, bad, good), at)


def _majority(voting: Mapping[str, Seen]) -> int:
    """Strictly more than half, and somebody."""
    return len(voting) // 2 + 1


def _of(voting: Mapping[str, Seen], *healths: Health) -> dict[str, Seen]:
    return {place: seen for place, seen in voting.items() if seen.health in healths}


def _joined(health: Health, agreeing: Mapping[str, Seen], voting: Mapping[str, Seen]) -> Seen:
    """The first of those that agree speaks for all: one whose own health it is, where there is one."""
    speaker = next((seen for seen in agreeing.values() if seen.health is health), next(iter(agreeing.values())))
    warning = next((seen for seen in (speaker, *voting.values()) if seen.warning), None)
    alone = len(voting) == 1 or health is Health.UP
    where = f"from {', '.join(agreeing)} ({len(agreeing)} of {len(voting)}): "
    return dataclasses.replace(
        speaker,
        health=health,
        why=speaker.why if alone else where + speaker.why,
        at=max(seen.at for seen in voting.values()),
        warning=warning.warning if warning else "",
        facts={**speaker.facts, **(warning.facts if warning else {})},
    )


def _unsettled(votes: Mapping[str, Seen | None], bad: Mapping[str, Seen], good: Mapping[str, Seen]) -> str:
    silent = [f"{name} ({s.why})" if s else name for name, s in votes.items() if name not in bad and name not in good]
    said = (("bad from", bad), ("good from", good), ("no vote from", silent))
    told = "; ".join(f"{what} {', '.join(places)}" for what, places in said if places)
    return f"the locations do not settle it: {told}" if told else "no location has looked"
