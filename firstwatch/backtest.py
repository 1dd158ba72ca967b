"""Past releases through the live window's own code: what the verdicts would have been, and at which limits none of
them had been rolled back.

Pure: what was measured comes in, results go out. `tasks.history` does the asking.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from firstwatch.model import Judgement, Outcome, Verdict, rfc3339
from firstwatch.past import PastRelease, ReleasesError
from firstwatch.spec.fill import fill
from firstwatch.spec.models import Checkpoint, Service, Window
from firstwatch.spec.signals import window_length
from firstwatch.timeline import GRACE, Measured, Reason, Watch, context_of, looks, replay

_PRECISION = 0.01  # of a limit that is searched for
_MOST_GROWTH = 2.0**20  # a growth that no limit need allow


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What a release's verdict would have been. `ours`: it is open because we could not measure, or not judge."""

    past: PastRelease
    verdict: Verdict
    decided_at: float
    reasons: tuple[Reason, ...]

    @property
    def after_s(self) -> float:
        return self.decided_at - self.past.release.deployed_at

    @property
    def ours(self) -> bool:
        return self.verdict is Verdict.INCONCLUSIVE and any(r.outcome is Outcome.ERROR for r in self.reasons)

    def as_json(self) -> dict[str, Any]:
        """One entry of the command line's OUT. Times are RFC 3339, except deployed_at, which is as it was given."""
        return {
            "service": self.past.release.service,
            "version": self.past.release.version,
            "deployed_at": self.past.given,
            "verdict": str(self.verdict),
            "decided_at": rfc3339(self.decided_at),
            "after_s": round(self.after_s, 3),
            "reasons": [_reason_as_json(reason) for reason in self.reasons],
        }


def _reason_as_json(reason: Reason) -> dict[str, Any]:
    numbers = {"value": reason.value, "limit": reason.limit, "sample": reason.sample}
    finite = {key: None if value is None or not math.isfinite(value) else value for key, value in numbers.items()}
    return {"check": reason.check, "at": rfc3339(reason.at), **finite, "why": reason.why}


@dataclass(frozen=True, slots=True)
class Case:
    """A release with its service file, filled in, and what was measured of it, up to `until` (Unix seconds)."""

    service: Service
    past: PastRelease
    measured: Measured
    until: float


def prepare(service: Service, releases: Sequence[PastRelease]) -> list[Service]:
    """The service file filled in for each release. Raises ReleasesError with all that has no value."""
    filled, problems = [], []
    for i, past in enumerate(releases):
        release = past.release
        try:
            filled.append(fill(service, name=release.service, version=release.version, args=past.args, canary=False))
        except ValueError as error:
            problems.append(f"releases[{i}] ({release.service} {release.version}): {error} (hint: give it under args)")
    if problems:
        raise ReleasesError(problems)
    return filled


def window_end(service: Service, deployed_at: float) -> float:
    """When the last look of the window is over, its grace included (Unix seconds): what has to be measured."""
    return deployed_at + (1 + GRACE) * window_length(service.window)


def decide(case: Case) -> BacktestResult:
    """The verdict, by the looks that a live run would have taken at what it would have seen.

    This is where whatever else decides over a release live is replayed beside its window.
    """
    service, release = case.service, case.past.release
    watch = Watch(service.window, service.objectives, release.deployed_at)
    ruling = replay(case.measured, watch, case.until).ruling
    reasons = ruling.reasons
    if ruling.verdict is Verdict.INCONCLUSIVE:
        reasons = tuple(reason for reason in reasons if reason.outcome is not Outcome.PASS)
        if not ruling.final:
            why = "its window is not over yet"
            reasons = (*reasons, Reason("window", Outcome.NOT_YET, ruling.decided_at, why))
    return BacktestResult(case.past, ruling.verdict, ruling.decided_at, reasons)


def undecided(past: PastRelease, why: str) -> BacktestResult:
    """A release that could not be looked at, for a reason that is ours: never healthy, and never left out."""
    at = past.release.deployed_at
    return BacktestResult(past, Verdict.INCONCLUSIVE, at, (Reason("history", Outcome.ERROR, at, why),))


