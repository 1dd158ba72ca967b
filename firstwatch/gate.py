"""The canary's gate: when its metrics are measured, what each measurement says, and what they come to.

A metric's counters mean what they mean in Argo Rollouts (assessMetricStatus in analysis/analysis.go), on finite data.
Where Argo lets something pass that proves nothing (NaN, nothing at all, an early end), it is no data or inconclusive
here; docs/canary.md lists each difference. Pure: time is an argument, and a live gate, one that catches up after it
was killed, and a backtest go through the same `Gate.after`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from firstwatch.expr import compile_gate_condition, limit_of
from firstwatch.judges import JUDGES, Context
from firstwatch.model import Counts, Judgement, Measurement, NoData, Outcome, Series, SourceError, Values, Verdict
from firstwatch.spec.canary import (
    KAYENTA,
    USUAL_MARGIN,
    Canary,
    CanaryMetric,
    count_of,
    interval_of,
    metrics_of,
)
from firstwatch.spec.models import Objectives, Window
from firstwatch.tally import Phase, settled, tally_of
from firstwatch.timeline import Reason, Ruling, allowed, latency_bound

PATIENCE = 120.0  # seconds that a metric without an interval waits for data
SILENCE = 600.0  # seconds without data, or ten intervals, that a metric bears which has no count
_SILENT = (Outcome.NO_DATA, Outcome.ERROR)


# ── one measurement ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Seen:
    """What the source knows of a metric that a judge of ours decides: the canary's series and, where they are compared,
    the stable version's; the canary's requests; when the source itself is known to have worked."""

    canary: Measurement
    stable: Measurement | None = None
    load: Counts | None = None
    alive: Sequence[float] | None = None

    def until(self, now: float) -> Seen:
        """As it would have been answered at `now`."""
        alive = None if self.alive is None else [t for t in self.alive if t <= now]
        return Seen(_cut(self.canary, now), _cut(self.stable, now), self.load.until(now) if self.load else None, alive)


M = TypeVar("M", bound=Measurement | None)


def _cut(measurement: M, now: float) -> M:
    return measurement.until(now) if isinstance(measurement, Series) else measurement  # type: ignore[return-value]


Answer = Values | Seen | Judgement | SourceError
"""What is known of a metric at a moment. A Judgement is one that was made elsewhere (Kayenta's score)."""


def judged(gate: Gate, objectives: Objectives, metric: CanaryMetric, answer: Answer, at: float) -> Judgement:
    """What one measurement says. Never raises: what cannot be judged is an error, and nothing is never a pass."""
    try:
        match answer:
            case Judgement():
                return answer
            case SourceError():
                return Judgement(Outcome.ERROR, answer.why, at, query=answer.query)
            case Values():
                return _as_told(metric, _by_conditions(metric, answer))
            case Seen():
                context = context_of(gate.canary, metric, objectives, gate.start, at, answer)
                return _as_told(metric, _by_judge(metric, answer, context))
    except Exception as error:
        return Judgement(Outcome.ERROR, f"the judge could not tell: {error}", at)


def _by_conditions(metric: CanaryMetric, values: Values) -> Judgement:
    """By the success and failure conditions. Failure wins; with both, a result that meets neither is inconclusive."""
    if metric.min_sample and not (values.sample is not None and values.sample >= metric.min_sample):
        known = values.sample is not None and math.isfinite(values.sample)
        seen = f"{values.sample:,.0f}" if known else "an unknown number of"
        why = f"{seen} requests since the measurement before; minSample is {metric.min_sample:,}"
        return _judgement(metric, values, Outcome.NO_DATA, why)
    if values.result is None:
        return _judgement(metric, values, Outcome.NO_DATA, "the query gives nothing")
    result = list(values.result) if isinstance(values.result, tuple) else values.result
    failure = compile_gate_condition(metric.failure_condition).judge(result) if metric.failure_condition else None
    success = compile_gate_condition(metric.success_condition).judge(result) if metric.success_condition else None
    said = [judged for judged in (failure, success) if judged is not None]
    for kind, outcome in (("error", Outcome.ERROR), ("no data", Outcome.NO_DATA)):
        if failure is not None and failure.kind == "true" and kind == "no data":
            break
        if broken := next((judged for judged in said if judged.kind == kind), None):
            return _judgement(metric, values, outcome, broken.why)
    needs, fails = f"needs {success.why}" if success else "", f"fails if {failure.why}" if failure else ""
    if failure is not None and failure.kind == "true":
        return _judgement(metric, values, Outcome.FAIL, fails)
    if success is not None and success.kind == "true":
        return _judgement(metric, values, Outcome.PASS, needs)
    if success is not None and failure is not None:
        return _judgement(metric, values, Outcome.NOT_YET, f"{needs}; {fails}: neither success nor failure")
    if success is not None:
        return _judgement(metric, values, Outcome.FAIL, needs)
    return _judgement(metric, values, Outcome.PASS, fails)


def _judgement(metric: CanaryMetric, values: Values, outcome: Outcome, why: str) -> Judgement:
    compared = limit_of(metric.success_condition or metric.failure_condition)
    shown = values.result[0] if isinstance(values.result, tuple) and values.result else values.result
    return Judgement(
        outcome,
        why,
        values.at,
        value=shown if isinstance(shown, int | float) and math.isfinite(shown) else None,
        limit=compared[1] if compared else None,
        sample=round(values.sample) if values.sample is not None and math.isfinite(values.sample) else None,
        query=values.query,
    )


def _by_judge(metric: CanaryMetric, seen: Seen, context: Context) -> Judgement:
    for whose, series in (("canary", seen.canary), ("stable version", seen.stable)):
        if isinstance(series, SourceError):
            return Judgement(Outcome.ERROR, f"the {whose}: {series.why}", context.now, query=series.query)
        if isinstance(series, NoData):
            return Judgement(Outcome.NO_DATA, f"the {whose}: {series.why}", context.now, query=series.query)
    assert isinstance(seen.canary, Series)
    assert metric.judge is not None
    return JUDGES[metric.judge](seen.canary, context)


def _as_told(metric: CanaryMetric, judgement: Judgement) -> Judgement:
    """With `onNoData` applied."""
    if judgement.outcome is not Outcome.NO_DATA or metric.on_no_data == "inconclusive":
        return judgement
    outcome = Outcome.FAIL if metric.on_no_data == "fail" else Outcome.PASS
    return dataclasses.replace(
        judgement, outcome=outcome, why=f"no data ({judgement.why}), which onNoData takes for a {outcome}"
    )


@dataclass(frozen=True, slots=True)
class History:
    """All that a source would have answered for a gate's metrics, by name: for a judge of ours the whole series, for
    the others the answer at each moment (milliseconds of Unix time)."""

    answers: Mapping[str, Seen | SourceError | Mapping[int, Answer]]

    def answer(self, metric: CanaryMetric, at: float) -> Answer:
        """What was known of the metric at `at` (Unix seconds)."""
        known = self.answers.get(metric.name, SourceError("was not asked"))
        if isinstance(known, Seen):
            return known.until(at)
        if isinstance(known, SourceError):
            return known
        return known.get(round(at * 1000), SourceError("was not asked at this time"))


# ── the gate ─────────────────────────────────────────────────────────────────────────────────────────────────


class Due(NamedTuple):
    """What is measured next: the moment and the metrics, with the number of each measurement (from 1)."""

    at: float
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as far as it has been measured. Immutable: `after` gives the next one."""

    canary: Canary
    start: float  # Unix seconds
    judgements: Mapping[str, tuple[Judgement, ...]] = field(default_factory=dict)

    def after(self, judged: Mapping[str, Judgement]) -> Gate:
        """With one more measurement of each of these metrics."""
        more = {name: (*self.judgements.get(name, ()), judgement) for name, judgement in judged.items()}
        return dataclasses.replace(self, judgements={**self.judgements, **more})

    @property
    def due(self) -> Due | None:
        """What is measured next; None when it is over."""
        if self.ruling.final:
            return None
        times = {m.name: at for m in metrics_of(self.canary) if (at := self.next_of(m)) is not None}
        if not times:
            return None
        first = min(times.values())
        return Due(first, {n: len(self.judgements.get(n, ())) + 1 for n, at in times.items() if at <= first + 1e-6})

    def next_of(self, metric: CanaryMetric) -> float | None:
        """When the metric is measured next: at its interval from the gate's start on, without drift. None: no more."""
        taken = self.judgements.get(metric.name, ())
        if taken and self.phase(metric) is not Phase.RUNNING and not self._waits_for_source(metric):
            return None
        at = self.start + metric.initial_delay + len(taken) * interval_of(metric)
        return at if at <= self.deadline(metric) + 1e-6 else None

    def deadline(self, metric: CanaryMetric) -> float:
        """Until when a metric that lacks data is waited for: its own time, and half of it again. One without an end of
        its own has all the time of the others; one that waits for a row of successes must not be silent for long."""
        end = self.planned_end(metric)
        if end is None and not metric.consecutive_success_limit:
            return math.inf
        if end is None:
            told = (j.at for j in self.judgements.get(metric.name, ()) if j.outcome not in _SILENT)
            return max(told, default=self.start + metric.initial_delay) + max(10 * interval_of(metric), SILENCE)
        least = 4 * metric.interval if metric.interval is not None else PATIENCE
        return end + max((end - self.start - metric.initial_delay) / 2, least)

    def planned_end(self, metric: CanaryMetric) -> float | None:
        """When its last measurement is due, if none lacks data; None for a metric without an end of its own."""
        wanted = count_of(metric)
        return self.start + metric.initial_delay + (wanted - 1) * interval_of(metric) if wanted else None

    def _waits_for_source(self, metric: CanaryMetric) -> bool:
        """An error ends a metric only where it says how many it bears: a source that is away is not the canary's."""
        return metric.consecutive_error_limit is None and self.phase(metric) is Phase.ERROR

    def phase(self, metric: CanaryMetric) -> Phase:
        """How the metric stands."""
        taken = self.judgements.get(metric.name, ())
        if not taken:
            return Phase.RUNNING
        if metric.judge is not None or metric.name == KAYENTA:
            return self._judges_phase(metric, taken)
        return settled(metric, tally_of([j.outcome for j in taken]))

    def _judges_phase(self, metric: CanaryMetric, taken: Sequence[Judgement]) -> Phase:
        """A judge has seen all since the canary began: its failure is final, its pass counts at the end."""
        if any(j.outcome is Outcome.FAIL for j in taken):
            return Phase.FAILED
        ended = len(taken) >= count_of(metric)
        return Phase.SUCCESSFUL if ended and taken[-1].outcome is Outcome.PASS else Phase.RUNNING

    def _exhausted(self, metric: CanaryMetric) -> bool:
        return self.next_of(metric) is None

    @property
    def ruling(self) -> Ruling:
        """What it comes to so far: unhealthy at once when a metric has failed, healthy when all have succeeded."""
        metrics = [m for m in metrics_of(self.canary) if not m.dry_run]
        phases = {m.name: self.phase(m) for m in metrics}
        now = max((j[-1].at for j in self.judgements.values() if j), default=self.start)
        failed = [m for m in metrics if phases[m.name] is Phase.FAILED]
        if failed:
            at = min(self.judgements[m.name][-1].at for m in failed)
            return Ruling(Verdict.UNHEALTHY, self._reasons(failed), at, final=True)
        open_ = [m for m in metrics if phases[m.name] is not Phase.SUCCESSFUL]
        ended = [m for m in open_ if phases[m.name] is Phase.INCONCLUSIVE or self._exhausted(m)]
        if ended or not metrics:
            return Ruling(Verdict.INCONCLUSIVE, self._reasons(ended), now, final=True)
        if any(count_of(m) or m.consecutive_success_limit for m in open_):
            return Ruling(Verdict.INCONCLUSIVE, self._reasons(open_), now, final=False)
        # Only metrics without an end of their own are left: they end with the others.
        unproven = [m for m in open_ if not self._holds(m)]
        if len(open_) == len(metrics):
            return Ruling(Verdict.INCONCLUSIVE, self._reasons(open_), now, final=False)
        if unproven:
            return Ruling(Verdict.INCONCLUSIVE, self._reasons(unproven), now, final=True)
        return Ruling(Verdict.HEALTHY, self._reasons(metrics), now, final=True)

    def _holds(self, metric: CanaryMetric) -> bool:
        """Whether a metric without an end has shown what it should by now."""
        taken = self.judgements.get(metric.name, ())
        return bool(taken) and taken[-1].outcome is Outcome.PASS

    def _reasons(self, metrics: Sequence[CanaryMetric]) -> tuple[Reason, ...]:
        return tuple(self._reason(m) for m in metrics)

    def _reason(self, metric: CanaryMetric) -> Reason:
        taken = self.judgements.get(metric.name, ())
        if not taken:
            return Reason(metric.name, Outcome.NO_DATA, self.start, "was never measured")
        last = taken[-1]
        why = last.why if metric.judge is not None or metric.name == KAYENTA else _counted(metric, taken)
        outcome = {
            Phase.FAILED: Outcome.FAIL,
            Phase.SUCCESSFUL: Outcome.PASS,
            Phase.ERROR: Outcome.ERROR,
        }.get(self.phase(metric), last.outcome if last.outcome in _SILENT else Outcome.NOT_YET)
        return Reason(metric.name, outcome, last.at, why, last.value, last.limit, last.unit, last.sample, last.query)


def _counted(metric: CanaryMetric, taken: Sequence[Judgement]) -> str:
    """The last measurement's own words, and what the counters say of several."""
    if len(taken) == 1:
        return taken[0].why
    tally = tally_of([j.outcome for j in taken])
    parts = [
        f"{number} {word}"
        for number, word in (
            (tally.successful, "held"), (tally.failed, "failed"), (tally.inconclusive, "inconclusive"),
            (tally.no_data, "without data"), (tally.error, "errors"),
        )
        if number
    ]  # fmt: skip
    if tally.consecutive_failure > 1:
        parts.append(f"{tally.consecutive_failure} failures in a row")
    return f"{taken[-1].why} (of {len(taken)} measurements {', '.join(parts)})"


def context_of(
    canary: Canary, metric: CanaryMetric, objectives: Objectives, start: float, now: float, measured: Seen
) -> Context:
    """What a canary metric's judge is told. Alpha is shared out over the judges: one more adds no false rollback."""
    limit, words = allowed_of(metric, objectives)
    judges = sum(m.judge is not None and not m.dry_run for m in metrics_of(canary))
    stable = measured.stable
    return Context(
        now=now,
        deployed_at=start,
        begins=start,
        window_s=count_of(metric) * interval_of(metric),
        limit=limit,
        alpha=canary.alpha / max(judges, 1),
        min_sample=metric.min_sample or Window().min_sample,
        words=words,
        load=measured.load,
        alive=measured.alive,
        stable=None if isinstance(stable, NoData | SourceError) else stable,
        bound=latency_bound(objectives) if metric.judge == "distribution" else None,
    )


def allowed_of(metric: CanaryMetric, objectives: Objectives) -> tuple[float, str]:
    """What a metric's judge holds it against (its own limit, where it has one), and what is counted or shown."""
    limit, words = allowed(metric.signal or "errors", metric.judge, objectives, limit=metric.limit)
    return (USUAL_MARGIN if metric.judge == "compare" and metric.limit is None else limit), words


def replay(gate: Gate, objectives: Objectives, answer: Callable[[CanaryMetric, float], Answer], until: float) -> Gate:
    """Goes through the measurements that a live gate would have taken up to `until`, from what was known at each."""
    by_name = {m.name: m for m in metrics_of(gate.canary)}
    while (due := gate.due) is not None and due.at <= until:
        at = due.at
        gate = gate.after({n: judged(gate, objectives, by_name[n], answer(by_name[n], at), at) for n in due.numbers})
    return gate


def replay_alone(
    gate: Gate,
    objectives: Objectives,
    metric: CanaryMetric,
    answer: Callable[[CanaryMetric, float], Answer],
    until: float,
) -> Gate:
    """The same for one of the gate's metrics, as if no other could end it. `metric` may have another limit."""
    while (at := gate.next_of(metric)) is not None and at <= until:
        gate = gate.after({metric.name: judged(gate, objectives, metric, answer(metric, at), at)})
    return gate


def label(metric: CanaryMetric, number: int, weight: int | None = None) -> str:
    """A measurement as its task run is named: `canary 3/15 success-rate`, with steps `canary 25% 3/15 success-rate`."""
    wanted = count_of(metric)
    step = f" {weight}%" if weight is not None else ""
    return f"canary{step} {number}/{wanted} {metric.name}" if wanted else f"canary{step} {number} {metric.name}"
