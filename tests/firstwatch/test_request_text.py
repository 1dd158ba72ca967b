"""Which numbers are those of payment cards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.request_text import has_card_number


@pytest.mark.parametrize(
    "text",
    ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "3782 822463 10005",
     "card=5555555555554444.", '"6011111111111117"', "4111 1111 1111 1111 123", "30569309025904"],
)  # fmt: skip
def test_card_numbers_are_found(text: str) -> None:
    assert has_card_number(text)


@pytest.mark.parametrize(
    "text",
    ["4111111111111112", "1795344627837", "0.4111111111111111", "a4111111111111111", "41111111111111111111111",
     "2026-11-22 10:11:12", "00-4111111111111111aaaa-01", ""],
)  # fmt: skip
def test_other_numbers_are_not(text: str) -> None:
    assert not has_card_number(text)


@given(st.integers(min_value=10**11, max_value=10**17 - 1), st.sampled_from("23456"))
def test_every_number_with_luhns_digit_is_found_and_no_neighbour(middle: int, first: str) -> None:
    number = f"{first}{middle}"
    valid = [digit for digit in "0123456789" if has_card_number(number + digit)]
    assert len(valid) == 1
