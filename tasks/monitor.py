"""One round of a service's monitor, from the first look to the last word: what flows/synthetic.py is made of.

Everything that must outlive the round lies in documents on the Prefect server (tasks/store.py): whose turn it is, what
the location knows, and the service's alerts with what people are yet to be told. Each is changed by compare-and-set and
each change is the same however often it is made, so a round that is killed anywhere is taken again without harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from prefect.client.orchestration import PrefectClient
from pydantic import TypeAdapter, ValidationError

from firstwatch import alerting
from firstwatch.alerting import outbox
from firstwatch.model import as_json
from firstwatch.monitor import Health, Probe, Seen
from firstwatch.redaction import Redactor
from firstwatch.report.model import Delivery
from firstwatch.report.told import Book, read_book, written
from firstwatch.rounds import Place, Round, due, joined, last_judged, remembered, schedule_name, slot_of
from firstwatch.spec import Request, Service
from firstwatch.spec.monitored import needs_of, rules_for
from firstwatch.spec.synthetic import Dependency, Synthetic
from firstwatch.units import show_duration
from tasks import heartbeats, store
from tasks.budget import open_budget
from tasks.http import Logger, Transport
from tasks.looks import Runner
from tasks.probes import Probing
from tasks.store import alerts_key, place_key

_PLACE = TypeAdapter(Place)
AT_REST = 300.0  # seconds in which one of the rounds that found nothing new brings page and alerts up to date
_OUTSIDE_TIME = 5.0  # seconds for a location to reach its reference


async def leave_word(client: PrefectClient, service: Service, location: str, run: str, why: str) -> None:
    """Have the next round say what was wrong with one that has no vote, nor will have: its process died, and when it
    came back another one was at it."""
    assert service.synthetic is not None
    every = service.synthetic.every

    def with_word(kept: Any) -> Any:
        try:
            place = _PLACE.validate_python(kept) if kept else Place(every)
        except ValidationError:
            return kept
        voted = any(vote.run == run for vote in place.votes)
        return kept if voted else as_json(replace(place, unsaid=why))

    await store.change(client, place_key(service.service, location), with_word)


# ── a round ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Monitor:
    """One round, and everything it needs. `planned` is when it was to begin (Unix seconds)."""

    service: Service
    location: str
    planned: float
    started: float
    transport: Transport
    outside: Mapping[str, Transport]
    runner: Runner
    client: PrefectClient | None  # None: nothing is remembered
    logger: Logger
    clock: Callable[[], float] = time.time
    run: str = ""  # the flow run's id
    process: int = 1  # which of its processes this is
    restarted: bool = False  # an earlier process has died, or its end was not heard of
    overlapped: int = 0  # rounds that were cancelled so far
    place: Place = field(default_factory=lambda: Place(every=60.0))
    probes: tuple[Probe, ...] = ()
    left_out: Sequence[str] = ()  # checks that could not be looked at, as nothing is remembered
    notes: list[str] = field(default_factory=list)
    book: Book | None = None  # the service's alerts and what is yet to be told, once they are judged
    deliveries: list[Delivery] = field(default_factory=list)  # of what people were told, or not
    was_up: bool = False  # all was well in the round before
    was_planned: float = 0.0  # and when that was to begin
    calm: bool = False  # nothing has happened to the alerts, and nothing is to be told
    _seen: store.Seen | None = None  # the place's document, before the round
    _places: dict[str, Place] | None = None
    _reference: str = ""
    _probing: Probing | None = None

    @property
    def synthetic(self) -> Synthetic:
        assert self.service.synthetic is not None
        return self.service.synthetic

    @property
    def redactor(self) -> Redactor:
        return self.transport.redactor

    @property
    def seen(self) -> tuple[Seen, ...]:
        """What this location says of each check."""
        return self.place.seen

    @property
    def alerts(self) -> alerting.AlertState | None:
        return self.book.state if self.book else None

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    async def look(self) -> None:
        """Take every check once, side by side; whatever happens, each has a result. What an earlier process of this
        round has written down is not looked at again."""
        self.place = await self._read_place()
        if self.restarted and any(vote.run == self.run for vote in self.place.votes):
            return
        self.was_planned = self.place.planned
        self.was_up = bool(self.place.seen) and all(seen.health is Health.UP for seen in self.place.seen)
        probing = Probing(
            service=self.service,
            transport=self.transport,
            outside=self.outside,
            place=self.place,
            deadline=time.monotonic() + self.synthetic.time,
            runner=self.runner,
            last_beats=self._last_beats,
            remembers=self.client is not None,
            clock=self.clock,
        )
        reference = asyncio.create_task(self._cannot_reach_reference())
        self.probes = tuple(await asyncio.gather(*(self.runner.check(look) for look in probing.looks())))
        self._reference, self._probing, self.left_out = await reference, probing, probing.left_out

    async def _read_place(self) -> Place:
        """What is known here; remembered as it was seen, as the round is to change it."""
        if self.client is None:
            return self._place(None)
        self._seen = await store.see(self.client, place_key(self.service.service, self.location))
        return self._place(self._seen.document)

    def _place(self, kept: Any) -> Place:
        """A document that cannot be read (of another version, or damaged) starts anew, and that is told."""
        try:
            place = _PLACE.validate_python(kept) if kept else Place(self.synthetic.every)
        except ValidationError as damaged:
            self._note(f"What a location knew could not be read ({damaged.error_count()} faults): begun anew.")
            place = Place(self.synthetic.every)
        if place.every != self.synthetic.every:  # slots are numbered by it
            place = replace(place, every=self.synthetic.every, votes=())
        return place

    def _note(self, note: str) -> None:
        """Say it on the round's page, once."""
        if note not in self.notes:
            self.notes.append(note)

    async def _last_beats(self, names: Sequence[str]) -> Mapping[str, float | None]:
        if self.client is None:
            raise LookupError("there is no Prefect server")
        return await heartbeats.last_beats(self.client, self.service.service, names, self.clock())

    async def _cannot_reach_reference(self) -> str:
        """Why this location has no vote; empty where it can reach its reference, or has none."""
        url = self.synthetic.locations.reference if self.synthetic.locations else None
        if url is None:
            return ""
        transport = self.outside[_REFERENCE]
        deadline = time.monotonic() + min(_OUTSIDE_TIME, self.synthetic.time)
        try:
            answer = await transport.send("reference", 1, Request(get=url), deadline=deadline)
        except Exception as bug:  # its text might quote the request
            return f"the reference could not be asked for ({type(bug).__name__})"
        if (status := getattr(answer, "status", None)) is None:
            return f"{self.location or 'this location'} cannot reach its own reference: {getattr(answer, 'why', '')}"
        return f"its reference answered {status}" if status >= 500 else ""

    # ── remembering ──────────────────────────────────────────────────────────────────────────────────────────

    async def remember(self) -> None:
        """Write down what was found, with the speed and the baselines of each check: this location's vote."""
        if self._probing is None:  # it has been
            return
        taken = Round(
            planned=self.planned,
            started=self.started,
            ended=self.clock(),
            probes=self.probes,
            reference=self._reference,
            run=self.run,
            crashed=self.restarted,
            overlapped=self.overlapped,
            baselines=self._probing.baselines,
            compared=self._probing.place.baselines,
            ttls=self._probing.ttls,
        )

        def with_round(kept: Any) -> Any:
            degraded, objectives = self.synthetic.degraded, self.service.objectives
            return remembered(self._place(kept), taken, degraded, objectives, self.location)

        if self.client is None:
            self.place = with_round(None)
            return
        key = place_key(self.service.service, self.location)
        kept = await store.change(self.client, key, with_round, self._seen)
        self.place = self._place(kept)

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────

    async def judge(self) -> None:
        """Have the alerts follow what all locations have found: every slot that is complete, once and in order."""
        assert self.client is not None
        places = await self.places()
        schedules = {schedule_name(name): () for name in self._locations}
        policy, needs = self.service.alerts, {**needs_of(self.service), **schedules}

        every, now = self.synthetic.every, max(self.clock(), self.planned)

        def stepped(kept: Any) -> Any:
            book, known = read_book(kept, self.service.service), kept if isinstance(kept, dict) else {}
            before, self.calm = book.state, _is_calm(book)
            judged = last_judged(known.get("slot"), known.get("every"), every, now)
            for slot in due(places, judged, slot_of(now, every)):
                seen = joined(places, slot, policy.locations, policy.open.after.count)
                key = f"slot {slot} of {show_duration(every)}"
                named = {each.check for each in seen} | book.state.checks.keys()  # a job may have time left until it is
                watched = {check: parents for check, parents in needs.items() if check in named}
                state, notices = alerting.step(book.state, policy, key, seen, watched, self.clock())
                book, judged = replace(book, state=state, outbox=outbox.add(book.outbox, notices)), slot
            for part in book.unread:
                self._note(f"The {part} of the alerts could not be read: begun anew. What was open may be told again.")
            if self._may_wait(before, book, known, judged):
                return kept
            return {**written(kept, book), "slot": judged, "every": every}

        kept = await store.change(self.client, alerts_key(self.service.service), stepped)
        self.book = read_book(kept, self.service.service)
        self.calm = self.calm and _is_calm(self.book)

    def _may_wait(self, before: alerting.AlertState, after: Book, known: Mapping[str, Any], judged: int | None) -> bool:
        """Whether what was judged need not be written down yet: all was well and is, and those slots may be judged once
        more. Where several locations vote, one of them may yet bring another vote of theirs."""
        slot, every = known.get("slot"), self.synthetic.every
        if known.get("every") != every or not isinstance(slot, int) or judged is None or len(self._locations) > 1:
            return False
        quiet = self.calm and _is_calm(after) and alerting.at_rest(before, after.state)
        return quiet and 0 <= (judged - slot) * every < AT_REST

    async def places(self) -> dict[str, Place]:
        """What every location knows; ours as it is now. Read once a round."""
        assert self.client is not None
        if self._places is None:
            others = [name for name in self._locations if name != self.location]
            kept = [await store.read(self.client, place_key(self.service.service, name)) for name in others]
            found = {name: self._place(place) for name, place in zip(others, kept, strict=True) if place}
            self._places = {self.location: self.place, **found}
        return self._places

    @property
    def _locations(self) -> Sequence[str]:
        return self.synthetic.locations.names if self.synthetic.locations else [""]