# ── the limits at which none had been rolled back ────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a checkpoint allows, and what it would have to allow for none of the releases to fail by it.

    `limit` and `needed` are what the checkpoint's judge holds the series against: a share of requests, or a growth.
    Both are None for a query, whose condition has no limit to move: `seen` has the smallest and largest value that the
    failing releases showed. `failed` releases break it at some time of their window, whether or not another checkpoint
    was faster; of these, `gone` fail at any limit, because the service fell silent.
    """

    check: str
    signal: str
    judge: str
    failed: int = 0
    gone: int = 0
    limit: float | None = None
    needed: float | None = None
    seen: tuple[float, float] | None = None
    expect: str = ""
    words: str = ""


def threshold(name: str, cases: Sequence[Case]) -> Threshold:
    """The checkpoint's Threshold over the releases that were not called healthy. `cases` is not empty.

    Bisection for as many releases only as raise the limit: taken in random order, that is a few of them however many
    there are (seeded: the same releases, the same answer).
    """
    checkpoint = _checkpoint(cases[0].service, name)
    failures = [(case, failure) for case in cases if (failure := first_failure(case, name)) is not None]
    found = Threshold(name, checkpoint.signal or "query", checkpoint.judge or "condition", len(failures))
    if checkpoint.signal is None:
        return _of_query(found, checkpoint, [case for case, _ in failures])
    limit, words = _limit(cases[0], checkpoint)
    most = 1.0 if checkpoint.judge == "proportion" else _MOST_GROWTH
    movable = [case for case, _ in failures if first_failure(case, name, most) is None]
    random.Random(0).shuffle(movable)
    needed = limit
    for case in movable:
        if first_failure(case, name, needed) is not None:
            needed = _least(case, name, needed, most)
    return replace(found, gone=len(failures) - len(movable), limit=limit, needed=needed, words=words)


def first_failure(case: Case, name: str, limit: float | None = None) -> Judgement | None:
    """When the checkpoint would first have failed, had it alone been watched; with another limit, if one is given."""
    service = case.service if limit is None else _with_limit(case.service, name, limit)
    measured = Measured(
        {name: case.measured.checkpoints[name]} if name in case.measured.checkpoints else {},
        case.measured.load,
        case.measured.alive,
    )
    watch = Watch(service.window, service.objectives, case.past.release.deployed_at)
    judged: Judgement | None = None
    for look in looks(service.window, watch.deployed_at):
        if look.at > case.until or (look.grace and judged and judged.outcome is Outcome.PASS):
            break
        if name in look.watched:
            judged = watch.judge(name, measured.until(look.at), look.at)
            if judged.outcome is Outcome.FAIL:
                return judged
    return None


def _least(case: Case, name: str, fails: float, most: float) -> float:
    """The smallest limit, to a hundredth, at which the release passes: it fails at `fails` and passes at `most`."""
    passes = fails
    while passes < most:
        passes = min(most, 2 * max(passes, _PRECISION))
        if first_failure(case, name, passes) is None:
            break
        fails = passes
    while passes - fails > _PRECISION * passes:
        middle = (fails + passes) / 2
        if first_failure(case, name, middle) is None:
            passes = middle
        else:
            fails = middle
    return passes


def _of_query(found: Threshold, checkpoint: Checkpoint, failing: Sequence[Case]) -> Threshold:
    """A query's condition as it stands, and the extremes of what the failing releases showed while it was watched."""
    values = [value for case in failing for value in _values(case, checkpoint)]
    return replace(found, seen=(min(values), max(values)) if values else None, expect=checkpoint.expect or "")


def _values(case: Case, checkpoint: Checkpoint) -> list[float]:
    measured = case.measured.checkpoints.get(checkpoint.name)
    begins = case.past.release.deployed_at + checkpoint.at
    ends = case.past.release.deployed_at + window_length(case.service.window)
    at, value = getattr(measured, "at", ()), getattr(measured, "value", ())
    return [v for t, v in zip(at, value, strict=False) if begins <= t <= ends]


def _limit(case: Case, checkpoint: Checkpoint) -> tuple[float, str]:
    window, at = case.service.window, case.past.release.deployed_at
    context = context_of(window, checkpoint, case.service.objectives, at, at, case.measured)
    return context.limit, context.words


def _checkpoint(service: Service, name: str) -> Checkpoint:
    return next(c for c in service.window.checkpoints if c.name == name)


def _with_limit(service: Service, name: str, limit: float) -> Service:
    checkpoints = [c.model_copy(update={"limit": limit}) if c.name == name else c for c in service.window.checkpoints]
    window: Window = service.window.model_copy(update={"checkpoints": checkpoints})
    return service.model_copy(update={"window": window})


# ── what they come to ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Backtest:
    """All results in the order of the releases, and each checkpoint's threshold in the order of the window."""

    results: tuple[BacktestResult, ...]
    thresholds: tuple[Threshold, ...] = ()
    wanted: int = 0  # releases that were asked for: more than there are results, if it was broken off

    def of(self, verdict: Verdict) -> list[BacktestResult]:
        return [result for result in self.results if result.verdict is verdict]

    @property
    def by_check(self) -> Mapping[str, int]:
        """How many releases each checkpoint would have been the first to roll back."""
        firsts = [result.reasons[0].check for result in self.of(Verdict.UNHEALTHY)]
        return {check: firsts.count(check) for check in dict.fromkeys(firsts)}
