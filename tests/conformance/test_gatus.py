"""Gatus' own tests, and where it passes what it should not, as vectors: its conditions, translated and judged by our
engine, decide as in Gatus, or as `DIFFERENCES` says, and why; where it is known to fail open, we decide better.

`python -m tests.conformance` prints the agreement; FIRSTWATCH_VECTORS names another directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from firstwatch.cel_functions import as_text
from firstwatch.conditions import HTTP_NAMES, ConditionError, compile_condition
from tests.conformance.gatus import Glob, Kind, Literal, Side, Term, parts, side
from tests.conformance.gatus_literals import OCTAL, Refused, glob, number
from tests.conformance.gatus_vectors import (
    NOT_APPLICABLE,
    Vector,
    compiled,
    decide,
    expected,
    has_no_certificate,
    load,
    observed_values,
)


def agrees(vector: Vector, decided: Any) -> bool:
    """As Gatus, or as a difference that applies; in a fail-closed case, as is better and no other way."""
    if decided == expected(vector):
        return True
    return vector["kind"] != "fail_closed_cases" and difference(vector) is not None


# ── what we choose to say instead ────────────────────────────────────────────────────────────────────────────


class Difference(NamedTuple):
    """Explains a refusal of its name, and what we say of conditions that it `applies` to: `says`, or either.
    docs/monitoring-gatus.md has the same table."""

    name: str
    reason: str
    applies: Callable[[Vector], bool] = lambda v: False
    says: Any = None


def _refusal(v: Vector) -> str:
    try:
        compiled(v)
    except Refused as e:
        return e.name
    except ConditionError as e:
        return "foregone" if "can never" in str(e) else f"an inability: {e}"
    return ""


def _sides(v: Vector) -> list[Side]:
    try:
        left, _, right = parts(v["condition"])
        return [side(each, context=v.get("context") is not None) for each in (left, right)]
    except Refused:
        return []


_LOST = object()  # where a way leads through something that is no object or list


def _there(v: Vector, term: Term) -> Any:
    """What stands where the term looks; None if nothing does. Found without our engine."""
    values = observed_values(v["observed"], v.get("context"))
    if term.steps is None:
        return values["text"].strip() if term.kind is Kind.TEXT else 0
    at = values.get("saved" if "saved" in term.cel else "json")
    for step in term.steps:
        if isinstance(at, list) and isinstance(step, int):
            at = at[step] if step < len(at) else None
        elif isinstance(at, dict) and isinstance(step, str):
            at = at.get(step)
        else:
            return None if at is None else _LOST
    return at


def _seen(v: Vector) -> list[Any]:
    return [_there(v, each) for each in _sides(v) if isinstance(each, Term)]


def _orders(v: Vector) -> bool:
    return bool(re.search(r" (<=|>=|<|>) ", v["condition"])) and not re.search(r" [=!]= ", v["condition"])


def _numbers(v: Vector) -> list[Any]:
    """The numbers that an ordering compares; None for what is none."""
    found: list[Any] = []
    for each in _sides(v) if _orders(v) else []:
        if isinstance(each, Literal) or (isinstance(each, Term) and each.kind in (Kind.VALUE, Kind.TEXT)):
            value = each.text if isinstance(each, Literal) else _there(v, each)
            try:
                found.append(None if isinstance(value, bool) else number(as_text(value)))
            except (Refused, ValueError):
                found.append(None)
    return found


def _is_octal(v: Vector) -> bool:
    texts = [each.text if isinstance(each, Literal) else _there(v, each) for each in _sides(v)
             if isinstance(each, Literal | Term)]  # fmt: skip
    return any(isinstance(text, str) and OCTAL.fullmatch(text) for text in texts)


def _is_long(v: Vector) -> bool:
    looked_at = [_there(v, each) for each in _sides(v) if isinstance(each, Term) and each.kind is not Kind.FLAG]
    return any(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) >= 1e6 for n in looked_at)


def _hangs_on_slashes(v: Vector) -> bool:
    """Whether text and pattern are alike only with, or only without, their slashes."""
    pattern = next((each.pattern for each in _sides(v) if isinstance(each, Glob)), None)
    if pattern is None:
        return False
    return any(
        bool(re.search(glob(pattern), text)) != bool(re.search(glob(pattern.replace("/", "")), text.replace("/", "")))
        for text in (as_text(value) for value in _seen(v) if value not in (None, _LOST))
    )


def _prints_otherwise(v: Vector) -> bool:
    """Whether a list's text is looked at, or an object's that holds what Gatus escapes."""
    terms = [each for each in _sides(v) if isinstance(each, Term)]
    lists = any(isinstance(_there(v, each), list) for each in terms if each.kind is Kind.VALUE)
    return lists or any(isinstance(value, dict) and re.search("[<>&]", as_text(value)) for value in _seen(v))


DIFFERENCES = (
    Difference("constant", "What looks at nothing of the answer, or holds for each, can never fail."),
    Difference("foregone", "It holds for every status or time, or for none."),
    Difference(
        "several comparisons",
        "Gatus compares the first two parts and leaves out the rest. It has no && and no ||; we have.",
    ),
    Difference(
        "unknown placeholder",
        "A misspelt name stands for itself in Gatus: it differs from everything, and counts as 0.",
    ),
    Difference("index", "An index that is no whole number from 0 finds nothing, ever."),
    Difference("malformed pattern", "It is like nothing, ever."),
    Difference(
        "no number",
        "Gatus takes what is no number for 0, so that [STATUS] > potato holds.",
        lambda v: None in _numbers(v),
        says=False,
    ),
    Difference("octal", "010 in an answer is a code, not the number eight.", _is_octal),
    Difference(
        "no answer", "What did not answer has proven nothing.", lambda v: bool(v["observed"].get("error")), says=False
    ),
    Difference(
        "no certificate",
        "Without TLS there is no certificate. In Gatus it is one that expires in 0 ms.",
        has_no_certificate,
        says=NOT_APPLICABLE,
    ),
    Difference(
        "nothing there",
        "What is missing or null differs from every text in Gatus, and is less than 1. Here it proves nothing.",
        lambda v: None in _seen(v),
        says=False,
    ),
    Difference(
        "way through a value",
        "On [1, 2], [BODY].name is the list itself in Gatus, and has([BODY].name) is true. A list has no fields.",
        lambda v: any(value is _LOST for value in _seen(v)),
    ),
    Difference(
        "fractions",
        "Gatus cuts fractions off before it compares: 0.9 > 0.5 is 0 > 0.",
        lambda v: any(n is not None and n != int(n) for n in _numbers(v)),
    ),
    Difference(
        "long numbers",
        "Gatus writes 1234567 as 1.234567e+06, which equals no number of a condition. Here a number is one.",
        _is_long,
    ),
    Difference(
        "slashes",
        "Gatus takes the slashes out of pattern and text. Here they count, and * passes over them.",
        _hangs_on_slashes,
    ),
    Difference(
        "lists as text",
        "A list or an object as text is JSON. In Gatus a list is printed as [1 2], and < in an object as \\u003c.",
        _prints_otherwise,
    ),
)


def gatus_says(v: Vector) -> Any:
    return v["gatus_passes"] if v["kind"] == "fail_closed_cases" else expected(v)


def difference(vector: Vector) -> Difference | None:
    """The choice that explains why we do not decide as Gatus does. None where we do, or should."""
    decided = decide(vector)
    if decided == gatus_says(vector):
        return None
    v = _as_condition(vector)
    if refused := _refusal(v):
        return next((each for each in DIFFERENCES if each.name == refused), None)
    return next((each for each in DIFFERENCES if each.applies(v) and each.says in (None, decided)), None)


def _as_condition(v: Vector) -> Vector:
    """A vector of any kind as a condition with that in it which we may read differently."""
    match v["kind"]:
        case "paths":
            expression = f"[BODY]{v['path']}" if v["path"].startswith("[") else f"[BODY].{v['path']}"
            return {"condition": f"{expression} == x", "observed": {"body": v["document"]}}
        case "patterns":
            return {"condition": f"[BODY] == pat({v['pattern']})", "observed": {"body": v["text"]}}
        case "expressions":
            return {**v, "condition": f"{v['expression']} == x"}
    return {"observed": {}, **v}


# ── their vectors ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vector", load(), ids=lambda v: v["id"])
def test_each_vector_is_decided_as_by_gatus_or_as_we_chose(vector: Vector) -> None:
    decided = decide(vector)
    assert agrees(vector, decided), decided


def _case(condition: str, passes: bool, **observed: Any) -> Vector:
    return {"kind": "conditions", "condition": condition, "observed": observed, "expect": {"pass": passes}}


UNSEEN: tuple[Vector, ...] = (  # differences that none of their vectors has, as its code decides them
    _case("[STATUS] != 0", True, status=200),
    _case("[RESPONSE_TIME] >= 0", True, response_time_ms=5),
    _case("[STATSU] != 500", True, status=500),
    _case("[BODY].ids[first] != 1", True, body='{"ids": [1]}'),
    _case("[BODY] != pat([a-)", True, body="a"),
    _case("[BODY].load < 5", True, body='{"load": "high"}'),
    _case("[BODY].n == 1234567", False, body='{"n": 1234567}'),
    _case("[BODY].name != 1", True, body="[1]"),
    _case("has([BODY].a.name) == false", False, body='{"a": [1]}'),
    _case("[BODY].ids == [1 2]", True, body='{"ids": [1, 2]}'),
    _case("[BODY].ids == [1,2]", False, body='{"ids": [1, 2]}'),
)


@pytest.mark.parametrize("chosen", DIFFERENCES, ids=lambda d: d.name)
def test_each_chosen_difference_is_seen_in_a_vector_and_told_in_the_docs(chosen: Difference) -> None:
    seen = [v for v in (*load(), *UNSEEN) if decide(v) != gatus_says(v) and difference(v) is chosen]
    assert seen or "FIRSTWATCH_VECTORS" in os.environ
    docs = Path(__file__).parents[2] / "docs" / "monitoring-gatus.md"
    assert f"**{chosen.name}**" in docs.read_text(encoding="utf-8")


@pytest.mark.parametrize("vector", UNSEEN, ids=lambda v: v["condition"])
def test_what_we_decide_differently_is_a_choice(vector: Vector) -> None:
    assert decide(vector) != expected(vector) and agrees(vector, decide(vector))


@pytest.mark.parametrize(
    ("condition", "body"),
    [
        ("[BODY].status == 500", '{"status": 200}'),
        ("[BODY].a.b == x", '{"a": {"b": "y"}}'),
        ("[BODY] == pat(a*c)", "abd"),
        ("[BODY].n == any(1, 2)", '{"n": 3}'),
        ("len([BODY].l) > 2", '{"l": [1, 2]}'),
        ("[BODY].t > 1h", '{"t": "30m"}'),
        ("[BODY] == pat(*</b>)", "<p></p>"),
        ("[BODY].l == pat(*c*)", '{"l": {"a": "b"}}'),
    ],
)
def test_a_choice_does_not_excuse_what_we_would_get_wrong(condition: str, body: str) -> None:
    wrong = _case(condition, True, body=body)  # what Gatus fails too, expected the wrong way round
    assert decide(wrong) is False and not agrees(wrong, False)


@pytest.mark.parametrize("better", [True, False, NOT_APPLICABLE])
def test_no_choice_excuses_a_fail_closed_case(better: Any) -> None:
    case = {**_case("[STATUS] > potato", True, status=200), "kind": "fail_closed_cases", "better_outcome": better}
    case["gatus_passes"] = True
    assert difference(case) is not None and not agrees(case, decide(case))


# ── the notation, where no vector goes ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("condition", "observed"),
    [
        ("[BODY] == OK", {"body": " OK\n"}),
        ("[BODY].up > 1h", {"body": '{"up": "90m"}'}),
        ("1000 >= [RESPONSE_TIME]", {"response_time_ms": 999}),
        ("[RESPONSE_TIME] <= [BODY].limit", {"response_time_ms": 499, "body": '{"limit": 499}'}),
        ("[BODY].a == [STATUS]", {"status": 200, "body": '{"a": "0xC8"}'}),
        ("[BODY].a != [STATUS]", {"status": 200, "body": '{"a": "0xC9"}'}),
        ("[body].user-name[1] == b", {"body": '{"user-name": ["a", "b"]}'}),
        ("[BODY].in.true == 1", {"body": '{"in": {"true": 1}}'}),
        ("len([BODY].s) == 6", {"body": '{"s": "naïve"}'}),
        ("len([BODY]) == 2", {"body": "OK"}),
        ("len([BODY]) == 2", {"body": "[1, 2]"}),
        ("has([BODY].a[1].b) == false", {"body": '{"a": [{"b": 1}]}'}),
        ("[BODY].s == pat([^a-c]?\\*)", {"body": '{"s": "xy*"}'}),
        ("[BODY].s != pat(a*)", {"body": '{"s": "b"}'}),
        ("[DNS_RCODE] == any(NOERROR, NXDOMAIN)", {"dns_rcode": "NXDOMAIN"}),
        ("[DOMAIN_EXPIRATION] > 720h", {"domain_expiration_ms": 2592000001}),
    ],
)
def test_the_whole_notation_is_translated(condition: str, observed: dict[str, Any]) -> None:
    assert decide(_case(condition, True, **observed)) is True


def test_an_inability_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.conformance.gatus_vectors.translate", lambda text, context: "unknown_name == 1")
    case = _case("[STATUS] == 200", True, status=200)
    assert decide(case) == "reject-at-load" and not agrees(case, decide(case))


def test_the_conditions_that_the_docs_recommend_are_conditions() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "monitoring-gatus.md").read_text(encoding="utf-8")
    ours = [line.split("|")[2] for line in docs.split("## Where")[0].splitlines() if line.startswith("| `")]
    recommended = [code for cell in ours for code in re.findall("`([^`]+)`", cell) if re.match(r"[!\w(]+[.\[( ]", code)]
    for code in recommended:
        compile_condition(f"elapsed {code}" if code.startswith("<") else code, HTTP_NAMES)
    assert len(recommended) > 15
