"""The outbox: notices that wait for delivery, kept beside the state, so that no death of a process loses one.

Who delivers claims an entry, tries, and settles it. An entry whose owner has died is claimed anew. The notices of one
incident go out in order; a trigger or a resolve is never dropped. What waits for too long in too large a number is
joined into digests. Pure: the caller stores the outbox, and delivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from firstwatch.alerting.model import Notice, NoticeKind
from firstwatch.model import rfc3339

CLAIM_LASTS = 120.0  # seconds; after that its owner is taken for dead
FIRST_WAIT, LONGEST_WAIT = 15.0, 60.0  # seconds between tries, doubling: an alert's channel is tried again at once
MOST = 20  # entries; with more, those that wait are joined
LINES = 12  # of a digest, beside the number of the others
THREADS = 20  # incidents whose thread is remembered
DONE_KEPT = 40  # ids, against a round that is applied again after its notices went out


class Delivery(StrEnum):
    """What became of a try. UNKNOWN: it may have arrived (no answer came)."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


def holds(claimed_at: float | None, now: float) -> bool:
    """Whether who claimed it then is taken to be alive. A claim that lies far ahead is of a clock that was ahead: if
    its owner has died, nobody would be told until then."""
    return claimed_at is not None and abs(now - claimed_at) < CLAIM_LASTS


@dataclass(frozen=True, slots=True)
class Entry:
    """A notice that waits. `incidents` are those that it speaks of; `doubt`: an earlier try may have arrived, so look
    before it is sent again, where the channel allows it."""

    notice: Notice
    incidents: tuple[str, ...]
    by: str = ""  # who has claimed it
    claimed_at: float | None = None
    tries: int = 0
    next_at: float = 0.0  # not tried before
    doubt: bool = False

    def is_claimed(self, now: float) -> bool:
        return holds(self.claimed_at, now)

    def is_due(self, now: float) -> bool:
        """Whether its last try was long enough ago; a time that no wait reaches is one of a clock that was ahead."""
        return not now < self.next_at <= now + 2 * LONGEST_WAIT


@dataclass(frozen=True, slots=True)
class Outbox:
    """`threads`: the channel's name of an incident's first message, to which later ones are answers."""

    entries: tuple[Entry, ...] = ()
    threads: Mapping[str, str] = field(default_factory=dict)
    done: tuple[str, ...] = ()  # ids of late that were delivered, or joined into a digest


def add(outbox: Outbox, notices: Iterable[Notice]) -> Outbox:
    """With the notices that are to be told, behind those that wait. One that is there, or was delivered, is not added
    again. A reminder replaces the one before; a close makes its incident's reminders needless."""
    for notice in notices:
        known = {*outbox.done, *(entry.notice.id for entry in outbox.entries)}
        if notice.tell and notice.id not in known:
            kept = tuple(entry for entry in outbox.entries if not _outdated(entry, notice))
            outbox = replace(outbox, entries=(*kept, Entry(notice, _subjects(notice))))
    return _joined(outbox)


def _subjects(notice: Notice) -> tuple[str, ...]:
    """What a notice is in order with: its incident, or the service's notices of none."""
    return (notice.incident or notice.service,)


def _outdated(entry: Entry, by: Notice) -> bool:
    if entry.notice.kind is not NoticeKind.REMINDER or entry.claimed_at is not None:
        return False
    return entry.notice.incident == by.incident and (by.kind is NoticeKind.REMINDER or by.last)


# ── delivering ───────────────────────────────────────────────────────────────────────────────────────────────


def claim(outbox: Outbox, by: str, now: float, most: int = 10) -> tuple[Outbox, tuple[Entry, ...]]:
    """Up to `most` entries for `by` to deliver now: the first of each incident, unless somebody is at it or its last
    try is too short a time ago. After they are settled, there may be more."""
    waited_for: set[str] = set()
    entries, mine = list(outbox.entries), list[Entry]()
    for i, entry in enumerate(outbox.entries):
        free = not waited_for.intersection(entry.incidents)
        waited_for.update(entry.incidents)
        if free and len(mine) < most and not entry.is_claimed(now) and entry.is_due(now):
            taken = replace(entry, by=by, claimed_at=now, tries=entry.tries + 1)
            entries[i] = replace(taken, doubt=entry.doubt or entry.claimed_at is not None)
            mine.append(entries[i])
    return (replace(outbox, entries=tuple(entries)), tuple(mine)) if mine else (outbox, ())


