"""A condition's limit, moved: the same condition with another number."""

from __future__ import annotations

import pytest

from firstwatch.conditions import ConditionError
from firstwatch.expr import compile_gate_condition, limit_of, with_limit


@pytest.mark.parametrize(
    ("text", "number", "moved"),
    [
        ("result[0] >= 0.99", 0.941, "result[0] >= 0.941"),
        ("result[0] >= 0", -3.5, "result[0] >= -3.5"),
        ("0.05 > result", 0.5, "0.5 > result"),
        ("isNaN(result[0]) || result[0] >= 0.95", 0.9, "isNaN(result[0]) || result[0] >= 0.9"),
        ("size(result) == 0 || result[0] >= 0.95", 0.9, "size(result) == 0 || result[0] >= 0.9"),
        ("all(result, # < -1)", 2.0, "all(result, # < 2.0)"),
        ("all(result, # < - 1)", -2.0, "all(result, # < -2.0)"),
        ("result.all(x, x < 1000)", 2e9, "result.all(x, x < 2000000000.0)"),
        ("max(result) - 1 < 1", 7.0, "max(result) - 1 < 7.0"),
        ("result[1] * 2 < 1", 1e-7, "result[1] * 2 < 1e-07"),
        ("result[0] >= 0.95", 0.95, "result[0] >= 0.95"),
    ],
)
def test_only_the_limit_is_another(text: str, number: float, moved: str) -> None:
    assert with_limit(text, number) == moved
    told, before = limit_of(moved), limit_of(text)
    assert told is not None and before is not None
    assert told == (before[0], number)
    compile_gate_condition(moved)


@pytest.mark.parametrize("text", ["result[0] > 1 && result[0] < 5", "len(result) == 0", "result[0] > result[1]", "?"])
def test_what_is_not_one_comparison_has_no_limit_to_move(text: str) -> None:
    with pytest.raises(ConditionError):
        with_limit(text, 0.5)