def _is_calm(book: Book) -> bool:
    """No alert is open, and nobody waits for a word."""
    state = book.state
    return not (state.open_checks or state.open_incident or book.outbox.entries or book.told or book.unread)


_REFERENCE = "\0reference"  # no dependency has this name


@asynccontextmanager
async def open_transports(
    service: Service, logger: Logger, clock: Callable[[], float]
) -> AsyncIterator[tuple[Transport, dict[str, Transport]]]:
    """The service's transport, and one for each outside endpoint, under rules of its own; all spend one budget."""
    assert service.synthetic is not None
    async with AsyncExitStack() as stack:
        budget = await stack.enter_async_context(open_budget(service.service, service.rules.requests_per_second))
        transport = Transport(service, budget, logger, clock)
        stack.push_async_callback(transport.aclose)
        outside: dict[str, Transport] = {}
        rules = {d.name: rules_for(service, d) for d in service.synthetic.dependencies}
        if service.synthetic.locations and (url := service.synthetic.locations.reference):
            rules[_REFERENCE] = rules_for(service, Dependency(name="reference", get=url, expect=["status < 500"]))
        for name, of_it in rules.items():
            outside[name] = Transport(service.model_copy(update={"rules": of_it}), budget, logger, clock)
            stack.push_async_callback(outside[name].aclose)
        yield transport, outside
