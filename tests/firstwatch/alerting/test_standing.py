"""How a check stands, and which changes belong in its history."""

from __future__ import annotations

import pytest

from firstwatch.alerting.standing import Standing, is_event, standing
from tests.firstwatch.alerting.rounds import Days, alerts


@pytest.mark.parametrize(
    ("letters", "stands"),
    [
        ("?", Standing.NEW),
        ("u", Standing.UP),
        ("d", Standing.PENDING),
        ("dd", Standing.DOWN),
        ("ddu", Standing.DOWN),  # until it closes
        ("dduu", Standing.UP),
        ("ss", Standing.DEGRADED),
        ("dduu?", Standing.UP),
    ],
)
def test_standing(letters: str, stands: Standing) -> None:
    days = Days(alerts(2, 2))
    days.play(a=letters)
    assert standing(days.state.checks["a"]) is stands


def test_what_is_held_back_stands_as_what_it_is() -> None:
    days = Days(alerts(1, 1), {"door": (), "login": ("door",)})
    days.play(door="d", login="d")
    assert [standing(check) for check in days.state.checks.values()] == [Standing.DOWN, Standing.DOWN]


def test_a_suspicion_that_was_not_confirmed_is_no_event() -> None:
    days = Days(alerts(3, 1))
    course = []
    for letter in "uddudddu":
        days.play(a=letter)
        course.append(standing(days.state.checks["a"]))
    changes = [(b, a) for b, a in zip([Standing.NEW, *course], course, strict=False) if is_event(b, a)]
    assert [str(after) for _, after in changes] == ["up", "down", "up"]
