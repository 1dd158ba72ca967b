"""Argo's condition language and CEL in a gate: what is read, refused and decided, and that both say the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firstwatch.conditions import HTTP_NAMES, QUERY_NAMES, ConditionError, compile_condition
from firstwatch.expr import compile_gate_condition, limit_of, read_gate_condition
from firstwatch.expr.gate import CelCondition

NAN, INF = math.nan, math.inf


def kind(text: str, result: object) -> str:
    return read_gate_condition(text).judge(result).kind


# ── what is decided ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "result", "expected"),
    [
        ("7 / 2 == 3.5 && result[0] > 0", [1.0], "true"),  # whole numbers divide as others do
        ("-7 % 4 == -3 && result[0] > 0", [1.0], "true"),
        ("2 ** 3 ** 2 == 512 && result[0] > 0", [1.0], "true"),
        ("-2 ^ 2 == -4 && result[0] > 0", [1.0], "true"),  # as Argo reads it: ** before the sign
        ("1 < result[0] < 3", [2.0], "true"),
        ("1 < result[0] < 3", [3.0], "false"),
        ("result[-1] > result[0]", [1.0, 2.0], "true"),
        ("result[1:] == [2, 3]", [1.0, 2.0, 3.0], "true"),
        ("(result | filter(# > 1) | len()) == 2", [1.0, 2.0, 3.0], "true"),
        ("let worst = max(result); worst < 1", [0.2, 0.9], "true"),
        ("if len(result) > 1 { all(result, # < 1) } else { false }", [0.2, 0.9], "true"),
        ("reduce(result, #acc + #, 0) == 3", [1.0, 2.0], "true"),
        ("result?.a?.b ?? 1 == 1", {}, "error"),  # ?? beside another sign needs brackets
        ("(result?.a?.b ?? 1) == 1", {}, "true"),
        ("all(result.c, {.n > 1})", {"c": [{"n": 2.0}, {"n": 3.0}]}, "true"),
        ('"ok" in result', {"ok": 1.0}, "true"),
        ("result matches '^o.$' and result contains `k`", "ok", "true"),
        ("0x10 == 16 && 1_000 == 1e3 && result", True, "true"),
        ("result[0] > 0.5 /* half */ // and a rest", [0.6], "true"),
        ("result[5] > 0", [1.0], "error"),
        ("result > 1", [1.0], "error"),
        ("result[0] > 1", 1.0, "error"),
        ('result == "1"', 1.0, "error"),
        ("result.n + 1", {"n": 1.0}, "error"),
        ("result.b && true", {"b": "yes"}, "error"),
    ],
)
def test_finite_data_are_decided_as_by_argo(text: str, result: object, expected: str) -> None:
    try:
        said = kind(text, result)
    except ConditionError:
        said = "error"
    assert said == expected


@pytest.mark.parametrize(
    ("text", "result", "expected"),
    [
        ("result[0] >= 0.9", [NAN], "no data"),
        ("result[0] != 1", [NAN], "no data"),
        ("result[0] >= 0.9", [1.0, NAN], "true"),  # only the first is looked at
        ("result[0] >= 0.9", [], "no data"),
        ("result >= 0.9", None, "no data"),
        ("all(result, # > 1)", [], "no data"),
        ("none(result, # > 1)", [], "no data"),
        ("any(result, # > 1)", [NAN, 2.0], "true"),  # decided, whatever the NaN would have been
        ("all(result, # > 1)", [NAN, 0.5], "false"),
        ("all(result, # > 1)", [NAN, 2.0], "no data"),
        ("count(result, # > 1) == 0", [NAN, 0.5], "no data"),
        ("mean(result) < 1", [NAN, 0.5], "no data"),
        ("sum(result) < 1", [], "no data"),
        ("1 not in result", [NAN], "no data"),
        ("isNaN(result[0]) || result[0] >= 0.9", [NAN], "true"),
        ("result[0] >= 0.9 || isNaN(result[0])", [NAN], "true"),
        ("!isNaN(result[0]) && result[0] >= 0.9", [NAN], "false"),
        ("len(result) == 0 || result[0] >= 0.9", [], "true"),
        ("len(result) > 0 && result[0] >= 0.9", [], "false"),
        ("result[0] >= 0.9 || len(result) == 0", [], "no data"),  # Argo ends in an error before it sees the guard
        ("default(result, 0) < 0.9", None, "true"),
        ("result[0] < 500", [INF], "false"),
        ("isInf(result[0])", [-INF], "true"),
        ("asInt(result[0]) == 1", [NAN], "no data"),
        # and in CEL
        ("size(result) > 0 && result[0] >= 0.9", [NAN], "no data"),
        ("size(result) == 0 || result[0] >= 0.9", [], "true"),
        ("result.all(x, x > 1.0)", [], "no data"),
        ("result.all(x, x > 1.0)", [NAN], "no data"),
        ("result.exists(x, x != 1.0)", [NAN], "no data"),
        ("size(result) > 0 && !isNaN(result[0])", [NAN], "false"),
        ("double(size(result)) > mean(result)", None, "no data"),
    ],
)
def test_missing_data_are_told_apart_unless_a_guard_decides(text: str, result: object, expected: str) -> None:
    assert kind(text, result) == expected


def test_why_shows_the_actual_values_beside_the_limit() -> None:
    def why(text: str, result: object) -> str:
        return read_gate_condition(text).judge(result).why

    assert why("result[0] >= 0.99", [0.953]) == "result[0] >= 0.99: result[0] is 0.953"
    assert why("all(result, # < 1)", [0.5, 2.25, 3.0]) == "all(result, # < 1): result[1] is 2.25"
    assert why("max(result) < 1", [0.5, 2.0]) == "max(result) < 1: max(result) is 2"
    assert why("result[0] >= 0.99", [NAN]) == "result[0] >= 0.99: result[0] is NaN"
    assert why("result[0] >= 0.99", []) == "result[0] >= 0.99: result is empty"
    assert "has 1 item(s), so there is no result[3]" in why("result[3] > 1", [1.0])
    assert why("size(result) > 0 && result[0] >= 0.9", [0.5]).endswith("result is [0.5]; result[0] is 0.5")


# ── what is refused before the first measurement ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("results[0] > 1", "unknown name results", "result"),
        ("avg(result) > 1", "unknown function avg()", "mean"),
        ("result = 1", "= was not expected", "=="),
        ("result[0] 10.0", "10.0 was not expected", ""),
        ("result[0] >= ", "the end was not expected", ""),
        ("", "an empty condition", "result[0]"),
        ("true", "whatever the result is", "limit"),
        ("result[0] >= 0 || result[0] < 0 || isNaN(result[0])", "whatever the result is", "limit"),
        ("result[0] > 1 && result[0] < 0", "whatever the result is", "limit"),
        ("asFloat(result[0])", "neither true nor false", "compare"),
        ("result.ok", "is a list here", "result[0]"),
        ("result > 1 && result[0] > 1", "does not go with a list", "result[0]"),
        ("now() > 1", "now() is not supported", ""),
        ("result[0] matches '('", "regular expression", "RE2"),
        ("all(result)", "needs a list and a closure", "#"),
        ("# > 1", "# was not expected", ""),
        ("all(result, 1 > 0 ? #x : true)", "unknown #x", "#"),
        ("'a", "not closed", "'"),
        ("size(results) > 1", "unknown name results", "result"),
        ("result[0] > 99999999999999999999", "too large", ""),
        ("(" * 300 + "1" + ")" * 300, "nested too deeply", ""),
    ],
)
def test_unusable_conditions_are_refused_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConditionError) as refused:
        compile_gate_condition(text)
    assert message in str(refused.value)
    assert hint in refused.value.hint


def test_arguments_are_numbers_until_they_are_filled_in() -> None:
    condition = compile_gate_condition("result[0] >= {{args.limit}} * 2")
    assert condition.cel == "result[0] >= double({{args.limit}}) * 2.0"
    assert condition.judge([1.0]).kind == "error"
    assert compile_gate_condition("size(result) > 0 && result[0] > {{args.limit}}").judge([1.0]).kind == "error"
    assert compile_gate_condition('result[0] > 1 || "{{args.mode}}" == "any"').cel.endswith('"{{args.mode}}" == "any"')


def test_gate_functions_are_nothing_for_other_conditions() -> None:
    for names, text in (
        (HTTP_NAMES, "max([status]) < 500"),
        (QUERY_NAMES, "isNaN(value)"),
        (HTTP_NAMES, "result == 1"),
    ):
        with pytest.raises(ConditionError, match="unknown"):
            compile_condition(text, names)


# ── what is translated ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "cel"),
    [
        ("result[0] >= 0.95", "result[0] >= 0.95"),
        ("10.000000 not in result", "!(10.0 in result)"),
        ("all(result, # < 1000)", "result.all(x, x < 1000)"),
        ("none(result, {# > 1 or # < 0})", "!result.exists(x, x > 1 || x < 0)"),
        ("len(filter(result, # > 0.05)) == 0", "size(result.filter(x, x > 0.05)) == 0"),
        ("sum(result)/len(result) < 1", "sum(result) / double(size(result)) < 1"),
        ("mean(map(result, # * 100)) < 5", "mean(result.map(x, x * 100.0)) < 5"),
        ("result[-1] > 2 and not (result[0] in 1..3)", "result[size(result) - 1] > 2 && !(result[0] in [1, 2, 3])"),
        ("any(result, {any(result, # > 1) && # < 2})", "result.exists(x, result.exists(y, y > 1) && x < 2)"),
        ("let x = result[0]; x > 1 && x < 5", "result[0] > 1 && result[0] < 5"),
        ("result[0] > 1 && result[1] > 1 || isNaN(result[0])", "(result[0] > 1 && result[1] > 1) || isNaN(result[0])"),
        ("7 / 2 > result[0]", "7.0 / 2.0 > result[0]"),
        ("(result ?? 1) >= 0.95", "default(result, 1) >= 0.95"),
    ],
)
def test_conditions_are_translated_to_cel(text: str, cel: str) -> None:
    assert compile_gate_condition(text).cel == cel


@pytest.mark.parametrize(
    "text", ["findIndex(result, # > 1) == 0", "reduce(result, #acc + #, 0) > 1", "first(result) == nil"]
)
def test_what_cel_cannot_say_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConditionError, match="counterpart"):
        _ = read_gate_condition(text).cel


NUMBERS = st.sampled_from(["0", "1", "2", "5", "0.5", "0.95", "10.000000", "1e3", ".5"])


def values(item: bool) -> st.SearchStrategy[str]:
    """Expressions that give a number; with `item`, within a closure."""
    some = NUMBERS | st.sampled_from(["result[0]", "result[-1]", "len(result)", *(["#"] * 3 if item else [])])
    lists = st.sampled_from(
        ["result", "result", "result[1:]", "map(result, # * 2)", "filter(result, # > 1)", "[1, 2.5]"]
    )
    signs = st.sampled_from(["+", "-", "*", "/", "**"])
    functions = st.sampled_from(["asFloat", "asInt", "abs", "floor", "ceil", "round"])
    aggregates = st.sampled_from(["max", "min", "mean", "median", "sum"])

    def more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return (
            st.builds("{} {} {}".format, inner, signs, inner)
            | st.builds("({})".format, inner)
            | st.builds("-{}".format, inner)
            | st.builds("{}({})".format, functions, inner)
            | st.builds("{}({})".format, aggregates, lists)
        )

    return st.recursive(some, more, max_leaves=3)


def conditions(item: bool = False) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    compared = st.builds("{} {} {}".format, values(item), signs, values(item))
    closures = st.sampled_from(["all", "any", "none", "one"])
    if not item:
        compared |= st.builds("{}(result, {{{}}})".format, closures, conditions(item=True))
        compared |= st.builds("count(result, {}) <= 1".format, conditions(item=True))
    joined = st.sampled_from(["&&", "||", "and", "or"])

    def more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return (
            st.builds("{} {} {}".format, inner, joined, inner)
            | st.builds("not ({})".format, inner)
            | st.builds("({} ? {} : {})".format, inner, inner, inner)
        )

    return st.recursive(compared, more, max_leaves=3)


RESULTS = st.lists(st.sampled_from([0.0, 0.5, 0.95, 1.0, 2.0, -1.0, 5.0, 10.0, 1.1, -0.3]), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(conditions(), st.lists(RESULTS, min_size=2, max_size=4))
@example("1 / 2 > 0 && result[0] - -1 > 0", [[1.0], [0.0]])
@example("sum(map(result, #)) % 2 == 0 || result[0] > 1", [[1.0], [2.0]])
def test_translations_mean_what_argo_means_also_when_read_again(text: str, results: list[list[float]]) -> None:
    condition = read_gate_condition(text)
    try:
        cel = condition.cel
    except ConditionError:
        return
    again, as_cel = read_gate_condition(cel), CelCondition(cel, (("result",),))
    for result in results:
        expected = condition.judge(result)
        if expected.kind in ("true", "false"):
            assert again.judge(result).kind == expected.kind, cel
            assert as_cel.judge(result).kind == expected.kind, cel


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="result[0]#(){}<>=!&|?:.,+-*/%^'\"`;$ \\nax19{}", max_size=30) | conditions())
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        condition = compile_gate_condition(text)
    except ConditionError:
        return
    for result in (1.0, [1.0], [NAN], [], None):
        assert condition.judge(result).kind in ("true", "false", "no data", "error")


# ── what charts read from it ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("result[0] >= 0.99", (">=", 0.99)),
        ("0.05 > result", ("<", 0.05)),
        ("isNaN(result[0]) || result[0] >= 0.95", (">=", 0.95)),
        ("len(result) > 0 && result[0] >= 0.95", (">=", 0.95)),
        ("size(result) == 0 || result[0] >= 0.95", (">=", 0.95)),
        ("all(result, # < -1)", ("<", -1.0)),
        ("result.all(x, x < 1000)", ("<", 1000.0)),
        ("max(result) < 0.05", ("<", 0.05)),
        ("len(filter(result, # > 0.05)) == 0", None),
        ("result[0] > 1 && result[0] < 5", None),
        ("result[0] > result[1]", None),
        ("nonsense here", None),
    ],
)
def test_the_limit_of_a_simple_comparison_is_told(text: str, limit: tuple[str, float] | None) -> None:
    assert limit_of(text) == limit
