"""What is written about one notice: the reply in its incident's thread, or a message that stands alone.

Pure; what services answered stays text until it is rendered (`firstwatch.report.messages`).
"""

from __future__ import annotations

from collections.abc import Sequence

from firstwatch.alerting.model import Notice, NoticeKind, Part
from firstwatch.model import rfc3339
from firstwatch.monitor import Health
from firstwatch.report.incident import (
    MARKS,
    MAX_WHY,
    WORST_FIRST,
    Context,
    IncidentReport,
    clock,
    footer_of,
    lasted,
    names_of,
    shown_facts,
)
from firstwatch.report.messages import Message
from firstwatch.report.text import count, plain


def label(notice: Notice) -> str:
    """The notice in a few words, as its task run is named: `opened health`."""
    return plain(f"{notice.kind} {names_of(notice.checks)}".strip(), 120)


def reply(notice: Notice, report: IncidentReport | None, context: Context) -> Message:
    """One notice: what has changed, and why. It stands alone too, where there are no threads. `report`: the incident
    with this notice in it; None where it belongs to none."""
    return Message(
        label(notice),
        f"{_mark(notice)} {notice.service}: {_changed(notice, report)}",
        _explained(notice, report),
        items=[_part_item(part) for part in notice.parts]
        if len(notice.parts) > 1
        else [("Also", x) for x in notice.lines],
        facts=list(shown_facts(notice.parts[0].facts)) if len(notice.parts) == 1 else (),
        footer=footer_of(context, notice.incident or rfc3339(notice.at)),
        url=context.flow_run_url,
        broadcast=notice.last,
    )


def _mark(notice: Notice) -> str:
    marks = {
        NoticeKind.IMPROVED: "🟡",
        NoticeKind.CLOSED: "🟢",
        NoticeKind.REMINDER: "⏰",
        NoticeKind.FLAPPING: "🔁",
        NoticeKind.WARNING: "⚠️",
        NoticeKind.UNWATCHED: "⚪",
        NoticeKind.WATCHED: "👀",
        NoticeKind.DIGEST: "🗂️",
    }
    return marks.get(notice.kind) or MARKS[_worst(notice.parts)]


def _changed(notice: Notice, report: IncidentReport | None) -> str:
    """The title, without mark and service."""
    names, health = names_of(notice.checks), _worst(notice.parts)
    match notice.kind:
        case NoticeKind.OPENED:
            return f"{names} {health}" if notice.first else f"{names} {health} too"
        case NoticeKind.REOPENED:
            return f"{names} {health} again"
        case NoticeKind.WORSENED:
            return f"{names} worse, now {health}"
        case NoticeKind.IMPROVED:
            return f"{names} better, now {health}"
        case NoticeKind.CLOSED:
            if notice.last and report is not None:
                return f"resolved after {lasted(notice.at - report.opened_at)}"
            return f"{names} closed" if health is Health.UNKNOWN else f"{names} up again"
        case NoticeKind.REMINDER:
            return f"{names} still {health}" + (f" after {lasted(notice.at - report.opened_at)}" if report else "")
        case NoticeKind.FLAPPING:
            return f"{names} goes up and down"
        case NoticeKind.STEADY:
            return f"{names} steady, and {health}"
        case NoticeKind.WARNING:
            return f"{names} needs attention"
        case NoticeKind.UNWATCHED:
            return f"{names} is not watched"
        case NoticeKind.WATCHED:
            return f"{names} is watched again"
        case NoticeKind.DIGEST:
            return f"{count(len(notice.lines), 'message')} that had to wait"
    return f"{names} {notice.kind}"


def _explained(notice: Notice, report: IncidentReport | None) -> str:
    """The text below the title: why, and what follows from it for who reads it."""
    why = notice.parts[0].why if len(notice.parts) == 1 else ""
    match notice.kind:
        case NoticeKind.UNWATCHED:
            return f"{plain(why, MAX_WHY)} Whether it works is not known; an open alert stays open.".strip()
        case NoticeKind.FLAPPING:
            return f"{plain(why, MAX_WHY)}. Its alert stays open, and nothing more is told until it is steady."
        case NoticeKind.DIGEST:
            return "Slack could not be reached for long; what was to be said meanwhile, in short:"
        case NoticeKind.CLOSED if notice.last and report is not None:
            return (
                f"{names_of([line.check for line in report.lines])}: {clock(report.opened_at)} to {clock(notice.at)}."
            )
    if len(notice.parts) != 1:
        return f"{count(len(notice.parts), 'check')}:"
    return why or str(notice.parts[0].health)


def _part_item(part: Part) -> tuple[str, str]:
    since = [f"since {clock(part.since)}"] if part.since is not None else []
    facts = [f"{name} {value}" for name, value in shown_facts(part.facts)]
    return f"{MARKS[part.health]} {part.check}", " · ".join([plain(part.why, MAX_WHY), *since, *facts])


def _worst(parts: Sequence[Part]) -> Health:
    return min((part.health for part in parts), key=WORST_FIRST.index, default=Health.UNKNOWN)
