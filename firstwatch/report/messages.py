"""What people are told on the way, in Slack: pure messages, and how they become Block Kit.

A message is written in plain text first and rendered last. What renders it may redact it in between, while nothing is
cut or escaped yet.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firstwatch.model import CheckResult, Outcome, Verdict, rfc3339
from firstwatch.report.model import CheckpointRecord, GateRecord, Question, ReleaseReport, RollbackState
from firstwatch.report.summary import answer_sentence, evidence, headline, rollback_sentence, why
from firstwatch.report.text import checkpoint_name, count, offset, plain, show_value, web_address

# Slack's limits (docs.slack.dev/reference/block-kit and chat.postMessage); `text` is advised to stay under 4,000.
MAX_BLOCKS, MAX_HEADER, MAX_SECTION, MAX_FIELDS, MAX_FIELD, MAX_TEXT, MAX_URL = 50, 150, 3000, 10, 2000, 4000, 3000
MAX_ITEMS = 15  # more are counted, not listed: who is on call reads the first few

_VERDICT_MARKS = {None: "👀", Verdict.HEALTHY: "✅", Verdict.UNHEALTHY: "❌", Verdict.INCONCLUSIVE: "⚠️"}
_ROLLBACK_MARKS = {
    RollbackState.SENT: "↩️",
    RollbackState.ACCEPTED: "↩️",
    RollbackState.FAILED: "🚨",
    RollbackState.UNKNOWN: "🚨",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message in plain text. `kind` says what it is about in a word or two; `broadcast`: shown in the channel too,
    not only in the release's thread."""

    kind: str
    title: str
    text: str
    facts: Sequence[tuple[str, str]] = ()  # name, value
    items: Sequence[tuple[str, str]] = ()  # what, why
    code: str = ""
    footer: Sequence[str] = ()
    url: str = ""
    broadcast: bool = False


# ── the messages ─────────────────────────────────────────────────────────────────────────────────────────────


def started(report: ReleaseReport) -> Message:
    plan = [checkpoint_name(c.name, c.at) for c in report.checkpoints]
    text = "It is smoke-tested now" + (f", then watched: {', '.join(plan)}." if plan else ".")
    if report.gates:
        at = f" at {report.gates[0].weight} % of the traffic" if report.gates[0].weight is not None else ""
        text = f"The canary is gated{at}: {', '.join(m.name for m in report.gates[0].metrics)}."
    return _message(report, "started", f"👀 {_name(report)} is out and being verified", text)


def smoke_failed(report: ReleaseReport) -> Message:
    """One message for all checks that failed, with every attempt of each."""
    failed = [c for c in report.checks if c.outcome is not Outcome.PASS]
    return _message(
        report,
        "smoke failed",
        f"❌ {_name(report)}: {len(failed)} of {count(len(report.checks), 'check')} failed",
        "What the smoke test found:",
        items=[(f"{c.name} ({c.request})", _attempts(c)) for c in failed],
    )


def checkpoint_failed(report: ReleaseReport, record: CheckpointRecord) -> Message:
    said, name = record.decisive, checkpoint_name(record.name, record.at)
    at = f" at {offset(said.at, report.release.deployed_at)}" if said else ""
    return _message(
        report,
        f"{name} failed",
        f"❌ {_name(report)}: {record.name} failed{at}",
        said.why if said else "It was never judged.",
        facts=evidence(said) if said else [],
        code=said.query if said else "",
    )


def promoted(report: ReleaseReport, gate: GateRecord, weight: int, because: str) -> Message:
    """How a step's promotion to `weight` percent of the traffic stands, and what it rests on."""
    if gate.promoted is None:
        raise ValueError(f"{report.release.id} has not been promoted from {gate.weight} %")
    accepted = gate.promoted.state is RollbackState.ACCEPTED
    return _message(
        report,
        f"promotion to {weight} % {gate.promoted.state}",
        f"{'🚦' if accepted else '🚨'} {_name(report)}: promotion to {weight} % {gate.promoted.state}",
        because,
        items=[(m.name, m.judgements[-1].why) for m in gate.metrics if m.judgements],
        broadcast=not accepted,
    )


def rollback(report: ReleaseReport) -> Message:
    """How the rollback stands: sent, accepted, failed or unknown. Raises ValueError where there is none."""
    if report.rollback is None:
        raise ValueError(f"{report.release.id} has no rollback to tell of")
    state = report.rollback.state
    return _message(
        report,
        f"rollback {state}",
        f"{_ROLLBACK_MARKS[state]} {_name(report)}: rollback {state}",
        rollback_sentence(report.rollback),
        items=[
            (f"Attempt {n}, {offset(a.at, report.release.deployed_at)}", a.answer)
            for n, a in enumerate(report.rollback.attempts, 1)
        ],
        broadcast=state in (RollbackState.FAILED, RollbackState.UNKNOWN),
    )


