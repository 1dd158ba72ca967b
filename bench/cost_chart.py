"""What windows cost over how many there are at once, with the straight line through it, as an SVG that stands alone.

Two panels: CPU seconds, and the most memory. Under each, how far each point is off its line, in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from bench.chart import INK, STYLES

WIDTH, PANEL, LEFT, GAP = 760, 300, 62, 76
TOP, HEIGHT, BELOW, OFF = 56, 200, 52, 70  # of the panels above, and of those below
_DOT = 4


@dataclass(frozen=True)
class Fit:
    """y = at_none + each * x, least squares. `off` is how far each point lies from it, as a share of the line there."""

    at_none: float
    each: float
    r2: float
    off: tuple[float, ...]

    def at(self, x: float) -> float:
        return self.at_none + self.each * x


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    x: Sequence[float]
    y: Sequence[float]
    fit: Fit


def straight(x: Sequence[float], y: Sequence[float]) -> Fit:
    """The straight line through the points. Each counts by its share, not by its size: a line that fits a thousand
    windows only would say nothing of ten. Raises ValueError for fewer than two points."""
    if len(x) < 2:
        raise ValueError("a line needs two points")
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    each, at_none = np.polyfit(xs, ys, 1, w=1 / np.maximum(np.abs(ys), 1e-9))
    line = at_none + each * xs
    spread = float(np.sum((ys - ys.mean()) ** 2))
    r2 = 1 - float(np.sum((ys - line) ** 2)) / spread if spread else 1.0
    off = tuple(float(share) for share in (ys - line) / np.where(line == 0, 1, line))
    return Fit(float(at_none), float(each), r2, off)


def cost_svg(panels: Sequence[Panel]) -> str:
    """At most two panels side by side."""
    bottom = TOP + HEIGHT + BELOW + OFF + 34
    words = "; ".join(f"{p.title}: {_said(p)}" for p in panels)
    parts = [_text(LEFT, 20, "What windows cost, over how many are watched at once", size=15, weight=600)]
    for i, panel in enumerate(panels):
        parts += _panel(LEFT + i * (PANEL + GAP), panel, STYLES[i][0])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" height="{bottom}" '
        f'role="img" aria-labelledby="t d" font-family="system-ui, -apple-system, Segoe UI, sans-serif" font-size="12">'
        f'<title id="t">What windows cost</title><desc id="d">{escape(words)}</desc>{"".join(parts)}</svg>\n'
    )


def _said(panel: Panel) -> str:
    """`12 CPU s + 1.4 CPU s a window`"""
    return f"{panel.fit.at_none:.3g} {panel.unit} + {panel.fit.each:.3g} {panel.unit} a window"


def _panel(left: float, panel: Panel, colour: str) -> list[str]:
    most_x, most_y = max(panel.x), max(*panel.y, panel.fit.at(max(panel.x))) * 1.05

    def across(x: float) -> float:
        return left + PANEL * x / most_x

    def up(y: float) -> float:
        return TOP + HEIGHT * (1 - max(y, 0.0) / most_y)

    parts = [_text(left, TOP - 12, f"{panel.title}: {_said(panel)}", weight=600)]
    for share in (0.0, 0.5, 1.0):
        y = TOP + HEIGHT * (1 - share)
        parts.append(f'<path d="M{left} {y:.1f}h{PANEL}" stroke="{INK}" stroke-opacity=".25"/>')
        parts.append(_text(left - 6, y + 4, f"{share * most_y:,.0f}", "end"))
    parts.append(
        f'<path d="M{across(0):.1f} {up(panel.fit.at_none):.1f}L{across(most_x):.1f} {up(panel.fit.at(most_x)):.1f}" '
        f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="7 3" fill="none"/>'
    )
    parts += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="{_DOT}" fill="{colour}"/>' for x, y in _points(panel)]
    parts += [_text(across(x), TOP + HEIGHT + 18, f"{x:g}", "middle") for x in _apart(panel.x)]
    return parts + _offs(left, panel, colour)


def _offs(left: float, panel: Panel, colour: str) -> list[str]:
    """Each point's distance from the line; side by side, as on the scale above the small ones would be one."""
    top, most = TOP + HEIGHT + BELOW, max(0.05, *map(abs, panel.fit.off))
    middle = top + OFF / 2
    parts = [_text(left, top - 8, f"off the line, percent (R² {panel.fit.r2:.4f})", size=11)]
    parts.append(f'<path d="M{left} {middle:.1f}h{PANEL}" stroke="{INK}" stroke-opacity=".5"/>')
    for i, (x, off) in enumerate(zip(panel.x, panel.fit.off, strict=True)):
        at, y = left + PANEL * (i + 0.5) / len(panel.x), middle - OFF / 2 * off / most
        parts.append(f'<path d="M{at:.1f} {middle:.1f}V{y:.1f}" stroke="{colour}" stroke-width="10"/>')
        parts.append(_text(at + 10, middle + (12 if off > 0 else -5), f"{100 * off:+.1f}", size=11))
        parts.append(_text(at, top + OFF + 18, f"{x:g}", "middle"))
    return parts


def _points(panel: Panel) -> Sequence[tuple[float, float]]:
    return list(zip(panel.x, panel.y, strict=True))


def _apart(x: Sequence[float]) -> list[float]:
    """Those of the ascending values that have room for their label."""
    shown: list[float] = []
    for value in sorted(x, reverse=True):
        if not shown or shown[-1] - value > max(x) / 9:
            shown.append(value)
    return shown


def _text(x: float, y: float, text: str, anchor: str = "start", *, size: int = 12, weight: int = 400) -> str:
    style = f'fill="{INK}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
