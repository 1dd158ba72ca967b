"""From what was found to what is said of the release: healthy, unhealthy or inconclusive, with the reasons.

Only what passed counts towards healthy, only what is proven to fail makes unhealthy, and an empty suite is neither.
"""

from __future__ import annotations

from collections.abc import Sequence

from firstwatch.model import CheckResult, Outcome, Verdict


def of_smoke(version: CheckResult | None, checks: Sequence[CheckResult]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict of the version check (if the file has one) and the suite.

    A failure is proven when it was confirmed by a retry, or when two different checks failed: a single stumble of
    one check, or of the checker, rolls nothing back. A version check that did not pass proves nothing against the
    release: it may not have arrived yet.
    """
    failed = [c for c in checks if c.outcome is Outcome.FAIL]
    unproven = [c for c in checks if c.outcome not in (Outcome.PASS, Outcome.FAIL)]
    reasons = [f"smoke: {c.name} failed: {c.why}" for c in failed]
    doubts = [f"smoke: {c.name} could not be judged: {c.why}" for c in unproven]
    if version is not None and version.outcome is not Outcome.PASS:
        doubts.insert(0, f"the new version did not answer: {version.why}")
    if len(failed) > 1 or any(_confirmed(c) for c in failed):
        return Verdict.UNHEALTHY, (*reasons, *doubts)
    if failed:
        return Verdict.INCONCLUSIVE, (f"{reasons[0]} (once, and not confirmed by a retry)", *doubts)
    if doubts or not checks:
        return Verdict.INCONCLUSIVE, tuple(doubts) or ("the smoke suite has no checks",)
    return Verdict.HEALTHY, ()


def _confirmed(check: CheckResult) -> bool:
    return sum(1 for a in check.attempts if a.outcome is Outcome.FAIL) > 1
