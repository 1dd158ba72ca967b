from __future__ import annotations

from firstwatch.conditions import QUERY_NAMES, compile_condition
from firstwatch.judges import condition
from firstwatch.model import Outcome
from tests.firstwatch.judges.worlds import context, gauge

BELOW = compile_condition("value < 100", QUERY_NAMES)


def test_it_fails_after_three_in_a_row_and_passes_with_the_newest() -> None:
    said = [
        condition(gauge(values), context(60, condition=BELOW)).outcome
        for values in ([90, 120, 130, 140], [90, 90, 120, 130], [120, 130, 140, 90])
    ]
    assert said == [Outcome.FAIL, Outcome.NOT_YET, Outcome.PASS]


def test_values_from_before_the_deploy_do_not_count() -> None:
    judged = condition(gauge([120, 120, 120], first=-45), context(15, condition=BELOW))
    assert judged.outcome is Outcome.NOT_YET and judged.why == "no value since the deploy"
