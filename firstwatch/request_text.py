"""What a request says, however it is written: does it speak of payments, carry a card's number, or change something?

Whatever is in doubt counts as such. Pure.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

_PAYMENT_WORDS = frozenset(
    {
        "pay", "pays", "payment", "payments", "charge", "charges", "checkout", "checkouts", "refund", "refunds",
        "payout", "payouts", "transfer", "transfers", "billing", "purchase", "purchases",
        "withdraw", "withdrawal", "withdrawals", "donate", "donation", "donations",
    }
)  # fmt: skip
_PAYMENT_HOSTS = (
    "stripe.com", "paypal.com", "braintreegateway.com", "braintree-api.com", "adyen.com", "adyenpayments.com",
    "squareup.com", "klarna.com", "mollie.com", "checkout.com", "worldpay.com", "authorize.net", "razorpay.com",
)  # fmt: skip


# ── its path and its host ────────────────────────────────────────────────────────────────────────────────────


def is_payment_path(path: str) -> bool:
    """Does a segment of the path speak of payments, however it is written (case, %-encoding, `//`, `..`, camelCase)?"""
    for run in re.findall(r"[A-Za-z]+", decoded(path)):
        words = {run.lower(), *(w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", run))}
        if words & _PAYMENT_WORDS:
            return True
    return False


def decoded(path: str) -> str:
    """Percent-encoding undone, look-alike letters folded, control characters dropped."""
    return "".join(c for c in unicodedata.normalize("NFKC", unquoted(path)) if c.isprintable())


def unquoted(path: str) -> str:
    """Percent-encoding undone until nothing is left of it."""
    while (once := unquote(path)) != path:
        path = once
    return path


def is_payment_host(host: str) -> bool:
    """Does the host belong to those who take payments, or does its name say so?"""
    return is_payment_path(host) or any(host == known or host.endswith(f".{known}") for known in _PAYMENT_HOSTS)


# ── what it carries ──────────────────────────────────────────────────────────────────────────────────────────


_CARD = re.compile(r"(?<![0-9A-Za-z_])(?<![0-9]\.)[0-9]{3,19}(?:[ \u00a0\-\u2010-\u2015][0-9]{3,19})*(?![0-9A-Za-z_])")


def has_card_number(text: str) -> bool:
    """Is there a payment card's number in the text: 13–19 digits, plain or in groups, with Luhn's check digit right?

    It starts with 2–6, which tells cards of the payment networks (ISO/IEC 7812) from times in milliseconds.
    """
    for run in _CARD.findall(text):
        groups = re.findall(r"[0-9]+", run)
        for start in range(len(groups)):
            digits = ""
            for group in groups[start:]:
                digits += group
                if len(digits) > 19:
                    break
                if len(digits) >= 13 and digits[0] in "23456" and _luhn(digits):
                    return True
    return False


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(d), 10)) for d in digits[-2::-2])
    return (sum(int(d) for d in digits[-1::-2]) + sum(doubled)) % 10 == 0


_STRINGS_AND_COMMENTS = re.compile(r'"""(?:\\"""|.)*?"""|"(?:\\.|[^"\\\n])*"|#[^\n\r]*', re.DOTALL)
_MUTATION = re.compile(r"(?:^|\})[\s,\ufeff]*mutation\b[^{}]*\{")


def is_graphql_mutation(body: str | bytes | None) -> bool:
    """Does the body (JSON, a form or plain GraphQL) or query string hold a GraphQL document with a mutation in it?"""
    return any(_MUTATION.search(_STRINGS_AND_COMMENTS.sub(" ", text)) for text in _body_texts(body))


def texts_of(path: str, query: str, headers: Mapping[str, str], body: str | bytes | None) -> Iterator[str]:
    """Every text that the other side may read out of a request."""
    yield decoded(path)
    yield from _body_texts(query)
    yield from headers.values()
    yield from _body_texts(body)


def _body_texts(body: str | bytes | None) -> Iterator[str]:
    """Every text that the other side may read out of a body: JSON's strings and numbers, a form's values, or all."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    if not text:
        return
    try:
        yield from _leaves(json.loads(text, parse_int=str, parse_float=str))
    except (ValueError, RecursionError):
        yield text
        yield from (unquote_plus(piece.partition("=")[2]) for piece in text.split("&"))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        yield from _all_leaves(value.values())
    elif isinstance(value, list):
        yield from _all_leaves(value)


def _all_leaves(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        yield from _leaves(value)