def settle(outbox: Outbox, notice_id: str, by: str, delivery: Delivery, now: float, thread: str = "") -> Outbox:
    """What became of an entry that `by` had claimed. Delivered counts whoever says it; anything else only from the one
    who has the claim. A reminder that was not delivered and is outdated since is dropped."""
    entry = next((entry for entry in outbox.entries if entry.notice.id == notice_id), None)
    if entry is None or (delivery is not Delivery.OK and entry.by != by):
        return outbox
    if delivery is Delivery.OK:
        return _delivered(outbox, entry, thread)
    wait = min(FIRST_WAIT * 2 ** min(entry.tries - 1, 10), LONGEST_WAIT)
    again = replace(entry, by="", claimed_at=None, next_at=now + wait)
    again = replace(again, doubt=entry.doubt or delivery is Delivery.UNKNOWN)
    behind = outbox.entries[outbox.entries.index(entry) + 1 :]
    kept = () if any(_outdated(again, other.notice) for other in behind) else (again,)
    entries = [e for old in outbox.entries for e in (kept if old is entry else (old,))]
    return replace(outbox, entries=tuple(entries))


def overdue(outbox: Outbox, now: float) -> tuple[Entry, ...]:
    """Claims whose owner is taken for dead; `claim` gives them to the next who asks."""
    return tuple(e for e in outbox.entries if e.claimed_at is not None and not e.is_claimed(now))


def _delivered(outbox: Outbox, entry: Entry, thread: str) -> Outbox:
    threads = dict(outbox.threads)
    if thread:
        threads.update({incident: thread for incident in entry.incidents if incident not in threads})
    return replace(
        outbox,
        entries=tuple(other for other in outbox.entries if other is not entry),
        threads=dict(list(threads.items())[-THREADS:]),
        done=(*outbox.done, entry.notice.id)[-DONE_KEPT:],
    )


# ── joining ──────────────────────────────────────────────────────────────────────────────────────────────────


def _joined(outbox: Outbox) -> Outbox:
    """At most MOST entries: reminders go first, then the two that have waited longest and are nobody's become one."""
    entries, done = list(outbox.entries), list(outbox.done)
    if len(entries) > MOST:
        entries = [e for e in entries if e.notice.kind is not NoticeKind.REMINDER or e.claimed_at is not None]
    while len(entries) > MOST:
        waiting = [i for i, entry in enumerate(entries) if entry.claimed_at is None]
        if len(waiting) < 2:
            break
        first, second = waiting[:2]
        done += [entries[i].notice.id for i in (first, second)]
        entries[first : second + 1] = [*entries[first + 1 : second], _digest(entries[first], entries[second])]
    return replace(outbox, entries=tuple(entries), done=tuple(done[-DONE_KEPT:]))


def _digest(first: Entry, second: Entry) -> Entry:
    """Two entries as one, which says in short what each would have said."""
    lines = (*_lines(first.notice), *_lines(second.notice))
    if len(lines) > LINES:
        told = sum(_number(line) for line in lines[: len(lines) - LINES + 1])
        lines = (f"{told} earlier notices", *lines[len(lines) - LINES + 1 :])
    last = second.notice
    notice = Notice(
        id=f"digest/{last.id}",
        kind=NoticeKind.DIGEST,
        service=last.service,
        incident=last.incident or first.notice.incident,
        at=last.at,
        first=first.notice.first or last.first,
        last=last.last,
        lines=lines,
    )
    return Entry(
        notice,
        incidents=tuple(dict.fromkeys((*first.incidents, *second.incidents))),
        next_at=max(first.next_at, second.next_at),
        doubt=first.doubt or second.doubt,
    )


def _lines(notice: Notice) -> tuple[str, ...]:
    if notice.kind is NoticeKind.DIGEST:
        return notice.lines
    whys = "; ".join(f"{part.check}: {part.why}" for part in notice.parts)
    text = f"{rfc3339(notice.at)} {notice.kind} {whys}"
    return (text if len(text) <= 200 else text[:199] + "…",)


def _number(line: str) -> int:
    """How many notices a digest's line stands for."""
    return int(line.split()[0]) if line.endswith(" earlier notices") else 1
