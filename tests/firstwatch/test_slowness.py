"""Days of rounds replayed on an injected clock: what is called degraded, what is not, and what is stored of it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.slow_worlds import DAY, KINDS, Floats, jitter
from firstwatch.model import Judgement, Outcome
from firstwatch.slowness import History, accept, add, judge, judge_by, pack, settle, unpack, usual_for
from firstwatch.spec.synthetic import Degraded

MONDAY = 20780 * DAY
ALLOWED = Degraded()


@dataclasses.dataclass
class Watch:
    """One check, watched from round to round as a monitor does it; what is usual is worked out once an hour."""

    history: History = History.empty
    limit: float | None = None
    now: float = MONDAY

    def rounds(self, t: Floats, took: Floats, degraded: Degraded = ALLOWED) -> list[Judgement]:
        """Each round's judgement; NaN is a round that was lost."""
        said, hour, known = [], None, None
        for at, seconds in zip(t.tolist(), took.tolist(), strict=True):
            if not math.isnan(seconds):
                self.history = add(self.history, at, seconds, at)
            if hour != (this := (at // 3600, self.history.since)):
                hour, known = this, usual_for(self.history, at, degraded)
            said.append(judge_by(self.history, at, degraded, self.limit, known))
            self.history = settle(self.history, said[-1])
            self.now = at
        return said


def times(days: float, every: float = 300.0, begin: float = MONDAY) -> Floats:
    return begin + np.arange(0, days * DAY, every)


def is_degraded(said: list[Judgement]) -> list[bool]:
    return [j.outcome is Outcome.FAIL for j in said]


def usual_check(rng: np.random.Generator, t: Floats) -> Floats:
    """200 ms, with a daily course of ±30 % and a jitter of 15 %."""
    return 0.2 * (1 + 0.3 * np.sin(2 * math.pi * t / DAY)) * jitter(rng, t, 0.15)


def watched(seed: int, days: float = 8.0, every: float = 300.0) -> tuple[Watch, np.random.Generator]:
    """A check with a history, none of it degraded."""
    watch, rng = Watch(), np.random.default_rng(seed)
    t = times(days, every)
    assert not any(is_degraded(watch.rounds(t, usual_check(rng, t))))
    return watch, rng


def after(watch: Watch, days: float, every: float = 300.0) -> Floats:
    return times(days, every, watch.now + every)


# ── what is slow ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("days", [5.3, 8.7])
def test_a_creep_of_30_percent_over_a_day_is_found_by_its_end(seed: int, days: float) -> None:
    watch, rng = watched(seed, days)
    t = after(watch, 1)
    bad = is_degraded(watch.rounds(t, usual_check(rng, t) * np.linspace(1, 1.3, len(t))))
    assert 0.4 < bad.index(True) / len(bad) < 1  # after 10 hours (12 %) at the soonest
    assert bad[-1]


def test_a_creep_that_goes_on_at_one_round_a_minute_is_found_within_the_day() -> None:
    watch, rng = watched(1, 4.5, 60.0)
    t = after(watch, 1, 60.0)
    bad = is_degraded(watch.rounds(t, usual_check(rng, t) * np.linspace(1, 1.3, len(t))))
    assert 0.4 < bad.index(True) / len(bad) < 1


@pytest.mark.parametrize("seed", range(4))
def test_a_creep_of_10_percent_is_not_degraded(seed: int) -> None:
    watch, rng = watched(seed)
    t = after(watch, 2)
    slower = np.minimum(1 + 0.1 * (t - t[0]) / DAY, 1.1)
    assert not any(is_degraded(watch.rounds(t, usual_check(rng, t) * slower)))


@pytest.mark.parametrize("seed", range(6))
def test_a_step_of_50_percent_is_found_within_15_rounds_and_its_end_within_30(seed: int) -> None:
    watch, rng = watched(seed, 6 + seed / 6)
    t = after(watch, 0.5)
    slow = is_degraded(watch.rounds(t, 1.5 * usual_check(rng, t)))
    assert slow.index(True) < 15
    assert all(slow[slow.index(True) :])
    t = after(watch, 1)
    back = is_degraded(watch.rounds(t, usual_check(rng, t)))
    assert back.index(False) < 30
    assert not any(back[back.index(False) :])


def test_the_reason_names_both_durations_the_share_and_the_bar() -> None:
    watch, _ = watched(3)
    t = after(watch, 0.1)
    found = watch.rounds(t, np.full(len(t), 0.5))
    first = next(j for j in found if j.outcome is Outcome.FAIL)
    assert first.value is not None and first.limit is not None
    assert first.value > first.limit
    assert (first.unit, first.sample, first.at) == ("seconds", 10, t[is_degraded(found).index(True)])
    assert first.since == first.at - 9 * 300
    assert "the last 10 rounds took" in first.why and "slower than at this hour on the last 7 days" in first.why


def test_slower_decides_how_much_is_too_much() -> None:
    for slower, expected in ((1.0, False), (0.2, True)):
        watch, rng = watched(5)
        t = after(watch, 0.5)
        bad = is_degraded(watch.rounds(t, 1.4 * usual_check(rng, t), Degraded(slower=slower)))
        assert any(bad) is expected


# ── what is not ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_no_kind_is_called_slow(kind: str) -> None:
    """Two checks of ten days each, from their first round on; the bench has the rate."""
    for seed in range(2):
        rng = np.random.default_rng([11, seed])
        t = times(10, begin=MONDAY + seed * DAY * 1.7)
        said = Watch().rounds(t, KINDS[kind](rng, t))
        assert [j.why for j in said if j.outcome is Outcome.FAIL] == []


def test_a_single_outlier_and_a_cold_start_after_a_gap_say_nothing() -> None:
    watch, rng = watched(2)
    t = times(1, begin=watch.now + 4 * 3600)
    took = usual_check(rng, t)
    took[:3] *= (20, 8, 3)
    took[100] = 30.0
    said = watch.rounds(t, took)
    assert said[0].outcome is Outcome.NOT_YET and "since the last gap" in said[0].why
    assert not any(is_degraded(said))


# ── little history ───────────────────────────────────────────────────────────────────────────────────────────


def test_without_history_it_is_not_yet_known_and_the_limit_holds() -> None:
    watch = Watch(limit=0.5)
    t = times(0.05)
    assert {j.outcome for j in watch.rounds(t, np.full(len(t), 0.2))} == {Outcome.NOT_YET}
    t = after(watch, 0.05)
    said = watch.rounds(t, np.full(len(t), 0.6))
    assert is_degraded(said).index(True) == 7  # the eighth of ten
    assert said[-1].why == "10 of the last 10 rounds took longer than 500 ms (half of them 600 ms or more)"


def test_a_morning_is_no_slow_down_on_the_first_day() -> None:
    for phase in np.linspace(0, 2 * math.pi, 8, endpoint=False):
        watch, t, rng = Watch(), times(1.5), np.random.default_rng(8)
        took = 0.1 * (1 + 0.5 * np.sin(2 * math.pi * t / DAY + phase)) * jitter(rng, t, 0.12)
        assert not any(is_degraded(watch.rounds(t, took)))


def test_three_times_as_slow_is_found_on_the_first_day() -> None:
    watch, rng = watched(4, 0.4)
    t = after(watch, 0.2)
    assert any(is_degraded(watch.rounds(t, 3 * usual_check(rng, t))))


# ── the limit ────────────────────────────────────────────────────────────────────────────────────────────────


def over_limit(*above: int, degraded: Degraded = ALLOWED, limit: float | None = 0.5) -> bool:
    """Whether the last of rounds is degraded that took 0.4 s or, where it says 1, 0.6 s."""
    history = History.empty
    for n, slow in enumerate(above):
        history = add(history, MONDAY + 300 * n, 0.6 if slow else 0.4)
    return judge(history, MONDAY + 300 * len(above) - 300, degraded, limit).outcome is Outcome.FAIL


def test_eight_of_ten_above_the_limit_begin_it_and_four_end_it() -> None:
    assert not over_limit(*[0] * 5, *[1] * 7)
    assert over_limit(*[0] * 5, *[1] * 8)
    assert over_limit(*[1] * 10, *[0] * 5)
    assert not over_limit(*[1] * 10, *[0] * 6)


def test_the_files_own_limit_comes_first_and_none_is_none() -> None:
    assert not over_limit(*[1] * 10, degraded=Degraded(limit=0.7))
    assert over_limit(*[0] * 10, degraded=Degraded(limit=0.3))
    assert not over_limit(*[1] * 10, limit=None)


# ── a new normal ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_that_stays_is_degraded_for_the_length_of_the_history_and_not_longer() -> None:
    watch, rng = watched(6)
    t = after(watch, 9)
    bad = is_degraded(watch.rounds(t, 1.6 * usual_check(rng, t)))
    ended = len(bad) - bad[::-1].index(True)
    assert 6.9 < (ended - bad.index(True)) * 300 / DAY < 7.1
    assert all(bad[bad.index(True) : ended])


def test_what_a_person_accepts_is_the_new_baseline() -> None:
    watch, rng = watched(7)
    t = after(watch, 1)
    assert is_degraded(watch.rounds(t, 1.6 * usual_check(rng, t)))[-1]
    watch.history = accept(watch.history, watch.now)
    t = after(watch, 3)
    assert not any(is_degraded(watch.rounds(t, 1.6 * usual_check(rng, t))))
    t = after(watch, 0.5)
    assert any(is_degraded(watch.rounds(t, 2.6 * usual_check(rng, t))))


# ── the history ──────────────────────────────────────────────────────────────────────────────────────────────

SANE = History.empty
for n in range(30):
    SANE = add(SANE, MONDAY + 60 * n, 0.1 + n / 1000)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -0.001, 86401.0, 1e300])
