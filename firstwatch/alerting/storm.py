"""Storms: when the incidents of many services open at once, they are told in one message that is brought up to date.

The ledger is shared by all services. The first `after` - 1 incidents within the time are told on their own; from then
on, what opens goes into the digest, until none has opened for that time and all of the storm's are closed. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from firstwatch.spec.alerts import Storm

NAMED = 200  # incidents that a ledger names; of more, the oldest closed ones are only counted


class Way(StrEnum):
    ALONE = "alone"  # a message of its own
    BEGINS = "begins"  # the digest's first message
    JOINS = "joins"  # the digest is brought up to date


@dataclass(frozen=True, slots=True)
class Member:
    """An incident as the ledger knows it."""

    incident: str
    service: str
    opened_at: float
    closed_at: float | None = None
    in_digest: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """The incidents of late. `digest` is the id of the storm's message while there is a storm; `unnamed` counts those
    of it that are no longer among the members."""

    members: tuple[Member, ...] = ()
    digest: str = ""
    unnamed: int = 0

    @property
    def stormy(self) -> tuple[Member, ...]:
        """Those that the digest speaks of."""
        return tuple(member for member in self.members if member.in_digest)


@dataclass(frozen=True, slots=True)
class Decision:
    """How an incident's opening is told, and with which of them in the digest."""

    way: Way
    digest: str = ""
    members: tuple[Member, ...] = ()
    unnamed: int = 0


def storm(ledger: Ledger, policy: Storm, service: str, incident: str, now: float) -> tuple[Ledger, Decision]:
    """The ledger with an incident that has opened, and how that is told. Asked again, it says the same way again, but
    that the digest has begun already."""
    ledger = settled(ledger, policy, now)
    known = next((member for member in ledger.members if member.incident == incident), None)
    if known is not None:
        return ledger, _decision(ledger, Way.JOINS if known.in_digest else Way.ALONE)
    of_late = sum(now - member.opened_at < policy.within for member in ledger.members)
    in_digest = bool(ledger.digest) or of_late + 1 >= policy.after
    way = Way.JOINS if ledger.digest else Way.BEGINS if in_digest else Way.ALONE
    digest = ledger.digest or (f"storm@{incident}" if in_digest else "")
    new = Member(incident, service, now, in_digest=in_digest)
    ledger = _bounded(replace(ledger, members=(*ledger.members, new), digest=digest))
    return ledger, _decision(ledger, way)


def ended(ledger: Ledger, policy: Storm, incident: str, now: float) -> tuple[Ledger, Decision]:
    """The ledger with an incident that has closed, and where that is told: with it, the digest is brought up to date.
    One that the ledger does not know (any more) is told alone."""
    known = next((member for member in ledger.members if member.incident == incident), None)
    if known is None:
        return settled(ledger, policy, now), Decision(Way.ALONE)
    closed = replace(known, closed_at=now if known.closed_at is None else known.closed_at)
    members = tuple(closed if member is known else member for member in ledger.members)
    ledger = replace(ledger, members=members)
    decision = _decision(ledger, Way.JOINS if known.in_digest else Way.ALONE)
    return settled(ledger, policy, now), decision


def settled(ledger: Ledger, policy: Storm, now: float) -> Ledger:
    """Without what no longer matters: a storm that is over, and closed incidents from before its time."""
    calm = all(now - m.opened_at >= policy.within for m in ledger.members)
    over = calm and all(m.closed_at is not None for m in ledger.stormy)
    digest = "" if over else ledger.digest
    members = tuple(
        replace(m, in_digest=m.in_digest and bool(digest))
        for m in ledger.members
        if m.closed_at is None or now - m.opened_at < policy.within or (m.in_digest and digest)
    )
    return Ledger(members, digest, ledger.unnamed if digest else 0)


def _bounded(ledger: Ledger) -> Ledger:
    """Not more than NAMED members: closed ones go first, then the oldest."""
    excess = len(ledger.members) - NAMED
    if excess <= 0:
        return ledger
    oldest = sorted(ledger.members, key=lambda m: (m.closed_at is None, m.opened_at))[:excess]
    kept = tuple(member for member in ledger.members if member not in oldest)
    return replace(ledger, members=kept, unnamed=ledger.unnamed + sum(m.in_digest for m in oldest))


def _decision(ledger: Ledger, way: Way) -> Decision:
    if way is Way.ALONE:
        return Decision(way)
    return Decision(way, ledger.digest, ledger.stormy, ledger.unnamed)
