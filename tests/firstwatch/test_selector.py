"""Plain selectors are read as Prometheus reads them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.selector import Matcher, Selector, SelectorError, is_plain, parse


@pytest.mark.parametrize(
    ("text", "name", "matchers"),
    [
        ("up", "up", []),
        (" up { } ", "up", []),
        ('a:b_total{x="1"}', "a:b_total", [("x", "=", "1")]),
        ('m{a="b",c=~"d",e!="f",g!~"h"}', "m", [("a", "=", "b"), ("c", "=~", "d"), ("e", "!=", "f"), ("g", "!~", "h")]),
        ('m{ a = "b" , c=~`\\d+`, }', "m", [("a", "=", "b"), ("c", "=~", r"\d+")]),
        ("m{a='it\\'s'}", "m", [("a", "=", "it's")]),
        (r'm{a="q\"\\\n\x41\u00e9"}', "m", [("a", "=", 'q"\\\nAé')]),
        ('m{a="}"}', "m", [("a", "=", "}")]),
        ('{__name__="up",job="x"}', "up", [("job", "=", "x")]),
        ('{"http.requests", "service.name"="shop"}', "http.requests", [("service.name", "=", "shop")]),
    ],
)
def test_selectors(text: str, name: str, matchers: list[tuple[str, str, str]]) -> None:
    selector = parse(text)
    assert selector.name == name
    assert [(m.label, m.op, m.value) for m in selector.matchers] == matchers
    assert parse(str(selector)) == selector
    assert is_plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "5", "NaN", "Inf", "up[5m]", "up offset 5m", "up @ 0", "sum(up)", "up > 1", "up + up", "-up", "a b",
        "{}", 'up{a="b"', 'up a="b"}', 'up{a=b}', 'up{a=="b"}', 'up{a="b" c="d"}', 'up{,}', 'up{a:b="c"}', '{a="b"}',
        '{__name__=~"x"}', 'up{__name__="x"}', 'up{a="\\q"}', 'up{a=~"("}', 'up{a=~"(?=x)"}', 'up{a=~"(x)\\\\1"}',
        'up{a=~"[[:alpha:]]"}', 'up{"x"}', 'up{a="b"} or up', 'up{a="b\n"}',
    ],
)  # fmt: skip
def test_anything_else_is_no_selector(text: str) -> None:
    with pytest.raises(SelectorError):
        parse(text)
    assert not is_plain(text)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ('m{a="b"}', {"a": "b", "c": "d"}, True),
        ('m{a="b"}', {}, False),
        ('m{a!="b"}', {}, True),
        ('m{a=""}', {}, True),
        ('m{a=~".+"}', {}, False),
        ('m{status=~"5.."}', {"status": "503"}, True),
        ('m{status=~"5"}', {"status": "503"}, False),  # anchored at both ends
        ('m{status=~"a|503"}', {"status": "503"}, True),
        ('m{status=~"5|50"}', {"status": "503"}, False),
        ('m{status!~"5.."}', {"status": "200"}, True),
        ('m{a=~"x.y"}', {"a": "x\ny"}, True),
        ('m{a=~"x"}', {"a": "x\n"}, False),
    ],
)
def test_matching(text: str, labels: dict[str, str], matches: bool) -> None:
    assert parse(text).matches("m", labels) is matches
    assert not parse(text).matches("other", labels)


def test_making_others_of_it() -> None:
    selector = parse('latency{service="shop"}')
    assert str(selector.with_suffix("_bucket").with_matcher("le", "=", "0.5")) == (
        'latency_bucket{service="shop",le="0.5"}'
    )
    with pytest.raises(SelectorError):
        selector.with_matcher("a", "=~", "(")


@given(
    name=st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]*", fullmatch=True).filter(lambda n: n.lower() not in ("inf", "nan")),
    labels=st.dictionaries(
        st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True).filter(lambda n: n != "__name__"), st.text(max_size=8)
    ),
)
def test_what_is_written_is_read_back(name: str, labels: dict[str, str]) -> None:
    selector = Selector(name, tuple(Matcher(label, "=", value) for label, value in labels.items()))
    assert parse(str(selector)) == selector
    assert selector.matches(name, labels)
