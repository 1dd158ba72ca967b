from __future__ import annotations

from firstwatch.judges import absence, proportion
from firstwatch.model import Counts, Outcome
from tests.firstwatch.judges.worlds import context, counts

STEADY = counts([0] * 40, 45)  # the last sample at 600 s
ALIVE = tuple(15.0 * i for i in range(200))


def test_a_service_that_falls_silent_while_the_source_works_is_gone() -> None:
    judged = absence(STEADY, context(750, alive=ALIVE))
    assert judged.outcome is Outcome.FAIL
    assert judged.why == "no sample for 150 s while the source worked; before, 3 requests came every second"
    assert proportion(STEADY, context(750, alive=ALIVE)) == judged


def test_a_gap_of_75_seconds_is_no_absence() -> None:
    assert absence(STEADY, context(690, alive=ALIVE)).outcome is Outcome.PASS


def test_a_source_that_was_away_itself_proves_nothing() -> None:
    away = tuple(t for t in ALIVE if not 600 < t < 900)
    assert absence(STEADY, context(915, alive=away)).outcome is Outcome.NOT_YET
    assert absence(STEADY, context(750)).outcome is Outcome.NOT_YET


def test_requests_that_stop_while_the_metrics_go_on_are_gone_too() -> None:
    series = counts([0] * 52, [45] * 40 + [0] * 12)
    judged = absence(series, context(780, alive=ALIVE))
    assert judged.outcome is Outcome.FAIL and judged.why.startswith("no request for 180 s")


def test_little_or_unsteady_traffic_is_not_missed() -> None:
    assert absence(counts([0] * 40, 1), context(750, alive=ALIVE)).outcome is Outcome.PASS
    now_and_then = counts([0] * 40, [900 if i % 12 == 0 else 0 for i in range(40)])
    assert absence(now_and_then, context(750, alive=ALIVE)).outcome is Outcome.PASS


def test_a_scrape_that_was_missed_earlier_is_no_lull() -> None:
    """Eight scrapes are missing before the deploy; what came meanwhile is in the count of the next one."""
    at = [t for t in STEADY.at if not 200 < t < 320]
    total = [45.0 * 9 if t == 330 else 45.0 for t in at]
    holed = Counts(STEADY.since, at, [0.0] * len(at), total)
    assert absence(holed, context(750, alive=ALIVE)).outcome is Outcome.FAIL


def test_a_hang_that_lets_the_odd_request_through_is_silence() -> None:
    series = counts([0] * 52, [9000] * 40 + [20] * 12)
    assert absence(series, context(780, alive=ALIVE)).outcome is Outcome.FAIL


def test_traffic_that_dies_away_as_at_night_is_not_missed() -> None:
    fading = [round(900 * 0.9**i) for i in range(90)]
    for now in range(600, 1500, 15):
        series = counts([0] * (now // 15), fading[: now // 15] + [0] * (now // 15 - 90))
        assert absence(series, context(now, alive=ALIVE)).outcome is Outcome.PASS


def looping(lost: bool) -> Counts:
    """From 600 s on two scrapes of four are missing, with or without the requests of that time."""
    at = [15.0 * (i + 1) for i in range(80) if i < 40 or i % 4 > 1]
    steps = [b - a for a, b in zip([0.0, *at], at, strict=False)]
    return Counts(0.0, at, [0.0] * len(at), [3.0 * (15.0 if lost else step) for step in steps])


def test_a_crash_loop_is_an_absence_and_missed_scrapes_are_not() -> None:
    judged = absence(looping(lost=True), context(1200, alive=ALIVE))
    assert judged.outcome is Outcome.FAIL and judged.why.startswith("gone ")
    assert absence(looping(lost=False), context(1200, alive=ALIVE)).outcome is Outcome.PASS


def test_the_time_before_the_service_existed_is_not_its_traffic() -> None:
    """Forty samples at twenty requests, in a range that reaches back an hour further."""
    young = Counts(-3600.0, STEADY.at, [0.0] * 40, [20.0] * 40)
    assert absence(young, context(750, alive=ALIVE)).outcome is Outcome.FAIL
