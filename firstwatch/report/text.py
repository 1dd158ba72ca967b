"""Values, times and other people's text, as people read them.

Whatever a service answered is hostile: it may hold control characters, text that runs backwards, markup or megabytes.
`plain` is the door that all of it passes.
"""

from __future__ import annotations

import math
import re
import unicodedata
from urllib.parse import quote

from firstwatch.model import Outcome
from firstwatch.units import show_duration

_ADDRESS = re.compile(r"(:(?=//)|\bwww(?=\.))", re.IGNORECASE)
_MARKUP = re.compile(r"([\\`*_\[\]()#!|~]|^\d*[-+.])")


def plain(text: str, limit: int = 300) -> str:
    """One line of visible characters, at most `limit` of them; what was cut off is shown as `…`."""
    # Only so much is looked at: a service may answer megabytes, and most of them would be cut off anyway.
    start = text[: 4 * limit]
    line = " ".join((start if start.isprintable() else "".join(map(_visible, start))).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1].rstrip() + "…"


def _visible(char: str) -> str:
    if char.isspace():
        return " "
    # C: controls, direction marks, zero widths, lone surrogates, characters that do not exist
    return "" if unicodedata.category(char).startswith("C") else char


def markdown_text(text: str, limit: int = 300) -> str:
    """`plain` text that stays text in Markdown, inside a table too. An address is shown, but is no link: escaping alone
    does not keep the Prefect UI from making one, an invisible character within does."""
    safe = _MARKUP.sub(lambda m: f"{m[0][:-1]}\\{m[0][-1]}", plain(text, limit))
    safe = safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ADDRESS.sub("\\1\u2060", safe)


def unbroken(text: str) -> str:
    """The same, kept on one line: a value and its unit stay together in a narrow table."""
    return text.replace(" ", "\u00a0")


def markdown_code(text: str, limit: int = 2000) -> str:
    """A fenced block that `text` cannot leave. Line breaks stay: queries are written over several."""
    lines = [plain(line, limit).rstrip() if line.strip() else "" for line in text.splitlines()[:40]]
    body = "\n".join(lines)[:limit].strip("\n")
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return f"{fence}\n{body}\n{fence}"


def web_address(url: str) -> str:
    """The URL with all that could end a link, in Markdown or in Slack, percent-encoded; empty if it is not http(s)."""
    if not url.startswith(("http://", "https://")):
        return ""
    return quote(url, safe="%/:?#&=+,;~-._", errors="replace")


def count(number: int, one: str, many: str = "") -> str:
    """`1 check`, `3 checks`, `12,000 requests`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def show_value(value: float | None, unit: str = "") -> str:
    """A value in one of the units of `Judgement.unit`, with three digits: 2.31 %, 512 ms, 230 MiB, 0.8 per hour."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    match unit:
        case "ratio":
            return f"{digits(value * 100)} %"
        case "seconds":
            return f"{digits(value * 1000)} ms" if abs(value) < 1 else f"{digits(value)} s"
        case "bytes":
            return _show_bytes(value)
        case _:
            return f"{digits(value)} {unit}".strip()


def _show_bytes(value: float) -> str:
    for name in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{digits(value)} {name}"
        value /= 1024
    return f"{digits(value)} TiB"


def digits(value: float) -> str:
    """Three significant digits, whole thousands with commas, extremes in powers of ten."""
    size = abs(value)
    if size and not 1e-4 <= size < 1e9:
        return f"{value:.2e}"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def offset(at: float, deployed_at: float) -> str:
    """A time as people say it in a window: T+7m30s, T+0s, T−5m."""
    seconds = at - deployed_at
    return f"T{'−' if seconds <= -0.5 else '+'}{show_duration(round(abs(seconds)))}"


def checkpoint_name(name: str, at: float) -> str:
    """`T+2m p95 latency`, as its task run is named."""
    return f"T+{show_duration(at)} {name}"


OUTCOME_WORDS = {
    Outcome.PASS: "✓ pass",
    Outcome.FAIL: "✗ fail",
    Outcome.NOT_YET: "… not yet",
    Outcome.NO_DATA: "? no data",
    Outcome.ERROR: "! error",
}
