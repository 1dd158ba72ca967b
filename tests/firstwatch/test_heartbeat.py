"""A job that calls in, or does not."""

from __future__ import annotations

import pytest

from firstwatch.heartbeat import NOT_DUE, judge
from firstwatch.model import Outcome
from firstwatch.spec.synthetic import Heartbeat

NOW = 1_795_000_000.0
NIGHTLY = Heartbeat.model_validate({"name": "backup", "every": "1d", "grace": "1h"})
HOUR = 3600.0


@pytest.mark.parametrize(
    ("ago", "outcome", "why"),
    [
        (0, Outcome.PASS, "called in 0s ago"),
        (2 * HOUR, Outcome.PASS, "called in 2h ago"),
        (24 * HOUR, Outcome.PASS, "called in 1d ago"),
        (24 * HOUR + 600, Outcome.PASS, "called in 1d10m ago: late by 10m, within its grace of 1h"),
        (25 * HOUR, Outcome.PASS, "called in 1d1h ago: late by 1h, within its grace of 1h"),
        (
            25 * HOUR + 60,
            Outcome.FAIL,
            "last called in 1d1h1m ago; it calls in every 1d, with 1h of grace: 1m overdue",
        ),
        (-60, Outcome.PASS, "called in 0s ago"),
        (
            -61,
            Outcome.ERROR,
            "its last call is dated 2026-11-18T11:07:41Z, 1m1s ahead of this clock: one of the two clocks is wrong",
        ),
    ],
)
def test_when_a_job_last_called_in(ago: float, outcome: Outcome, why: str) -> None:
    found = judge(NIGHTLY, NOW - ago, NOW - 90 * HOUR, NOW)
    assert (found.outcome, found.why) == (outcome, why)
    assert found.facts == {"last_seen_at": NOW - ago}


@pytest.mark.parametrize(
    ("watched", "outcome", "why"),
    [
        (600, Outcome.NO_DATA, "has not called in yet, in the 10m that it is watched; 1d50m left"),
        (25 * HOUR, Outcome.NO_DATA, "has not called in yet, in the 1d1h that it is watched; 0s left"),
        (25 * HOUR + 1, Outcome.FAIL, "never called in, in the 1d1h that it is watched; it calls in every 1d"),
        (-600, Outcome.NO_DATA, "has not called in yet, in the 0s that it is watched; 1d1h left"),
    ],
)
def test_a_job_that_never_called_in(watched: float, outcome: Outcome, why: str) -> None:
    found = judge(NIGHTLY, None, NOW - watched, NOW)
    facts = {NOT_DUE: 1.0} if outcome is Outcome.NO_DATA else {}
    assert (found.outcome, found.why, dict(found.facts)) == (outcome, why, facts)


def test_a_call_from_before_it_was_watched_counts() -> None:
    assert judge(NIGHTLY, NOW - 30 * HOUR, NOW - 60, NOW).outcome is Outcome.FAIL
    assert judge(NIGHTLY, NOW - 2 * HOUR, NOW - 60, NOW).outcome is Outcome.PASS
