"""At which limit a checkpoint of the window, or a metric of the gate, had rolled back none of the past releases.

Found by replaying those that were rolled back with other limits. Pure.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from firstwatch.backtest import Case, Part, Threshold
from firstwatch.conditions import ConditionError
from firstwatch.expr import compile_gate_condition, limit_of, with_limit
from firstwatch.gate import Gate, allowed_of, replay_alone
from firstwatch.model import Judgement, Outcome
from firstwatch.spec.canary import CanaryMetric, metrics_of
from firstwatch.spec.models import Checkpoint, Objectives, Service, Window
from firstwatch.spec.signals import window_length
from firstwatch.tally import Phase
from firstwatch.timeline import Measured, Watch, context_of, looks

Fails = Callable[[Case, float], bool]
"""Whether a release fails at a limit. The higher it is, the more is allowed."""

SHARES = ("proportion", "burn_rate", "distribution")
"""Judges whose limit is a share of the requests, which the objectives give."""
_MOVED_AT_A_GATE = (*SHARES, "compare")  # how much a gauge may grow there cannot be written in a file
_PRECISION = 0.01  # of a limit that is searched for
_FINEST = 1e-4  # of a number in a condition: it is not searched for more finely than that
_MOST = 2.0**20  # a growth that no limit need allow, and how many times its size a number need be moved


def rules_of(case: Case) -> list[tuple[Part, str]]:
    """What has a threshold in a case: each checkpoint and each metric that decides, in the file's order."""
    rules: list[tuple[Part, str]] = []
    if case.measured is not None:
        rules += [("window", checkpoint.name) for checkpoint in case.service.window.checkpoints]
    if case.history is not None and case.service.canary is not None:
        rules += [("canary", metric.name) for metric in metrics_of(case.service.canary) if not metric.dry_run]
    return rules


def threshold(part: Part, name: str, cases: Sequence[Case]) -> Threshold:
    """The rule's Threshold over the releases that were rolled back. `cases` is not empty."""
    return _of_checkpoint(name, cases) if part == "window" else _of_metric(name, cases)


# ── the search ───────────────────────────────────────────────────────────────────────────────────────────────


def _search(
    cases: Sequence[Case], fails: Fails, start: float, most: float, step: float, finest: float = 0.0
) -> tuple[int, float]:
    """How many releases fail even at `most`, and the least limit, from `start` on, at which none of the others does.

    Bisection for as many releases only as raise the limit: taken in random order, that is a few of them however many
    there are (seeded: the same releases, the same answer).
    """
    movable = [case for case in cases if not fails(case, most)]
    random.Random(0).shuffle(movable)
    needed = start
    for case in movable:
        if fails(case, needed):
            needed = _least(case, fails, needed, most, step, finest)
    return len(cases) - len(movable), needed


def _least(case: Case, fails: Fails, failed: float, most: float, step: float, finest: float) -> float:
    """The smallest limit, to a hundredth, at which the release passes: it fails at `failed` and passes at `most`."""
    passes = failed
    while passes < most:
        passes = min(most, 2 * max(passes, step))
        if not fails(case, passes):
            break
        failed = passes
    while passes - failed > max(_PRECISION * passes, finest):
        middle = (failed + passes) / 2
        if fails(case, middle):
            failed = middle
        else:
            passes = middle
    return passes


def _extremes(values: Iterable[float]) -> tuple[float, float] | None:
    found = list(values)
    return (min(found), max(found)) if found else None


# ── a checkpoint of the window ───────────────────────────────────────────────────────────────────────────────


def _of_checkpoint(name: str, cases: Sequence[Case]) -> Threshold:
    checkpoint = _checkpoint(cases[0].service, name)
    failing = [case for case in cases if first_failure(case, name) is not None]
    found = Threshold(name, checkpoint.signal or "query", checkpoint.judge or "condition", len(failing))
    if checkpoint.signal is None:
        seen = _extremes(value for case in failing for value in _values(case, checkpoint))
        return replace(found, seen=seen, expect=checkpoint.expect or "")
    limit, words = _limit(cases[0], checkpoint)
    most = 1.0 if checkpoint.judge in SHARES else _MOST
    gone, needed = _search(failing, lambda c, x: first_failure(c, name, x) is not None, limit, most, _PRECISION)
    return replace(found, gone=gone, limit=limit, needed=needed, words=words)


def first_failure(case: Case, name: str, limit: float | None = None) -> Judgement | None:
    """When the checkpoint would first have failed, had it alone been watched; with another limit, if one is given."""
    service = case.service if limit is None else _with_limit(case.service, name, limit)
    assert case.measured is not None
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


def _values(case: Case, checkpoint: Checkpoint) -> list[float]:
    """What the checkpoint's query showed while it was watched."""
    measured = case.measured.checkpoints.get(checkpoint.name) if case.measured else None
    begins = case.past.release.deployed_at + checkpoint.at
    ends = case.past.release.deployed_at + window_length(case.service.window)
    at, value = getattr(measured, "at", ()), getattr(measured, "value", ())
    return [v for t, v in zip(at, value, strict=False) if begins <= t <= ends]


