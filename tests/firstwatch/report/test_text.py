from __future__ import annotations

import math

import pytest

from firstwatch.report.text import checkpoint_name, count, markdown_code, offset, plain, show_value


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0231, "ratio", "2.31 %"),
        (0.00004, "ratio", "0.004 %"),
        (1.0, "ratio", "100 %"),
        (0.2124, "seconds", "212 ms"),
        (3.21, "seconds", "3.21 s"),
        (0, "seconds", "0 ms"),
        (241 * 2**20, "bytes", "241 MiB"),
        (1023, "bytes", "1,023 B"),
        (3 * 2.0**50, "bytes", "3,072 TiB"),
        (7, "connections", "7 connections"),
        (0.83, "per hour", "0.83 per hour"),
        (1234567, "", "1,234,567"),
        (1e300, "", "1.00e+300"),
        (math.nan, "ratio", "not a number"),
        (-math.inf, "bytes", "−∞"),
        (None, "ratio", "–"),
    ],
)
def test_values_are_shown_as_people_read_them(value: float | None, unit: str, shown: str) -> None:
    assert show_value(value, unit) == shown


def test_times_are_told_from_the_deploy() -> None:
    assert [offset(100 + s, 100) for s in (0, 465, -300, 0.3)] == ["T+0s", "T+7m45s", "T−5m", "T+0s"]
    assert checkpoint_name("p95 latency", 120) == "T+2m p95 latency"


def test_plain_text_is_one_visible_line() -> None:
    assert plain("a\n\tb\x00\x1b[31m\u202ec\ud800d") == "a b[31mcd"


def test_what_is_cut_is_shown_as_cut() -> None:
    assert plain("x" * 301) == "x" * 299 + "…"
    assert plain("x" * 300) == "x" * 300
    assert plain(" " * 10_000_000 + "end") == "…"  # not all of an answer of megabytes is looked at


def test_a_code_block_cannot_be_left() -> None:
    block = markdown_code("up\n```\n# out\n````` x")
    assert block.splitlines()[0] == block.splitlines()[-1] == "``````"


def test_counts_agree_with_their_nouns() -> None:
    assert (count(1, "check"), count(12000, "request")) == ("1 check", "12,000 requests")
