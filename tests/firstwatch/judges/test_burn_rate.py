"""The error budget: how fast it burns, over which windows, and what a short history may say of a long one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from firstwatch.judges import burn_rate
from firstwatch.judges.burn_rate import RULES, burn_rates
from firstwatch.model import Counts, Gauge, Judgement, Outcome
from tests.firstwatch.judges.worlds import context, counts

HOUR = 3600.0


def last(series: Counts, **more: Any) -> Judgement:
    """A service that may fail one request in a thousand."""
    return burn_rate(series, context(series.at[-1] if len(series.at) else 0.0, **{"limit": 0.001, **more}))


def over(hours: float, *shares: tuple[float, float], step: float = 60.0, each: float = 1200) -> Counts:
    """Every `step` seconds `each` requests; (from hour, share of errors) ascending."""
    at = np.arange(step, hours * HOUR + 1, step)
    share = np.zeros(len(at))
    for since, value in shares:
        share[at > since * HOUR] = value
    return counts(share * each, each, step)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "since", "share", "other"),
    [(0, 71, 0.0145, 0.0143), (1, 66, 0.0061, 0.0059), (2, 48, 0.0031, 0.0029), (3, 0, 0.0011, 0.0009)],
)
def test_each_rule_holds_from_its_factor_on(rule: int, since: float, share: float, other: float) -> None:
    fast, slow = (burn_rates(over(72, (since, s)), 0.001, 72 * HOUR)[rule] for s in (share, other))
    assert fast.too_fast
    assert not slow.too_fast
    assert fast.long == pytest.approx(share / 0.001, rel=0.01)
    assert fast.seen == pytest.approx(RULES[rule].long)


def test_a_fast_burn_fails_and_says_so() -> None:
    judged = last(over(72, (71.5, 0.05)))
    assert judged.outcome is Outcome.FAIL
    assert judged.why.startswith("25 times the budget over 1h and 50 over 5m, 14.4 is too fast (objective 0.1 %)")
    assert judged.value == pytest.approx(0.05)


def test_it_ends_when_the_trouble_does() -> None:
    assert last(over(72, (71, 0.05))).outcome is Outcome.FAIL
    judged = last(over(72, (71, 0.05), (71.85, 0)))
    assert judged.outcome is Outcome.FAIL  # six hours and half an hour still burn
    judged = last(over(72, (71, 0.05), (71.4, 0)))
    assert judged.outcome is Outcome.PASS
    assert "recovers" in judged.why


def test_what_was_not_seen_counts_as_well() -> None:
    """Ten minutes of 2 % errors are 3.3 times the budget of an hour, though 20 times that of ten minutes."""
    short = over(1 / 6, (0, 0.02), step=15)
    judged = last(short)
    assert judged.outcome is Outcome.PASS
    assert burn_rates(short, 0.001, 600)[0].long == pytest.approx(20 / 6)
    assert "(of which 10m were seen)" in judged.why
    assert last(over(1 / 6, (0, 0.5), step=15)).outcome is Outcome.FAIL


def test_a_few_errors_of_few_requests_are_no_burn() -> None:
    judged = last(counts([0.0] * 178 + [1.0] * 2, 2, 60))
    assert judged.outcome is Outcome.NOT_YET
    assert "but only 10 requests, 50 are needed" in judged.why
    assert last(over(3, each=2)).outcome is Outcome.PASS
    clump = counts([0.0] * 170 + [9.0] + [0.0] * 9, 60, 60)
    assert last(clump).outcome is not Outcome.FAIL
    assert last(counts([1, 0], 2, 60)).outcome is Outcome.NOT_YET
    assert last(counts([], 2)).outcome is Outcome.NOT_YET


def test_a_service_at_its_objective_does_not_fail_however_often_it_is_looked_at() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        bad = rng.binomial(300, 0.01 * rng.gamma(4, 0.25, 240))
        series = counts(bad, 300)  # type: ignore[arg-type]
        looks = [burn_rate(series.until(now), context(now, alpha=0.01)) for now in range(120, 3601, 240)]
        assert all(judged.outcome is not Outcome.FAIL for judged in looks)


def test_it_judges_counts_only_and_never_raises_on_them() -> None:
    with pytest.raises(TypeError, match="counts"):
        burn_rate(Gauge((), ()), context(0))
    assert last(counts([5.0, 5.0], 0)).outcome is Outcome.NOT_YET
    assert last(over(1), limit=0.0).outcome in set(Outcome)
    assert last(over(1, (0, 1)), limit=1.0).outcome is Outcome.PASS