@pytest.mark.parametrize("at", [MONDAY + 5000, math.nan, math.inf, -1.0, 1e15])
def test_what_is_no_duration_or_no_time_changes_nothing(at: float, seconds: float) -> None:
    assert add(SANE, at, seconds) == SANE
    assert add(SANE, MONDAY + 5000, seconds) == SANE
    assert at == MONDAY + 5000 or add(SANE, at, 0.1) == SANE


def test_a_round_counts_once_and_may_come_late() -> None:
    assert add(SANE, MONDAY + 60, 9.0) == SANE
    first, second = (MONDAY + 7200.0, 0.3), (MONDAY + 7260.0, 0.5)
    in_turn = add(add(SANE, *first), *second)
    turned = add(add(SANE, *second), *first)
    assert in_turn.at == turned.at and in_turn.seconds == turned.seconds
    assert [(h.start, h.count, h.middle) for h in in_turn.hours] == [(h.start, h.count, h.middle) for h in turned.hours]


def test_a_clock_that_ran_ahead_is_forgotten() -> None:
    ahead = add(SANE, MONDAY + 30 * DAY, 0.9)
    assert len(ahead.at) == 31
    assert judge(ahead, MONDAY + 1800, ALLOWED).sample == 30
    assert add(SANE, MONDAY + 30 * DAY, 0.9, MONDAY + 1800) == SANE
    healed = add(ahead, MONDAY + 1800, 0.2, MONDAY + 1801)
    assert healed.at[-1] == MONDAY + 1800 and healed.hours[-1].start == MONDAY


