"""What stands in Slack and in the documents after bench/day.py, held against what had to be there, one by one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.day_expected import Incident, storms
from bench.day_script import BEGIN, DOWN, MINUTE, UP, Script, minute_of
from demo.slack import Posted
from firstwatch import slowness
from tasks.monitor import AT_REST

_ID = re.compile(r"\b(svc-\d\d)@(\d{4}-\S+Z)")
_DIGEST = re.compile(r"\S+ (?:\d+ of )?(\d+) services?:")  # "🔴 3 of 16 services: …"; not all of them are listed


@dataclass
class Taken:
    """A round that was under way when its process was killed; `written`: what it found is in the documents."""

    service: str
    minute: int
    written: bool


@dataclass
class Found:
    """Slack, read as people read it."""

    threads: dict[tuple[str, int], list[Posted]] = field(default_factory=dict)  # service and minute → tops
    replies: dict[str, list[Posted]] = field(default_factory=dict)  # by the top's ts
    digests: list[Posted] = field(default_factory=list)
    strays: list[Posted] = field(default_factory=list)


def read(messages: Sequence[Posted]) -> Found:
    found = Found()
    for message in messages:
        id = _ID.search(message.words)
        if message.thread_ts:
            found.replies.setdefault(message.thread_ts, []).append(message)
        elif id is not None:
            minute = minute_of(datetime.fromisoformat(id[2]).timestamp())
            found.threads.setdefault((id[1], minute), []).append(message)
        elif _DIGEST.match(message.words):
            found.digests.append(message)
        else:
            found.strays.append(message)
    return found


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────


def wrong_alerts(
    expected: Sequence[Incident], messages: Sequence[Posted], opened_at: Callable[[Incident], float], after: int
) -> Iterator[str]:
    """All that is lost, doubled, out of order or not expected; `after`: incidents that make a storm."""
    found = read(messages)
    stormy = [*storms(expected, {id(one): opened_at(one) for one in expected})]
    in_digests = 0
    for storm in stormy:
        alone = [one for one in storm if (one.service, one.opened) in found.threads]
        in_digests += len(storm) - len(alone)
        if len(alone) >= after:
            yield f"{len(alone)} incidents of one storm were told alone"
    in_a_storm = {id(one) for storm in stormy for one in storm}
    for one in expected:
        tops = found.threads.pop((one.service, one.opened), [])
        if not tops and id(one) in in_a_storm:
            continue  # it must be in the digest, which counts them
        yield from _wrong_thread(one, tops, found)
    yield from _wrong_digests(found, stormy, in_digests)
    yield from (f"not expected: {tops[0].words.splitlines()[0]} of {key}" for key, tops in found.threads.items())
    yield from (f"not expected: {stray.words.splitlines()[0]}" for stray in found.strays)
    yield from _twice(messages)


def _wrong_thread(one: Incident, tops: Sequence[Posted], found: Found) -> Iterator[str]:
    name = f"{one.service} at minute {one.opened}"
    if len(tops) != 1:
        yield f"{name}: {'lost' if not tops else f'told {len(tops)} times'}"
        return
    top = tops[0]
    first = (*top.earlier, top.words)[0].splitlines()[0]
    if not first.endswith(f" {one.service}: {one.words}"):
        yield f"{name}: begins with {first!r}, not {one.words!r}"
    if (one.closed is not None) != ("resolved after" in top.words.splitlines()[0]):
        yield f"{name}: closed at {one.closed}, and shown as {top.words.splitlines()[0]!r}"
    told = [_said(reply, one.service) for reply in found.replies.get(top.ts, [])]
    if told != one.replies:
        yield f"{name}: replies are {told}, not {one.replies}"


def _said(reply: Posted, service: str) -> str:
    """`🟢 svc-01: resolved after 8m` → `resolved`."""
    return reply.words.splitlines()[0].partition(f"{service}: ")[2].partition(" after ")[0]


def _wrong_digests(found: Found, stormy: Sequence[Sequence[Incident]], in_digests: int) -> Iterator[str]:
    """A storm is one message, which speaks of all its incidents but the first, and its end one reply."""
    told = sum(int(match[1]) for digest in found.digests if (match := _DIGEST.match(digest.words)))
    expected = sum(any((one.closed is None) for one in storm) for storm in stormy)
    still = [digest for digest in found.digests if "all resolved" not in digest.words.splitlines()[0]]
    ends = [m for digest in found.digests for m in found.replies.get(digest.ts, []) if "all resolved" in m.words]
    if len(found.digests) != len(stormy) or told != in_digests:
        yield f"{len(stormy)} storms with {in_digests} incidents are {len(found.digests)} messages with {told}"
    if len(still) > expected or len(ends) != len(found.digests) - len(still):
        yield f"of {len(found.digests)} storms {len(still)} are not over, and {len(ends)} ends were told"


def _twice(messages: Sequence[Posted]) -> Iterator[str]:
    marks = Counter(str((message.metadata or {}).get("event_payload")) for message in messages)
    yield from (f"sent {n} times: the notice {mark}" for mark, n in marks.items() if n > 1)
    yield from (f"said to be a repeat: {m.words.splitlines()[0]}" for m in messages if "may be a repeat" in m.words)


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────────


def wrong_rounds(
    script: Script, place: Mapping[str, Any], alerts: Mapping[str, Any], turn: Mapping[str, Any]
) -> Iterator[str]:
    """What the documents of a service do not say as it was: each minute counted, judged, and in the history, once. That
    the last good minutes were judged need not be written down."""
    name, last, end = script.service, minute_of(alerts["slot"] * MINUTE), len(script.states) - 1
    at_rest = (end - last) * MINUTE < AT_REST and set(script.states[last + 1 :]) <= {UP}
    if last > end or not at_rest or turn["run"]:
        yield f"{name}: judged until minute {last} of {end}, and the turn is {turn['run'] or 'free'!r}"
    if alerts["outbox"].get("entries"):
        yield f"{name}: {len(alerts['outbox']['entries'])} notices were never delivered"
    if place["rounds"] != len(script.states):
        yield f"{name}: {place['rounds']} rounds, not {len(script.states)}"
    history, _ = slowness.unpack(place["histories"].get("health"))
    counted = {int(hour.start - BEGIN) // 3600: hour.count for hour in history.hours}
    answered = Counter(m // 60 for m, state in enumerate(script.states) if state != DOWN)
    if counted != dict(answered):
        yield f"{name}: answers by hour are {counted}, not {dict(answered)}"


def wrong_requests(
    scripts: Sequence[Script],
    busy: Mapping[str, set[int]],
    asked: Mapping[tuple[str, int], int],
    taken: Sequence[Taken],
    deaths: int,
) -> Iterator[str]:
    """Each minute of each service is asked for once. A round that had not been written down may have asked before, and
    so may quiet ones, which died with their process' memory."""
    again = Counter((each.service, each.minute) for each in taken if not each.written)
    for script in scripts:
        for minute in range(len(script.states)):
            times = asked.get((script.service, minute), 0)
            more = again[script.service, minute] if minute in busy[script.service] else deaths
            if not 1 <= times <= 1 + more:
                yield f"{script.service}: asked {times} times in minute {minute}"
