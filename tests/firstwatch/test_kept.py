"""Reading the new only comes to what reading all comes to, whatever comes late, ends, begins, or goes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from firstwatch.kept import ANEW_AFTER, ENDED, LATE, Kept
from firstwatch.series import RawSeries


@dataclass
class Store:
    """A Prometheus: each series' samples, each with the time from which it is there."""

    stored: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    read: int = 0  # samples

    def ask(self, since: float, until: float, now: float) -> list[RawSeries]:
        found = []
        for name, samples in sorted(self.stored.items()):
            there = [(t, v) for t, v, comes in samples if since <= t <= until and comes <= now]
            self.read += len(there)
            if there:
                at, value = zip(*there, strict=True)
                found.append(RawSeries({"__name__": "r", "pod": name}, list(at), list(value)))
        return found


class Reading:
    """As tasks.prometheus reads: what is kept, and how often all had to be read."""

    def __init__(self, store: Store) -> None:
        self.store, self.whole = store, 0
        self.kept: Kept | None = None

    def look(
        self, since: float, until: float, now: float | None = None
    ) -> list[tuple[object, list[float], list[float]]]:
        now = until if now is None else now
        joined = None
        if self.kept is not None and (begin := self.kept.begin(since, until)) is not None:
            joined = self.kept.joined(self.store.ask(begin, until, now), begin, since, until)
        if joined is None:
            self.whole += 1
            joined = Kept.of(self.store.ask(since, until, now), since, until)
        self.kept = joined
        return plain(joined.series)


def plain(series: Sequence[RawSeries]) -> list[tuple[object, list[float], list[float]]]:
    return [(dict(s.labels), list(s.at), list(s.value)) for s in series]


def scraped(
    begins: float, ends: float, every: float = 15.0, late: Callable[[float], float] = lambda t: 0.3
) -> list[tuple[float, float, float]]:
    """(time, value, when it is there) of a counter."""
    return [
        (t, 100.0 + 3 * k, t + late(t)) for k in range(math.ceil((ends - begins) / every)) if (t := begins + k * every)
    ]


def looked(store: Store, since: float, moments: Sequence[float]) -> Reading:
    """Looks at these moments: each has found what a whole reading finds."""
    reading = Reading(store)
    for now in moments:
        assert reading.look(since, now) == plain(store.ask(since, now, now)), now
    return reading


LOOKS = [5000.0 + 15 * i for i in range(30)]


def test_after_the_first_look_only_the_new_is_read() -> None:
    store = Store({pod: scraped(1000.0 + i, 9000) for i, pod in enumerate("abc")})
    reading = Reading(store)
    reading.look(1000, 5000)
    before = store.read
    for now in LOOKS[1:]:
        reading.look(1000, now)
    assert reading.whole == 1
    assert store.read - before < len(LOOKS) * 3 * (LATE + 30) / 15
    assert looked(store, 1000, LOOKS).whole == 1


def test_what_begins_and_what_ends() -> None:
    """A deploy: old pods end, new ones begin; an error's series begins with the first error."""
    old = {f"old-{i}": scraped(1000.0 + i, 5100) for i in range(3)}
    new = {f"new-{i}": scraped(5090.0 + i, 9000) for i in range(3)}
    store = Store({**old, **new, "error": scraped(5243.0, 9000), "zero": []})
    reading = looked(store, 1000, LOOKS)
    assert reading.whole == 1
    assert reading.kept is not None and len(reading.kept.series) == 7


def test_what_is_older_than_is_asked_for_is_dropped() -> None:
    reading = Reading(store := Store({"a": scraped(1000, 9000)}))
    for now in LOOKS:
        assert reading.look(now - 1000, now) == plain(store.ask(now - 1000, now, now))
        assert reading.kept is not None and reading.kept.samples <= 67
    assert reading.whole == 1
    assert reading.look(LOOKS[0] - 1000, LOOKS[-1] + 15) == plain(store.ask(LOOKS[0] - 1000, 5450, 5450))
    assert reading.whole == 2  # it had been dropped


def test_nothing_is_kept_too() -> None:
    assert looked(Store(), 1000, LOOKS).whole == 1
    silent = looked(Store({"a": scraped(1000, 4600)}), 1000, LOOKS)
    assert silent.whole == len(LOOKS)  # all fell silent long ago: whatever comes may be late


def test_a_target_that_was_away() -> None:
    away = [s for s in scraped(1000, 9000) if not 5030 < s[0] < 5200]
    reading = looked(Store({"a": away, "b": scraped(1003, 9000)}), 1000, LOOKS)
    assert reading.whole < len(LOOKS) / 2


@pytest.mark.parametrize("late", [40.0, 59.0, 200.0, 280.0])
def test_samples_that_are_always_late(late: float) -> None:
    store = Store({pod: scraped(1000.0 + i, 9000, late=lambda t: late) for i, pod in enumerate("ab")})
    assert looked(store, 1000, LOOKS).whole == 1


def test_a_backlog_that_comes_after_ten_minutes() -> None:
    """Written from afar: from 5050 to 5650 nothing comes, then all at once."""

    def late(t: float) -> float:
        return max(1.0, 5650 - t) if t > 5050 else 1.0

    store = Store({pod: scraped(1000.0 + i, 9000, late=late) for i, pod in enumerate("ab")})
    looked(store, 1000, [5000.0 + 15 * i for i in range(60)])


