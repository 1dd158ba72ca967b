"""The circuit breaker: it opens late, tries seldom, and closes at once."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from firstwatch.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, LONGEST_RETRY_AFTER, Breaker


def opened(rng: random.Random, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker = breaker.failed(now, "refused", rng)
    return breaker


def test_it_opens_after_several_failures_in_a_row_only() -> None:
    rng, breaker = random.Random(1), Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker = breaker.failed(0, "refused", rng)
            assert breaker.wait(0) == 0
        breaker = breaker.answered()
    assert not breaker.open
    assert opened(rng).open
    assert FIRST_PAUSE / 2 <= opened(rng).wait(0) <= FIRST_PAUSE


def test_one_tries_at_a_time_and_the_pauses_double_up_to_their_end() -> None:
    rng, now, pauses = random.Random(2), 0.0, []
    breaker = opened(rng)
    for _ in range(10):
        now += breaker.wait(now)
        breaker = breaker.asked()
        assert breaker.wait(now) == math.inf
        assert not breaker.hopeless(now)
        breaker = breaker.failed(now, "refused", rng, tried=True)
        pauses.append(breaker.wait(now))
    for i, pause in enumerate(pauses):
        full = min(FIRST_PAUSE * 2 ** (i + 1), LONGEST_PAUSE)
        assert full / 2 <= pause <= full
    assert len(set(pauses)) == len(pauses)
    assert not breaker.asked().answered().open


def test_who_must_know_before_the_next_try_has_no_hope() -> None:
    breaker = opened(random.Random(3), now=100.0)
    assert breaker.hopeless(100.1)
    assert not breaker.hopeless(100.0 + FIRST_PAUSE + 0.01)
    assert not Breaker().hopeless(0)


def test_what_was_sent_before_it_opened_does_not_lengthen_the_pause() -> None:
    rng = random.Random(4)
    breaker = opened(rng)
    late = breaker.failed(0.1, "timeout", rng)
    assert (late.next_try, late.pause, late.why) == (breaker.next_try, breaker.pause, "timeout")
    assert late.failed(0.2, "busy", rng, retry_after=9).next_try == 9.2


def test_retry_after_is_obeyed_within_reason() -> None:
    rng = random.Random(5)
    tried = opened(rng).asked()
    assert tried.failed(1, "busy", rng, tried=True, retry_after=20).next_try == 21
    assert tried.failed(1, "busy", rng, tried=True, retry_after=1e9).next_try == 1 + LONGEST_RETRY_AFTER


def test_a_try_that_was_left_is_nobodys() -> None:
    breaker = opened(random.Random(6)).asked()
    assert breaker.given_up(5.0).wait(5.0) == 0
    assert Breaker().given_up(5.0) == Breaker()


def test_it_says_since_when_and_why() -> None:
    breaker = opened(random.Random(7), now=100.0)
    said = breaker.failed(112, "connection refused", random.Random(7)).told("Prometheus at x", 112.0)
    assert said.startswith("Prometheus at x has failed for 12s, 6 times in a row, and is asked again in ")
    assert said.endswith(": connection refused")
    assert "a moment" in breaker.asked().told("x", 100)


@given(st.lists(st.tuples(st.sampled_from(["ask", "answer", "fail", "leave"]), st.floats(0, 100)), max_size=60))
def test_whatever_happens_it_is_tried_again(events: list[tuple[str, float]]) -> None:
    rng, breaker, now = random.Random(8), Breaker(), 0.0
    for event, passed in events:
        now += passed
        if event == "ask" and breaker.wait(now) == 0:
            breaker = breaker.asked()
        elif event == "answer":
            breaker = breaker.answered()
        elif event == "fail":
            breaker = breaker.failed(now, "refused", rng, tried=breaker.trying)
        elif event == "leave":
            breaker = breaker.given_up(now)
        assert breaker.trying or breaker.wait(now) <= LONGEST_PAUSE
        assert breaker.open or breaker.failures < FAILURES
