"""No text that is written holds a secret."""

from __future__ import annotations

import base64
import json
import pickle
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.redaction import MASK, Redactor, Secret

VALUE = 'pl4nted/s3cret+"vä\\l"&='


# ── the type ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_has_no_text() -> None:
    secret = Secret("shop-password", VALUE)
    assert secret.reveal() == VALUE
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", "%s" % secret, f"{[secret]}"):  # noqa: UP031
        assert "pl4nted" not in text
        assert "<secret shop-password>" in text


def test_a_secret_is_not_stored() -> None:
    secret = Secret("shop-password", VALUE)
    with pytest.raises(TypeError):
        json.dumps(secret)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="shop-password"):
            pickle.dumps(secret, protocol)
    assert not hasattr(secret, "__dict__")
    assert secret == Secret("shop-password", VALUE)
    assert secret != Secret("shop-password", "other")


# ── by value ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "form",
    [VALUE, quote(VALUE), quote(VALUE, safe=""), quote(VALUE, safe="").lower(), quote_plus(VALUE), json.dumps(VALUE),
     json.dumps(VALUE, ensure_ascii=False), repr(VALUE), VALUE.upper()],
)  # fmt: skip
def test_every_form_of_a_secret_is_taken_out(form: str) -> None:
    told = Redactor([VALUE]).text(f"before {form} after")
    assert told.startswith("before ")
    assert told.endswith(" after")
    assert "s3cret" not in told.lower()


@pytest.mark.parametrize("user", ["", "a:", "bo:", "admin:", "smoke@example.com:"])
@pytest.mark.parametrize("behind", ["", "x", "more"])
def test_base64_is_found_at_every_alignment(user: str, behind: str) -> None:
    encoded = base64.b64encode(f"{user}{VALUE}{behind}".encode()).decode()
    told = Redactor([VALUE]).text(f"Authorization: Basic {encoded}")
    left = told.removeprefix("Authorization: Basic ").split(MASK)
    assert len(left) == 2
    assert len(left[0]) <= len(base64.b64encode(user.encode()))
    assert len(left[1]) <= len(base64.b64encode(behind.encode())) + 2


def test_lines_of_a_key_are_taken_out_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END KEY-----"
    assert "kqhkiG9w0BAQ" not in Redactor([key]).text("got kqhkiG9w0BAQ there")


@given(st.text(min_size=4, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_a_secret_never_survives(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    clean = redactor.text(before), redactor.text(after)
    assert secret not in redactor.text(f"{clean[0]}\n{secret}\n{clean[1]}").replace(MASK, "\x00") or secret in MASK


def test_secrets_may_be_added_later_and_an_empty_one_is_none() -> None:
    redactor = Redactor([""])
    assert redactor.text("nothing to hide") == "nothing to hide"
    redactor.add("hide")
    assert redactor.text("nothing to hide") == f"nothing to {MASK}"


def test_many_secrets_cost_little() -> None:
    """A journey may save hundreds of values, each of which has several forms."""
    secrets = [f"{i:04}-pl4nted/{'x' * 60}" for i in range(300)]
    started = time.process_time()
    redactor = Redactor(secrets)
    assert redactor.text("innocent words " * 500) == "innocent words " * 500
    assert redactor.text(f"one of them: {secrets[7]}, {secrets[8].upper()}") == f"one of them: {MASK}, {MASK}"
    assert time.process_time() - started < 0.25


# ── by name ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://user:pw@shop/x", "https://***@shop/x"),
        ("https://us:p@w@shop/x", "https://***@shop/x"),
        ("https://token@shop:8443/x?a=1", "https://***@shop:8443/x?a=1"),
        ("https://shop/x?token=abc&page=2", "https://shop/x?token=***&page=2"),
        ("https://shop/x?page=2&API_KEY=abc#t", "https://shop/x?page=2&API_KEY=***#t"),
        ("https://shop/x?accessToken=a&X-Amz-Signature=b&sig=c&key=d", "https://shop/x?accessToken=***&X-Amz-Signature=***&sig=***&key=***"),
        ("https://shop/x?%74oken=abc", "https://shop/x?%74oken=***"),
        ("https://shop/cb#access_token=abc", "https://shop/cb#access_token=***"),
        ("https://shop/x?monkey=1&design=2", "https://shop/x?monkey=1&design=2"),
        ("https://shop/mail@example.com", "https://shop/mail@example.com"),
    ],
)  # fmt: skip
def test_urls_are_told_without_credentials(url: str, told: str) -> None:
    assert Redactor().url(url) == told
    assert Redactor().text(f"GET {url} failed") == f"GET {told} failed"


def test_values_are_redacted_deep() -> None:
    value = {"a": [f"x {VALUE}", 1, None], "password": "p", VALUE: True, "token": {"id": 7}, "s": Secret("n", VALUE)}
    told = Redactor([VALUE]).value(value)
    assert told == {"a": [f"x {MASK}", 1, None], "password": MASK, MASK: True, "token": {"id": 7}, "s": "<secret n>"}
