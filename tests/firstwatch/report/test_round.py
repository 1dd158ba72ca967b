"""What a round comes to, in a word."""

from __future__ import annotations

import pytest

from firstwatch.monitor import Health, Seen
from firstwatch.report.round import health_of

UP, SLOW, DOWN, UNKNOWN = Health.UP, Health.DEGRADED, Health.DOWN, Health.UNKNOWN


@pytest.mark.parametrize(
    ("found", "worst"),
    [
        ((UP, UP), UP),
        ((UP, SLOW), SLOW),
        ((SLOW, UNKNOWN, UP), UNKNOWN),  # a run that has completed would say that all works
        ((UNKNOWN, DOWN, SLOW), DOWN),
        ((), UNKNOWN),
    ],
)
def test_what_is_not_known_is_taken_for_neither_up_nor_slow(found: tuple[Health, ...], worst: Health) -> None:
    assert health_of([Seen(f"{n}", health, "", 0.0) for n, health in enumerate(found)]) is worst
