"""The bench of verdicts: what it makes is what a Prometheus would have scraped, and what it scores is what was said."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.chart import detection_svg
from bench.labelled import Kinds, Labelled, Series, labelled, release, traffic_of
from bench.releases import BAD, HEALTHY, restart
from bench.score import Score
from bench.verdicts import OURS, made, measure, table
from demo.stack import Stack


def _one(name: str, kind: str, onset: float | None) -> Labelled:
    return Labelled(name, kind, onset, [])


def _series(one: Labelled, name: str, **labels: str) -> Series:
    return next(s for s in one.scraped if s.name == name and labels.items() <= s.labels.items())


def test_counters_start_anew_at_the_deploy_and_at_a_restart() -> None:
    one = release(np.random.default_rng(1), "s", "restart", restart)
    ok = _series(one, "http_requests_total", status="200")
    falls = ok.at[1:][np.diff(ok.value) < 0]
    assert len(falls) == 2 and falls[0] == 15 and falls[1] > 200
    le_inf = _series(one, "http_request_duration_seconds_bucket", le="+Inf")
    errors = _series(one, "http_requests_total", status="500")
    assert np.array_equal(le_inf.value, ok.value + errors.value)  # every request has a duration
    up = _series(one, "up")
    assert len(up.at) == len(ok.at) + np.sum(up.value == 0)  # scraped in vain while it was away


def test_the_same_seed_makes_the_same_releases() -> None:
    kinds = Kinds("k", {"plain": HEALTHY["plain"]}, {"slow_tail": BAD["slow_tail"]})
    one, other = (labelled(np.random.default_rng(5), kinds, 4) for _ in range(2))
    assert [r.kind for r in one] == ["plain", "plain", "slow_tail", "slow_tail"]
    for a, b in zip(one, other, strict=True):
        assert all(np.array_equal(x.value, y.value) for x, y in zip(a.scraped, b.scraped, strict=True))


def test_traffic_of_a_real_service_is_a_stretch_of_it(tmp_path: Path) -> None:
    file = tmp_path / "load.csv"
    file.write_text("timestamp,value\n" + "".join(f"t{i},{100 + i}\n" for i in range(50)))
    curve = traffic_of(file)(np.random.default_rng(1), 385)
    assert len(curve) == 385 and curve.mean() == pytest.approx(1) and np.all(np.diff(curve) > 0)
    file.write_text("timestamp,value\n" + "t,1\n" * 5)
    with pytest.raises(ValueError, match="5 rows of traffic are too few"):
        traffic_of(file)(np.random.default_rng(1), 385)


def test_a_rollback_before_the_fault_is_a_false_one_and_after_the_window_none_at_all() -> None:
    releases = [
        _one("fine", "plain", None), _one("wronged", "plain", None), _one("early", "late", 600.0),
        _one("found", "late", 600.0), _one("too late", "late", 600.0), _one("missed", "late", 600.0),
    ]  # fmt: skip
    decided = {"fine": None, "wronged": 60.0, "early": 300.0, "found": 690.0, "too late": 1815.0, "missed": None}
    scored = Score.of(releases, decided).as_json()
    assert (scored["false_rollbacks"]["count"], scored["false_rollbacks"]["of"]) == (2, 3)
    assert (scored["detected"]["count"], scored["detected"]["of"]) == (1, 4)
    assert scored["median_delay_s"] == scored["p90_delay_s"] == 90
    assert scored["by_kind"]["late"] == {"releases": 4, "false": 1, "found": 1, "median_delay_s": 90}
    low, high = scored["detected"]["interval"]
    assert (low, high) == pytest.approx((0.0456, 0.6994), abs=1e-4)  # Wilson, 1 of 4


@pytest.mark.e2e
def test_releases_through_a_real_prometheus_and_the_command_line(tmp_path: Path) -> None:
    kinds = Kinds("some kinds", {"plain": HEALTHY["plain"]}, {name: BAD[name] for name in ("errors_20", "down")})
    with Stack(tmp_path) as stack:
        results, panels = measure(stack, made([kinds], seed=11, count=12, traffic=None))
    result = results["some kinds"]
    assert result["verdicts"] == {"healthy, found healthy": 6, "bad, found unhealthy": 6}
    gates = result["gates"]
    assert len(gates) == 6 and all(s["false_rollbacks"]["of"] >= 6 for s in gates.values())
    ours = gates[OURS]
    assert ours["false_rollbacks"]["count"] == 0 and ours["detected"]["count"] == 6
    assert ours["median_delay_s"] <= 180
    flagger = gates["Flagger, threshold 5"]["by_kind"]
    assert flagger["errors_20"] == {"releases": 3, "false": 0, "found": 3, "median_delay_s": 300}
    rows = table(results).splitlines()
    assert len(rows) == 8 and rows[2].startswith("| some kinds (12) | Firstwatch | 0 % (0–39) | 100 % (61–100) |")
    drawn = ElementTree.fromstring(detection_svg(panels))
    assert len([e for e in drawn.iter() if e.get("stroke-linejoin")]) == 6
