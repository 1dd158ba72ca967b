"""The page of a monitor: how each check is, how fast it has been, what has drifted, and what people have been told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from firstwatch import slowness
from firstwatch.alerting import AlertState
from firstwatch.alerting.standing import standing
from firstwatch.model import Outcome, Phases, rfc3339
from firstwatch.monitor import Health, Probe, Seen
from firstwatch.report.incident import WORST_FIRST
from firstwatch.report.text import count, markdown_code, markdown_text, plain, show_value, unbroken
from firstwatch.rounds import Place
from firstwatch.units import show_duration

MAX_ROWS = 100
_SIGNS = {Health.UP: "✓", Health.DEGRADED: "~", Health.DOWN: "✗", Health.UNKNOWN: "?"}
_BARS = "▁▂▃▄▅▆▇█"
_SHOWN_ROUNDS = 30
_WORST = (Health.DOWN, Health.UNKNOWN, Health.DEGRADED, Health.UP)
_PARTS = ("resolve", "connect", "tls", "processing", "transfer")


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What is shown of one round. `places` are all locations, by name; `waiting` counts the messages that are yet to be
    delivered."""

    service: str
    location: str
    place: Place
    places: Mapping[str, Place] = field(default_factory=dict)
    state: AlertState | None = None
    waiting: int = 0
    notes: Sequence[str] = ()


def health_of(seen: Sequence[Seen]) -> Health:
    """The worst that was seen."""
    return worst([each.health for each in seen])


def worst(found: Collection[Health]) -> Health:
    """The worst of these; of none it is UNKNOWN. That something is not known is worse than that something else is slow:
    a round that ends as degraded would be taken for one in which all works."""
    return next((health for health in _WORST if health in found), Health.UNKNOWN)


def headline(report: RoundReport) -> str:
    """`✗ shop: 2 of 9 checks down`"""
    seen, worst = report.place.seen, health_of(report.place.seen)
    where = f"{report.service} at {report.location}" if report.location else report.service
    number = sum(each.health is worst for each in seen)
    checks = count(len(seen), "check")
    told = f"{checks} up" if worst is Health.UP else f"{number} of {checks} {worst}"
    return f"{_SIGNS[worst]} {plain(where, 120)}: {told}"


def sentence(seen: Sequence[Seen], lateness: float = 0.0) -> str:
    """What came of a round, in words. `lateness` in seconds."""
    bad = [each for each in seen if each.health is not Health.UP]
    late = f", begun {show_duration(round(lateness))} late" if lateness >= 1 else ""
    checks = count(len(seen), "check")
    if not bad:
        return f"{checks} up{late}"
    return f"{len(bad)} of {checks} not up{late}: {'; '.join(f'{b.check} {b.health}: {b.why}' for b in bad)}"


