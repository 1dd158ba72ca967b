"""A report in a few words: the same in the markdown page and in Slack, so that they cannot disagree."""

from __future__ import annotations

from firstwatch.model import CheckResult, Judgement, Outcome, Verdict
from firstwatch.report.model import Answer, ReleaseReport, RollbackRecord, RollbackState
from firstwatch.report.text import OUTCOME_WORDS, count, show_value
from firstwatch.units import show_duration

# The run's final state knows more than the hook's answer: whether the old version is really back.
_ENDED = {"RolledBack": "Rolled back", "RollbackFailed": "Unhealthy, and the rollback failed"}
_ROLLBACK = {
    RollbackState.SENT: "Unhealthy, rollback sent",
    RollbackState.ACCEPTED: "Rolled back",
    RollbackState.FAILED: _ENDED["RollbackFailed"],
    RollbackState.UNKNOWN: "Unhealthy, and nobody knows whether it was rolled back",
}


def headline(report: ReleaseReport) -> str:
    """The verdict and what came of it, in a few words without the release's name."""
    match report.verdict:
        case None:
            return "Under observation"
        case Verdict.HEALTHY:
            return "Healthy"
        case Verdict.INCONCLUSIVE:
            return f"Inconclusive{_decided(report)}"
        case Verdict.UNHEALTHY:
            if undone := _after_rollback(report):
                return undone
            return "Unhealthy (dry run: not rolled back)" if report.dry_run else "Unhealthy, not rolled back"


def _after_rollback(report: ReleaseReport) -> str:
    return (_ENDED.get(report.state) or _ROLLBACK[report.rollback.state]) if report.rollback else ""


def _decided(report: ReleaseReport) -> str:
    """What came of an inconclusive verdict, by somebody's decision."""
    if undone := _after_rollback(report):
        return f", {undone.removeprefix('Unhealthy, ').lower()}"
    return ", and let through" if report.state == "Proceeded" else ""


def answer_sentence(answer: Answer) -> str:
    """`ann: roll back. The errors come from the new cache.`"""
    return f"{answer.by}: {answer.decision}. {answer.reason}"


def why(report: ReleaseReport) -> str:
    """The decisive reason; where none was given, what the verdict rests on."""
    if report.reasons:
        return report.reasons[0]
    match report.verdict:
        case None:
            return "No verdict yet."
        case Verdict.HEALTHY:
            passed = sum(1 for c in report.checks if c.outcome is Outcome.PASS)
            held = sum(1 for c in report.checkpoints if c.outcome is Outcome.PASS)
            parts = [count(n, what) for n, what in ((passed, "check"), (held, "checkpoint")) if n]
            if report.gates:
                taken = sum(len(m.judgements) for gate in report.gates for m in gate.metrics)
                parts.append(f"{count(len(report.gates), 'gate')} with {count(taken, 'measurement')}")
            return f"{' and '.join(parts)} passed." if parts else "Nothing speaks against it."
        case _:
            return "No reason was recorded: that itself needs a look."


def check_words(check: CheckResult) -> str:
    return "✓ pass on retry" if check.passed_on_retry else OUTCOME_WORDS[check.outcome]


def evidence(judgement: Judgement) -> list[tuple[str, str]]:
    """What a judgement rests on, as name and value; what it does not know is left out."""
    facts = []
    if judgement.value is not None:
        facts.append(("Value", show_value(judgement.value, judgement.unit)))
    if judgement.limit is not None:
        facts.append(("Limit", show_value(judgement.limit, judgement.unit)))
    if judgement.sample is not None:
        facts.append(("Sample", f"{judgement.sample:,}"))
    if judgement.since is not None:
        facts.append(("Over the last", show_duration(round(judgement.at - judgement.since))))
    return facts


def rollback_sentence(rollback: RollbackRecord) -> str:
    how, tries = f"by {rollback.adapter.replace('_', ' ')}", count(len(rollback.attempts), "attempt")
    match rollback.state:
        case RollbackState.SENT:
            return f"Sent {how}; no answer yet."
        case RollbackState.ACCEPTED:
            return f"Accepted {how}, after {tries}."
        case RollbackState.FAILED:
            return f"Failed {how}, after {tries}. The bad version is still out there: roll back by hand."
        case RollbackState.UNKNOWN:
            return f"Sent {how}, and no answer came. It is not sent again: look whether the old version is back."