def _limit(case: Case, checkpoint: Checkpoint) -> tuple[float, str]:
    assert case.measured is not None
    window, at = case.service.window, case.past.release.deployed_at
    context = context_of(window, checkpoint, case.service.objectives, at, at, case.measured)
    return context.limit, context.words


def _checkpoint(service: Service, name: str) -> Checkpoint:
    return next(c for c in service.window.checkpoints if c.name == name)


def _with_limit(service: Service, name: str, limit: float) -> Service:
    checkpoints = [c.model_copy(update={"limit": limit}) if c.name == name else c for c in service.window.checkpoints]
    window: Window = service.window.model_copy(update={"checkpoints": checkpoints})
    return service.model_copy(update={"window": window})


# ── a metric of the gate ─────────────────────────────────────────────────────────────────────────────────────


def _of_metric(name: str, cases: Sequence[Case]) -> Threshold:
    metric = _metric(cases[0], name)
    failed = [(case, taken) for case in cases if (taken := measured_alone(case, _metric(case, name)))]
    failing = [case for case, _ in failed]
    seen = _extremes(j.value for _, taken in failed for j in taken if j.value is not None)
    condition = metric.failure_condition or metric.success_condition
    judge = metric.judge or ("condition" if condition else "score")
    found = Threshold(name, metric.signal or "errors", judge, len(failing), seen=seen, expect=condition, part="canary")
    if judge in _MOVED_AT_A_GATE:
        return _by_judge(found, metric, cases[0].service.objectives, failing)
    if judge == "condition":
        key = "failureCondition" if metric.failure_condition else "successCondition"
        return _by_number(replace(found, signal="query", words=key), failing)
    return replace(found, expect=f"{judge} {found.signal}" if metric.judge else "a Kayenta configuration")


def _by_judge(found: Threshold, metric: CanaryMetric, objectives: Objectives, failing: Sequence[Case]) -> Threshold:
    limit, words = allowed_of(metric, objectives)
    most = 1.0 if metric.judge in SHARES else _MOST

    def fails(case: Case, limit: float) -> bool:
        return bool(measured_alone(case, _metric(case, metric.name).model_copy(update={"limit": limit})))

    gone, needed = _search(failing, fails, limit, most, _PRECISION)
    return replace(found, gone=gone, limit=limit, needed=needed, words=words)


def _by_number(found: Threshold, failing: Sequence[Case]) -> Threshold:
    """By the number in the condition, moved to the side on which more is allowed."""
    compared = limit_of(found.expect)
    if compared is None or compared[0] in ("==", "!="):
        return found
    sign, number = compared
    size = max(abs(number), *map(abs, found.seen or ()), 1e-9)
    down = (sign in (">", ">=")) == (found.words == "successCondition")

    def moved(by: float) -> float:
        return number - by if down else number + by

    def fails(case: Case, by: float) -> bool:
        metric = _metric(case, found.check)
        key = "failure_condition" if metric.failure_condition else "success_condition"
        text = with_limit(getattr(metric, key), moved(by))
        return bool(measured_alone(case, metric.model_copy(update={key: text})))

    try:
        compile_gate_condition(with_limit(found.expect, moved(_MOST * size)))
    except ConditionError:
        return found
    gone, by = _search(failing, fails, 0.0, _MOST * size, _FINEST * size, _FINEST * size)
    return replace(found, gone=gone, limit=number, needed=_outward(number, by, down))


def _outward(number: float, by: float, down: bool) -> float:
    """The number moved by so much, to two digits of that, rounded to the side on which more is allowed."""
    if not by:
        return number
    unit = 10.0 ** (math.floor(math.log10(by)) - 1)
    steps = math.floor((number - by) / unit) if down else math.ceil((number + by) / unit)
    return float(f"{steps * unit:.12g}")


def measured_alone(case: Case, metric: CanaryMetric) -> tuple[Judgement, ...]:
    """The metric's measurements, up to the one at which it fails, had no other been able to end the gate; none if it
    does not fail. A metric without an end of its own is measured as long as the others."""
    assert case.service.canary is not None and case.history is not None
    gate = Gate(case.service.canary, case.past.release.deployed_at)
    until = case.until
    if gate.planned_end(metric) is None and not metric.consecutive_success_limit:
        others = [end for m in metrics_of(gate.canary) if (end := gate.planned_end(m)) is not None]
        until = min(until, max(others, default=until))
    gate = replay_alone(gate, case.service.objectives, metric, case.history.answer, until)
    return gate.judgements.get(metric.name, ()) if gate.phase(metric) is Phase.FAILED else ()


def _metric(case: Case, name: str) -> CanaryMetric:
    assert case.service.canary is not None
    return next(m for m in metrics_of(case.service.canary) if m.name == name)
