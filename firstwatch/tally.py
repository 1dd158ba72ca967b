"""A canary metric's counters, and how it stands by them: what Argo Rollouts does with the same numbers.

After assessMetricStatus in argo-rollouts' analysis/analysis.go, on finite data. What is different is said where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from firstwatch.model import Outcome
from firstwatch.spec.canary import CanaryMetric, count_of, failures_allowed

ERRORS_IN_A_ROW = 4  # that Argo bears where a metric does not say


class Phase(StrEnum):
    """How a metric stands, in Argo's words, from good to bad."""

    SUCCESSFUL = "Successful"
    RUNNING = "Running"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"
    FAILED = "Failed"


def is_worse(current: Phase, new: Phase) -> bool:
    """Whether `new` is worse than `current`."""
    order = list(Phase)
    return order.index(new) > order.index(current)


def worst(phases: Sequence[Phase]) -> Phase:
    """What several metrics come to: the worst of them; still running while any runs and none has failed."""
    ended = max(phases, key=list(Phase).index)
    return Phase.RUNNING if ended is Phase.SUCCESSFUL and Phase.RUNNING in phases else ended


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Tally:
    """A metric's counters. `count` is what uses up the metric's count: errors and missing data do not."""

    count: int = 0
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    error: int = 0
    no_data: int = 0
    consecutive_success: int = 0
    consecutive_failure: int = 0
    consecutive_error: int = 0

    def after(self, outcome: Outcome) -> Tally:
        """With one more measurement. No data and errors neither lengthen nor break a row of failures."""
        t = dataclasses.replace
        match outcome:
            case Outcome.PASS:
                row = self.consecutive_success + 1
                more = t(self, successful=self.successful + 1, consecutive_success=row, consecutive_failure=0)
            case Outcome.FAIL:
                row = self.consecutive_failure + 1
                more = t(self, failed=self.failed + 1, consecutive_success=0, consecutive_failure=row)
            case Outcome.NOT_YET:
                more = t(self, inconclusive=self.inconclusive + 1, consecutive_success=0, consecutive_failure=0)
            case Outcome.NO_DATA:
                return t(self, no_data=self.no_data + 1, consecutive_success=0, consecutive_error=0)
            case Outcome.ERROR:
                row = self.consecutive_error + 1
                return t(self, error=self.error + 1, consecutive_error=row, consecutive_success=0)
        return t(more, count=self.count + 1, consecutive_error=0)


def tally_of(outcomes: Sequence[Outcome]) -> Tally:
    tally = Tally()
    for outcome in outcomes:
        tally = tally.after(outcome)
    return tally


def assess(metric: CanaryMetric, tally: Tally, terminating: bool = False) -> Phase:
    """How a metric with these counters stands, as Argo says, but for what Argo does not have:

    `consecutive_failure_limit`; the row that is open when the count is reached is measured to its end, and a metric
    that failed more often than not, though never so often in a row, is inconclusive. And an early end (`terminating`)
    before anything is decided is inconclusive, where Argo calls it a success.
    """
    allowed, row, enough = failures_allowed(metric), metric.consecutive_failure_limit, metric.consecutive_success_limit
    if (allowed is not None and tally.failed > allowed) or (row and tally.consecutive_failure >= row):
        return Phase.FAILED
    if tally.inconclusive > metric.inconclusive_limit:
        return Phase.INCONCLUSIVE
    borne = ERRORS_IN_A_ROW if metric.consecutive_error_limit is None else metric.consecutive_error_limit
    if tally.consecutive_error > borne:
        return Phase.ERROR
    if enough and tally.consecutive_success >= enough:
        return Phase.SUCCESSFUL
    wanted = count_of(metric)
    if wanted and tally.count >= wanted:
        if enough:
            return Phase.FAILED if allowed is None else Phase.INCONCLUSIVE
        if row and tally.consecutive_failure:
            return Phase.INCONCLUSIVE if terminating else Phase.RUNNING
        return Phase.INCONCLUSIVE if row and allowed is None and tally.failed > tally.successful else Phase.SUCCESSFUL
    return Phase.INCONCLUSIVE if terminating else Phase.RUNNING


def settled(metric: CanaryMetric, tally: Tally) -> Phase:
    """How the metric stands; or, where no measurement that is still to come can change it, how it will end.

    Where nothing has succeeded there is no success: what Argo calls one (all inconclusive, within the limit) is not.
    """
    phase, left = assess(metric, tally), count_of(metric) - tally.count
    if not tally.successful:
        return Phase.INCONCLUSIVE if phase is Phase.SUCCESSFUL else phase
    if phase is not Phase.RUNNING or left <= 0 or metric.consecutive_failure_limit:
        return phase
    may_be_neither = bool(metric.success_condition and metric.failure_condition)
    if may_be_neither and tally.inconclusive + left > metric.inconclusive_limit:
        return phase
    allowed, enough = failures_allowed(metric), metric.consecutive_success_limit
    if enough:
        out_of_reach = tally.consecutive_success + left < enough
        return Phase.FAILED if out_of_reach and allowed is None else phase
    return Phase.SUCCESSFUL if allowed is None or tally.failed + left <= allowed else phase
