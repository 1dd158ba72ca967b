"""A signal against its limit, with the deploy and the first failure marked, as an SVG that stands alone.

It is shown through `<img>`, where the page's colours are out of reach: so all colours are mid tones that can be read on
white and on near-black alike, and the ground is left transparent.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from firstwatch.report.model import Chart
from firstwatch.report.text import digits, markdown_text, offset, plain, show_value

WIDTH, HEIGHT = 760, 270
LEFT, RIGHT, TOP, BOTTOM = 78, 18, 58, 30
DEPLOY_ROW, FAILURE_ROW = 38, 52  # labels have rows of their own, above the lines
MAX_POINTS = 200

INK, SERIES, ALARM = "#7c8694", "#3b82f6", "#e5484d"
_HUGE, _TINY = 1e30, 1e-30  # further out, floating point runs over or under; nothing that is measured comes near
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)

Point = tuple[float, float]


def chart_markdown(chart: Chart) -> str:
    """The chart as a Markdown image that needs no other file, with what it shows as its alternative text."""
    data = base64.b64encode(chart_svg(chart).encode()).decode()
    return f"![{markdown_text(describe(chart), 400)}](data:image/svg+xml;base64,{data})"


def describe(chart: Chart) -> str:
    """The chart in a sentence, for those who do not see it."""
    points = _finite(chart.points)
    parts = [f"{chart.title}: {'no data' if not points else 'last ' + show_value(points[-1][1], chart.unit)}"]
    if points:
        values = [value for _, value in points]
        parts.append(f"lowest {show_value(min(values), chart.unit)}")
        parts.append(f"highest {show_value(max(values), chart.unit)}")
    if chart.limit is not None:
        parts.append(f"limit {show_value(chart.limit, chart.unit)}")
    if chart.failed_at is not None:
        parts.append(f"first failure at {offset(chart.failed_at, chart.deployed_at)}")
    return ", ".join(parts)


def chart_svg(chart: Chart) -> str:
    """The chart as SVG text. Any points will do: none, one, constant, with gaps, or a million of them."""
    frame = _Frame.around(chart)
    parts = [*_grid(chart, frame), *_limit(chart, frame), *_deploy(chart, frame)]
    parts += _line(chart, frame) if _finite(chart.points) else [_text(WIDTH / 2, HEIGHT / 2, "no data", "middle")]
    parts += _failure(chart, frame)
    title = escape(plain(chart.title, 80))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-labelledby="t d" font-family="system-ui, -apple-system, Segoe UI, sans-serif" font-size="12">'
        f'<title id="t">{title}</title><desc id="d">{escape(plain(describe(chart), 400))}</desc>'
        f'<text x="{LEFT}" y="20" fill="{INK}" font-size="14" font-weight="600">{title}</text>'
        f"{''.join(parts)}</svg>"
    )


# ── the frame: from time and value to x and y ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Frame:
    start: float
    end: float
    low: float
    high: float

    @classmethod
    def around(cls, chart: Chart) -> _Frame:
        points = _finite(chart.points)
        times = [t for t, _ in points] + [chart.deployed_at] + [t for t in (chart.failed_at,) if t is not None]
        start, end = min(times), max(times)
        low, high = _value_range([v for _, v in points] + _limits(chart), zoom=_zooms(chart))
        return cls(start, end if end > start else start + 60, low, high)

    def x(self, at: float) -> float:
        return LEFT + (at - self.start) / (self.end - self.start) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def _zooms(chart: Chart) -> bool:
    """Zero is part of the picture, except for memory, whose growth would not be seen next to its size, and for what
    must not sink below its limit: a success rate of 0.93 would look like one of 0.99."""
    values, limits = [v for _, v in _finite(chart.points)], _limits(chart)
    near = bool(values and limits) and min(values + limits) > 0.5 * max(values)
    return chart.unit == "bytes" or (not chart.unit and near)


def _value_range(values: Sequence[float], *, zoom: bool) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if zoom and low > 0:
        spread = max(high - low, 0.1 * high)  # no zooming into noise
        return max(0.0, low - 0.3 * spread), high + 0.2 * spread
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _TINY:
        return 0.0, 1.0
    room = 0.12 * (high - low)
    return (low - room if low < 0 else 0.0), (high + room if high > 0 else 0.0)


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(t, _clip(v)) for t, v in points if abs(t) < _HUGE and math.isfinite(v)]


def _limits(chart: Chart) -> list[float]:
    return [_clip(chart.limit)] if chart.limit is not None and math.isfinite(chart.limit) else []


def _clip(value: float) -> float:
    return max(-_HUGE, min(_HUGE, value))


# ── what is drawn ────────────────────────────────────────────────────────────────────────────────────────────


def _grid(chart: Chart, frame: _Frame) -> list[str]:
    parts = []
    scale, unit = _scale(chart.unit, max(abs(frame.low), abs(frame.high)))
    ticks = value_ticks(frame.low / scale, frame.high / scale) if _finite(chart.points) or _limits(chart) else []
    for tick, label in ticks:
        y = frame.y(tick * scale)
        parts.append(_rule(LEFT, y, WIDTH - RIGHT, y, f'stroke="{INK}" stroke-opacity=".25"'))
        parts.append(_text(LEFT - 8, y + 4, f"{label}{unit}", "end"))
    for tick in time_ticks(frame.start - chart.deployed_at, frame.end - chart.deployed_at):
        x = frame.x(chart.deployed_at + tick)
        parts.append(_rule(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, f'stroke="{INK}" stroke-opacity=".5"'))
        anchor = "end" if x > WIDTH - RIGHT - 16 else "middle"
        parts.append(_text(x, HEIGHT - BOTTOM + 18, "T+0" if tick == 0 else offset(tick, 0), anchor))
    return parts


def _limit(chart: Chart, frame: _Frame) -> list[str]:
    return [
        _rule(LEFT, frame.y(limit), WIDTH - RIGHT, frame.y(limit), f'stroke="{ALARM}" stroke-dasharray="6 4"')
        + _text(WIDTH - RIGHT, 20, f"- - limit {show_value(chart.limit, chart.unit)}", "end", ALARM)
        for limit in _limits(chart)
    ]


def _deploy(chart: Chart, frame: _Frame) -> list[str]:
    x = frame.x(chart.deployed_at)
    side, anchor = (-6, "end") if x - LEFT > 70 else (6, "start")
    return [
        _rule(x, DEPLOY_ROW - 10, x, HEIGHT - BOTTOM, f'stroke="{INK}" stroke-width="1.5" stroke-dasharray="2 3"'),
        _text(x + side, DEPLOY_ROW, "deployed", anchor),
    ]


def _line(chart: Chart, frame: _Frame) -> list[str]:
    parts = []
    for run in _runs(downsample(chart.points)):
        spots = [f"{frame.x(t):.1f},{frame.y(v):.1f}" for t, v in run]
        if len(spots) == 1:
            x, y = spots[0].split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{SERIES}"/>')
            continue
        base = frame.y(max(frame.low, 0.0) if frame.high > 0 else frame.high)
        left, right = spots[0].split(",")[0], spots[-1].split(",")[0]
        area = f"M{left},{base:.1f} L{' L'.join(spots)} L{right},{base:.1f} Z"
        parts.append(f'<path d="{area}" fill="{SERIES}" fill-opacity=".1"/>')
        parts.append(
            f'<polyline points="{" ".join(spots)}" fill="none" stroke="{SERIES}" stroke-width="2" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
    return parts


def _failure(chart: Chart, frame: _Frame) -> list[str]:
    if chart.failed_at is None:
        return []
    x = frame.x(chart.failed_at)
    near = min(_finite(chart.points), key=lambda p: abs(p[0] - chart.failed_at), default=None)  # type: ignore[operator]
    side, anchor = (6, "start") if x < WIDTH - RIGHT - 110 else (-6, "end")
    label = f"failed at {offset(chart.failed_at, chart.deployed_at)}"
    parts = [
        _rule(x, FAILURE_ROW - 10, x, HEIGHT - BOTTOM, f'stroke="{ALARM}" stroke-width="1.5"'),
        _text(x + side, FAILURE_ROW, label, anchor, ALARM, 'font-weight="600"'),
    ]
    if near:
        parts.append(f'<circle cx="{x:.1f}" cy="{frame.y(near[1]):.1f}" r="4.5" fill="{ALARM}"/>')
    return parts


def _rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _text(x: float, y: float, text: str, anchor: str, fill: str = INK, style: str = "") -> str:
    words = escape(plain(text, 60))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" {style}>{words}</text>'


# ── points and ticks ─────────────────────────────────────────────────────────────────────────────────────────


def downsample(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most about `limit` points that look like all of them: of each stretch its lowest and highest, so that no spike
    is lost, and a gap (a value that is not finite) where the stretch has nothing else."""
    points = [(t, _clip(v) if math.isfinite(v) else math.nan) for t, v in points if abs(t) < _HUGE]
    if len(points) <= limit:
        return points
    size = math.ceil(len(points) / (limit // 2))
    kept: list[Point] = []
    for i in range(0, len(points), size):
        stretch = points[i : i + size]
        there = [p for p in stretch if not math.isnan(p[1])]
        kept += sorted({min(there, key=_value), max(there, key=_value)}) if there else stretch[:1]
    return kept


def _value(point: Point) -> float:
    return point[1]


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """The points between the gaps."""
    runs: list[list[Point]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _scale(unit: str, size: float) -> tuple[float, str]:
    """How much one step of the axis is worth, and what is written behind its numbers."""
    match unit:
        case "ratio":
            return 0.01, " %"
        case "seconds":
            return (0.001, " ms") if size < 1 else (1.0, " s")
        case "bytes":
            power = min(4, int(math.log(size, 1024))) if size >= 1 else 0
            return 1024.0**power, f" {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
        case "per hour":
            return 1.0, " /h"
        case _:
            return 1.0, ""


def value_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers (steps of 1, 2 or 5) between low and high, three to six of them, with their labels."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(m * power for m in (1, 2, 5, 10) if (high - low) / (m * power) <= 5)
    decimals = max(0, -math.floor(math.log10(step)))
    ticks = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    extreme = step >= 1e6 or decimals > 6
    return [(tick, digits(tick) if extreme else f"{tick:,.{decimals}f}") for tick in ticks]


def time_ticks(start: float, end: float) -> list[float]:
    """Round offsets from the deploy (seconds) between start and end, at most eight of them."""
    days = 86400.0 * math.ceil((end - start) / 86400 / 7)
    step = next((s for s in _TIME_STEPS if (end - start) / s <= 7), days)
    return [k * step for k in range(math.ceil(start / step), math.floor(end / step) + 1)]
