"""Which numbers of a metric fit together: what Argo Rollouts refuses, and what it lets pass that can never fail."""

from __future__ import annotations

import re

from firstwatch.spec.canary import CanaryMetric

_GO_DURATION = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def is_go_duration(text: str) -> bool:
    """As Go reads it: 90s, 1m30s, 1.5h; a unit is needed (0 alone is all right), and there are no days."""
    return text in ("0", "+0", "-0") or bool(text and not _GO_DURATION.sub("", text))


def limit_faults(
    *,
    count: int = 0,
    failure: int = 0,
    inconclusive: int = 0,
    success_row: int = 0,
    error_row: int | None = None,
    interval: bool = False,
) -> list[str]:
    """What Argo refuses (ValidateMetric in utils/analysis/factory.go), all at once. 0 is its own default for each."""
    faults = []
    if success_row < 0:
        faults.append("consecutiveSuccessLimit must not be negative")
    if failure < -1:
        faults.append("failureLimit must be 0 or more, or -1 for no limit")
    if success_row == 0 and failure == -1:
        faults.append("it can never fail: without a failureLimit there must be a consecutiveSuccessLimit")
    if inconclusive < 0:
        faults.append("inconclusiveLimit must not be negative")
    if error_row is not None and error_row < 0:
        faults.append("consecutiveErrorLimit must not be negative")
    if count > 0:
        needed = max(failure, 0) + max(success_row, 0)
        if count < needed:
            told = "failureLimit and consecutiveSuccessLimit together" if failure > 0 < success_row else ""
            faults.append(f"count ({count}) must not be below {told or _which(failure)} ({needed})")
        if count < inconclusive:
            faults.append(f"count ({count}) must not be below inconclusiveLimit ({inconclusive})")
    if count > 1 and not interval:
        faults.append("several measurements need an interval")
    return faults


def _which(failure: int) -> str:
    return "failureLimit" if failure > 0 else "consecutiveSuccessLimit"


def never_fails(count: int, failure: int, success_row: int = 0, failure_row: int | None = None) -> str:
    """Why so many measurements can never fail so often (Argo lets this pass); empty if they can."""
    if success_row or failure_row or not count or failure < count:
        return ""
    return f"it can never fail: of {count} measurement{'s'[: count > 1]} no more than {failure} fail"


def validate_limits(metric: CanaryMetric) -> list[str]:
    """What is wrong with a canary metric's limits, in sentences: what Argo refuses, and what can never fail."""
    failure, row = metric.failure_limit, metric.consecutive_failure_limit
    if failure is None or (failure == -1 and row):
        failure = 0  # none is needed where failures in a row end it, and Argo's default is 0
    count = metric.count or (1 if metric.interval is None and not metric.consecutive_success_limit else 0)
    faults = limit_faults(
        count=metric.count,
        failure=failure,
        inconclusive=metric.inconclusive_limit,
        success_row=metric.consecutive_success_limit,
        error_row=metric.consecutive_error_limit,
        interval=metric.interval is not None,
    )
    if metric.consecutive_success_limit > 1 and metric.interval is None and not metric.count:
        faults.append(f"it can never succeed: {metric.consecutive_success_limit} successes in a row need an interval")
    if not faults and (said := never_fails(count, failure, metric.consecutive_success_limit, row)):
        faults.append(said)
    if row and metric.count and row > metric.count:
        faults.append(f"it can never fail: {row} failures in a row do not fit into {metric.count} measurements")
    return faults