def test_one_target_is_later_than_the_others() -> None:
    late = scraped(1003, 9000, late=lambda t: 250)
    assert looked(Store({"a": scraped(1000, 9000), "b": late}), 1000, LOOKS).whole == 1


def test_one_targets_backlog_comes_after_all_hope_for_it() -> None:
    late = scraped(1003, 9000, late=lambda t: max(1.0, 5420 - t) if t > 5010 else 1.0)
    assert 1 < looked(Store({"a": scraped(1000, 9000), "b": late}), 1000, LOOKS).whole < 10


def test_rare_scrapes_of_which_each_other_one_is_overtaken() -> None:
    late = scraped(1000, 9000, 60, late=lambda t: 110 if t % 120 < 60 else 1)
    assert looked(Store({"a": late}), 1000, LOOKS).whole == 1


def test_a_young_series_turns_out_to_be_older() -> None:
    late = scraped(4900, 9000, late=lambda t: max(1.0, 5010 - t) if t < 4960 else 1.0)
    assert looked(Store({"a": scraped(1000, 9000), "b": late}), 1000, LOOKS).whole == 2


def test_whatever_comes_late_by_less_than_a_minute() -> None:
    """60 stores by chance: targets come, go and are away; samples come late, out of order even."""
    wholes = looks = 0
    for seed in range(60):
        rng = random.Random(seed)
        every = rng.choice((5.0, 15.0, 30.0, 60.0))
        store = Store()
        for pod in range(rng.randint(0, 4)):
            begins = rng.choice((1000.0, rng.uniform(4500, 5300)))
            ends = rng.choice((9000.0, rng.uniform(begins, 5400)))
            most = rng.choice((0.2, 20.0, LATE - 1))
            samples = [(t, v, t + rng.uniform(0, most)) for t, v, _ in scraped(begins, ends, every)]
            holes = [(rng.uniform(4800, 5400), rng.uniform(0, 200)) for _ in range(rng.randint(0, 2))]
            store.stored[str(pod)] = [s for s in samples if not any(a < s[0] < a + n for a, n in holes)]
        moments = [5000.0 + 15 * i for i in range(30) if rng.random() < 0.9]
        wholes, looks = wholes + looked(store, 4000, moments).whole, looks + len(moments)
    assert wholes < looks / 2


# ── what does not fit ────────────────────────────────────────────────────────────────────────────────────────


def first_look(store: Store) -> Reading:
    reading = Reading(store)
    reading.look(1000, 5000)
    return reading


def read_anew(reading: Reading, until: float = 5015) -> bool:
    assert reading.look(1000, until) == plain(reading.store.ask(1000, until, until))
    return reading.whole == 2


def test_a_sample_that_has_gone() -> None:
    """Another replica of a pair answers: it scraped the same at other times."""
    reading = first_look(Store({"a": scraped(1000, 9000)}))
    reading.store.stored = {"a": scraped(1004, 9000)}
    assert read_anew(reading)


def test_a_series_that_has_gone_and_one_whose_labels_changed() -> None:
    reading = first_look(Store({"a": scraped(1000, 9000), "b": scraped(1000, 9000)}))
    reading.store.stored["c"] = reading.store.stored.pop("b")
    assert read_anew(reading)
    reading = first_look(Store({"a": scraped(1000, 9000), "b": scraped(1000, 9000)}))
    del reading.store.stored["b"]
    assert read_anew(reading)


def test_a_series_that_was_there_before_and_comes_now() -> None:
    reading = first_look(Store({"a": scraped(1000, 9000)}))
    reading.store.stored["b"] = scraped(1000, 9000)
    assert read_anew(reading)


def test_a_value_that_was_written_anew_is_taken() -> None:
    reading = first_look(Store({"a": scraped(1000, 9000)}))
    reading.store.stored["a"] = [(t, 7.0 if t > 4970 else v, c) for t, v, c in reading.store.stored["a"]]
    assert not read_anew(reading)


def test_what_came_very_late_is_seen_in_the_end() -> None:
    store = Store({"a": [(t, v, 5050.0 if t == 3010 else c) for t, v, c in scraped(1000, 9000)]})
    reading = Reading(store)
    for now in (5000.0, 5015.0, 5030.0):
        reading.look(1000, now)
    missing = reading.look(1000, 5060)
    assert missing != plain(store.ask(1000, 5060, 5060))
    after = 5000 + ANEW_AFTER
    assert reading.look(1000, after) == plain(store.ask(1000, after, after))


def test_an_earlier_time_than_before_is_read_for_itself() -> None:
    reading = first_look(Store({"a": scraped(1000, 9000)}))
    assert read_anew(reading, 4000)
    assert ENDED > LATE


def test_an_answer_that_holds_more_than_was_asked_for_fits_nothing() -> None:
    kept = first_look(Store({"a": scraped(1000, 9000)})).kept
    assert kept is not None
    begin = kept.begin(1000, 5015)
    assert begin is not None
    answer = Store({"a": scraped(1000, 9000)}).ask(begin - 20, 5015, 5015)
    assert kept.joined(answer, begin, 1000, 5015) is None
    assert kept.joined([*answer, *answer], begin - 20, 1000, 5015) is None
