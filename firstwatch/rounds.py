"""From what a round found to what is remembered of it, and to what alerts are made of. Pure: a day can be replayed.

Every location keeps a `Place`: its last votes, the speed of each check over the last days, the baselines of what must
not drift. Locations take their rounds side by side; a *slot* is the interval in which they all take one, and each slot
is judged once, from the votes of all, in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from firstwatch import heartbeat, slowness
from firstwatch.alerting import quorum
from firstwatch.model import Outcome
from firstwatch.monitor import Health, Kind, Probe, Seen
from firstwatch.spec.alerts import Streak
from firstwatch.spec.models import Objectives
from firstwatch.spec.synthetic import Degraded
from firstwatch.units import show_duration

VOTES_KEPT = 4
_AWAITED = 2  # slots: a location that has not voted for longer is not waited for


@dataclass(frozen=True, slots=True)
class Vote:
    """What one location says of every check in one slot. `at`: when its round ended; `run` names the flow run."""

    slot: int
    at: float
    seen: tuple[Seen, ...]
    run: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What one location knows of a service. Times are Unix seconds.

    `seen` and `probes` are the last round's; `histories` (of speed, packed) and `baselines` (of what must not drift)
    are by check; `watched_since` says when a heartbeat was first waited for, `ttls` what a DNS record's last TTL was.
    `unsaid` is what was wrong with the schedule in a round whose slot may have been judged already: the next one says
    it.
    """

    every: float
    planned: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    votes: tuple[Vote, ...] = ()
    seen: tuple[Seen, ...] = ()
    probes: tuple[Probe, ...] = ()
    histories: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, Any] = field(default_factory=dict)
    watched_since: Mapping[str, float] = field(default_factory=dict)
    ttls: Mapping[str, float] = field(default_factory=dict)
    rounds: int = 0
    overlapped: int = 0  # rounds that were cancelled, because the one before had not ended
    unsaid: str = ""

    @property
    def lateness(self) -> float:
        """Seconds that the last round began after its time."""
        return max(0.0, self.started - self.planned)


@dataclass(frozen=True, slots=True)
class Round:
    """One round as it was taken. `reference` says why the location has no vote, where it could not reach what it must;
    `baselines` and `ttls` are those that this round has set, `compared` the baselines that it has compared with."""

    planned: float
    started: float
    ended: float
    probes: tuple[Probe, ...]
    run: str = ""  # the flow run's id
    reference: str = ""
    crashed: bool = False  # an earlier process of this round has died
    overlapped: int = 0  # rounds that have been cancelled so far
    baselines: Mapping[str, Any] = field(default_factory=dict)
    compared: Mapping[str, Any] = field(default_factory=dict)
    ttls: Mapping[str, float] = field(default_factory=dict)


def slot_of(planned: float, every: float) -> int:
    """The number of the interval that a planned start lies in; the same at all locations."""
    return math.floor(planned / every)


def last_judged(slot: object, was_every: object, every: float, now: float) -> int | None:
    """The last slot that was judged, as slots are numbered now. `was_every` is the interval by which `slot` was
    numbered; None where that is not known, or nothing was judged.

    One that lies ahead was judged by a clock that was: without it nothing would be judged until then.
    """
    if not isinstance(slot, int):
        return None
    if isinstance(was_every, int | float) and was_every > 0 and was_every != every:
        slot = slot_of(slot * was_every, every)
    return slot if slot <= slot_of(now, every) + 1 else slot_of(now, every) - 1


# ── one location ─────────────────────────────────────────────────────────────────────────────────────────────


def remembered(place: Place, taken: Round, degraded: Degraded, objectives: Objectives, location: str = "") -> Place:
    """The place after a round: each check's speed is held against its history, and becomes part of it.

    Of two rounds of one slot (a process was killed, a person has asked for another one) the later one's word counts.
    A round that begins more than an interval late counts for the slot that it begins in: it has seen how the service is
    now, and ten that are caught up on within a minute are not ten minutes.
    """
    late = taken.started - taken.planned > place.every
    slot = slot_of(taken.started if late else taken.planned, place.every)
    histories, seen = {}, []
    for probe in taken.probes:
        said, histories[probe.check] = _with_speed(probe, place.histories.get(probe.check), degraded, objectives)
        if heartbeat.NOT_DUE in probe.facts:  # there is nothing to see of it yet
            continue
        seen.append(_no_vote(said, taken.reference) if taken.reference else said)
    passed = any(vote.slot >= slot and vote.run != taken.run for vote in place.votes)
    own, unsaid = _schedule(taken, place, passed, location)
    seen.append(own)
    votes = {vote.slot: vote for vote in place.votes} | {slot: Vote(slot, taken.ended, tuple(seen), taken.run)}
    checks = {probe.check for probe in taken.probes}
    return replace(
        place,
        planned=taken.planned,
        started=taken.started,
        ended=taken.ended,
        votes=tuple(votes[slot] for slot in sorted(votes))[-VOTES_KEPT:],
        seen=tuple(seen),
        probes=taken.probes,
        histories={check: packed for check, packed in histories.items() if packed},
        baselines=_baselines(place, taken, checks),
        watched_since={check: place.watched_since.get(check, taken.started) for check in sorted(checks)},
        ttls={**_of(place.ttls, checks), **taken.ttls},
        rounds=place.rounds + 1,
        overlapped=taken.overlapped,
        unsaid=unsaid,
    )