def verdict(report: ReleaseReport) -> Message:
    """Healthy, unhealthy or inconclusive, why, and what is asked of people."""
    open_still = report.verdict is Verdict.INCONCLUSIVE and not report.rollback and not report.answers
    wanted = [("What to do", _ASK)] if open_still else []
    decided = [("Decision", answer_sentence(answer)) for answer in report.answers]
    return _message(
        report,
        "verdict",
        f"{_VERDICT_MARKS[report.verdict]} {_name(report)}: {headline(report)}",
        why(report),
        items=[("Also", reason) for reason in report.reasons[1:]] + decided + wanted,
        broadcast=True,
    )


def question(report: ReleaseReport, asked: Question) -> Message:
    """Nothing is proven, and somebody is asked what to do: until when, and what is done otherwise."""
    number = f" {asked.number}" if asked.number > 1 else ""
    refused = [("The last answer could not be taken", asked.refused)] if asked.refused else []
    return _message(
        report,
        f"question{number}",
        f"❓ {_name(report)} is inconclusive: {_one_of(asked.choices)}?",
        why(report),
        facts=[("Answer until", rfc3339(asked.deadline)), ("Otherwise", asked.otherwise)],
        items=[("Also", reason) for reason in report.reasons[1:]] + refused + [("How to answer", _HOW)],
        broadcast=True,
    )


_HOW = "Open the flow run in Prefect and press Resume (in its newer UI behind ⋮): a form asks for decision and reason."
_ASK = "It was not rolled back, because nothing is proven against it. Look at the report and decide."


def _message(report: ReleaseReport, kind: str, title: str, text: str, **rest: Any) -> Message:
    dry = ["Dry run: nothing is rolled back"] if report.dry_run else []
    # The kind becomes the name of a task run, and Prefect drops a run whose name holds what is not Unicode.
    return Message(plain(kind, 120), title, text, url=report.flow_run_url, footer=[*dry, report.release.id], **rest)


def _one_of(choices: Sequence[str]) -> str:
    """`proceed, keep watching or stop`"""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _name(report: ReleaseReport) -> str:
    return f"{report.release.service} {report.release.version}"


def _attempts(check: CheckResult) -> str:
    """Why it failed; where it was tried several times, each of them."""
    if len(check.attempts) < 2:
        return check.why
    return "; ".join(
        f"attempt {n} ({show_value(a.elapsed, 'seconds')}): {plain(a.why) or 'passed'}"
        for n, a in enumerate(check.attempts, 1)
    )


# ── Block Kit ────────────────────────────────────────────────────────────────────────────────────────────────


def render(message: Message) -> dict[str, Any]:
    """`text` (what notifications show) and `blocks`: within Slack's limits, nothing live in what others wrote."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _fit(message.title, MAX_HEADER, escaped=False)}},
        _section(_fit(message.text, MAX_SECTION)),
    ]
    if message.facts:
        facts = [_mrkdwn(_pair(name, value, MAX_FIELD)) for name, value in message.facts[:MAX_FIELDS]]
        blocks.append({"type": "section", "fields": facts})
    blocks += [_section(_pair(what, why, MAX_SECTION)) for what, why in message.items[:MAX_ITEMS]]
    if (more := len(message.items) - MAX_ITEMS) > 0:
        blocks.append(_section(f"and {more} more"))
    if message.code:
        blocks.append(_section(f"```{_fit(message.code.replace('`', '’'), MAX_SECTION - 6)}```"))
    if footer := _footer(message):
        blocks.append({"type": "context", "elements": [_mrkdwn(footer)]})
    return {"text": _fit(f"{message.title}: {message.text}", MAX_TEXT), "blocks": blocks[:MAX_BLOCKS]}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    """Verbatim: Slack makes no links, channels or mentions out of what it finds in the text."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _pair(name: str, value: str, limit: int) -> str:
    head = f"*{_fit(name.replace('*', '∗'), 200)}*\n"
    return head + _fit(value, limit - _units(head))


def _footer(message: Message) -> str:
    parts = [_fit(part, 300) for part in message.footer]
    if link := _link(message.url, "Open in Prefect"):
        parts.insert(0, link)
    return " · ".join(parts)


def _link(url: str, words: str) -> str:
    address = web_address(url).replace("&", "&amp;")
    return f"<{address}|{words}>" if address and len(address) + len(words) + 3 <= MAX_URL else ""


def _fit(text: str, limit: int, *, escaped: bool = True) -> str:
    """Plain text of at most `limit` characters as Slack counts them, with no entity cut in two and nobody called.
    Never empty, which Slack would refuse."""
    words = re.sub(r"@(?=here|channel|everyone)", "@\u2060", plain(text, limit), flags=re.IGNORECASE) or "–"
    pieces = [_ESCAPES.get(c, c) for c in words] if escaped else list(words)
    whole = "".join(pieces)
    if _units(whole) <= limit:
        return whole
    room = itertools.accumulate(map(_units, pieces))
    return "".join(piece for piece, used in zip(pieces, room, strict=True) if used < limit).rstrip() + "…"


_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _units(text: str) -> int:
    """UTF-16 units: the stricter way to count, in which an emoji is two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
