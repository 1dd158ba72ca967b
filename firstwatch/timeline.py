"""A release's window: when it is looked at, what is said of it at each look, and what that comes to.

Pure. A live run, a run that catches up after it was killed, and a backtest all go through `Watch.after` with what was
measured at a look, so they cannot disagree. `replay` does so for all looks up to a moment, from complete series.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from firstwatch.conditions import QUERY_NAMES, compile_condition
from firstwatch.judges import JUDGES, Context, absence
from firstwatch.judges.base import interval_of
from firstwatch.model import Counts, Judgement, Measurement, NoData, Outcome, Series, SourceError, Verdict
from firstwatch.spec.models import Checkpoint, Objectives, Window
from firstwatch.spec.signals import look_every, window_length
from firstwatch.units import show_duration

GRACE = 1 / 15  # of the window: how long an open verdict is looked at again after its end
STALE_SCRAPES, STALE_SECONDS = 5, 300.0  # older samples say nothing of now
LEAST_SHARE = 1e-6  # of failed requests: even an objective of 100 % is held on proof
GROWTH = {"memory": {"trend": 0.25, "creep": 0.10}, "db_pool": {"trend": 0.50, "creep": 0.25}}
"""How much a gauge may grow in a window, relative to its level, where the checkpoint does not say."""


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Look:
    """One moment at which what has been reached is judged. `reached` are the checkpoints that begin with it,
    `watched` all that have begun (names, in the window's order). A `grace` look is taken only while the verdict is
    open: a source that was away, or a suspicion that stands, at the window's end."""

    at: float
    reached: tuple[str, ...]
    watched: tuple[str, ...]
    grace: bool = False


def looks(window: Window, deployed_at: float, until: float | None = None) -> list[Look]:
    """All looks, ascending: at each checkpoint, every `look_every` between and at the end, and those of the grace.

    `until` (Unix seconds): the window is watched on until then, because its verdict was open.
    """
    end, every = _end(window, deployed_at, until), look_every(window)
    last, eps = end + GRACE * window_length(window), every / 1000
    moments = {c.at for c in window.checkpoints} | {end} | {i * every for i in range(int((last + eps) / every) + 1)}
    return [
        Look(
            deployed_at + t,
            tuple(c.name for c in window.checkpoints if abs(c.at - t) <= eps),
            tuple(c.name for c in window.checkpoints if c.at <= t + eps),
            t > end + eps,
        )
        for t in _apart(sorted(moments), eps)
    ]


def _end(window: Window, deployed_at: float, until: float | None) -> float:
    """Seconds from the deploy to the window's end, or to where it is watched on."""
    return window_length(window) if until is None else max(window_length(window), until - deployed_at)


def _apart(moments: Sequence[float], least: float) -> Iterator[float]:
    """Without those that differ from the one before by rounding only."""
    before = float("-inf")
    for t in moments:
        if t - before > least:
            yield t
            before = t


# ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Measured:
    """What the source answered at a look: a measurement for each watched checkpoint (by name), and what helps to
    judge them: the requests (for signals that follow the load), and when the source itself is known to have worked."""

    checkpoints: Mapping[str, Measurement]
    load: Counts | None = None
    alive: Sequence[float] | None = None

    def until(self, now: float) -> Measured:
        """As it would have been answered at `now`."""
        cut = {n: m if isinstance(m, NoData) else m.until(now) for n, m in self.checkpoints.items()}
        alive = None if self.alive is None else self.alive[: bisect_right(self.alive, now)]
        return Measured(cut, self.load.until(now) if self.load else None, alive)


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one checkpoint. A failure stays, whatever comes after it."""

    last: Judgement | None = None
    failed: Judgement | None = None

    def after(self, judged: Judgement) -> State:
        return State(judged, self.failed or (judged if judged.outcome is Outcome.FAIL else None))


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the verdict is what it is: one checkpoint's decisive judgement. `at` is Unix seconds."""

    check: str
    outcome: Outcome
    at: float
    why: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    sample: int | None = None
    query: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict with its reasons, the decisive ones first. `final`: no later look can change it."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    decided_at: float
    final: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """The window as far as it has been watched. Immutable: `after` gives the next one."""

    window: Window
    objectives: Objectives
    deployed_at: float
    states: Mapping[str, State] = field(default_factory=dict)
    now: float | None = None  # the last look
    until: float | None = None  # watched on until then, beyond the window's own end (Unix seconds)

    def after(self, look: Look, measured: Measured) -> Watch:
        """With the judgements of one look added."""
        judged = {n: self.judge(n, measured, look.at) for n in look.watched}
        states = {**self.states, **{n: self.states.get(n, State()).after(j) for n, j in judged.items()}}
        return dataclasses.replace(self, states=states, now=look.at)

    def judge(self, name: str, measured: Measured, now: float) -> Judgement:
        """What the checkpoint's judge says of its measurement now. Never raises: a judge at fault is an ERROR."""
        checkpoint = next(c for c in self.window.checkpoints if c.name == name)
        measurement = measured.checkpoints.get(name, SourceError("was not measured"))
        try:
            context = context_of(self.window, checkpoint, self.objectives, self.deployed_at, now, measured)
            return _judge(measurement, checkpoint, context)
        except Exception as error:  # one judge at fault must not end the watch of the others
            return Judgement(Outcome.ERROR, f"the judge could not tell: {error}", now, query=measurement.query)

    def watched_on(self, until: float) -> Watch:
        """The same, watched on until that moment (Unix seconds): only then is it called healthy."""
        return dataclasses.replace(self, until=until)

    @property
    def ruling(self) -> Ruling:
        """What it comes to so far. A proven failure is unhealthy at once; healthy is only said at the end."""
        names = [c.name for c in self.window.checkpoints]
        now = self.now if self.now is not None else self.deployed_at
        failures = sorted((s.failed for s in self.states.values() if s.failed), key=lambda j: j.at)
        if failures:
            return Ruling(Verdict.UNHEALTHY, self._reasons(failed=True), failures[0].at, final=True)
        end = self.deployed_at + _end(self.window, self.deployed_at, self.until)
        ended = now >= end - look_every(self.window) / 1000
        passed = all((s := self.states.get(n)) and s.last and s.last.outcome is Outcome.PASS for n in names)
        if ended and passed and names:
            return Ruling(Verdict.HEALTHY, self._reasons(), now, final=True)
        last_grace = end + GRACE * window_length(self.window) - look_every(self.window)
        over = ended and now >= last_grace  # no further look fits in
        return Ruling(Verdict.INCONCLUSIVE, self._reasons(), now, final=over)

    def _reasons(self, failed: bool = False) -> tuple[Reason, ...]:
        """The failures first to last, or else what is open before what passed."""
        by_name = {c.name: self.states.get(c.name, State()) for c in self.window.checkpoints}
        if failed:
            found = sorted(((j, n) for n, s in by_name.items() if (j := s.failed)), key=lambda pair: pair[0].at)
        else:
            never = Judgement(Outcome.NO_DATA, "was never reached", self.now or self.deployed_at)
            last = ((s.last or never, n) for n, s in by_name.items())
            found = sorted(last, key=lambda pair: pair[0].outcome is Outcome.PASS)
        return tuple(Reason(n, j.outcome, j.at, j.why, j.value, j.limit, j.unit, j.sample, j.query) for j, n in found)


def context_of(
    window: Window, checkpoint: Checkpoint, objectives: Objectives, deployed_at: float, now: float, measured: Measured
) -> Context:
    """What the checkpoint's judge is told. Alpha is shared out evenly: a further signal adds no false rollback."""
    limit, words = allowed(checkpoint.signal, checkpoint.judge, objectives, checkpoint.quantile, checkpoint.limit)
    return Context(
        now=now,
        deployed_at=deployed_at,
        begins=deployed_at + checkpoint.at,
        window_s=window_length(window),
        limit=limit,
        alpha=window.alpha / len(window.checkpoints),
        min_sample=window.min_sample,
        words=words,
        load=measured.load if checkpoint.signal in GROWTH else None,
        alive=measured.alive,
        condition=compile_condition(checkpoint.expect, QUERY_NAMES) if checkpoint.expect else None,
        bound=latency_bound(objectives, checkpoint.quantile) if checkpoint.judge == "distribution" else None,
    )


def latency_bound(objectives: Objectives, quantile: str | None = None) -> float | None:
    """Seconds that a request may take, by the objective of this quantile or of the first one."""
    return objectives.latency.get(quantile or next(iter(objectives.latency), ""))


def allowed(
    signal: str | None,
    judge: str | None,
    objectives: Objectives,
    quantile: str | None = None,
    limit: float | None = None,
) -> tuple[float, str]:
    """What is allowed of a signal (`limit`, where one is given), and what is counted or shown."""
    if signal == "errors":
        usual, words = max(1 - objectives.availability, LEAST_SHARE), "requests failed"
    elif signal == "latency":
        quantile = quantile or next(iter(objectives.latency))
        # p95 ≤ 500ms: at most 5 % of the requests take longer than 500 ms. p999 is 99.9 %.
        usual = 1 - float(f"0.{quantile[1:]}")
        words = f"requests took longer than {show_duration(objectives.latency[quantile])}"
    elif signal is None:
        usual, words = 0.0, "value"
    else:
        usual, words = GROWTH[signal].get(judge or "trend", 0.0), signal.replace("_", " ")
    return usual if limit is None else limit, words


def _judge(measurement: Measurement, checkpoint: Checkpoint, context: Context) -> Judgement:
    """The judge's word; for a source that had nothing or failed, that; for a silence, whether the service is gone."""
    if isinstance(measurement, SourceError):
        return Judgement(Outcome.ERROR, measurement.why, context.now, query=measurement.query)
    if not isinstance(measurement, NoData):
        stale = _stale(measurement, context.now)
        if stale is None:
            return JUDGES[checkpoint.judge or "condition"](measurement, context)
        measurement = stale
    if isinstance(measurement.last, Counts):
        gone = absence(measurement.last, context)
        if gone.outcome is not Outcome.PASS:
            return gone
    return Judgement(Outcome.NO_DATA, measurement.why, context.now, query=measurement.query)


def _stale(series: Series, now: float) -> NoData | None:
    """A series that ended a while ago is no data: an old good value proves nothing now."""
    if not len(series.at):
        return NoData("no sample", series.query)
    age = now - series.at[-1]
    every = interval_of(series) or STALE_SECONDS
    if age <= min(STALE_SCRAPES * every, STALE_SECONDS):
        return None
    return NoData(f"the newest sample is {show_duration(age)} old", series.query, series)


def replay(measured: Measured, watch: Watch, until: float) -> Watch:
    """Looks at complete series at the moments a live run would have, up to `until` or the final ruling.

    `watch` may have seen looks already (a run that was killed): only later ones are taken.
    """
    for look in looks(watch.window, watch.deployed_at, watch.until):
        if watch.now is not None and look.at <= watch.now:
            continue
        if look.at > until or watch.ruling.final:
            break
        watch = watch.after(look, measured.until(look.at))
    return watch
