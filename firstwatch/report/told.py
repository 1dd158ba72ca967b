"""The document of a service's alerts: their state, what waits to be told, and what people have been shown. Pure.

It is one document, so that what was decided and what is to be said about it are written at once, or not at all. Other
parts of the same document are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from firstwatch.alerting.machine import delivered
from firstwatch.alerting.model import AlertState, Notice, packed, unpacked
from firstwatch.alerting.outbox import Delivery, Entry, Outbox, settle
from firstwatch.report.incident import Context, IncidentReport, after, fingerprint, reconciled, top


@dataclass(frozen=True, slots=True)
class Told:
    """An incident as people know it. `shown`: the fingerprint of its top message; `digest`: the storm in whose message
    it is told instead."""

    report: IncidentReport
    shown: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Book:
    state: AlertState
    outbox: Outbox = field(default_factory=Outbox)
    told: Mapping[str, Told] = field(default_factory=dict)  # by incident
    unread: tuple[str, ...] = ()  # the parts that could not be read, and begin anew

    def waits(self, incident: str) -> bool:
        """Whether anything of this incident is still to be told."""
        return any(incident in entry.incidents for entry in self.outbox.entries)


def read_book(document: Any, service: str) -> Book:
    """What the document of a service's alerts says (None: there is none yet).

    A part that cannot be read (it is damaged, or of another version) begins anew, or no round would ever be judged
    again. Without the alerts' state nothing is known of what was told either: it would be shown as over.
    """
    if document is None or document == {}:
        return Book(AlertState(service))
    parts = document if isinstance(document, dict) else {}
    unread: list[str] = []

    def part(name: str, kind: Any, usual: Any) -> Any:
        try:
            return unpacked(kind, parts.get(name, usual))
        except ValidationError:
            unread.append(name)
            return usual

    waiting = part("outbox", Outbox, Outbox())
    told = part("told", dict[str, Told], {})
    state = part("state", AlertState, None) or AlertState(service)
    return Book(state, waiting, {} if "state" in unread else told, tuple(unread))


def written(document: Any, book: Book) -> dict[str, Any]:
    """The document with all that as it is now; what else it holds stays."""
    told = {"told": packed(dict(book.told))} if book.told else {}
    kept = {name: value for name, value in document.items() if name != "told"} if isinstance(document, dict) else {}
    return {**kept, "state": packed(book.state), "outbox": packed(book.outbox), **told}


def context(book: Book, flow_run_url: str = "", report_url: str = "") -> Context:
    """What an incident is shown with."""
    held = {name: check.held for name, check in book.state.checks.items() if check.held}
    return Context(len(book.state.checks), held, flow_run_url, report_url)


def with_notice(book: Book, notice: Notice) -> Told | None:
    """The notice's incident once it is told too; None where it belongs to none."""
    if not notice.incident:
        return None
    known = book.told.get(notice.incident)
    report = after(known.report if known else None, notice)
    if notice.lines:  # joined notices name no checks
        report = reconciled(report, book.state, notice.at)
    return replace(known, report=report) if known else Told(report)


def settled(book: Book, entry: Entry, by: str, outcome: Delivery, now: float, told: Told | None, thread: str) -> Book:
    """What became of a notice: delivered (`told`: its incident as people know it now), or not."""
    notice, ok = entry.notice, outcome is Delivery.OK
    outbox = settle(book.outbox, notice.id, by, outcome, now, thread)
    state = delivered(book.state, notice, ok, now)
    kept = {**book.told, notice.incident: told} if ok and told is not None else book.told
    return replace(book, state=state, outbox=outbox, told=kept)


def current(book: Book, incident: str, now: float) -> Told:
    """The incident as it is to be shown: by its notices, and once none of them waits, by the alerts' state."""
    told = book.told[incident]
    return told if book.waits(incident) else replace(told, report=reconciled(told.report, book.state, now))


def is_shown(book: Book, incident: str, now: float) -> bool:
    """Whether people see the incident as it is."""
    told = current(book, incident, now)
    return fingerprint(top(told.report, context(book))) == told.shown


def after_showing(book: Book, incident: str, told: Told) -> Book:
    """People see `told` now. An incident that is over, with nothing of it to be told, is forgotten."""
    kept = {**book.told, incident: told}
    if told.report.closed_at is not None and not book.waits(incident):
        del kept[incident]
    return replace(book, told=kept)
