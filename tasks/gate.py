"""The canary's gate as it happens: wait, measure, judge, and show the run of values.

When what is measured and what it says are firstwatch.gate's; here they meet the clock, Prometheus and the UI. Each
measurement is written to the journal before it shows as done, so that a killed gate goes on with the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import TypeAdapter

from firstwatch.gate import Due, Gate, judged, label
from firstwatch.model import Judgement, Outcome, Verdict
from firstwatch.report.model import Chart, GateRecord, MetricRecord, RollbackRecord
from firstwatch.report.text import offset
from firstwatch.spec import Service
from firstwatch.spec.canary import CanaryMetric, interval_of, metrics_of
from firstwatch.units import show_duration
from tasks.canary import Meter
from tasks.journal import Journal
from tasks.report import WindowProgress
from tasks.task_runs import judged_state
from tasks.watch import NAP

_JUDGEMENT = TypeAdapter(Judgement)
_PROMOTION = TypeAdapter(RollbackRecord)
_LEAST_PATIENCE = 10.0  # seconds that a question may take, however short the interval


class GateRun:
    """One gate in progress: `gate` is what is known, `weight` the step's share of the traffic (percent; None without
    steps), `number` counts the gates of a flow run, as people may ask for the same step again."""

    def __init__(
        self,
        service: Service,
        start: float,
        meter: Meter,
        journal: Journal,
        progress: WindowProgress,
        clock: Callable[[], float],
        weight: int | None = None,
        number: int = 1,
    ) -> None:
        assert service.canary is not None
        self.service, self.weight, self.clock = service, weight, clock
        self.metrics = {metric.name: metric for metric in metrics_of(service.canary)}
        self.gate = Gate(service.canary, start)
        self.promoted: RollbackRecord | None = None
        self._meter, self._journal, self._progress, self._number = meter, journal, progress, number
        self._measured: dict[str, Judgement] = {}
        self._restore()

    def label(self, metric: CanaryMetric, number: int) -> str:
        """A measurement as its task run is named: `canary 3/15 success-rate`."""
        return label(metric, number, self.weight)

    def _entry(self, metric: CanaryMetric, number: int) -> str:
        """A measurement in the journal."""
        return f"gate {self._number}: {self.label(metric, number)}"

    def _restore(self) -> None:
        """Take up what an earlier process of this run has measured."""
        for name, metric in self.metrics.items():
            number = 1
            while (kept := self._journal.get(self._entry(metric, number))) is not None:
                self.gate = self.gate.after({name: _JUDGEMENT.validate_python(kept)})
                number += 1

    def restore_promotion(self, kept: Any) -> None:
        """Take up how an earlier process of this run has promoted the canary."""
        self.promoted = _PROMOTION.validate_python(kept)

    async def wait(self, due: Due) -> None:
        """Until the next measurement, which the progress artifact names."""
        names = ", ".join(self.label(self.metrics[name], number) for name, number in due.numbers.items())
        await self._progress.update(self._fraction(due), f"next, in {show_duration(self._left(due))}: {names}")
        while (left := due.at - self.clock()) > 0:  # noqa: ASYNC110 - it is the clock that is waited for
            await asyncio.sleep(min(left, NAP))

    def _left(self, due: Due) -> float:
        return max(0.0, round(due.at - self.clock()))

    def _fraction(self, due: Due) -> float:
        ends = [end for m in self.metrics.values() if (end := self.gate.planned_end(m)) is not None]
        return (due.at - self.gate.start) / max(max(ends, default=due.at) - self.gate.start, 1e-9)

    async def measure(self, due: Due) -> None:
        """Measure all that is due, side by side, each as the task run `canary 3/15 success-rate`."""

        async def one(name: str, number: int) -> tuple[str, Judgement]:
            metric = self.metrics[name]
            named, entry = self.label(metric, number), self._entry(metric, number)
            shown = named.replace("{", "{{").replace("}", "}}")  # Prefect fills in what stands in braces
            task_run: Any = _measure.with_options(task_run_name=shown)(self, metric, due.at, entry, return_state=True)
            await task_run
            lost = Judgement(Outcome.ERROR, "was not measured: its task run crashed", due.at)
            return name, self._measured.pop(entry, lost)

        found = await asyncio.gather(*(one(name, number) for name, number in due.numbers.items()))
        self.gate = self.gate.after(dict(found))

    async def judge(self, metric: CanaryMetric, at: float) -> Judgement:
        """Measure one metric and judge it. A question that fails is asked again until the next measurement is due."""
        deadline = max(self.clock(), at) + max(0.9 * interval_of(metric), _LEAST_PATIENCE)
        answer = await self._meter.answer(metric, at, deadline)
        return judged(self.gate, self.service.objectives, metric, answer, at)

    async def keep(self, entry: str, judgement: Judgement) -> None:
        """Record a measurement, for a restart; where that fails, it counts all the same."""
        self._measured[entry] = judgement
        await self._journal.finish(entry, judgement)

    def charts(self) -> list[Chart]:
        """Each metric's values against what they are held against."""
        return [chart for metric in self.metrics.values() if (chart := self._chart(metric)) is not None]

    def _chart(self, metric: CanaryMetric) -> Chart | None:
        taken = self.gate.judgements.get(metric.name, ())
        points = tuple((j.at, j.value) for j in taken if j.value is not None)
        if not points:
            return None
        failed = next((j.at for j in taken if j.outcome is Outcome.FAIL), None)
        step = f" at {self.weight} %" if self.weight is not None else ""
        return Chart(f"{metric.name}{step}", taken[-1].unit, points, self.gate.start, taken[-1].limit, failed)

    @property
    def said(self) -> tuple[Verdict, tuple[str, ...]]:
        """What the gate comes to so far, with the reasons that are not a pass."""
        ruling = self.gate.ruling
        return ruling.verdict, tuple(f"{r.check}: {r.why}" for r in ruling.reasons if r.outcome is not Outcome.PASS)

    def record(self) -> GateRecord:
        """Each metric with all its measurements, for the report."""
        metrics = tuple(
            MetricRecord(
                name,
                held_against(metric),
                self.gate.phase(metric).value,
                metric.dry_run,
                self.gate.judgements.get(name, ()),
            )
            for name, metric in self.metrics.items()
        )
        return GateRecord(self.weight, self.gate.start, metrics, self.promoted)


@task(name="measure", cache_policy=NO_CACHE, persist_result=False)
async def _measure(gate: GateRun, metric: CanaryMetric, at: float, entry: str) -> Any:
    judgement = await gate.judge(metric, at)
    get_run_logger().info("%s: %s, %s", offset(at, gate.gate.start), judgement.outcome, judgement.why)
    await gate.keep(entry, judgement)
    return judged_state(judgement)


def held_against(metric: CanaryMetric) -> str:
    """What the metric is held against, in the file's words."""
    if metric.judge is not None:
        return f"{metric.judge} {metric.signal or 'errors'}"
    said: Sequence[tuple[str, str]] = (
        ("needs ", metric.success_condition),
        ("fails if ", metric.failure_condition),
    )
    return "; ".join(word + text for word, text in said if text)