def round_markdown(report: RoundReport) -> str:
    """The page. Bounded in size; nothing that a service answered can be more in it than text."""
    sections = [
        f"# {markdown_text(headline(report))}",
        _when(report.place),
        _alerts(report),
        _checks(report),
        *_drifts(report.place),
        _attempts(report.place.probes),
        _times(report.place.probes),
        _locations(report),
        "\n".join(f"- {markdown_text(note)}" for note in report.notes),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _when(place: Place) -> str:
    took = show_value(max(0.0, place.ended - place.started), "seconds")
    late = f", {show_duration(round(place.lateness))} late" if place.lateness >= 1 else ""
    cancelled = f"; {count(place.overlapped, 'round')} cancelled so far, as the one before had not ended"
    return (
        f"Round {place.rounds:,}, planned for {rfc3339(place.planned)}, begun {rfc3339(place.started)}{late}; "
        f"took {took}{cancelled if place.overlapped else ''}."
    )


def _alerts(report: RoundReport) -> str:
    state = report.state
    lines = []
    if state is not None and (incident := state.open_incident) is not None:
        names = ", ".join(markdown_text(name, 80) for name in state.open_checks)
        lines.append(f"**Open incident** since {rfc3339(incident.opened_at)}: {names}.")
    if report.waiting:
        lines.append(f"{count(report.waiting, 'message')} to people still to be delivered; the next rounds try again.")
    return "\n\n".join(lines)


def _checks(report: RoundReport) -> str:
    probes = {probe.check: probe for probe in report.place.probes}
    ordered = sorted(report.place.seen, key=lambda seen: WORST_FIRST.index(seen.health))
    rows = [_row(seen, probes.get(seen.check), report) for seen in ordered[:MAX_ROWS]]
    head = "| check | now | | took | last rounds | alert |\n|---|---|---|---|---|---|"
    more = f"\n\nand {len(ordered) - MAX_ROWS} more" if len(ordered) > MAX_ROWS else ""
    return "\n".join([head, *rows]) + more


def _row(seen: Seen, probe: Probe | None, report: RoundReport) -> str:
    check = report.state.checks.get(seen.check) if report.state else None
    cells = [
        markdown_text(seen.check, 80),
        unbroken(_mark(seen.health)),
        markdown_text(seen.warning or (seen.why if seen.health is not Health.UP or not probe else probe.why), 200),
        unbroken(show_value(probe.elapsed, "seconds")) if probe else "–",
        _sparkline(report.place.histories.get(seen.check)),
        str(standing(check)) if check else "–",
    ]
    return f"| {' | '.join(cells)} |"


def _times(probes: Sequence[Probe]) -> str:
    """Where each check's time went."""
    measured = [probe for probe in probes if probe.phases != Phases()][:MAX_ROWS]
    if not measured:
        return ""
    rows = [
        f"| {markdown_text(probe.check, 80)} | {' | '.join(_part(probe.phases, name) for name in _PARTS)} |"
        for probe in measured
    ]
    head = f"| check | {' | '.join(_PARTS)} |\n|---{'|---' * len(_PARTS)}|"
    return "\n".join(["## Where the time went", "", head, *rows])


def _part(phases: Phases, name: str) -> str:
    part = getattr(phases, name)
    return "" if part is None else unbroken(show_value(part, "seconds"))


def _sparkline(packed: str | None) -> str:
    """The last rounds' durations, from the quickest to the slowest of them."""
    seconds = slowness.unpack(packed)[0].seconds[-_SHOWN_ROUNDS:]
    if len(seconds) < 2:
        return ""
    low, high = min(seconds), max(seconds)
    steps = (round((s - low) / (high - low) * (len(_BARS) - 1)) if high > low else 0 for s in seconds)
    ends = " … ".join(dict.fromkeys(show_value(end, "seconds") for end in (low, high)))
    return f"{''.join(_BARS[step] for step in steps)} {unbroken(ends)}"


def _drifts(place: Place) -> Iterator[str]:
    failed = {probe.check for probe in place.probes if probe.outcome is Outcome.FAIL}
    for check, kept in place.baselines.items():
        if check in failed and kept.get("diff"):
            yield f"## {markdown_text(check, 80)} has changed\n\n{markdown_code(chr(10).join(kept['diff']))}"


def _attempts(probes: Sequence[Probe]) -> str:
    lines = [
        f"- {markdown_text(probe.check, 80)} ({markdown_text(probe.target, 200)}), attempt {n}: "
        f"{attempt.outcome}, {markdown_text(attempt.why or 'as expected')}"
        for probe in probes
        if probe.outcome is not Outcome.PASS or len(probe.attempts) > 1
        for n, attempt in enumerate(probe.attempts, 1)
    ]
    return "\n".join(["## Attempts", "", *lines[:MAX_ROWS]]) if lines else ""


def _locations(report: RoundReport) -> str:
    if len(report.places) < 2:
        return ""
    rows = [
        f"| {markdown_text(name, 60)} | {unbroken(_health(place))} | {rfc3339(place.ended)} | {place.rounds:,} |"
        for name, place in report.places.items()
    ]
    return "\n".join(["## Locations", "", "| location | now | last round ended | rounds |", "|---|---|---|---|", *rows])


def _health(place: Place) -> str:
    return _mark(health_of(place.seen))


def _mark(health: Health) -> str:
    """Plain signs, which every font has."""
    return f"{_SIGNS[health]} {health}"
