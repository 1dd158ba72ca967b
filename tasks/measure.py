"""What a release's judges want to see, asked of the metric source: for a look at a live window, and for a backtest.

Free of Prefect, so that a backtest starts fast. What is measured must not depend on when it is asked: a look that is
replayed from history gets what the live one got. So series begin at a time that follows from the deploy, and
expressions are evaluated at times counted from there, never from now.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Mapping, Sequence

from firstwatch.model import Counts, Measurement, SourceError
from firstwatch.selector import Selector, parse
from firstwatch.spec import Service, look_every, signals_of, window_length
from firstwatch.spec.models import Checkpoint, Signals
from firstwatch.timeline import GRACE, GROWTH, Measured
from tasks.sources import Source

HISTORY = 2.0  # windows before the deploy: what is usual, the bursts that come every ten minutes included
_MOST_VALUES = 10_000  # of an expression; Prometheus refuses more than 11,000

_Question = tuple[str, str, float]  # the kind of signal, its selector or PromQL, a latency's bound in seconds


async def measure(
    source: Source,
    service: Service,
    checkpoints: Sequence[Checkpoint],
    deployed_at: float,
    until: float,
    deadline: float | None,
) -> Measured:
    """Everything that the checkpoints' judges want to see up to `until`, all asked at once and each thing once.

    It reaches back before the deploy by twice the window's length, where the source has that: the baseline.
    `deadline` is the source's: Unix seconds until which a failed question is asked again.
    """
    since, every = deployed_at - HISTORY * window_length(service.window), _every(service)
    signals = signals_of(service)
    requests = signals.requests

    async def of(question: _Question) -> Measurement:
        return await _asked(_ask(source, requests, question, since, until, every, deadline))

    async def alive() -> Sequence[float] | None:
        try:
            return await source.alive(since, until, every=every / 2, deadline=deadline)
        except Exception:  # not known, then
            return None

    wanted = {c.name: _question(c, signals, service.objectives.latency) for c in checkpoints}
    questions = list(dict.fromkeys(wanted.values()))
    found, lived = await asyncio.gather(asyncio.gather(*(of(q) for q in questions)), alive())
    answers = dict(zip(questions, found, strict=True))
    loaded: Measurement | None = next(
        (m for q, m in answers.items() if q[0] == "errors" and isinstance(m, Counts)), None
    )
    if loaded is None and any(c.signal in GROWTH for c in checkpoints):
        loaded = await _asked(source.counts(requests, requests, since, until, deadline=deadline))
    return Measured(
        {name: answers[question] for name, question in wanted.items()},
        loaded if isinstance(loaded, Counts) else None,
        lived,
    )


def selectors_of(service: Service) -> list[Selector]:
    """The series that the embedded source must keep."""
    signals = signals_of(service)
    plain = [signals.requests, signals.errors, signals.memory, signals.db_pool]
    return [*(parse(text) for text in plain), parse(signals.latency).with_suffix("_bucket")]


def _every(service: Service) -> float:
    """Seconds between an expression's values: the looks', or a multiple where a long window has too many of them."""
    every = look_every(service.window)
    return every * math.ceil((1 + HISTORY + GRACE) * window_length(service.window) / every / _MOST_VALUES)


def _question(checkpoint: Checkpoint, signals: Signals, objectives: Mapping[str, float]) -> _Question:
    match checkpoint.signal:
        case "errors":
            return "errors", signals.errors, 0.0
        case "latency":
            return "latency", signals.latency, objectives[checkpoint.quantile or next(iter(objectives))]
        case "memory" | "db_pool":
            return "gauge", getattr(signals, checkpoint.signal), 0.0
        case None:
            return "gauge", checkpoint.query or "", 0.0


async def _ask(
    source: Source,
    requests: str,
    question: _Question,
    since: float,
    until: float,
    every: float,
    deadline: float | None,
) -> Measurement:
    kind, text, bound = question
    if kind == "errors":
        return await source.counts(text, requests, since, until, deadline=deadline)
    if kind == "latency":
        return await source.slower_than(text, bound, since, until, deadline=deadline)
    return await source.gauge(text, since, until, every=every, deadline=deadline)


async def _asked(question: Awaitable[Measurement]) -> Measurement:
    """The source's answer. A source at fault must not end the watch: the other signals go on."""
    try:
        return await question
    except Exception as problem:
        return SourceError(f"the metric source failed: {type(problem).__name__}: {problem}")
