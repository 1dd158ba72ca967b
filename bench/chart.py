"""How soon rules find bad releases: the share found over the time since the fault began, as an SVG that stands alone.

The colours are mid tones that can be read on white and on near-black, and the ground is transparent; each line has a
dash pattern of its own too, so that no colour carries the meaning alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL, LEFT, GAP = 760, 320, 46, 48
TOP, HEIGHT = 64, 210
ROW, LEGEND = 20, 72  # of the legend: the height of a row, and how far it stands below the panels
MINUTES = 30
INK = "#7c8694"
STYLES = (
    ("#3b82f6", 3.0, ""), ("#e5484d", 1.8, ""), ("#d97706", 1.8, "7 3"), ("#8b5cf6", 1.8, "2 3"),
    ("#0d9488", 1.8, "10 3 2 3"), ("#be4d8d", 1.8, "4 2"),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One rule on one set: the delays (seconds from the onset) of what it found, of so many bad releases."""

    name: str
    delays: Sequence[float]
    bad: int
    false: str  # its false rollbacks, as they are shown


@dataclass(frozen=True)
class Panel:
    title: str
    lines: Sequence[Line]


def detection_svg(panels: Sequence[Panel]) -> str:
    """At most two panels side by side, and one legend: every panel has the same lines in the same order."""
    rows = panels[0].lines
    bottom = TOP + HEIGHT + LEGEND + ROW * len(rows) + 12
    parts = [_text(LEFT, 22, "Bad releases found, over the time since the fault began", size=15, weight=600)]
    for i, panel in enumerate(panels):
        parts += _panel(LEFT + i * (PANEL + GAP), panel)
    parts += _legend(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" height="{bottom}" '
        f'role="img" aria-labelledby="t d" font-family="system-ui, -apple-system, Segoe UI, sans-serif" font-size="12">'
        f'<title id="t">Bad releases found, over time</title><desc id="d">{escape(_described(panels))}</desc>'
        f"{''.join(parts)}</svg>\n"
    )


def _described(panels: Sequence[Panel]) -> str:
    return " ".join(
        f"{panel.title}: "
        + "; ".join(f"{x.name} finds {_share(len(x.delays), x.bad)}, {x.false} false rollbacks" for x in panel.lines)
        + "."
        for panel in panels
    )


def _panel(left: float, panel: Panel) -> list[str]:
    parts = [_text(left, TOP - 12, panel.title, weight=600)]
    for percent in (0, 25, 50, 75, 100):
        y = TOP + HEIGHT * (1 - percent / 100)
        parts.append(f'<path d="M{left} {y:.1f}h{PANEL}" stroke="{INK}" stroke-opacity=".25"/>')
        parts.append(_text(left - 6, y + 4, f"{percent} %", "end"))
    for minute in range(0, MINUTES + 1, 5):
        label = f"{minute} min" if minute == MINUTES else str(minute)
        parts.append(_text(left + PANEL * minute / MINUTES, TOP + HEIGHT + 18, label, "middle"))
    # Ours is drawn last, over the others.
    return parts + [_line(left, line, i) for i, line in reversed(list(enumerate(panel.lines)))]


def _line(left: float, line: Line, i: int) -> str:
    """A step up at each release that is found."""
    steps = [f"M{left:.1f} {TOP + HEIGHT:.1f}"]
    for found, delay in enumerate(sorted(line.delays), 1):
        steps.append(f"H{left + PANEL * delay / 60 / MINUTES:.1f}V{TOP + HEIGHT * (1 - found / line.bad):.1f}")
    return f'<path d="{"".join(steps)}H{left + PANEL:.1f}" fill="none" stroke-linejoin="round" {_stroke(i)}/>'


def _legend(panels: Sequence[Panel]) -> list[str]:
    """A row a rule, a column a panel: what was found, and the false rollbacks."""
    y = TOP + HEIGHT + LEGEND
    columns = [(430 + i * 190, 530 + i * 190, panel) for i, panel in enumerate(panels)]
    parts = []
    for found, false, panel in columns:
        parts.append(_text(false, y - ROW, panel.title, "end", weight=600))
        parts += [_text(found, y, "found", "end", size=11), _text(false, y, "false rollbacks", "end", size=11)]
    for i, line in enumerate(panels[0].lines):
        y += ROW
        weight = 600 if i == 0 else 400
        parts.append(f'<path d="M{LEFT} {y - 4}h34" {_stroke(i)}/>')
        parts.append(_text(LEFT + 44, y, line.name, weight=weight))
        for found, false, panel in columns:
            here = panel.lines[i]
            parts.append(_text(found, y, _share(len(here.delays), here.bad), "end", weight=weight))
            parts.append(_text(false, y, here.false, "end", weight=weight))
    return parts


def _stroke(i: int) -> str:
    colour, width, dashes = STYLES[i % len(STYLES)]
    return f'stroke="{colour}" stroke-width="{width}"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.0f} %"


def _text(x: float, y: float, text: str, anchor: str = "start", *, size: int = 12, weight: int = 400) -> str:
    style = f'fill="{INK}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
