"""Past releases through the code of the live window and the live gate: what the verdicts would have been.

Pure: what was measured comes in, results go out. `tasks.history` does the asking, and `firstwatch.thresholds` says at
which limits none of them had been rolled back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from firstwatch.gate import Gate, History
from firstwatch.gate import replay as replay_gate
from firstwatch.model import Outcome, Verdict, rfc3339
from firstwatch.past import PastRelease, ReleasesError
from firstwatch.spec.canary import metrics_of
from firstwatch.spec.fill import fill
from firstwatch.spec.models import Service, Window
from firstwatch.spec.signals import window_length
from firstwatch.timeline import GRACE, Measured, Reason, Ruling, Watch, replay

Part = Literal["window", "canary"]
"""What of a service file is replayed: the observation window, or the canary's gate."""


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What a release's verdict would have been. `ours`: it is open because we could not measure, or not judge.

    `by` is what would have rolled it back, its first reason's part of the file.
    """

    past: PastRelease
    verdict: Verdict
    decided_at: float
    reasons: tuple[Reason, ...]
    by: Part | None = None

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
    """A release with its service file, filled in, and what was measured of it, up to `until` (Unix seconds): for the
    window, and for the canary's gate. None: that one is not replayed."""

    service: Service
    past: PastRelease
    until: float
    measured: Measured | None = None
    history: History | None = None


def prepare(service: Service, releases: Sequence[PastRelease], only: Part | None = None) -> list[Service]:
    """The service file filled in for each release. Raises ReleasesError with all that has no value."""
    if only == "canary":
        if service.canary is None:
            raise ReleasesError([f"the file of {service.service} has no canary section to replay"])
        service = service.model_copy(update={"window": Window()})  # what it leaves open is not asked for
    filled, problems = [], []
    for i, past in enumerate(releases):
        name, version = past.release.service, past.release.version
        try:
            filled.append(fill(service, name=name, version=version, args=past.args, canary=only != "window"))
        except ValueError as error:
            hint = "give it under args" + (", or --only window" if "canary." in str(error) and only is None else "")
            problems.append(f"releases[{i}] ({name} {version}): {error} (hint: {hint})")
    if problems:
        raise ReleasesError(problems)
    return filled


def window_end(service: Service, deployed_at: float) -> float:
    """When the last look of the window is over, its grace included (Unix seconds): what has to be measured."""
    return deployed_at + (1 + GRACE) * window_length(service.window)


def gate_end(service: Service, deployed_at: float) -> float:
    """Until when the gate may measure (Unix seconds). One without an end of its own is replayed as far as the window,
    or as its other metrics, whichever is longer."""
    if service.canary is None:
        return deployed_at
    gate, metrics = Gate(service.canary, deployed_at), metrics_of(service.canary)
    endless = any(gate.planned_end(metric) is None for metric in metrics)
    usual = window_end(service, deployed_at) if endless else deployed_at
    return max([usual, *filter(math.isfinite, map(gate.deadline, metrics))])


def decide(case: Case) -> BacktestResult:
    """The verdict, by what live runs would have seen at the times they would have looked.

    Unhealthy if the window or the gate is, when the first of them is; healthy if both are, and inconclusive otherwise.
    """
    rulings: dict[Part, Ruling] = {}
    if case.measured is not None:
        rulings["window"] = _of_window(case, case.measured)
    if case.history is not None:
        rulings["canary"] = _of_gate(case, case.history)
    failed = {part: ruling for part, ruling in rulings.items() if ruling.verdict is Verdict.UNHEALTHY}
    if failed:
        reasons = sorted((reason for ruling in failed.values() for reason in ruling.reasons), key=lambda r: r.at)
        first = min(failed, key=lambda part: failed[part].decided_at)
        return BacktestResult(case.past, Verdict.UNHEALTHY, failed[first].decided_at, tuple(reasons), first)
    open_ = {part: ruling for part, ruling in rulings.items() if ruling.verdict is Verdict.INCONCLUSIVE}
    at = max(ruling.decided_at for ruling in rulings.values())
    if open_:
        found = tuple(reason for part, ruling in open_.items() for reason in _open_reasons(part, ruling))
        return BacktestResult(case.past, Verdict.INCONCLUSIVE, at, found)
    passed = tuple(reason for ruling in rulings.values() for reason in ruling.reasons)
    return BacktestResult(case.past, Verdict.HEALTHY, at, passed)


def _of_window(case: Case, measured: Measured) -> Ruling:
    service = case.service
    watch = Watch(service.window, service.objectives, case.past.release.deployed_at)
    return replay(measured, watch, case.until).ruling


def _of_gate(case: Case, history: History) -> Ruling:
    """One gate, from the deploy on."""
    assert case.service.canary is not None
    gate = Gate(case.service.canary, case.past.release.deployed_at)
    return replay_gate(gate, case.service.objectives, history.answer, case.until).ruling


def _open_reasons(part: Part, ruling: Ruling) -> tuple[Reason, ...]:
    reasons = tuple(reason for reason in ruling.reasons if reason.outcome is not Outcome.PASS)
    if ruling.final:
        return reasons
    named = "window" if part == "window" else "gate"
    return (*reasons, Reason(part, Outcome.NOT_YET, ruling.decided_at, f"its {named} is not over yet"))


def undecided(past: PastRelease, why: str) -> BacktestResult:
    """A release that could not be looked at, for a reason that is ours: never healthy, and never left out."""
    at = past.release.deployed_at
    return BacktestResult(past, Verdict.INCONCLUSIVE, at, (Reason("history", Outcome.ERROR, at, why),))


# ── what they come to ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a checkpoint or a gate's metric allows, and what it would have to allow for no release to fail by it.

    `judge` is "condition" where a condition decides, and "score" for a Kayenta configuration. `limit` and `needed` are
    what the judge holds the series against (a share of requests, a growth, or by how much worse than the stable
    version), or the number in a metric's condition. Both are None where there is no limit to move: `seen` has the
    smallest and largest value that the failing releases showed. `failed` releases break it at some time, whether or
    not another was faster; of these, `gone` fail at any limit.
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
    part: Part = "window"


@dataclass(frozen=True, slots=True)
class Backtest:
    """All results in the order of the releases, and the thresholds in the file's order: window, then canary."""

    results: tuple[BacktestResult, ...]
    thresholds: tuple[Threshold, ...] = ()
    wanted: int = 0  # releases that were asked for: more than there are results, if it was broken off

    def of(self, verdict: Verdict) -> list[BacktestResult]:
        return [result for result in self.results if result.verdict is verdict]

    @property
    def firsts(self) -> Mapping[tuple[Part | None, str], int]:
        """How many releases each checkpoint of the window and metric of the gate would have been first to roll back."""
        firsts = [(result.by, result.reasons[0].check) for result in self.of(Verdict.UNHEALTHY)]
        return {first: firsts.count(first) for first in dict.fromkeys(firsts)}