@pytest.mark.parametrize("every", [60.0, 300.0])
def test_a_full_history_is_small_and_comes_back_equal(every: float) -> None:
    rng = np.random.default_rng(9)
    t = times(9, every) + rng.uniform(0, 5, int(9 * DAY / every))
    history = History.empty
    for at, seconds in zip(t.tolist(), KINDS["all at once"](rng, t).tolist(), strict=True):
        history = add(history, at, seconds, at)
    history = dataclasses.replace(history, since=int(t[-1]))
    assert (len(history.at), len(history.hours)) == (60, 8 * 24)
    assert len(pack(history)) < 1500
    assert unpack(pack(history)) == (history, "")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 86400)), max_size=80))
def test_whatever_was_added_is_bounded_and_packs_without_loss(rounds: list[tuple[float, float]]) -> None:
    history = History.empty
    for at, seconds in rounds:
        history = add(history, at, seconds)
        assert add(history, at, seconds) == history
    assert len(history.at) <= 60 and len(history.hours) <= 8 * 24
    assert list(history.at) == sorted(set(history.at))
    assert unpack(pack(history)) == (history, "")
    judge(history, 1e6, ALLOWED, 0.5)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200) | st.builds(lambda cut, text: text[:cut], st.integers(1, 100), st.just(pack(SANE))))
def test_a_damaged_history_starts_anew_and_says_so(text: str) -> None:
    history, why = unpack(text)
    assert history == History.empty
    assert "starts anew" in why or text == ""


def test_a_history_that_contradicts_itself_starts_anew() -> None:
    for wrong in (
        dataclasses.replace(SANE, at=SANE.at[::-1]),
        dataclasses.replace(SANE, seconds=SANE.seconds[1:]),
        dataclasses.replace(SANE, since=1.5),
        dataclasses.replace(SANE, hours=(dataclasses.replace(SANE.hours[0], count=0),)),
    ):
        assert unpack(pack(wrong))[0] == History.empty
    assert unpack(None) == unpack("") == (History.empty, "")
