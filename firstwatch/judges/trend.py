"""Does a gauge (memory, connections) grow without end? A robust trend that is told from what only looks like one.

Four blocks. The time since a start (the deploy, or a quarter or half of what has passed since) is cut into four equal
blocks, and each is represented by its floor, the mean of its lowest sixth of samples: garbage collection moves the
ceiling, a leak moves the floor. Growth is the Theil–Sen slope of the floors (the median of the slopes of all pairs;
Sen 1968), its error follows from the scatter within the blocks, widened for autocorrelation by (1+ρ)/(1-ρ)
(Hamed, Rao 1998, for the Mann–Kendall test). It fails when, from one of the starts on,

- each floor lies above the one before, by more than twice its error and a third of the mean step: no single step, no
  fall and no wave does so;
- it has really grown by half the limit, its two largest jumps left out (caches that are loaded), and at this pace grows
  by more than the limit in a window;
- it does not slow down: a warm-up of time constant τ ≤ a third of a window rises by e^(-h/τ) from block to block,
  a leak by as much each time;
- it has grown by several teeth of a sawtooth, as tall as it swung before the deploy or fell since; blocks of a quarter
  of a window hold whole teeth and need no such allowance;
- it did not grow as fast before the deploy;
- the growth since the latest of the starts is not proven to have slowed down or ended, and five sixths of the window
  have passed (T+25m): a cache that fills evenly looks like a leak until it is full. Only what has grown by four times
  the limit since the start (memory: doubled) is not waited for.

Level. What leaks fast into a cap is flat by the time it is looked at, and a fault may take memory at once: a gauge that
stands for a sixth of the window at more than twice the most that it ever was before the deploy (or above that by four
times the limit), and by more than its load rose, fails too. So does what moved all the time before, and now stands
still at a new maximum while requests come: a pool that is exhausted. A step of less is the release's good right.

Error control. These are rules, each with the error of a step allowed for twice; no sequential test stands behind them,
for a trend has no exchangeable null that a warm-up or a cache would obey. What is known is measured: `bench`, and the
calibration test, which holds the rate on identical releases, wandering ones included, under the window's alpha.

Load. A gauge that follows the requests is cleared of them first: the share that a regression on load and time
explains by load, both together so that growth under growing load is not explained away. What was seen, uncleared,
must go on rising too: load may acquit a gauge, never convict it.

It takes samples over half a window to tell: with history from before the deploy that is at once, without at T+15m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from firstwatch.judges.base import Context, Flags, Floats, interval_of, judgement, median, percent
from firstwatch.model import Counts, Gauge, Judgement, Outcome, Series
from firstwatch.units import show_duration

BLOCKS = 4
PER_BLOCK = 4  # samples without which a block has no floor
SHORTEST = 1 / 18  # of the window: a shorter block shows no slowing down
SLOWEST_WARMUP = 1 / 3  # of the window: the time constant of a warm-up that is told from a leak
TOOTH = 1 / 4  # of the window: the longest tooth of a sawtooth
TEETH = 2.5  # so many teeth high must growth be before whole teeth are seen
EVEN = 1 / 3  # of the mean step: the smallest one of a steady growth
SMOOTH = 1 / 12  # of the window: over which memory follows the load
LATE = 5 / 6  # of the window: until then what grows may be a cache that fills, and be full soon
URGENT = 4.0  # limits: who has grown so much is not waited for
BEYOND = 1.25  # times the most before: what stands still above that has reached a ceiling
STANDS = 1 / 6  # of the window: how long a gauge must stand far above what it was
ENOUGH = 1 / 2  # of the window: over a shorter time any two curves look alike, and a wave looks like a leak


@dataclass(frozen=True, slots=True)
class Growth:
    """How the floors rose from `start` on; all relative to the level, `pace` in growth per window."""

    start: float
    steps: tuple[float, ...]
    pace: float
    block_s: float
    at: Floats = field(repr=False)
    value: Floats = field(repr=False)
    lowest: list[Floats] = field(repr=False)  # of each block, the samples whose mean is its floor
    count: int  # samples of the shortest block

    @property
    def total(self) -> float:
        return sum(self.steps)

    @property
    def jumps(self) -> float:
        """The part of it that came in its two largest jumps."""
        return two_largest_jumps(self.value)

    @property
    def scatter(self) -> float:
        """The error of a step by what is left of a straight line in each block: a bend between them is no error."""
        blocks = zip(np.array_split(self.at, BLOCKS), np.array_split(self.value, BLOCKS), strict=True)
        left = np.concatenate([_detrended(at, value) for at, value in blocks])
        return _scatter(left) * math.sqrt(6 / self.count) * widening(left)

    def error(self, window_s: float) -> float:
        """Of a step. Worked out when asked for: most looks see no growth that needs it."""
        left = _detrended(self.at, self.value)
        # The mean of the lowest sixth of n samples scatters about as much as the mean of n / 3; a step is of two.
        error = _scatter(left) * math.sqrt(6 / self.count) * widening(left)
        # The floor of teeth is far surer than their height has it: in blocks of most of a tooth, its samples lie close.
        if self.count >= 4 * PER_BLOCK and self.block_s >= 0.7 * TOOTH * window_s:
            error = min(error, sum(_scatter(block - _mean(block)) for block in self.lowest) / BLOCKS)
        return error


@dataclass(frozen=True, slots=True)
class Usual:
    """How far the gauge swung and how fast it grew before the deploy, relative to its level after it."""

    swing: float
    pace: float


def trend(series: Series, context: Context) -> Judgement:
    """Judges a `Gauge` against `context.limit`, the growth over a window, relative to the level, that is all right."""
    if not isinstance(series, Gauge):
        raise TypeError("the trend judge needs a gauge")
    at, value = np.asarray(series.at, dtype=float), np.asarray(series.value, dtype=float)
    after = at > context.deployed_at
    interval = interval_of(series)
    if after.sum() < BLOCKS * PER_BLOCK or at[-1] - at[0] < ENOUGH * context.window_s * 0.98:
        why = f"{after.sum()} samples since the deploy, over too short a time to tell a leak from a wave"
        return judgement(Outcome.NOT_YET, why, context, series, sample=int(after.sum()))
    if (high := risen(series, at, value, interval, context)) is not None:
        return high
    level = max(median(value[after]), 1e-12)
    raw = value / level
    passed = context.now - context.deployed_at
    starts = [context.deployed_at + skip * passed for skip in (0.0, 0.25, 0.5)]
    seen = [g for s in starts if (g := growth(at[after], raw[after], s, context.now, context.window_s))]
    # Load may acquit a gauge, never convict it: what was seen, uncleared, must rise, or no more need be worked out.
    if not any(grows_on(g, 0, context) for g in seen):
        return _decide(series, context, seen, [], Usual(0.0, 0.0), int(after.sum()))
    cleared = without_load(at, raw, after, interval, context)
    usual = usual_of(at, cleared, after, context)
    pairs = [(growth(at[after], cleared[after], g.start, context.now, context.window_s), g) for g in seen]
    grown = [g for g, _ in pairs if g]
    going_on = [g for g, was in pairs if g and all(grows_on(x, 0, context, usual.pace) for x in (g, was))]
    return _decide(series, context, grown, going_on, usual, int(after.sum()))


def risen(series: Gauge, at: Floats, value: Floats, interval: float, context: Context) -> Judgement | None:
    """A failure for what stands, for a sixth of the window, far above all that it was before, and not by the load."""
    before = value[at <= context.deployed_at]
    newest = (at > context.now - STANDS * context.window_s) & (at > context.deployed_at)
    short = newest.sum() < PER_BLOCK or at[-1] - at[newest][0] < 0.8 * STANDS * context.window_s
    if short or len(before) < BLOCKS * PER_BLOCK:
        return None
    top, now = float(before.max()), median(value[newest])
    factor = max(2.0, 1 + URGENT * context.limit)
    load = load_at(at, context.load, interval)
    then, since = load[(at <= context.deployed_at) & np.isfinite(load)], load[newest & np.isfinite(load)]
    known = len(then) > 0 and len(since) > 0
    more_load = max(1.0, median(since) / max(median(then), 1e-9)) if known else 1.0
    if known and median(since) > 0 and now > BEYOND * top * more_load and _stands_still(before, value, newest):
        why = f"{context.words} stands still at {now:g}, its maximum, {now / top:.1f} times the most before: exhausted"
        return judgement(Outcome.FAIL, why, context, series, value=now / top - 1, sample=int(newest.sum()))
    if now <= factor * top * more_load or value[newest].min() <= (1 + factor) / 2 * top:
        return None
    low = np.flatnonzero(value <= (1 + factor) / 2 * top)
    began = float(at[low[-1] + 1])
    why = (
        f"{context.words} stands at {now / top:.1f} times the most that it was before the deploy, for "
        f"{show_duration(round(context.now - began))}, and not for more load"
    )
    return judgement(Outcome.FAIL, why, context, series, value=now / top - 1, sample=int(newest.sum()), since=began)


def _stands_still(before: Floats, value: Floats, newest: Flags) -> bool:
    """Whether what moved from sample to sample before is now the same all the time, and never was higher: a ceiling."""
    now = value[newest]
    return bool(np.ptp(now) == 0 and now[0] == value.max() and np.mean(np.diff(before) != 0) > 0.5)


def without_load(at: Floats, value: Floats, after: Flags, interval: float, context: Context) -> Floats:
    """The gauge as it would be at the usual load; unchanged where there is no load, or no clear dependence on it."""
    load = load_at(at, context.load, interval)
    known = np.isfinite(load)
    if known.sum() < BLOCKS * PER_BLOCK or at[known][-1] - at[known][0] < ENOUGH * context.window_s:
        return value
    # Connections follow the load at once and memory slowly; and the smoothed load is the surer one at low traffic.
    smooth = smoothed(load[known], max(2, round(SMOOTH * context.window_s / interval)))
    split = int(np.count_nonzero(~after[known]))
    fits = [_dependence(at[known], value[known], split, x) for x in (load[known], smooth)]
    share, error, _ = min(fits, key=lambda fit: fit[2])
    if share < 3 * error:
        return value
    x = load[known] if fits[0][2] <= fits[1][2] else smooth
    cleared = value.copy()
    cleared[known] -= share * (x - median(x))
    return cleared


def _dependence(at: Floats, value: Floats, split: int, load: Floats) -> tuple[float, float, float]:
    """Least squares of the gauge on load, besides a level and a growth of its own before and after the deploy (taken
    out of both first, by the theorem of Frisch, Waugh and Lovell): slope, its error, squares that are left."""
    x, y = (
        np.concatenate([_detrended(at[:split], v[:split]), _detrended(at[split:], v[split:])]) for v in (load, value)
    )
    squares = max(float(x @ x), 1e-18)
    slope = float(x @ y) / squares
    left = y - slope * x
    error = math.sqrt(float(left @ left) / max(len(x) - 5, 1) / squares) * widening(left)
    return slope, error, float(left @ left)


def smoothed(x: Floats, width: int) -> Floats:
    """The mean of the newest `width` values at each; of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(x)])
    ends = np.arange(1, len(x) + 1)
    starts = np.maximum(ends - width, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def load_at(at: Floats, load: Counts | None, interval: float) -> Floats:
    """Requests a second at the times of the gauge; NaN where that is not known."""
    if load is None or not len(load.at):
        return np.full(len(at), np.nan)
    ends = np.asarray(load.at, dtype=float)
    starts = np.concatenate([[load.since], ends[:-1]])
    rate = np.asarray(load.total, dtype=float) / np.maximum(ends - starts, interval / 2)
    nearest = np.searchsorted(ends, at - interval / 2).clip(max=len(ends) - 1)
    return np.where(np.abs(ends[nearest] - at) <= interval, rate[nearest], np.nan)


def usual_of(at: Floats, relative: Floats, after: Flags, context: Context) -> Usual:
    """What the gauge does by itself, from before the deploy and from its falls since."""
    fall = float((np.maximum.accumulate(relative[after]) - relative[after]).max())
    before, then = at[~after], relative[~after]
    if len(before) < BLOCKS * PER_BLOCK:
        return Usual(fall, 0.0)
    low, high = np.interp((0.02 * (len(then) - 1), 0.98 * (len(then) - 1)), np.arange(len(then)), np.sort(then))
    grown = growth(before, then, float(before[0]), float(before[-1]), context.window_s)
    steady = grown is not None and min(grown.steps) > 0 and min(grown.steps) > grown.error(context.window_s)
    return Usual(max(fall, float(high - low)), grown.pace if grown and steady else 0.0)


def growth(at: Floats, relative: Floats, start: float, end: float, window_s: float) -> Growth | None:
    """The floors of four blocks from start to end; None if the blocks are too short to tell anything."""
    block_s = (end - start) / BLOCKS
    edges = np.searchsorted(at, start + block_s * np.arange(BLOCKS + 1), side="right")
    count = int((edges[1:] - edges[:-1]).min())
    if block_s < SHORTEST * window_s * 0.999 or count < PER_BLOCK:
        return None
    lowest = [np.sort(relative[a:b])[: max(1, (b - a) // 6)] for a, b in pairwise(edges)]
    floors = [_mean(block) for block in lowest]
    slopes = sorted([(floors[j] - floors[i]) / (j - i) for i in range(BLOCKS) for j in range(i + 1, BLOCKS)])
    pace = (slopes[2] + slopes[3]) / 2 / block_s * window_s
    steps = tuple(b - a for a, b in pairwise(floors))
    seen = slice(edges[0], edges[-1])
    return Growth(start, steps, pace, block_s, at[seen], relative[seen], lowest, count)


def two_largest_jumps(value: Floats) -> float:
    """How much higher a level begins than the one before ended (the least of four samples above the most of four)."""
    fours = sliding_window_view(value, PER_BLOCK)
    jumps = fours[PER_BLOCK:].min(axis=1) - fours[:-PER_BLOCK].max(axis=1)
    first = int(jumps.argmax())
    others = np.concatenate([jumps[: max(0, first - PER_BLOCK)], jumps[first + PER_BLOCK + 1 :], [0.0]])
    return max(float(jumps[first]), 0.0) + max(float(others.max()), 0.0)


def widening(left: Floats) -> float:
    """By how much autocorrelation widens an error: √((1+ρ)/(1-ρ)) with ρ of neighbouring residuals, at most 0.9."""
    rho = min(max(float(left[1:] @ left[:-1]) / max(float(left @ left), 1e-18), 0.0), 0.9)
    return math.sqrt((1 + rho) / (1 - rho))


def _detrended(at: Floats, value: Floats) -> Floats:
    """What is left of a straight line by least squares."""
    if not len(at):
        return value
    time = at - _mean(at)
    slope = float(time @ value) / max(float(time @ time), 1e-18)
    return np.asarray(value - _mean(value) - slope * time)


def _mean(x: Floats) -> float:
    return float(x.sum()) / len(x)


def _scatter(left: Floats) -> float:
    """The standard deviation of what has a mean of 0."""
    return math.sqrt(float(left @ left) / len(left))


def _decide(
    series: Gauge, context: Context, grown: list[Growth], going_on: list[Growth], usual: Usual, sample: int
) -> Judgement:
    if not grown:
        why = f"{sample} samples over too short a time to tell a leak from a warm-up"
        return judgement(Outcome.NOT_YET, why, context, series, sample=sample)
    proofs = [g for g in going_on if is_leak(g, usual, context)]
    late = context.now - context.deployed_at >= LATE * context.window_s * 0.999
    urgent = any(g.total > URGENT * context.limit * _mean(g.lowest[0]) for g in proofs)
    if proofs and not has_stopped(grown[-1], context) and (late or urgent):
        worst = max(proofs, key=lambda g: g.total)
        why = (
            f"{context.words} grew by {percent(worst.total)} in {show_duration(context.now - worst.start)}, steadily "
            f"and without slowing: {percent(worst.pace)} in a window, {percent(context.limit)} is all right"
        )
        return judgement(Outcome.FAIL, why, context, series, value=worst.pace, sample=sample, since=worst.start)
    worst = max(grown, key=lambda g: g.pace)
    why = f"{context.words} grows by {percent(worst.pace)} in a window, {percent(context.limit)} is all right"
    if proofs and not late:
        why += ": more, and a cache that fills looks the same"
    elif going_on:
        why += ": more, and not yet proven to be more than a wave"
    elif worst.pace - usual.pace > context.limit:
        why += ": more, but it does not go on"
    elif worst.pace > context.limit:
        why += f": more, as before the deploy ({percent(usual.pace)})"
    outcome = Outcome.NOT_YET if going_on else Outcome.PASS
    return judgement(outcome, why, context, series, value=worst.pace, sample=sample)


def is_leak(g: Growth, usual: Usual, context: Context) -> bool:
    """The conditions of a failure, each with the error of a step allowed for."""
    whole_teeth = g.block_s >= 0.95 * TOOTH * context.window_s
    teeth = whole_teeth or g.total > TEETH * usual.swing
    if not teeth:
        return False
    error = g.error(context.window_s)
    return min(g.steps) > 2 * error and grows_on(g, error, context, usual.pace)


def grows_on(g: Growth, error: float, context: Context, usual: float = 0.0) -> bool:
    """Whether it has grown, goes on faster than is all right, and in steps that are even and do not fade. `usual` is
    its pace before the deploy."""
    if g.pace - usual <= context.limit or g.total <= context.limit / 2:
        return False
    even = min(g.steps) > EVEN * g.total / len(g.steps) > 0
    return even and unslowed(g, error, context) and g.total - g.jumps > context.limit / 2


def has_stopped(newest: Growth, context: Context) -> bool:
    """Whether the growth since the latest start is proven to have slowed down, or to have ended."""
    return not unslowed(newest, -2 * newest.scatter, context)


def unslowed(g: Growth, error: float, context: Context) -> bool:
    """Whether the last step is greater than the slowest warm-up would have left of the one before."""
    return g.steps[-1] - error > math.exp(-g.block_s / (SLOWEST_WARMUP * context.window_s)) * g.steps[-2]
