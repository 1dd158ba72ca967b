"""The observation window as it happens: look, measure, judge, and show what is being waited for.

The looks and their judgements are firstwatch.timeline's; here they meet the clock, the metric source and the UI.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed
from pydantic import TypeAdapter

from firstwatch import timeline
from firstwatch.model import Counts, Gauge, Judgement, Outcome, Release, SourceError, as_json
from firstwatch.report.model import Chart, CheckpointRecord
from firstwatch.report.text import checkpoint_name, offset
from firstwatch.spec import Service, look_every, window_length
from firstwatch.spec.models import Checkpoint
from firstwatch.timeline import Look, Measured, State, Watch
from firstwatch.units import show_duration
from tasks.counts import LOOKS, LOOKS_LEFT_OUT
from tasks.journal import Journal
from tasks.measure import measure
from tasks.report import WindowProgress
from tasks.sources import Source
from tasks.task_runs import NOT_JUDGED, judged_state

_KEEP_EVERY, _KEEP_SELDOM = 60.0, 600.0  # seconds
MEET = 0.25  # seconds: windows look at whole multiples of it, so that those of one source ask together
PRESSED = 0.5  # seconds after its time that a look may begin: a process that is later has more to do than it can
NAP = 5.0  # seconds slept at a stretch: a clock that is set forward is noticed after that long
_STATES = TypeAdapter(dict[str, State])


class Window:
    """A release's window in progress. `watch` is what is known; `measured` what it was last known from."""

    def __init__(
        self,
        service: Service,
        release: Release,
        source: Source,
        progress: WindowProgress,
        journal: Journal,
        clock: Callable[[], float],
    ):
        self.service, self.release, self.clock = service, release, clock
        self.watch = Watch(service.window, service.objectives, release.deployed_at)
        self.looks = timeline.looks(service.window, release.deployed_at)
        self.measured = Measured({})
        self._source, self._progress, self._journal = source, progress, journal
        self._measured_at = self._kept_at = float("-inf")
        self._woken_late = 0.0  # seconds, when it last slept until a look

    # ── what is known, and what was known to an earlier process ──────────────────────────────────────────────

    @property
    def over(self) -> bool:
        return self.watch.ruling.final

    def snapshot(self) -> dict[str, Any]:
        """What a restarted process needs to go on from the last look, as plain JSON."""
        return {"now": self.watch.now, "states": as_json(dict(self.watch.states)), "source": self._source.snapshot()}

    async def keep(self, finished: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Record how far the window is, for a restart; and, with it, what else is `finished`, by step."""
        await self._journal.finish_all({**finished, "window": self.snapshot()})
        self._kept_at = self.clock()

    async def keep_now_and_then(self) -> None:
        """Record it after each minute whose history nobody else has. What a Prometheus has is judged again from there:
        after ten minutes, that takes less than ten records."""
        if self.clock() - self._kept_at >= (_KEEP_EVERY if self._source.holds_history else _KEEP_SELDOM):
            await self.keep()

    def restore(self, kept: Mapping[str, Any]) -> None:
        self.watch = Watch(
            self.service.window,
            self.service.objectives,
            self.release.deployed_at,
            _STATES.validate_python(kept["states"]),
            kept["now"],
        )
        if kept["source"]:
            self._source.restore(kept["source"])

    def watch_on(self, until: float) -> None:
        """Go on beyond the window's end, until that moment (Unix seconds)."""
        self.watch = self.watch.watched_on(until)
        self.looks = timeline.looks(self.service.window, self.release.deployed_at, until)

    @property
    def to_come(self) -> list[Look]:
        """The looks that are still to be taken."""
        return [look for look in self.looks if self.watch.now is None or look.at > self.watch.now]

    def judged(self, name: str, look: Look) -> Judgement:
        """What was said last of the checkpoint."""
        return self.watch.states.get(name, State()).last or Judgement(Outcome.ERROR, NOT_JUDGED, look.at)

    def records(self) -> list[CheckpointRecord]:
        """Each checkpoint with its first failure and its last judgement."""
        return [self._record(c) for c in self.service.window.checkpoints]

    def _record(self, checkpoint: Checkpoint) -> CheckpointRecord:
        state = self.watch.states.get(checkpoint.name, State())
        history = [j for j in (state.failed, state.last) if j is not None]
        judge = checkpoint.judge or "condition"
        return CheckpointRecord(checkpoint.name, checkpoint.at, checkpoint.signal or "query", judge, tuple(history))

    def charts(self) -> list[Chart]:
        """What each checkpoint saw, in the last measurement."""
        charts = []
        for checkpoint in self.service.window.checkpoints:
            series = self.measured.checkpoints.get(checkpoint.name)
            state = self.watch.states.get(checkpoint.name, State())
            if isinstance(series, Counts | Gauge) and (judged := state.failed or state.last):
                charts.append(_chart(checkpoint, series, judged, state, self.release.deployed_at))
        return charts

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    async def look(self, look: Look) -> None:
        """Wait for the moment, measure, and judge everything that has begun.

        A look that lies in the past (the process was killed, or the run came late) is judged by what had been
        measurable at that moment, from the source's history.
        """
        self._woken_late = await self.sleep_until(look.at)
        if look.watched and self._must_measure(look):
            await self._measure()
            LOOKS.inc()
        before = self._outcomes()
        self.watch = self.watch.after(look, self.measured.until(look.at))
        self._log_what_changed(look, before)

    def _outcomes(self) -> dict[str, Outcome]:
        """What each checkpoint that was judged comes to."""
        return {name: state.last.outcome for name, state in self.watch.states.items() if state.last is not None}

    def _log_what_changed(self, look: Look, before: Mapping[str, Outcome]) -> None:
        """A line for each judgement that came out otherwise than at the look before: the others say nothing new."""
        at = offset(look.at, self.release.deployed_at)
        for name in look.watched:
            judged = self.watch.states[name].last
            if judged is not None and judged.outcome is not before.get(name):
                get_run_logger().info("%s %s: %s, %s", at, name, judged.outcome, judged.why)

    def _must_measure(self, look: Look) -> bool:
        """One measurement serves all looks that lie behind it; one that failed is tried again at the usual pace."""
        if look.at > self._measured_at or not set(look.watched) <= set(self.measured.checkpoints):
            return True
        failed = any(isinstance(m, SourceError) for m in self.measured.checkpoints.values())
        return failed and self.clock() >= self._measured_at + look_every(self.service.window)

    def leaves_out(self, look: Look) -> bool:
        """Whether a look between two checkpoints that is yet to come is given up for those of others: this process was
        late for the last one, for want of a turn. Never two in a row; what lies behind is always judged."""
        late, self._woken_late = self._woken_late, 0.0
        if late <= PRESSED or look.grace or look.at <= self.clock():
            return False
        LOOKS_LEFT_OUT.inc()
        at = offset(look.at, self.release.deployed_at)
        get_run_logger().debug("No look at %s: this process was %.1f s late for the last one", at, late)
        return True

    async def sleep_until(self, moment: float) -> float:
        """Until then, or until the next MEET after it, if that is yet to come. Returns how many seconds too late it was
        woken, whatever the clock was set to meanwhile; 0 where it did not sleep."""
        loop, late = asyncio.get_running_loop(), 0.0
        if moment > self.clock():
            moment = math.ceil(moment / MEET) * MEET
        while (left := moment - self.clock()) > 0:
            wakes = loop.time() + min(left, NAP)
            await asyncio.sleep(min(left, NAP))
            late = loop.time() - wakes
        return late

    async def remeasure(self) -> None:
        """Measure for the report's charts what an earlier process of this run had measured."""
        if not self.measured.checkpoints:
            await self._measure()

    async def _measure(self) -> None:
        now = self.clock()
        begun = [c for c in self.service.window.checkpoints if self.release.deployed_at + c.at <= now]
        following = next((look.at for look in self.looks if look.at > now), now + self.service.metrics.timeout)
        self.measured = await measure(
            self._source, self.service, begun, self.release.deployed_at, now, max(following, now + 1)
        )
        self._measured_at = now

    async def show(self, text: str, at: str = "") -> None:
        """How far the window is, and what it waits for, in its progress artifact; `at` is the look's offset."""
        now = self.clock()
        fraction = (now - self.release.deployed_at) / window_length(self.service.window)
        await self._progress.keep_up(fraction, f"{at}: {text}" if at else text, now, about=text)

    def shown(self, names: Sequence[str]) -> str:
        """The checkpoints that are watched, and what is not well with them: `error rate, p95 latency (no data)`."""
        outcomes = self._outcomes()
        worth_telling = (Outcome.FAIL, Outcome.NO_DATA, Outcome.ERROR)
        told = (f"{name} ({outcomes[name]})" if outcomes.get(name) in worth_telling else name for name in names)
        return ", ".join(told) or "nothing yet"


# ── the task runs ────────────────────────────────────────────────────────────────────────────────────────────


async def wait_for(window: Window, moment: float, what: str) -> None:
    """Watch what has begun until `moment` (Unix seconds), as the task run `waiting for WHAT (2m)`.

    Returns early when the ruling is final.
    """
    left = max(0.0, moment - window.clock())
    name = f"waiting for {what} ({show_duration(round(left) if left >= 1 else 0)})"
    await _wait_for.with_options(task_run_name=name)(window, moment, what)


@task(name="wait", cache_policy=NO_CACHE, persist_result=False)
async def _wait_for(window: Window, moment: float, what: str) -> Any:
    looks = [look for look in window.to_come if look.at < moment]
    if not looks:
        await window.show(f"waiting for {what}")
    for look in looks:
        if window.leaves_out(look):
            continue
        at = offset(look.at, window.release.deployed_at)
        await window.show(f"waiting for {what}; watching {window.shown(look.watched)}", at)
        await window.look(look)
        await window.keep_now_and_then()
        if window.over:
            return Completed(message=f"Ended at {at}: {_decided(window)}")
    await window.sleep_until(moment)
    return Completed(message=f"It is time for {what}")


async def checkpoint(window: Window, look: Look, name: str) -> Judgement:
    """Judge a checkpoint as the task run `T+2m p95 latency` and return what its judge says at that look.

    It is in the journal, under that name, before the task run ends: whoever is killed then does not repeat it.
    """
    at = next(c.at for c in window.service.window.checkpoints if c.name == name)
    step = checkpoint_name(name, at)
    task_run: Any = _checkpoint.with_options(task_run_name=step)(window, look, name, step, return_state=True)
    await task_run
    return window.judged(name, look)


async def failed_later(window: Window, name: str, step: str) -> None:
    """A checkpoint that failed while it was watched, as the failed task run `T+7m p95 latency`, and in the journal."""
    task_run: Any = _failed_later.with_options(task_run_name=step)(window, name, step, return_state=True)
    await task_run


@task(name="checkpoint", cache_policy=NO_CACHE, persist_result=False)
async def _checkpoint(window: Window, look: Look, name: str, step: str) -> Any:
    if window.watch.now is None or window.watch.now < look.at:
        await window.look(look)
    judged = window.judged(name, look)
    await window.keep({step: judged})
    return judged_state(judged)


@task(name="checkpoint", cache_policy=NO_CACHE, persist_result=False)
async def _failed_later(window: Window, name: str, step: str) -> Any:
    failed = window.watch.states[name].failed
    assert failed is not None
    await window.keep({step: failed})
    return judged_state(failed)


def _decided(window: Window) -> str:
    reasons = window.watch.ruling.reasons
    return f"{reasons[0].check}: {reasons[0].why}" if reasons else str(window.watch.ruling.verdict)


# ── for the report ───────────────────────────────────────────────────────────────────────────────────────────


def _chart(
    checkpoint: Checkpoint, series: Counts | Gauge, judged: Judgement, state: State, deployed_at: float
) -> Chart:
    if isinstance(series, Counts):
        values = [bad / total if total else float("nan") for bad, total in zip(series.bad, series.total, strict=True)]
        limit, unit = judged.limit, "ratio"
        title = (
            f"{checkpoint.name}: share of requests over the objective"
            if checkpoint.signal == "latency"
            else checkpoint.name
        )
    else:
        # A growth limit is relative; on a chart of the values it has no place.
        values, limit, title = list(series.value), None, checkpoint.name
        unit = {"memory": "bytes", "db_pool": "connections"}.get(checkpoint.signal or "", "")
    failed_at = state.failed.at if state.failed else None
    return Chart(title, unit, tuple(zip(series.at, values, strict=True)), deployed_at, limit, failed_at)