def _baselines(place: Place, taken: Round, checks: set[str]) -> dict[str, Any]:
    """Those that the round has set, but where somebody has set another one meanwhile: a person has accepted it."""
    kept = _of(place.baselines, checks)
    changed = [c for c in kept if kept[c].get("baseline") != taken.compared.get(c, {}).get("baseline")]
    return {**kept, **{check: new for check, new in taken.baselines.items() if check not in changed}}


def _of(kept: Mapping[str, Any], checks: set[str]) -> dict[str, Any]:
    """Without what belongs to checks that the file has no more."""
    return {check: value for check, value in kept.items() if check in checks}


def _with_speed(
    probe: Probe, packed: str | None, degraded: Degraded, objectives: Objectives
) -> tuple[Seen, str | None]:
    """How the check is, by this probe and, where it works, by its speed; and its history, packed."""
    said = Seen(probe.check, probe.health, probe.why, probe.at, probe.warning, probe.facts)
    if said.health is not Health.UP or probe.elapsed is None:
        return said, packed
    history = slowness.add(slowness.unpack(packed)[0], probe.at, probe.elapsed, probe.at)
    limit = objectives.latency.get("p95")
    if probe.kind is not Kind.HTTP:  # a journey takes longer than one request, and a name server's time is not ours
        degraded, limit = degraded.model_copy(update={"limit": None}), None
    slow = slowness.judge(history, probe.at, degraded, limit)
    if slow.outcome is Outcome.FAIL:
        said = replace(said, health=Health.DEGRADED, why=slow.why)
    return said, slowness.pack(slowness.settle(history, slow))


def _no_vote(seen: Seen, reference: str) -> Seen:
    return replace(seen, health=Health.UNKNOWN, why=reference, warning="")


def _schedule(taken: Round, place: Place, passed: bool, location: str) -> tuple[Seen, str]:
    """What is said of the schedule in this round, and what is left to the next one. `passed`: another round has voted
    in this slot or a later one, so that this vote may not be judged any more. With several locations that is never
    known."""
    own = _on_time(taken, place.every, schedule_name(location))
    if own.health is Health.DOWN:
        return own, own.why if passed or location else ""
    if passed or not place.unsaid:
        return own, place.unsaid
    return replace(own, health=Health.DOWN, why=place.unsaid), ""


def _on_time(taken: Round, every: float, check: str) -> Seen:
    """The monitor's own check: whether its round began in time, and its process lived."""
    late = taken.started - taken.planned
    if taken.crashed:
        return Seen(
            check, Health.DOWN, f"its process died, and it began again {show_duration(round(late))} late", taken.ended
        )
    if late <= every:
        return Seen(check, Health.UP, "", taken.ended)
    why = f"began {show_duration(round(late))} late: longer than the {show_duration(every)} between two rounds"
    return Seen(check, Health.DOWN, why, taken.ended)


# ── all locations ────────────────────────────────────────────────────────────────────────────────────────────


def due(places: Mapping[str, Place], judged: int | None, current: int | None = None) -> list[int]:
    """The slots that can be judged now, in order, after `judged` (the last one that has been).

    A slot waits for every location that has voted lately; a later slot of any location ends the waiting. Slots after
    the one that follows `current` (given by the clock) are left out: they come of a clock that was ahead.
    """
    until = math.inf if current is None else current + 1
    slots = {name: [vote.slot for vote in place.votes if vote.slot <= until] for name, place in places.items()}
    newest = {name: given[-1] for name, given in slots.items() if given}
    if not newest:
        return []
    latest = max(newest.values())
    voted = sorted({slot for given in slots.values() for slot in given})
    awaited = [slot for slot in newest.values() if slot >= latest - _AWAITED]
    complete = all(slot == latest for slot in awaited)
    return [slot for slot in voted if (judged is None or slot > judged) and (slot < latest or complete)]


def joined(places: Mapping[str, Place], slot: int, needed: Streak | None, confirmed: int = 1) -> list[Seen]:
    """What all locations together say of each check in a slot. A location's schedule is its own affair; that it was
    late is a fact, and counts for as many results as open an alert (`confirmed`)."""
    votes = {name: {seen.check: seen for seen in _votes_of(place, slot)} for name, place in places.items()}
    found: list[Seen] = []
    for check in dict.fromkeys(check for by_check in votes.values() for check in by_check):
        of_check = {name: by_check.get(check) for name, by_check in votes.items()}
        own = next((seen for name, seen in of_check.items() if seen and check == schedule_name(name)), None)
        if own is not None:
            found += [own] * (confirmed if own.health is Health.DOWN else 1)
        elif len(votes) == 1 and needed is None:
            found += [seen for seen in of_check.values() if seen]
        else:
            found.append(quorum.join(of_check, needed, check))
    return found


def schedule_name(location: str) -> str:
    """The check of the monitor itself, at one location."""
    return f"schedule {location}".strip()


def _votes_of(place: Place, slot: int) -> Sequence[Seen]:
    return next((vote.seen for vote in place.votes if vote.slot == slot), ())
