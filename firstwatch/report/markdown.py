"""The report of a release as one Markdown page: verdict first, then what was done about it, then the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from firstwatch.model import Attempt, CheckResult, Judgement, Outcome, Verdict, rfc3339
from firstwatch.report.chart import chart_markdown
from firstwatch.report.model import (
    Answer,
    CheckpointRecord,
    Decision,
    GateRecord,
    MetricRecord,
    Question,
    ReleaseReport,
)
from firstwatch.report.summary import check_words, headline, rollback_sentence, why
from firstwatch.report.text import (
    OUTCOME_WORDS,
    checkpoint_name,
    count,
    markdown_code,
    markdown_text,
    offset,
    show_value,
    unbroken,
    web_address,
)
from firstwatch.units import show_duration

MAX_ROWS = 60  # of a table
MAX_MEASUREMENTS = 30  # of a metric
MAX_CHARTS = 12
MAX_QUERIES = 20
MAX_NOTES = 20
MAX_URL = 2000

_MARKS = {None: "…", Verdict.HEALTHY: "✓", Verdict.UNHEALTHY: "✗", Verdict.INCONCLUSIVE: "?"}
_WORST_FIRST = {Outcome.FAIL: 0, Outcome.ERROR: 1, Outcome.NO_DATA: 2, Outcome.NOT_YET: 3, Outcome.PASS: 5}
_text = markdown_text


def release_markdown(report: ReleaseReport) -> str:
    """The page. Bounded in size; nothing that a service answered can be more in it than text."""
    sections = [
        _verdict(report),
        _answers(report),
        _rollback(report),
        _checks(report),
        _checkpoints(report),
        *(_gate(report, gate) for gate in report.gates),
        _charts(report),
        _queries(report),
        _requests(report),
        _deliveries(report),
        _notes(report),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def question_markdown(report: ReleaseReport, asked: Question, report_url: str) -> str:
    """What stands above the form that a person answers: why nothing is proven, what may be done, and by when."""
    release = report.release
    parts = [
        f"## {_text(release.service, 80)} {_text(release.version, 80)} is inconclusive",
        f"**{_text(why(report), 600)}**",
        _bullets(report.reasons[1:], 600),
        f"Not taken: {_text(asked.refused, 600)}" if asked.refused else "",
        "\n".join(f"- **{choice}**: {_consequence(report, choice)}" for choice in asked.choices),
        f"Answer until {rfc3339(asked.deadline)}. Otherwise: **{asked.otherwise}**.",
        f"[The report]({address})" if (address := web_address(report_url)) else "",
    ]
    return "\n\n".join(part for part in parts if part)


_CHOICES = {
    Decision.PROCEED: "let the release through; the run ends as Completed(Proceeded), and CI goes on",
    Decision.ROLL_BACK: "call the rollback hook",
    Decision.WATCH: "watch on for the minutes given below, and judge again",
    Decision.STOP: "leave everything as it is; the run ends as Failed(Inconclusive)",
}


def _consequence(report: ReleaseReport, choice: Decision) -> str:
    if choice is Decision.WATCH and report.gates:
        return "measure the canary's gate again, from now on; it takes as long as its metrics say"
    if choice is Decision.PROCEED and report.gates and (report.gates[-1].weight or 100) < 100:
        return "give the canary its next share of the traffic all the same, and gate it there"
    return _CHOICES[choice]


def _verdict(report: ReleaseReport) -> str:
    release = report.release
    title = f"{_MARKS[report.verdict]} {headline(report)}: {_text(release.service, 80)} {_text(release.version, 80)}"
    facts = [f"deployed {rfc3339(release.deployed_at)}"]
    if report.ended is not None:
        facts.append(f"ended at {offset(report.ended, release.deployed_at)}, {rfc3339(report.ended)}")
    if report.state:
        facts.append(f"final state {_text(report.state, 40)}")
    if (address := web_address(report.flow_run_url)) and len(address) <= MAX_URL:
        facts.append(f"[flow run]({address})")
    parts = [f"# {title}", f"**{_text(why(report), 600)}**", " · ".join(facts)]
    if report.dry_run:
        parts.append("*Dry run: judged and reported, nothing is rolled back.*")
    if more := report.reasons[1:]:
        parts.append(_bullets(more, 600))
    return "\n\n".join(parts)


def _answers(report: ReleaseReport) -> str:
    """Who decided what where nothing was proven."""
    if not report.answers:
        return ""
    rows = [
        [_when(report, a.at), _text(a.by, 80), f"**{_text(a.decision)}**{_until(report, a)}", _text(a.reason, 600)]
        for a in report.answers
    ]
    return f"## Decision\n\n{_table(['When', 'By', 'Decision', 'Reason'], rows)}"


def _until(report: ReleaseReport, answer: Answer) -> str:
    """How long the window goes on for; a canary's gate lasts as long as its metrics say."""
    if answer.until is None or report.gates:
        return ""
    return f" until {offset(answer.until, report.release.deployed_at)}"


