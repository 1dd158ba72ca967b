"""What a journey's steps save and are filled in with; hostile values stay where they are put."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.answer import read_answer
from firstwatch.journey import (
    LONGEST,
    CannotFill,
    Saved,
    fill_step,
    is_telling,
    names_in,
    probe_of,
    save,
    step_label,
    to_hide,
)
from firstwatch.model import Attempt, Outcome, Phases
from firstwatch.monitor import Health, Kind
from firstwatch.spec.synthetic import Journey, Step


def step(**given: Any) -> Step:
    return Step(**{"name": "a step", "expect": ["status == 200"], **given})


def filled(template: str, **saved: Any) -> str:
    return fill_step(step(get=template), saved).path


def saved(body: str, **wanted: str) -> Saved:
    answer = read_answer(
        200, {"location": "/orders/7"}, body.encode(), charset="utf-8", elapsed=0.1, wire_bytes=len(body)
    )
    return save(step(get="/", save=wanted), answer)


# ── filling in ───────────────────────────────────────────────────────────────────────────────────────────────


def test_every_place_of_a_step_is_filled_in() -> None:
    given_ = step(
        put="/cart/${cart}/items?note=${note}",
        headers={"Authorization": "Bearer ${token}"},
        json={"id": "${cart}", "tags": ["${tags}", "n ${n}"], "deep": {"n": "${n}", "ok": "${ok}", "as is": 5}},
    )
    values = {"cart": 17, "note": "a b&c=d", "token": "t.o-k", "tags": ["x", 1], "n": 2.5, "ok": True}
    sent = fill_step(given_, values)
    assert sent.path == "/cart/17/items?note=a%20b%26c%3Dd"
    assert sent.headers == {"Authorization": "Bearer t.o-k"}
    assert sent.json_body == {"id": 17, "tags": [["x", 1], "n 2.5"], "deep": {"n": 2.5, "ok": True, "as is": 5}}
    assert (sent.name, sent.method) == ("a step", "PUT")
    assert names_in(given_) == ["cart", "note", "token", "tags", "n", "ok"]
    assert fill_step(step(post="/a", form={"f": "${n}", "g": "x"}), values).form == {"f": "2.5", "g": "x"}
    assert fill_step(step(post="/a", body="<n>${n}</n> ${ok}"), values).body == "<n>2.5</n> true"
    assert fill_step(step(get="/a"), {}) == step(get="/a")


@pytest.mark.parametrize(
    "request_",
    [
        {"get": "/${nope}"},
        {"get": "/a?b=${nope}"},
        {"get": "/", "headers": {"X": "${nope}"}},
        {"post": "/", "json": {"a": [{"b": "${nope}"}]}},
        {"post": "/", "form": {"a": "${nope}"}},
        {"post": "/", "body": "a ${nope}"},
    ],
)
def test_what_was_not_saved_is_named(request_: dict[str, Any]) -> None:
    with pytest.raises(CannotFill, match="nothing has been saved as nope"):
        fill_step(step(**request_), {"other": "x"})


HOSTILE = [
    "../admin",
    "x?y",
    "//evil.example",
    "a/b",
    "#x",
    "a&b=c",
    "\\..\\x",
    "a;b",
    "%2e%2e%2f",
    "a\r\nHost: x",
    "ü ß",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_in_its_segment_and_its_query_value(value: str) -> None:
    parts = urlsplit("https://shop.example.com" + filled("/cart/${v}/items?id=${v}&page=2", v=value))
    before, cart, segment, items = parts.path.split("/")
    assert (before, cart, unquote(segment), items) == ("", "cart", value, "items")
    first, second = parts.query.split("&")
    assert (unquote(first.removeprefix("id=")), second) == (value, "page=2")
    assert (parts.netloc, parts.fragment) == ("shop.example.com", "")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_adds_a_path_a_query_or_a_host(value: str) -> None:
    try:
        path = filled("/${v}/x?a=${v}", v=value)
    except CannotFill:
        assert value.strip(".") == ""
        return
    parts = urlsplit("https://shop.example.com" + path)
    assert (parts.netloc, parts.path.count("/"), parts.query.count("="), parts.fragment) == (
        "shop.example.com", 2, 1, "",
    )  # fmt: skip
    assert parts.query.count("&") == 0


@pytest.mark.parametrize("value", ["", ".", "..", "..."])
def test_a_segment_does_not_vanish_or_lead_upwards(value: str) -> None:
    with pytest.raises(CannotFill, match=r"v (is empty|would lead)"):
        filled("/cart/${v}", v=value)
    assert filled("/cart/5?x=${v}", v=value) == f"/cart/5?x={value}"


def test_a_segment_is_not_put_together_to_lead_upwards() -> None:
    with pytest.raises(CannotFill):
        filled("/cart/.${v}", v=".")
    assert filled("/files/${v}.json", v="..") == "/files/...json"


@pytest.mark.parametrize("template", ["https://${v}/x", "https://shop.example.com:${v}/x", "http://a${v}"])
def test_a_host_is_not_filled_in(template: str) -> None:
    with pytest.raises(CannotFill, match="host"):
        filled(template, v="x")
    assert filled("https://cdn.example.com/${v}", v="a/b") == "https://cdn.example.com/a%2Fb"


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\0b", "a\x7f"])
def test_a_header_stays_one_line(value: str) -> None:
    with pytest.raises(CannotFill, match="v holds a line break") as told:
        fill_step(step(get="/", headers={"X-Token": "${v}"}), {"v": value})
    assert value not in str(told.value)


def test_a_value_is_not_filled_in_itself() -> None:
    assert fill_step(step(post="/", body="${a} ${b}"), {"a": "${b}", "b": "x"}).body == "${b} x"


@pytest.mark.parametrize(
    "request_",
    [
        {"get": "/", "headers": {"X": "${v}"}},
        {"get": "/", "headers": {"X": "secret:shop-password", "Y": "${v}"}},
        {"post": "/", "json": {"a": "${v}"}},
        {"post": "/", "form": {"a": "${v}"}},
        {"post": "/", "body": "${v}"},
    ],
)
def test_a_value_names_no_secret_of_ours(request_: dict[str, Any]) -> None:
    for value in ("secret:shop-password", "x secret:other"):
        with pytest.raises(CannotFill, match="v holds a text that would name a secret"):
            fill_step(step(**request_), {"v": value})
    with pytest.raises(CannotFill):
        fill_step(step(post="/", json={"a": "${v}"}), {"v": {"deep": ["secret:shop-password"]}})
    with pytest.raises(CannotFill):
        fill_step(step(post="/", body="secret:shop${v}"), {"v": "-password"})
    assert fill_step(step(post="/", body="secret:shop ${v}"), {"v": "x"}).body == "secret:shop x"


# ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_values_keep_their_types() -> None:
    body = '{"id": 17, "price": 2.5, "ok": false, "name": "tea", "list": [1, {"a": null}]}'
    wanted = {key: f"json.{key}" for key in ("id", "price", "ok", "name", "list")}
    found = saved(body, **wanted, where='headers["location"]', code="status", size="size(json.list)")
    assert found == Saved(
        {"id": 17, "price": 2.5, "ok": False, "name": "tea", "list": [1, {"a": None}]}
        | {"where": "/orders/7", "code": 200, "size": 2}
    )
    assert type(found.values["ok"]) is bool


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"other": 1}', 'cannot save cart: json.cart.id: json has no key "cart"'),
        (
            '{"cart": "no"}',
            'cannot save cart: json.cart.id: the types do not fit: json.cart is "no", which has no "id"',
        ),
        ('{"cart": {"id": null}}', "cannot save cart: json.cart.id: it is null"),
        ('{"cart": {"id": ""}}', "cannot save cart: json.cart.id: it is empty"),
        ('{"cart": {"id": 99999999999999999999}}', "beyond 64 bits"),
        (f'{{"cart": {{"id": "{"x" * LONGEST}"}}}}', "it is longer than 4096 characters"),
        (f'{{"cart": {{"id": {[0] * 51}}}}}', "or 50 values"),
        ("<html>", "cannot save cart: json.cart.id: the answer is not JSON; the body is not JSON"),
    ],
)
def test_what_cannot_be_saved_fails_and_says_why(body: str, said: str) -> None:
    found = saved(body, cart="json.cart.id", code="status")
    assert said in found.why
    assert found.values == {"code": 200}  # the rest is kept


def test_what_is_no_json_is_not_saved() -> None:
    for text in ('timestamp("2024-01-01T00:00:00Z")', 'bytes("a")', "1.0 / 0.0"):
        assert saved("{}", v=text).why


def test_a_failure_to_save_a_secret_does_not_tell_it() -> None:
    found = saved('{"token": "pl4nted"}', token="json.token.value")
    assert found.why == "cannot save token: json.token.value does not give it"


def test_long_texts_and_telling_names_are_hidden() -> None:
    for name in ("token", "session_id", "my_password", "sid", "csrf_token", "code"):
        assert is_telling(name), name
    for name in ("cart", "order", "decoded", "inside"):
        assert not is_telling(name), name
    given_ = {
        "cart": "c-17", "order": "order-12345", "code": 123456, "pass": "abc", "token": "abcd", "n": 12345678,
        "login": {"token": "efgh", "user": "me", "list": ["long enough"]}, "session": True,
    }  # fmt: skip
    assert set(to_hide(given_)) == {"order-12345", "123456", "abcd", "efgh", "long enough"}


# ── what a journey comes to ──────────────────────────────────────────────────────────────────────────────────


TEA = Journey(name="buy tea", steps=[step(name=name, get="/") for name in ("log in", "add to cart", "look")])


def attempt(outcome: Outcome = Outcome.PASS, why: str = "", elapsed: float | None = 0.5) -> Attempt:
    return Attempt(outcome, why, 1.0, elapsed, 200, Phases(processing=0.25, transfer=0.125))


def test_steps_are_named_with_their_place() -> None:
    assert step_label(TEA, 1) == "buy tea 2/3 add to cart"
    assert step_label(TEA, 1, attempt=2) == "buy tea 2/3 add to cart, attempt 2"


def test_a_journey_passes_when_every_step_has() -> None:
    probe = probe_of(TEA, [attempt(), attempt(why="a cache answered"), attempt()], target="GET /", at=9.0)
    assert (probe.check, probe.kind, probe.outcome, probe.at) == ("buy tea", Kind.JOURNEY, Outcome.PASS, 9.0)
    assert probe.why == "step 2/3 add to cart: a cache answered"
    assert (probe.elapsed, probe.facts) == (1.5, {"steps": 3})
    assert probe.phases == Phases(processing=0.75, transfer=0.375)
    assert probe.attempts == (Attempt(Outcome.PASS, probe.why, 9.0, 1.5, 200, probe.phases),)


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.ERROR])
def test_a_journey_ends_as_its_last_step_did(outcome: Outcome) -> None:
    probe = probe_of(TEA, [attempt(), attempt(outcome, "status is 500")], target="", at=9.0, warning="w", skipped="s")
    assert (probe.outcome, probe.why) == (outcome, "step 2/3 add to cart: status is 500")
    assert probe.facts == {"steps": 3, "failed_step": "add to cart", "cleanup_skipped": "s"}
    assert (probe.elapsed, probe.warning) == (1.0, "w")
    assert probe.health is (Health.DOWN if outcome is Outcome.FAIL else Health.UNKNOWN)


def test_a_journey_that_was_not_taken_to_its_end_has_not_passed() -> None:
    assert probe_of(TEA, [], target="", at=9.0).outcome is Outcome.ERROR
    assert probe_of(TEA, [], target="", at=9.0).elapsed is None
    cut = probe_of(TEA, [attempt(), attempt()], target="", at=9.0)
    assert (cut.outcome, cut.why) == (Outcome.ERROR, "was not taken to its end")
    assert probe_of(TEA, [attempt(Outcome.ERROR, "x", None)], target="", at=9.0).elapsed is None
