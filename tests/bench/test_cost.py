"""The bench of cost: two small sizes with their line; and that the line and the chart say how far they are off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import cost
from bench.cost_chart import cost_svg, straight


def _points(*cpu: float) -> list[dict[str, Any]]:
    return [{"windows": 10 * n, "cpu_s": seconds, "together_mb": 400 + n} for n, seconds in enumerate(cpu, 1)]


def test_a_straight_line_is_found_and_what_is_off_it_is_told() -> None:
    line = straight([10, 100, 1000], [25, 205, 2005])
    assert (line.at_none, line.each, line.r2) == pytest.approx((5, 2, 1))
    assert line.off == pytest.approx((0, 0, 0), abs=1e-9)
    bent = straight([10, 100, 1000], [25, 205, 4000])
    assert max(map(abs, bent.off)) > 0.2 and bent.at(0) == bent.at_none
    with pytest.raises(ValueError, match="two points"):
        straight([10], [1])


def test_the_chart_has_every_point_and_its_distance() -> None:
    drawn = cost.panels(_points(10, 21, 29))
    root = ElementTree.fromstring(cost_svg(drawn))
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len([*root.iter("{http://www.w3.org/2000/svg}circle")]) == 6
    assert all(f"{100 * off:+.1f}" in texts for panel in drawn for off in panel.fit.off)
    assert any(text.startswith("CPU: ") for text in texts)


def test_what_was_measured_can_be_drawn_again(tmp_path: Path) -> None:
    out = tmp_path / "cost.json"
    out.write_text(json.dumps({"sizes": _points(10, 20, 30)}))
    assert cost.main(["--again", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["lines"]["s"]["each"] == pytest.approx(1)
    assert out.with_suffix(".svg").read_text().startswith("<svg")


def _result(windows: int, machine: str = "2 cores") -> dict[str, Any]:
    """Each window costs 1.75 s, and what is at rest 0.05 s a second of the 2,000."""
    spent = {"server": windows + 100.0, "worker": 0.5 * windows, "database": 0.25 * windows, "prometheus": 9.0}
    rest = {"server": 0.05, "worker": 0.0, "database": 0.0, "prometheus": 7.0}
    phase = {"windows": windows, "cpu_s": spent, "took_s": 2000.0, "cpu_s_a_second_at_rest": rest}
    phase = dict.fromkeys(cost._KEPT) | phase | {"peak_mb": {"together": 400}}
    return {"machine": machine, "window_s": 1800, "plan": {"scale": 1, "settings": ["A=1"]}, "firstwatch": phase}


def test_sizes_that_were_measured_side_by_side_are_put_together(tmp_path: Path) -> None:
    files = [tmp_path / f"{size}.json" for size in (100, 10)]
    for file in files:
        file.write_text(json.dumps(_result(int(file.stem))))
    out = tmp_path / "cost.json"
    assert cost.main(["--of", *map(str, files), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(size["windows"], size["cpu_s"]) for size in found["sizes"]] == [(10, 17.5), (100, 175)]
    assert found["lines"]["s"]["each"] == pytest.approx(1.75) and found["settings"] == ["A=1"]
    files[0].write_text(json.dumps(_result(100, "64 cores")))
    with pytest.raises(ValueError, match="they differ in machine: 2 cores, 64 cores"):
        cost.taken_from(files)


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_two_small_sizes(tmp_path: Path) -> None:
    out = tmp_path / "cost.json"
    assert cost.main(["--sizes", "1", "2", "--scale", "30", "--patience", "90", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(size["windows"], size["ended"]) for size in found["sizes"]] == [(1, 1), (2, 2)]
    assert all(size["cpu_s"] > 0 and size["together_mb"] > 100 for size in found["sizes"])
    assert set(found["lines"]) == {"s", "MB"} and out.with_suffix(".svg").exists()
