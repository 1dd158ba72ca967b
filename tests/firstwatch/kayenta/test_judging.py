"""Our judgement of Kayenta's metrics: what it gets wrong, and rulings that do not pass what is not known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from firstwatch.judges.ranks import ranks_of
from firstwatch.kayenta import Label, judge, judge_metric, parse, windows
from firstwatch.kayenta.config import Analysis
from tests.firstwatch.kayenta.test_config import CONFIG, changed

NAN = math.nan
ZEROS = [0.0] * 30
SPARSE = [1.0 if i in (3, 9, 14, 20, 27) else 0.0 for i in range(30)]
TIGHT = [100 + i / 100 for i in range(10)]


def near(level: float, sd: float, n: int = 30, seed: int = 1) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(level, sd, n)]


@pytest.mark.parametrize(
    ("control", "experiment", "label", "how"),
    [
        # what the stable version never has
        (ZEROS, SPARSE, "High", {}),
        ([0] * 6, [0, 1, 2, 1, 0, 0], "High", {}),
        ([1] * 10, [100] * 7 + [1] * 3, "High", {}),
        ([NAN] * 10, [NAN, 0.05, NAN, 0.2, 0.1, NAN, 0.1, 0.04, NAN, NAN], "High", {"nanStrategy": "replace"}),
        (ZEROS, [0.0] * 29 + [7.0], "Pass", {}),
        (ZEROS, ZEROS, "Pass", {}),
        # shifts that matter, and that do not
        (TIGHT, [v + 0.5 for v in TIGHT], "Pass", {}),
        (TIGHT, [v + 30 for v in TIGHT], "High", {}),
        (near(100, 40), near(150, 40, seed=2), "High", {}),
        (near(1e-6, 1e-7), near(2e-6, 1e-7, seed=2), "High", {}),
        (near(-100, 3), near(-50, 3, seed=2), "High", {}),
        (near(100, 3), near(50, 3, seed=2), "Pass", {"direction": "increase"}),
        (near(100, 3), near(50, 3, seed=2), "Low", {"direction": "decrease"}),
        (near(100, 3), near(130, 3, 12, seed=2), "High", {}),
        (near(100, 3), near(130, 3, seed=2), "Pass", {"effectSize": {"allowedIncrease": 1.5}}),
        # constant series, the same each time
        ([5] * 10, [5] * 10, "Pass", {}),
        ([5] * 10, [5.0001] * 10, "Pass", {}),
        ([5] * 10, [9] * 10, "High", {}),
        # another shape
        (near(10, 1), [*near(10, 1, 14, seed=2), *near(100, 5, 16, seed=3)], "High", {}),
        (near(100, 3), [*near(100, 3, 29, seed=2), 1000], "Pass", {}),
        ([10.0, 10.1, 10.2, 10.3, 17.0, 17.1, 17.2, 17.3, 17.4, 17.5], [1, 100, 4, 101, 5, 102, 6, 103, 7, 104], "Pass",
         {"direction": "decrease"}),
        # too little
        ([100, 101], [103, 104], "Inconclusive", {}),
        (near(100, 3), [NAN] * 28 + [200, 201], "Inconclusive", {}),
        ([NAN] * 9, [NAN] * 9, "Nodata", {"nanStrategy": "replace"}),
        ([1] * 9, [], "Nodata", {}),
        ([1] * 9, [], "NodataFailMetric", {"mustHaveData": True}),
        ([1] * 9, [math.inf] * 9, "Nodata", {}),
    ],
)  # fmt: skip
def test_a_metric_is_judged_right(control: list[float], experiment: list[float], label: str, how: Any) -> None:
    judged = judge_metric(control, experiment, Analysis.model_validate(how))
    assert judged.label == label
    assert judged.why
    assert judged == judge_metric(control, experiment, Analysis.model_validate(how))


def test_it_says_why_in_numbers() -> None:
    assert judge_metric(ZEROS, SPARSE, Analysis()).why == (
        "5 of 30 values are higher, the stable version's are always 0; chance of this without a difference 1 in 38"
    )
    shifted = judge_metric(TIGHT, [v + 30 for v in TIGHT], Analysis())
    assert shifted.why.startswith("higher: median 130.045, 100.045 on the stable version (+30 %); chance")


def test_equal_series_are_rarely_told_apart_even_if_a_value_depends_on_the_one_before() -> None:
    rng, failed = np.random.default_rng(5), 0
    for _ in range(200):
        noise = rng.normal(size=(2, 60))
        for i in range(1, 60):
            noise[:, i] = 0.8 * noise[:, i - 1] + 0.6 * noise[:, i]
        stable, canary = 100 + 10 * noise[:, 20:]
        judged = [judge_metric(stable[:n], canary[:n], Analysis(direction="increase")) for n in (10, 30)]
        failed += any(j.label is Label.HIGH for j in judged)
    assert failed / 200 <= 0.04  # Kayenta's own judge: 0.27


# ── rulings ──────────────────────────────────────────────────────────────────────────────────────────────────

SAME = (near(100, 3), near(100, 3, seed=2))
WORSE = (near(100, 3), near(300, 3, seed=2))
TWO = ([100.0, 101.0], [103.0, 104.0])


@pytest.mark.parametrize(
    ("latency", "errors", "score", "ruling"),
    [
        (SAME, SAME, 100, "pass"),
        (SAME, WORSE, 60, "fail"),
        (WORSE, SAME, 0, "fail"),  # critical
        (SAME, TWO, 100, "inconclusive"),
        (TWO, SAME, 0, "inconclusive"),
        (SAME, ((), ()), 0, "inconclusive"),
        (WORSE, TWO, 0, "fail"),
        (((), ()), ((), ()), 0, "inconclusive"),
    ],
)
def test_a_ruling_passes_nothing_that_is_not_known(latency: Any, errors: Any, score: float, ruling: str) -> None:
    found = judge(parse(CONFIG), {"latency": latency, "errors": errors})
    assert (found.score, found.ruling) == (score, ruling), found.why
    assert [m.name for m in found.metrics] == ["latency", "errors"]


def test_a_ruling_says_why_and_what_kayenta_would_have_said() -> None:
    found = judge(parse(CONFIG), {"latency": WORSE, "errors": TWO})
    assert found.why.startswith("score 0 of 100 (pass from 95, marginal from 75); critical: latency: higher: median")
    assert [m.kayenta.label for m in found.metrics] == [Label.HIGH, Label.HIGH]
    assert found.metrics[1].classified.label is Label.INCONCLUSIVE
    unknown = judge(parse(CONFIG), {"latency": SAME, "errors": TWO})
    assert "1 of 2 metrics could not be told: the score lies between 60 and 100" in unknown.why


def test_a_muted_metric_is_shown_and_does_not_count() -> None:
    config = changed("metrics.1.analysisConfigurations", {"canary": {"muted": True}})
    config["classifier"]["groupWeights"] = {}
    found = judge(parse(config), {"latency": SAME, "errors": WORSE})
    assert (found.ruling, found.metrics[1].classified.label) == ("pass", Label.HIGH)


def test_windows_grow_or_slide() -> None:
    assert windows(10, 3) == [(0, 3), (0, 6), (0, 9)]
    assert windows(10, 5, look_back=5, warm_up=2) == [(2, 7), (7, 12)]
    assert windows(10, 0) == windows(10, 20) == [(0, 10)]
    assert windows(0, 0) == []


def test_ranks_are_those_of_scipy() -> None:
    rng = np.random.default_rng(7)
    for values in ([3.0], [1.0, 1.0], *(rng.integers(0, 6, n).astype(float) for n in range(2, 40))):
        assert ranks_of(np.asarray(values)).tolist() == rankdata(values).tolist()
