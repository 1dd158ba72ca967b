"""Conditions hold only on proof: what is missing, of the wrong type or no number never passes."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.conditions import (
    HTTP_NAMES,
    QUERY_NAMES,
    ConditionError,
    compile_condition,
    compile_expression,
    evaluate,
)

NAN = float("nan")
ANSWER: dict[str, Any] = {
    "status": 503,
    "headers": {"content-type": "application/json"},
    "json": {"status": "down", "n": 1, "f": 0.9, "items": [{"k": 1}, {"k": 2}], "none": None, "seven": 1234567},
    "text": "hello",
    "elapsed": 0.25,
}


def judged(condition: str, /, **changed: Any) -> tuple[bool, str]:
    return compile_condition(condition, HTTP_NAMES).holds({**ANSWER, **changed})


@pytest.mark.parametrize(
    "text",
    [
        "status == 503",
        "status in [500, 503]",
        'json.status == "down"',
        'json["status"] == "down"',
        "type(json) in [list, map]",
        'headers["content-type"].startsWith("application/json")',
        "json.f > 0.5",  # numbers of different kinds compare as numbers
        "json.n < 1.5",
        "json.seven == 1234567",
        "elapsed < 1",
        "json.items.all(x, x.k > 0)",
        "json.items.exists(x, x.k == 2)",
        "json.items[1].k == 2",
        "size(json.items) == 2",
        "!has(json.error)",
        "json.none == null",
        '!text.contains("Exception")',
        'text.matches("^he")',
        'json.status == "ok" || status == 503',
        "status == 503 // as agreed",
    ],
)
def test_what_is_so_holds(text: str) -> None:
    assert judged(text) == (True, judged(text)[1]), judged(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("status == 200", "status == 200: status is 503"),
        ('json.state == "ok"', 'json.state == "ok": json has no key "state"'),
        ('json.state != "ok"', 'json.state != "ok": json has no key "state"'),
        ("!has(json.status)", '!has(json.status): json.status is "down"'),
        ("json.items[7].k == 1", "json.items[7].k == 1: json.items has 2 items, so there is no [7]"),
        ("json.items[7].k != 1", "json.items[7].k != 1: json.items has 2 items, so there is no [7]"),
        ('json.status > 5', 'json.status > 5: the types do not fit: json.status is "down" (text)'),
        ("json.none.x != 1", "json.none.x != 1: the types do not fit: json.none is null, which has no \"x\""),
        ("json.status", 'json.status: gives "down", which is neither true nor false; json.status is "down"'),
        ("json.n / 0 == 1", "json.n / 0 == 1: division by zero in CEL expression; json.n is 1"),
        ('headers["age"] == "0"', 'headers["age"] == "0": headers has no key "age"'),
        (
            'json.status == "ok" && status == 200',
            'json.status == "ok" && status == 200: json.status is "down"; status is 503',
        ),
    ],
)  # fmt: skip
def test_what_is_not_so_does_not_hold_and_says_the_actual_values(text: str, why: str) -> None:
    assert judged(text) == (False, why)


@pytest.mark.parametrize("text", ["json.n != 7", "json != 7", "json.n < 7", "!has(json.x)", "type(json) == map"])
@pytest.mark.parametrize("json", [{"n": NAN}, {"n": 1, "deep": [{"x": NAN}]}, {"n": float("inf")}])
def test_what_only_looks_like_json_never_holds(text: str, json: Any) -> None:
    held, why = judged(text, json=json)
    assert not held and "proves nothing" in why


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf"), None, "5", True, [1]])
@pytest.mark.parametrize(
    "text", ["value < 100", "value != 100", "!(value > 100)", "value > 100 || value <= 100.0 - 1.0"]
)
def test_a_query_without_a_number_never_holds(text: str, value: Any) -> None:
    assert not compile_condition(text, QUERY_NAMES).holds({"value": value}).held


@pytest.mark.parametrize("number", [2**63, 2**64, 10**30, -(2**63) - 1])
def test_numbers_that_would_be_rounded_do_not_hold(number: int) -> None:
    for text in ("json.big > 1", "json.big != 1", "json.big < 1", "json.list.all(x, x != 1)"):
        held, why = judged(text, json={"big": number, "list": [number]})
        assert not held and "beyond 64 bits" in why
    assert judged('json.status == "ok"', json={"status": "ok", "id": number})[0]  # it is not looked at


def test_a_body_that_is_no_json_does_not_hold_even_where_its_absence_is_asked_for() -> None:
    condition = compile_condition("!has(json.error)", HTTP_NAMES)
    values = {name: value for name, value in ANSWER.items() if name != "json"}
    assert condition.holds(values) == (False, "!has(json.error): the answer is not JSON")
    for body in ([], "x", 5, None):
        assert not judged("!has(json.error)", json=body)[0]


def test_what_is_proven_without_the_body_does_not_need_it_to_be_json() -> None:
    empty = {name: value for name, value in ANSWER.items() if name != "json"} | {"status": 204, "text": ""}
    condition = compile_condition("status == 204 || json.ok == true", HTTP_NAMES)
    assert condition.holds(empty) == (True, f"{condition.text}: status is 204; the answer is not JSON")
    assert condition.holds({**empty, "status": 200}) == (False, f"{condition.text}: the answer is not JSON")
    for unproven in ("json != 5", "!(json.a == 1)", "json.a == 1 ? false : true", "status == 204 && json != null"):
        assert not compile_condition(unproven, HTTP_NAMES).holds(empty).held


def test_all_of_nothing_proves_nothing_unless_it_was_thought_of() -> None:
    assert judged("json.items.all(x, x.k > 0)", json={"items": []}) == (
        False,
        "json.items.all(x, x.k > 0): json.items is empty, so all() of it proves nothing",
    )
    assert judged("size(json.items) == 0 || json.items.all(x, x.k > 0)", json={"items": []})[0]


def test_actual_values_are_cut() -> None:
    held, why = judged('text == "x"', text="y" * 1000)
    assert not held and len(why) < 160 and why.endswith("…")


def test_a_body_nested_deep_is_judged_or_refused_but_breaks_nothing() -> None:
    deep: Any = 1
    for _ in range(sys.getrecursionlimit() - 100):
        deep = [deep]
    assert not judged("json == 1", json=deep)[0]
    assert not judged('json.s == "x"', json={"s": "\ud800"})[0]


def test_a_condition_can_be_pickled_and_asked_from_other_threads() -> None:
    condition = pickle.loads(pickle.dumps(compile_condition("status == 503", HTTP_NAMES)))
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: condition.holds(ANSWER).held, range(100)))


# ── our own functions ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "number"),
    [("12", 12), (" 12.5\n", 12.5), ("-1e3", -1000.0), ("0xFf", 255), ("0o17", 15), ("0b101", 5), ("-0x1", -1), (7, 7)],
)
def test_as_number_reads_what_text_writes(text: Any, number: float) -> None:
    assert evaluate("as_number(json.n)", {"json": {"n": text}}) == number


@pytest.mark.parametrize(
    "text", ["", "x", "007", "1_000", "12 ms", "NaN", "inf", "1e999", "9223372036854775808", "١", True, None, [1], {}]
)
def test_what_is_no_number_is_never_compared_as_one(text: Any) -> None:
    for condition in ("as_number(json.n) < 5", "as_number(json.n) >= 5", "as_number(json.n) != 5"):
        held, why = judged(condition, json={"n": text})
        assert not held and "as_number(): this" in why


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (True, "true"), (15, "15"), (15.0, "15"), (1234567, "1234567"), (0.9, "0.9"), (1e-7, "1e-7"),
     (1e21, "1e+21"), (0.00001, "0.00001"), (-0.0, "0"), ([1, None, "é"], '[1,null,"é"]'),
     ({"b": {}, "a": 1.0}, '{"a":1,"b":{}}')],
)  # fmt: skip
def test_as_text_writes_values_as_the_shortest_json(value: Any, text: str) -> None:
    assert evaluate("as_text(json.v)", {"json": {"v": value}}) == text


def test_null_has_no_text() -> None:
    assert judged('as_text(json.none) != "x"') == (
        False,
        'as_text(json.none) != "x": as_text(): null has no text; json.none is null',
    )


def test_trim_takes_the_spaces_around_a_text() -> None:
    assert judged('text.trim() == "OK"', text="\n OK\r\n")[0]
    assert not judged('json.n.trim() != "OK"')[0]


def test_a_failing_function_writes_no_value_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    assert not judged("as_number(json.status) == 5", json={"status": "s3cret"})[0]
    assert not caplog.records


# ── before the first byte ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "an empty condition", "status == 200"),
        ("status = 200", "column 8", "use =="),
        ("status == 200 and elapsed < 1", "column 15", "use &&"),
        ("status == 200 or elapsed < 1", "column 15", "use ||"),
        ("not (status == 200)", "unknown function not()", "write !"),
        ("status == ", "the end", "CEL"),
        ("statsu == 200", "unknown name statsu", "did you mean status?"),
        ("STATUS == 200", "unknown name STATUS", "did you mean status?"),
        ("response.status == 200", "unknown name response", "status, headers, json, text, elapsed"),
        ("body.x == 1", "unknown name body", "json for a parsed body"),
        ("status == 200 && True", "unknown name True", "write true"),
        ("value < 1", "unknown name value", "names here: elapsed, headers, json, status, text"),
        ("foo(status) == 1", "unknown function foo()", "functions here: all, as_number"),
        ('text.startswith("a")', "unknown function startswith()", "did you mean startsWith?"),
        ("true", "can never fail", "compare something of"),
        ("1 == 1", "can never fail", "compare something of"),
        ("type(1) == int", "can never fail", "compare something of"),
        ("json.a == 1 || true", "can never fail", "compare something of"),
        ("status == status", "can never fail", "every status"),
        ("status > 0", "can never fail", "every status"),
        ("status != 0", "can never fail", "every status"),
        ("status < 500 || status >= 500", "can never fail", "every status"),
        ("elapsed >= 0", "can never fail", "every elapsed"),
        ("status > 99 || elapsed < 5", "can never fail", "every elapsed and status"),
        ('status == "200"', "can never hold", "whole number from 100 to 599"),
        ("status", "gives 100, which is neither true nor false", "compare it"),
        ("json", "neither true nor false", "compare it"),
        ("size(text)", "neither true nor false", "compare it"),
        ('headers["age"]', "neither true nor false", "compare it"),
        ('headers["Age"] == "0"', "Age is never found", 'headers["age"]'),
        ("json.all(status, status == 1)", "status is used as a variable", "another name"),
        ('text.matches("(")', "is not a regular expression", "RE2"),
        ("json.a / json.b != 1.0", "can give NaN", "<="),
        ("double(json.a) == 1.0 ? false : true", "can give NaN", "<="),
    ],
)
def test_unusable_conditions_are_refused_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConditionError) as e:
        compile_condition(text, HTTP_NAMES)
    assert message in str(e.value)
    assert hint in e.value.hint
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "text",
    ["status != 200", 'text != "error"', "json != 5", "elapsed < 0.5 || elapsed > 3", "status / 100 != 5", "json.ok"],
)
def test_conditions_that_can_fail_are_taken(text: str) -> None:
    compile_condition(text, HTTP_NAMES)


@pytest.mark.parametrize("text", ["value == value", "value < 5 || value >= 5", "value * 0.0 == 0.0"])
def test_tautologies_of_a_query_are_refused(text: str) -> None:
    with pytest.raises(ConditionError, match="can never fail"):
        compile_condition(text, QUERY_NAMES)


def test_the_column_of_an_unknown_name() -> None:
    with pytest.raises(ConditionError) as e:
        compile_condition('text == "statsu" || statsu == 1', HTTP_NAMES)
    assert e.value.column == 21


# ── expressions ──────────────────────────────────────────────────────────────────────────────────────────────


def test_an_expression_has_a_value_or_says_why_not() -> None:
    assert evaluate("json.status", ANSWER) == "down"
    assert evaluate("string(json.n)", ANSWER) == "1"
    assert compile_expression("json.build.version", HTTP_NAMES) == (("json", "build", "version"),)
    with pytest.raises(ConditionError, match=r'json\.version: json has no key "version"'):
        evaluate("json.version", ANSWER)
    with pytest.raises(ConditionError, match="the answer is not JSON"):
        evaluate("json.version", {"status": 200})
    with pytest.raises(ConditionError, match="unknown name jsn"):
        evaluate("jsn.version", ANSWER)


# ── whatever comes ───────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcxyz"), inner, max_size=3),
    max_leaves=8,
)
COMPARED = st.sampled_from(["== 1", "!= 1", "< 5", ">= 0.5", '== "a"', '!= "a"', "== null", "!= null", "in [1, 2]"])
PATHS = st.lists(st.sampled_from(["a", "b", "c", 0, 1]), min_size=1, max_size=3)


def _stands_at(path: list[Any], value: Any) -> bool:
    for step in path:
        fits = isinstance(value, dict) if isinstance(step, str) else isinstance(value, list)
        if not fits or (step not in value if isinstance(step, str) else step >= len(value)):
            return False
        value = value[step]
    return True


@given(json=JSON, path=PATHS, compared=COMPARED, negated=st.booleans())
def test_a_value_that_is_missing_never_passes(json: Any, path: list[Any], compared: str, negated: bool) -> None:
    asked = "json" + "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in path)
    text = f"!({asked} {compared})" if negated else f"{asked} {compared}"
    held, why = judged(text, json=json)
    assert why.startswith(text)
    if held:
        assert _stands_at(path, json)


@given(
    values=st.dictionaries(st.sampled_from(sorted(HTTP_NAMES)), JSON),
    text=st.sampled_from(
        ["status != 200", 'headers["a"] != "x"', "json.a != 1", 'text != "x"', "elapsed < 5", "json != headers"]
    ),
)
def test_missing_and_wrong_values_never_pass(values: dict[str, Any], text: str) -> None:
    condition = compile_condition(text, HTTP_NAMES)
    if condition.holds(values).held:
        assert all(path[0] in values for path in condition.paths)
        assert "status" not in text or not isinstance(values["status"], str)
        assert isinstance(values.get("headers", {}), dict) or "headers" not in text


@given(st.text(max_size=40))
def test_no_text_breaks_the_compiler(text: str) -> None:
    try:
        compile_condition(text, HTTP_NAMES)
    except ConditionError as e:
        assert str(e)
