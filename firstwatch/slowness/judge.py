"""Slow is not down: is a check slower than it usually is at this hour, or than it may be?

Rule. A check is degraded when one of these holds of its last rounds, which follow each other without a gap:
  sudden   the middle of the last 10 is above the usual level by more than `slower` (30 %), eight of them are above it
           by half of that, and the middle is half as far away again as bursts were in the last days (two at least);
  lasting  the middle of the last hour (24 to 55 rounds) is above it by four fifths of `slower`, each third of it by
           half of that, and it is nearly twice as far away as such stretches strayed in the last days. Four fifths:
           an estimate scatters around the truth, and a bar at 30 % would miss half of the slow-downs of 30 %; it is
           there while less than four days are known;
  limit    eight of the last 10 took longer than `limit`.
It ends when the middle of the last 25 and that of the last 10 are within half of `slower` of the level as it was before
it began; or when it has lasted for the whole `history`: by then that is how the check is.

Why not a test with a p-value. It is looked at every minute for ever, and neighbouring rounds are alike for minutes or
for hours: where a model of that noise is wrong, it is wrong many times a day. What the last days really did, at the
same length, is the yardstick instead (`usual`), with a factor on top for what is yet to come; a shift that does not
matter is never called, however sure. The price: where a service strays by 20 % each day, 30 % cannot be told from that.
How often it is wrong, and how soon right, `bench/slowness.py` measures.

It is blind to less than a millisecond, and to what lies within its own noise. What is called counts from the round on
in which it is called; the level is then that of before, so that a slow-down cannot become usual while it lasts.

Assumptions. Rounds come at an even pace; durations are of passed checks only (a time-out says nothing about speed).
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from firstwatch.model import Judgement, Outcome
from firstwatch.slowness.history import BLOCK, HOUR, KEPT_ROUNDS, History, middle
from firstwatch.slowness.usual import Usual, log, usual
from firstwatch.spec.synthetic import Degraded

STEADY = 8  # of the last ten must be slower
LASTING = 24  # rounds of the long window, at least
ENDING = 25  # rounds that must be back
LIMITED, FREED = 8, 4  # of ten rounds above the limit: it begins with so many, and ends with so few
ENOUGH = 0.8  # of `slower`, where it lasts
BEYOND_BURSTS, BEYOND_STRETCHES = 1.5, 1.8  # times what was seen in the last days
LEVEL_KNOWN = 4  # days, before which the level itself is too uncertain for that
BURSTS_KNOWN = 2  # days, before which what is sudden may be a burst as there are many
FEW_DAYS = 1.0  # so much more, with one day of history; less with each day
LEAST = 0.001  # seconds: less is no slow-down, whatever the share
GAP, SHORT_GAP = 5, 1800.0  # so many intervals, and so many seconds, make a gap


@dataclass(frozen=True, slots=True)
class Recent:
    """The last rounds, without a gap, up to now."""

    at: Sequence[int]
    seconds: Sequence[float]


def judge(history: History, now: float, degraded: Degraded, limit: float | None = None) -> Judgement:
    """PASS, FAIL for degraded, NOT_YET with too little to say; never raises on data. `limit` in seconds, where the file
    has none of its own. `value` and `limit` are seconds, `sample` the rounds it rests on."""
    return judge_by(history, now, degraded, limit, usual_for(history, now, degraded))


def usual_for(history: History, now: float, degraded: Degraded) -> Usual | None:
    """What it is compared with. It changes with the hour only."""
    known = history if _lasts(history, now, degraded) else dataclasses.replace(history, since=None)
    return usual(known, now, degraded.history) or usual(dataclasses.replace(known, since=None), now, degraded.history)


def settle(history: History, judgement: Judgement) -> History:
    """The history with what was judged: since when it is degraded. Without it, nothing keeps a slow-down from becoming
    what is usual, and it ends at the first round that is less slow."""
    if judgement.outcome is Outcome.FAIL and history.since is None:
        return dataclasses.replace(history, since=int(judgement.at))
    if judgement.outcome is Outcome.PASS and history.since is not None:
        return dataclasses.replace(history, since=None)
    return history


def _lasts(history: History, now: float, degraded: Degraded) -> bool:
    return history.since is not None and now - history.since <= degraded.history


def judge_by(history: History, now: float, degraded: Degraded, limit: float | None, known: Usual | None) -> Judgement:
    """As `judge`, where what is usual is known already."""
    recent = _recent(history, now)
    if len(recent.at) < BLOCK:
        why = f"{len(recent.at)} rounds since the last gap; {BLOCK} are needed"
        return Judgement(Outcome.NOT_YET, why, now, unit="seconds", sample=len(recent.at))
    most = degraded.limit if degraded.limit is not None else limit
    if most is not None and _over(recent.seconds, most):
        return _too_slow(recent, now, most)
    if known is None:
        return _not_yet(len(recent.at), now)
    return _against_usual(recent, now, degraded, known, _lasts(history, now, degraded))


def _recent(history: History, now: float) -> Recent:
    """None of the future, and none from before a gap."""
    n = bisect_right(history.at, now)
    at, seconds = history.at[:n], history.seconds[:n]
    steps = [b - a for a, b in pairwise(at)]
    gap = max(GAP * median(steps), SHORT_GAP) if steps else SHORT_GAP
    if not at or now - at[-1] > gap:
        return Recent((), ())
    first = max((i for i, step in enumerate(steps, 1) if step > gap), default=0)
    return Recent(at[first:], seconds[first:])


# ── the limit ────────────────────────────────────────────────────────────────────────────────────────────────


def _over(seconds: Sequence[float], limit: float) -> bool:
    """Whether it began in one of these rounds and has not ended since."""
    above = [s > limit for s in seconds]
    begun, count = False, sum(above[: BLOCK - 1])
    for i in range(BLOCK - 1, len(above)):
        count += above[i]
        begun = count > FREED if begun else count >= LIMITED
        count -= above[i - BLOCK + 1]
    return begun


def _too_slow(recent: Recent, now: float, limit: float) -> Judgement:
    last = recent.seconds[-BLOCK:]
    above = sum(s > limit for s in last)
    why = (
        f"{above} of the last {BLOCK} rounds took longer than {show(limit)} (half of them {show(median(last))} or more)"
    )
    since = float(recent.at[-BLOCK])
    return Judgement(Outcome.FAIL, why, now, median(last), limit, "seconds", BLOCK, since)


# ── its own history ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Compared:
    """Rounds beside what is usual when they were: `level` in log seconds, `ratio` how many times as long each took."""

    at: Sequence[int]
    level: Sequence[float]
    ratio: Sequence[float]

    def window(self, rounds: int, bar: float) -> Window:
        """The last so many of them. `bar` is a logarithm, as levels are."""
        usually = math.exp(sum(self.level[-rounds:]) / len(self.level[-rounds:]))
        return Window(len(self.at[-rounds:]), float(self.at[-rounds:][0]), middle(self.ratio[-rounds:]), usually, bar)


@dataclass(frozen=True, slots=True)
class Window:
    """The last `sample` rounds, since a time, took `ratio` times as long as the `usual` seconds; too slow is more than
    the exponential of `bar`."""

    sample: int
    since: float
    ratio: float
    usual: float
    bar: float

    @property
    def is_too_slow(self) -> bool:
        return log(self.ratio) > self.bar and (self.ratio - 1) * self.usual > LEAST


def _compared(recent: Recent, known: Usual) -> Compared:
    """As many as are looked at. Rounds of whose hour nothing is known are left out."""
    n = max(ENDING, _rounds_of_an_hour(recent.at))
    last = [(at, s, known.at(at)) for at, s in zip(recent.at[-n:], recent.seconds[-n:], strict=True)]
    found = [(at, s, level) for at, s, level in last if level is not None]
    return Compared([f[0] for f in found], [f[2] for f in found], [s / math.exp(level) for _, s, level in found])


def _against_usual(recent: Recent, now: float, degraded: Degraded, known: Usual, begun: bool) -> Judgement:
    compared = _compared(recent, known)
    if len(compared.at) < BLOCK:
        return _not_yet(len(compared.at), now)
    if begun:
        ending = [compared.window(n, _half(degraded, known)) for n in (ENDING, BLOCK)]
        slow = next((w for w in ending if w.is_too_slow), None)
        return _judgement(Outcome.FAIL if slow else Outcome.PASS, slow or ending[0], now, known, "back is less than")
    lasting, sudden = _bars(degraded, known)
    last, hour = compared.window(BLOCK, sudden), compared.window(_rounds_of_an_hour(recent.at), lasting)
    if known.days >= BURSTS_KNOWN and last.is_too_slow and _is_steady(compared, degraded, known):
        return _judgement(Outcome.FAIL, last, now, known)
    lasts = _is_lasting(compared, hour.sample, degraded, known)
    words = "called from" if lasts else "called when it lasts, from"
    return _judgement(Outcome.FAIL if hour.is_too_slow and lasts else Outcome.PASS, hour, now, known, words)


def _bars(degraded: Degraded, known: Usual) -> tuple[float, float]:
    """From which factor (log) on what lasts, and what is sudden, is too slow."""
    wider = 1 + FEW_DAYS / max(known.days, 1)
    least = (ENOUGH if known.days >= LEVEL_KNOWN else 1.0) * degraded.slower
    lasting = max(math.log1p(least), BEYOND_STRETCHES * wider * known.stretch)
    sudden = max(math.log1p(degraded.slower), BEYOND_BURSTS * wider * known.burst)
    return lasting + known.allowed, sudden + known.allowed


def _half(degraded: Degraded, known: Usual) -> float:
    """Half of `slower` above the level, as a logarithm: nearer than that is no slow-down."""
    return math.log1p(degraded.slower / 2) + known.allowed


def _is_steady(compared: Compared, degraded: Degraded, known: Usual) -> bool:
    """Whether nearly each of the last rounds is slower, and not a few of them by far."""
    least = math.exp(_half(degraded, known))
    return sum(ratio > least for ratio in compared.ratio[-BLOCK:]) >= STEADY


def _is_lasting(compared: Compared, rounds: int, degraded: Degraded, known: Usual) -> bool:
    """Whether there are enough rounds, and each third of them is slower, and not one or two by far."""
    third, least = rounds // 3, math.exp(_half(degraded, known))
    parts = [compared.ratio[i : i + third] for i in range(len(compared.ratio) - 3 * third, len(compared.ratio), third)]
    return rounds >= LASTING and all(middle(part) > least for part in parts)


def _rounds_of_an_hour(at: Sequence[int]) -> int:
    """24 to 55: so that a lost round or two does not put an end to it."""
    step = (at[-1] - at[0]) / (len(at) - 1)
    return min(max(LASTING, round(HOUR / max(step, 1))), KEPT_ROUNDS - 5)


def _not_yet(rounds: int, now: float) -> Judgement:
    why = "too little history to say what is usual at this hour"
    return Judgement(Outcome.NOT_YET, why, now, unit="seconds", sample=rounds)


def _judgement(outcome: Outcome, w: Window, now: float, known: Usual, words: str = "called from") -> Judgement:
    share, bar = w.ratio - 1, math.expm1(w.bar)
    than = f"{abs(share):.0%} {'slower' if share >= 0 else 'faster'} than"
    past = "in the hours before" if known.is_new else f"at this hour on the last {known.days} days"
    why = (
        f"the last {w.sample} rounds took {show(w.ratio * w.usual)}, {than} {past} ({show(w.usual)}); {words} {bar:.0%}"
    )
    return Judgement(outcome, why, now, w.ratio * w.usual, w.usual * (1 + bar), "seconds", w.sample, w.since)


def show(seconds: float) -> str:
    """3.2 ms, 412 ms, 1.25 s."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
