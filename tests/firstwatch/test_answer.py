"""Answers that no sane service gives are read all the same, and quickly."""

from __future__ import annotations

import json
import time

import pytest

from firstwatch.answer import Answer, NotJson, parse_json, read_answer, retry_after
from firstwatch.conditions import HTTP_NAMES, compile_condition


def answer(body: bytes = b"{}", charset: str = "utf-8", **headers: str) -> Answer:
    return read_answer(200, headers, body, charset=charset, elapsed=0.1, wire_bytes=len(body))


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("utf-8", "Köln".encode(), "Köln"),
        ("latin-1", "Köln".encode("latin-1"), "Köln"),
        ("shift_jis", "東京".encode("shift_jis"), "東京"),
        ("nonsense", "Köln".encode(), "Köln"),
        ("bz2", b"abc", "abc"),
        ("idna", b"a..b", "a..b"),
        ("undefined", b"abc", "abc"),
        ("unicode_escape", b"\\ud800", "\\ud800"),
        ("RAW_UNICODE_ESCAPE", b"\\ud800", "\\ud800"),
        ("utf7", b"+2AA-", "+2AA-"),
        ("a\0b", b"abc", "abc"),
    ],
)
def test_a_text_is_read_whatever_charset_it_claims(charset: str, body: bytes, text: str) -> None:
    assert answer(body, charset).text == text


def test_nothing_that_a_service_answers_takes_long_to_read() -> None:
    names = ",".join(f'"{n}":1' for n in range(50_000))
    started = time.process_time()
    with pytest.raises(NotJson, match="the name '49999' stands twice"):
        parse_json(f'{{{names},"49999":2}}'.encode())
    assert len(answer(b"abc-" * 50_000, "punycode").text) == 200_000
    assert time.process_time() - started < 2


@pytest.mark.parametrize(("age", "told"), [("0", ""), ("000", ""), ("30", "Age: 30"), ("9" * 5000, f"Age: {'9' * 20}")])
def test_ages_of_any_length(age: str, told: str) -> None:
    assert answer(age=age).cached == told


@pytest.mark.parametrize(("text", "seconds"), [("9" * 5000, float("inf")), ("²", 0), ("-5", 0), ("nan", 0), ("", 0)])
def test_waits_that_are_asked_for(text: str, seconds: float) -> None:
    assert retry_after({"retry-after": text}, 0.0) == seconds


def test_a_number_beyond_64_bits_is_told_with_its_place() -> None:
    values = answer(json.dumps({"a": 2**70, "b": {"c": 2**70}}).encode()).names()
    for path, place in (("json.a", "json.a"), ("json.b", "json.b.c")):
        condition = compile_condition(f"{path} == 2", HTTP_NAMES)
        assert condition.holds(values).why.startswith(f"{condition.text}: {place} is a whole number beyond 64 bits")
