"""What is written about an incident of a monitored service: its top message, the replies to it, and the same as
Markdown.

An incident is read from its notices: `after` folds one in, so that what is shown is what has been told, however late
it is delivered. Pure; what services answered stays text until it is rendered (`firstwatch.report.messages`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from firstwatch.alerting.model import AlertState, CheckState, Notice, NoticeKind, Part
from firstwatch.model import as_json, rfc3339
from firstwatch.monitor import Health
from firstwatch.report.messages import Message
from firstwatch.report.text import count, digits, markdown_text, plain, web_address
from firstwatch.units import show_duration

MAX_LINES = 50  # checks of an incident that are remembered
MAX_WHY, _MAX_FACTS, _MAX_NAMES = 300, 4, 5
MARKS = {Health.DOWN: "🔴", Health.DEGRADED: "🟡", Health.UP: "🟢", Health.UNKNOWN: "⚪"}
WORST_FIRST = (Health.DOWN, Health.DEGRADED, Health.UNKNOWN, Health.UP)
_SILENT_FACTS = frozenset(  # for the metrics page; `why` says of them what matters
    {"fingerprint", "status", "bytes", "uncompressed_bytes", "redirects", "http_version", "ip_protocol", "tls_version"}
    | {"steps", "failed_step", "authoritative", "answers", "baseline_at", "last_chain_expires_at"}
)


@dataclass(frozen=True, slots=True)
class Line:
    """The latest word on one check of an incident. `closed_at` is None while its alert is open."""

    check: str
    health: Health
    why: str
    at: float
    since: float | None = None
    results: int = 0
    out_of: int = 0
    facts: Mapping[str, float | str] = field(default_factory=dict)
    flapping: bool = False
    closed_at: float | None = None


@dataclass(frozen=True, slots=True)
class IncidentReport:
    """All that has been told of one incident. Small: it is stored between rounds."""

    service: str
    id: str
    opened_at: float
    lines: tuple[Line, ...] = ()
    closed_at: float | None = None
    earlier: tuple[str, ...] = ()  # what was joined, as it had to wait for too long

    @property
    def open_lines(self) -> tuple[Line, ...]:
        """Worst first."""
        lines = (line for line in self.lines if line.closed_at is None)
        return tuple(sorted(lines, key=lambda line: WORST_FIRST.index(line.health)))


@dataclass(frozen=True, slots=True)
class Context:
    """What an incident is shown with: how many checks the service has, which ones do not open their own alert and why
    (as each has it: "as it needs 'health', which is down"), and where to read on."""

    total: int = 0
    held: Mapping[str, str] = field(default_factory=dict)
    flow_run_url: str = ""
    report_url: str = ""


# ── what is known, notice by notice ──────────────────────────────────────────────────────────────────────────


def after(report: IncidentReport | None, notice: Notice) -> IncidentReport:
    """The incident once this notice is told too."""
    known = report or IncidentReport(notice.service, notice.incident, notice.at)
    lines = {line.check: line for line in known.lines}
    for part in notice.parts:
        lines[part.check] = _line(lines.get(part.check), part, notice)
    closed_at = notice.at if notice.last else known.closed_at
    earlier = notice.lines or known.earlier
    return replace(known, lines=tuple(lines.values())[:MAX_LINES], closed_at=closed_at, earlier=earlier)


def reconciled(report: IncidentReport, state: AlertState, now: float) -> IncidentReport:
    """The incident as the alerts' state has it, once nothing of it waits to be told: the end of an alert may go untold,
    and what was joined names no checks."""
    over = state.incident is None or state.incident.id != report.id or state.incident.closed_at is not None
    still = () if over else state.open_checks
    lines = [line if line.check in still else _closed(line, now) for line in report.lines]
    known = {line.check for line in lines}
    lines += [_of_state(name, state.checks[name], now) for name in still if name not in known]
    ours = state.incident if state.incident is not None and state.incident.id == report.id else None
    closed_at = (report.closed_at or (ours.closed_at if ours else None) or now) if over else None
    opened_at = min(report.opened_at, ours.opened_at) if ours else report.opened_at
    return replace(report, lines=tuple(lines)[:MAX_LINES], opened_at=opened_at, closed_at=closed_at)


def _closed(line: Line, now: float) -> Line:
    return line if line.closed_at is not None else replace(line, flapping=False, closed_at=now)


def _of_state(name: str, check: CheckState, now: float) -> Line:
    return Line(name, check.level.health, "", now, since=check.since, flapping=check.flapping)


def _line(before: Line | None, part: Part, notice: Notice) -> Line:
    flapping, health = before is not None and before.flapping, part.health
    if notice.kind in (NoticeKind.FLAPPING, NoticeKind.STEADY, NoticeKind.CLOSED):
        flapping = notice.kind is NoticeKind.FLAPPING
    if before is not None and notice.kind in (NoticeKind.FLAPPING, NoticeKind.STEADY):
        health = before.health  # the alert's; the notice has that of the last result
    return Line(
        part.check,
        health,
        plain(part.why, MAX_WHY),
        notice.at,
        since=part.since if part.since is not None else (before.since if before else None),
        results=part.results,
        out_of=part.out_of,
        facts=dict(shown_facts(part.facts)),
        flapping=flapping,
        closed_at=notice.at if notice.kind is NoticeKind.CLOSED else None,
    )


# ── the top message ──────────────────────────────────────────────────────────────────────────────────────────


def headline(report: IncidentReport, total: int) -> str:
    """`🔴 shop: 2 of 9 checks down`"""
    mark, words = standing(report, total)
    return f"{mark} {report.service}: {words}"


def standing(report: IncidentReport, total: int) -> tuple[str, str]:
    """How it is, as a colour and in words."""
    if report.closed_at is not None:
        return "🟢", f"resolved after {lasted(report.closed_at - report.opened_at)}"
    still = report.open_lines
    down = sum(line.health is Health.DOWN for line in still)
    slow = len(still) - down
    of = f" of {count(total, 'check')}" if total >= len(still) else f" {'check' if len(still) == 1 else 'checks'}"
    if down:
        return "🔴", f"{down}{of} down" + (f", {slow} degraded" if slow else "")
    return ("🟡", f"{slow}{of} degraded") if slow else ("🟢", "no check is down any more")


def top(report: IncidentReport, context: Context) -> Message:
    """The incident as it is now: which checks, since when, why each, and what is held back because of them."""
    names = names_of([line.check for line in report.open_lines or report.lines])
    if report.closed_at is None:
        text = f"Since {clock(report.opened_at)}: {names}."
    else:
        text = f"From {clock(report.opened_at)} to {clock(report.closed_at)}: {names}."
    closed = [line for line in report.lines if line.closed_at is not None]
    return Message(
        "incident",
        headline(report, context.total),
        text,
        items=[
            *map(_item, report.open_lines),
            *map(_item, closed),
            *_held(report, context),
            *(("Earlier", line) for line in report.earlier),
        ],
        footer=footer_of(context, report.id),
        url=context.flow_run_url,
    )


def _item(line: Line) -> tuple[str, str]:
    mark = "🔁" if line.flapping else MARKS[line.health if line.closed_at is None else Health.UP]
    return f"{mark} {line.check}", " · ".join(_said(line))


def _said(line: Line) -> Iterator[str]:
    yield line.why or str(line.health)
    if line.closed_at is not None:
        yield (
            f"up again at {clock(line.closed_at)}" if line.health is Health.UP else f"closed {clock(line.closed_at)}"
        )
    elif line.since is not None:
        yield f"since {clock(line.since)}"
    if line.closed_at is None and line.out_of:
        yield f"{line.results} of {line.out_of} results"
    if line.flapping:
        yield "silent until it is steady"
    yield from (f"{name} {value}" for name, value in line.facts.items())


def _held(report: IncidentReport, context: Context) -> list[tuple[str, str]]:
    """Which checks are bad too, and open no alert of their own."""
    if not context.held or report.closed_at is not None:
        return []
    return [("Held back", "; ".join(f"{check}, {reason}" for check, reason in context.held.items()))]


def footer_of(context: Context, *first: str) -> tuple[str, ...]:
    return (*first, *([f"report: {context.report_url}"] if context.report_url else []))


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────


def incident_markdown(report: IncidentReport, context: Context) -> str:
    """The incident's page, for an artifact: nothing that a service answered can be more in it than text."""
    shown = top(report, context)
    rows = [f"| {markdown_text(what, 120)} | {markdown_text(why, 600)} |" for what, why in shown.items]
    links = [
        f"[{words}]({address})"
        for words, url in (("flow run", context.flow_run_url), ("report", context.report_url))
        if (address := web_address(url))
    ]
    parts = [
        f"## {markdown_text(shown.title)}",
        markdown_text(shown.text, 600),
        "\n".join(["| Check | What was found |", "| --- | --- |", *rows]) if rows else "",
        " · ".join([markdown_text(report.id), *links]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def fingerprint(message: Message) -> str:
    """The same for messages that read the same, whichever run they link to."""
    said = json.dumps(as_json(replace(message, url="", footer=(), kind="")), sort_keys=True)
    return hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()[:12]


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────────


def lasted(seconds: float) -> str:
    """`45s`, `12m`, `1h5m`: to the minute where it is more than ten."""
    return show_duration(round(seconds / 60) * 60 if seconds >= 600 else max(round(seconds), 0))


def clock(at: float) -> str:
    """To the second, with its date: an incident may be read on the next day."""
    return rfc3339(round(at)).replace("T", " ").replace("Z", " UTC")


def names_of(names: Sequence[str]) -> str:
    """`health, auth and 3 more`"""
    shown = ", ".join(plain(name, 60) for name in names[:_MAX_NAMES])
    return f"{shown} and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else shown


def shown_facts(facts: Mapping[str, float | str]) -> Iterator[tuple[str, str]]:
    """The first few facts, as people read them."""
    wanted = [(name, value) for name, value in facts.items() if name not in _SILENT_FACTS]
    for name, value in wanted[:_MAX_FACTS]:
        if isinstance(value, str):
            yield name, plain(value, 80)
        else:
            yield name, clock(value) if name.endswith("_at") else digits(value)