def _rollback(report: ReleaseReport) -> str:
    if not report.rollback:
        return ""
    rows = [[str(n), _when(report, a.at), _text(a.answer)] for n, a in enumerate(report.rollback.attempts, 1)]
    return "\n\n".join(
        [
            "## Rollback",
            f"**{_text(rollback_sentence(report.rollback))}**",
            f"Idempotency key: {_text(report.rollback.idempotency_key, 150)}",
            _table(["Attempt", "Sent", "Answer"], rows),
        ]
    )


def _checks(report: ReleaseReport) -> str:
    if not report.checks:
        return ""
    passed = sum(1 for c in report.checks if c.outcome is Outcome.PASS)
    line = f"{passed} of {count(len(report.checks), 'check')} passed"
    if report.smoke_took is not None:
        line += f", in {show_duration(round(report.smoke_took, 1))}"
        line += f" of {show_duration(report.smoke_budget)}" if report.smoke_budget is not None else ""
    worst_first = sorted(report.checks, key=lambda c: (_WORST_FIRST[c.outcome], not c.passed_on_retry))
    rows = [row for check in worst_first for row in _check_rows(report, check)]
    head = ["Check", "Request", "Outcome", "Status", "Took", "At", "What was found"]
    return f"## Smoke\n\n{line}.\n\n{_table(head, rows)}"


def _check_rows(report: ReleaseReport, check: CheckResult) -> Iterable[list[str]]:
    """One row for a check; where it took several attempts, one more for each of them, the first failure first."""
    name, request = _strong(_text(check.name, 80), check.outcome), _text(check.request, 120)
    words = _strong(unbroken(check_words(check)), check.outcome)
    if len(check.attempts) == 1:
        yield [name, request, words, *_attempt_cells(report, check.attempts[0])]
        return
    yield [name, request, words, "", "", "", "" if check.attempts else _text(check.why)]
    for number, attempt in enumerate(check.attempts, 1):
        words = f"attempt {number}: {unbroken(OUTCOME_WORDS[attempt.outcome])}"
        yield ["", "", words, *_attempt_cells(report, attempt)]


def _attempt_cells(report: ReleaseReport, attempt: Attempt) -> list[str]:
    status = str(attempt.status) if attempt.status is not None else "–"
    found = _text(attempt.why) or "as expected"
    took = unbroken(show_value(attempt.elapsed, "seconds"))
    return [status, took, offset(attempt.at, report.release.deployed_at), found]


def _checkpoints(report: ReleaseReport) -> str:
    if not report.checkpoints:
        return ""
    head = ["Checkpoint", "Outcome", "Value", "Limit", "Sample", "Judged", "Why"]
    rows = [_checkpoint_row(report, record) for record in report.checkpoints]
    return f"## Window\n\n{_table(head, rows)}"


def _checkpoint_row(report: ReleaseReport, record: CheckpointRecord) -> list[str]:
    name = _text(checkpoint_name(record.name, record.at), 120)
    said = record.decisive
    if said is None:
        return [name, "not reached", "–", "–", "–", "–", ""]
    return [
        _strong(name, said.outcome),
        _strong(unbroken(OUTCOME_WORDS[said.outcome]), said.outcome),
        unbroken(_text(show_value(said.value, said.unit))),
        unbroken(_text(show_value(said.limit, said.unit))),
        f"{said.sample:,}" if said.sample is not None else "–",
        _when(report, said.at),
        _text(said.why, 400),
    ]


def _gate(report: ReleaseReport, gate: GateRecord) -> str:
    """The run of each metric's values against what they are held against."""
    title = f"Canary at {gate.weight} %" if gate.weight is not None else "Canary"
    rows = [_metric_row(report, metric) for metric in gate.metrics]
    parts = [f"## {title}", _table(["Metric", "Held against", "Phase", "Measurements", "Last"], rows)]
    if gate.promoted is not None:
        attempts = [[_when(report, a.at), _text(a.answer)] for a in gate.promoted.attempts]
        parts.append(f"Promotion: **{gate.promoted.state}**, {_text(gate.promoted.idempotency_key, 150)}")
        parts.append(_table(["Sent", "Answer"], attempts))
    return "\n\n".join(parts)


