"""What a backtest came to: a sentence, and tables for the terminal and for the Prefect UI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from firstwatch.backtest import Backtest, BacktestResult, Threshold
from firstwatch.expr import with_limit
from firstwatch.model import Verdict, rfc3339
from firstwatch.report.text import count, digits, markdown_text, offset, plain, show_value
from firstwatch.thresholds import SHARES
from firstwatch.units import show_duration

MAX_ROWS = 100
_MARKS = {Verdict.HEALTHY: "✓", Verdict.UNHEALTHY: "✗", Verdict.INCONCLUSIVE: "?"}
_RELEASES = ("", "Service", "Version", "Deployed", "Decided", "Why")
_LIMITS = ("Rule", "Rolled back first", "Broken by", "Limit", "For none")


def backtest_text(done: Backtest, width: int = 120) -> str:
    """The tables for a terminal of so many columns, and the sentence last."""
    parts = [_lines(_RELEASES, rows, width)] if (rows := _releases(done)) else []
    parts += [_lines(_LIMITS, _limits(done), width)] if done.thresholds else []
    return "\n\n".join([*parts, sentence(done)])


def backtest_markdown(done: Backtest) -> str:
    """The same as Markdown, the sentence first. Nothing that others wrote can be more in it than text."""
    parts = [f"# {sentence(done)}"]
    if rows := _releases(done):
        parts += ["## Not healthy", _markdown(_RELEASES, rows)]
    if done.thresholds:
        parts += ["## What each limit would have to be for no rollback", _markdown(_LIMITS, _limits(done))]
    return "\n\n".join(parts) + "\n"


def sentence(done: Backtest) -> str:
    """`11 of 24 releases would have been rolled back (half of them by T+2m15s), 12 are healthy, 1 is inconclusive.`"""
    bad, healthy = done.of(Verdict.UNHEALTHY), len(done.of(Verdict.HEALTHY))
    undecided = done.of(Verdict.INCONCLUSIVE)
    when = f" (half of them by T+{show_duration(round(median(r.after_s for r in bad)))})" if bad else ""
    ours = sum(result.ours for result in undecided)
    why = f" ({ours} because we could not measure or judge)" if ours else ""
    text = (
        f"{len(bad)} of {count(len(done.results), 'release')} would have been rolled back{when}, "
        f"{healthy} {_are(healthy)} healthy, {len(undecided)} {_are(len(undecided))} inconclusive{why}."
    )
    left = done.wanted - len(done.results)
    return f"{text} {left} more {_are(left)} not done." if left > 0 else text


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def release_line(result: BacktestResult) -> str:
    """`✗ shop v2: rolled back at T+2m15s, error rate: 41 of 2,300 requests failed …`"""
    release = result.past.release
    words = {Verdict.UNHEALTHY: "rolled back", Verdict.HEALTHY: "healthy", Verdict.INCONCLUSIVE: "inconclusive"}
    when = offset(result.decided_at, release.deployed_at)
    head = f"{_MARKS[result.verdict]} {release.service} {release.version}: {words[result.verdict]} at {when}"
    return plain(f"{head}, {_why(result)}" if result.verdict is not Verdict.HEALTHY else head)


def _why(result: BacktestResult) -> str:
    return f"{result.reasons[0].check}: {result.reasons[0].why}" if result.reasons else "nothing was watched"


def _releases(done: Backtest) -> list[tuple[str, ...]]:
    """A row for each release that is not healthy."""
    rows = [
        (
            _MARKS[result.verdict],
            release.service,
            release.version,
            rfc3339(release.deployed_at),
            offset(result.decided_at, release.deployed_at),
            _why(result),
        )
        for result in done.results
        if result.verdict is not Verdict.HEALTHY and (release := result.past.release)
    ]
    more = len(rows) - MAX_ROWS
    return [*rows[:MAX_ROWS], *([("", f"and {more} more", "", "", "", "")] if more > 0 else [])]


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────


def _limits(done: Backtest) -> list[tuple[str, ...]]:
    return [
        (
            found.check if found.part == "window" else f"canary {found.check}",
            str(done.firsts.get((found.part, found.check), 0)),
            str(found.failed),
            _limit(found),
            _for_none(found),
        )
        for found in done.thresholds
    ]


def _limit(found: Threshold) -> str:
    if found.limit is None or found.judge == "condition":
        return f"{found.words}: {found.expect}" if found.words else found.expect
    share = show_value(found.limit, "ratio")
    if found.judge in SHARES:
        return f"{share} of {found.words.replace('requests took', 'requests may take')}"
    return f"{share} worse than stable" if found.judge == "compare" else f"{share} growth"


def _for_none(found: Threshold) -> str:
    """The limit at which none fails, as one writes it in the file."""
    if found.failed == 0:
        return "as it is"
    if found.limit is None:
        return f"n/a: they showed {digits(found.seen[0])} … {digits(found.seen[1])}" if found.seen else "n/a"
    at_any_limit = f"{found.gone} {_lost(found)}" if found.gone else ""
    if found.gone == found.failed or found.needed is None:
        return at_any_limit
    return "; ".join(part for part in (_written(found, found.needed), at_any_limit) if part)


def _lost(found: Threshold) -> str:
    if found.judge == "proportion":
        return "fell silent, which no limit changes"
    return f"{'fails' if found.gone == 1 else 'fail'} at any limit"


def _written(found: Threshold, needed: float) -> str:
    """`availability: 95.9%`, `p85: 500ms`, `limit: 48%`, `result[0] >= 0.94`: on the side on which none fails."""
    if found.judge == "condition":
        return f"{found.words}: {with_limit(found.expect, needed)}"
    if found.judge in SHARES:
        kept = math.floor(1000 * (1 - needed) + 1e-9) / 10
        share = show_value(needed, "ratio")
        if found.signal == "errors":
            return f"{share} (availability: {kept:g}%)"
        quantile = f"p{round(kept * 10):03d}".removesuffix("0") if kept >= 1 else "none"
        return f"{share} ({quantile}: {found.words.rpartition(' ')[2]})"
    percent = math.ceil(100 * needed - 1e-9)
    return f"limit: {percent}%" if percent <= 100 else f"{digits(percent)} %, more than a file may allow"


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Columns side by side; what does not fit into the width is cut off at the end of a line."""
    cells = [[plain(cell, 200) for cell in row] for row in (head, *rows)]
    widths = [min(60, max(len(row[i]) for row in cells)) for i in range(len(head) - 1)]
    return "\n".join(_line(row, widths, width) for row in cells)


def _line(row: Sequence[str], widths: Sequence[int], width: int) -> str:
    padded = [plain(cell, size).ljust(size) for cell, size in zip(row, widths, strict=False)]
    line = "  ".join([*padded, row[-1]]).rstrip()
    return line if len(line) <= width else line[: width - 1] + "…"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [list(head), ["---"] * len(head), *([markdown_text(cell, 400) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
