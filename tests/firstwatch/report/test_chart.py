"""The charts, read back as XML: whatever the points, it is a drawing, inside its frame."""

from __future__ import annotations

import base64
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstwatch.report import Chart
from firstwatch.report.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    chart_markdown,
    chart_svg,
    downsample,
    time_ticks,
    value_ticks,
)
from tests.support.reports import DEPLOYED, HOSTILE, charts

NS = {"s": "http://www.w3.org/2000/svg"}


def drawn(chart: Chart) -> ET.Element:
    return ET.fromstring(chart_svg(chart))


def texts(svg: ET.Element) -> list[str]:
    return [e.text or "" for e in svg.iterfind("s:text", NS)]


def spots(svg: ET.Element) -> list[tuple[float, float]]:
    lines = [e.attrib["points"].split() for e in svg.iterfind("s:polyline", NS)]
    pairs = [tuple(map(float, spot.split(","))) for line in lines for spot in line]
    return [(x, y) for x, y in pairs]


def test_it_shows_the_signal_its_limit_the_deploy_and_the_failure() -> None:
    svg = drawn(charts()[0])
    assert {"error rate", "- - limit 1 %", "deployed", "failed at T+7m45s", "T+0", "T+4m"} <= set(texts(svg))
    assert any(t.endswith(" %") for t in texts(svg))
    assert len(spots(svg)) == 54


def test_it_is_told_to_those_who_do_not_see_it() -> None:
    svg = drawn(charts()[0])
    assert svg.attrib["role"] == "img"
    assert svg.findtext("s:title", namespaces=NS) == "error rate"
    told = svg.findtext("s:desc", namespaces=NS) or ""
    assert "limit 1 %" in told and "first failure at T+7m45s" in told


def test_what_is_not_a_number_leaves_a_gap() -> None:
    assert len(drawn(charts()[1]).findall("s:polyline", NS)) == 2


def test_memory_is_not_drawn_from_zero_and_not_zoomed_into_noise() -> None:
    labels = [t for t in texts(drawn(charts()[2])) if t.endswith(" MiB")]
    assert "0 MiB" not in labels
    assert max(y for _, y in spots(drawn(charts()[2]))) - min(y for _, y in spots(drawn(charts()[2]))) < 100


@pytest.mark.parametrize("points", [[], [(DEPLOYED, math.nan)], [(math.nan, 1.0), (math.inf, 1.0)]])
def test_no_points_are_told_as_no_data(points: list[tuple[float, float]]) -> None:
    svg = drawn(Chart("nothing", "", points, DEPLOYED))
    assert "no data" in texts(svg) and not spots(svg)


def test_a_single_point_is_a_dot() -> None:
    assert len(drawn(Chart("one", "", [(DEPLOYED + 5, 4.0)], DEPLOYED)).findall("s:circle", NS)) == 1


numbers = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(st.floats(DEPLOYED - 1e6, DEPLOYED + 1e6), numbers), numbers), max_size=40),
    st.one_of(st.none(), numbers),
    st.sampled_from(["ratio", "seconds", "bytes", "connections", "per hour", "", "odd"]),
)
def test_any_points_are_drawn_inside_the_frame(
    points: list[tuple[float, float]], limit: float | None, unit: str
) -> None:
    text = chart_svg(Chart("any", unit, points, DEPLOYED, limit, DEPLOYED + 9))
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
    for x, y in spots(ET.fromstring(text)):
        assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1 and TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1
    assert len(text) < 20_000


def test_a_million_points_stay_small_and_lose_no_spike() -> None:
    points = [(DEPLOYED + i, 1.0) for i in range(100_000)]
    points[77_777] = (DEPLOYED + 77_777, 50.0)
    kept = downsample(points)
    assert len(kept) <= MAX_POINTS and points[77_777] in kept
    assert [t for t, _ in kept] == sorted(t for t, _ in kept)


def test_a_hostile_title_stays_text() -> None:
    svg = drawn(replace(charts()[0], title=HOSTILE))
    assert svg.find(".//s:script", NS) is None
    assert "<script>" in (svg.findtext("s:title", namespaces=NS) or "")


def test_the_image_is_in_the_page_itself() -> None:
    image = chart_markdown(charts()[0])
    match = re.fullmatch(r"!\[.*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", image)
    assert match and base64.b64decode(match[1]).decode() == chart_svg(charts()[0])


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 6.7, ["0", "2", "4", "6"]),
        (180, 330, ["200", "250", "300"]),
        (0, 12_345, ["0", "5,000", "10,000"]),
    ],
)
def test_value_ticks_are_round(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in value_ticks(low, high)] == labels


def test_what_lies_close_to_its_limit_is_seen_to_be_below_it() -> None:
    points = [(DEPLOYED + 2 * n, value) for n, value in enumerate([0.93, 0.92, 0.96])]
    rate = replace(charts()[0], unit="", limit=0.99, points=points, failed_at=None, deployed_at=DEPLOYED)
    svg = drawn(rate)
    assert "lowest 0.92" in (svg.findtext("s:desc", namespaces=NS) or "")
    dashed = next(e for e in svg.iterfind("s:line", NS) if e.attrib.get("stroke-dasharray") == "6 4")
    assert min(y for _, y in spots(svg)) - float(dashed.attrib["y1"]) > 30, "0.96 is well below the line of 0.99"
    assert "0.0" in texts(drawn(replace(rate, limit=0.1))), "far from its limit, zero is in the picture"


def test_time_ticks_are_round_and_few() -> None:
    assert time_ticks(-300, 1800) == [-300, 0, 300, 600, 900, 1200, 1500, 1800]
    assert time_ticks(0, 60) == [0, 10, 20, 30, 40, 50, 60]
    assert len(time_ticks(0, 1e9)) <= 8