def _metric_row(report: ReleaseReport, metric: MetricRecord) -> list[str]:
    name = _text(metric.name, 80) + (" (dry run)" if metric.dry_run else "")
    last = metric.judgements[-1] if metric.judgements else None
    taken = metric.judgements[-MAX_MEASUREMENTS:]
    shown = [_several(said, len(list(same))) for said, same in groupby(map(_measurement, taken))]
    more = len(metric.judgements) - len(taken)
    return [
        _strong(name, last.outcome if last else Outcome.NO_DATA),
        _text(metric.held_against, 200),
        unbroken(metric.phase),
        " · ".join([*([f"{more} earlier"] if more > 0 else []), *shown]) or "none",
        f"{_when(report, last.at)} {_text(last.why, 400)}" if last else "",
    ]


def _several(said: str, times: int) -> str:
    """`1 (10 times)`"""
    return said if times == 1 else unbroken(f"{said} ({times} times)")


def _measurement(judgement: Judgement) -> str:
    """`0.998`, or for what did not pass `**0.953 ✗**`, `**no data**`."""
    # Four digits: 0.9899 must not look like its limit of 0.99.
    shown = f"{judgement.value:.4g}" if judgement.value is not None and not judgement.unit else None
    value = unbroken(_text(shown or show_value(judgement.value, judgement.unit)))
    if judgement.outcome is Outcome.PASS:
        return value if judgement.value is not None else "✓"
    if judgement.value is None:
        return f"**{unbroken(OUTCOME_WORDS[judgement.outcome])}**"
    return f"**{value}\u00a0{'✗' if judgement.outcome is Outcome.FAIL else '?'}**"


def _charts(report: ReleaseReport) -> str:
    if not report.charts:
        return ""
    images = [chart_markdown(chart) for chart in report.charts[:MAX_CHARTS]]
    more = len(report.charts) - MAX_CHARTS
    return "\n\n".join(["## Signals", *images, *([f"and {more} more"] if more > 0 else [])])


def _queries(report: ReleaseReport) -> str:
    """What each checkpoint asked, to be asked again by hand."""
    asked = {checkpoint_name(r.name, r.at): r.decisive.query for r in report.checkpoints if r.decisive}
    asked |= {m.name: m.judgements[-1].query for gate in report.gates for m in gate.metrics if m.judgements}
    told = [(name, query) for name, query in asked.items() if query][:MAX_QUERIES]
    parts = [f"{_text(name, 120)}\n\n{markdown_code(query)}" for name, query in told]
    return "\n\n".join(["## Queries", *parts]) if parts else ""


def _requests(report: ReleaseReport) -> str:
    if not report.requests:
        return ""
    silent = sum(1 for r in report.requests if r.status is None)
    slowest = max(report.requests, key=lambda r: r.milliseconds)
    line = (
        f"{count(len(report.requests), 'request')} sent, {silent} without an answer; the slowest took "
        f"{show_value(slowest.milliseconds / 1000, 'seconds')} ({_text(slowest.check, 80)})."
    )
    return f"## Requests\n\n{line} Each of them is in the table artifact requests-{report.release.slug}."


def _deliveries(report: ReleaseReport) -> str:
    if not report.deliveries:
        return ""
    lost = [d for d in report.deliveries if not d.ok]
    line = f"{len(report.deliveries) - len(lost)} of {count(len(report.deliveries), 'message')} delivered."
    rows = [[_text(d.message, 80), str(d.attempts), _text(d.error)] for d in lost]
    return f"## Slack\n\n{line}" + (f"\n\n{_table(['Not delivered', 'Attempts', 'Why'], rows)}" if rows else "")


def _notes(report: ReleaseReport) -> str:
    return f"## Notes\n\n{_bullets(report.notes, 600)}" if report.notes else ""


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────────────────


def _table(head: list[str], rows: Sequence[list[str]]) -> str:
    """Cells are Markdown already. At most MAX_ROWS rows, and how many more there are."""
    more = len(rows) - MAX_ROWS
    shown = [*rows[:MAX_ROWS], *([[f"and {more} more", *[""] * (len(head) - 1)]] if more > 0 else [])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *shown])


def _bullets(lines: Sequence[str], limit: int) -> str:
    more = len(lines) - MAX_NOTES
    shown = [_text(line, limit) for line in lines[:MAX_NOTES]] + ([f"and {more} more"] if more > 0 else [])
    return "\n".join(f"- {line}" for line in shown)


def _strong(text: str, outcome: Outcome) -> str:
    return text if outcome is Outcome.PASS else f"**{text}**"


def _when(report: ReleaseReport, at: float) -> str:
    return f"{offset(at, report.release.deployed_at)} ({rfc3339(at)[11:19]})"
