"""Whatever is merged: everybody gets what they would have got alone, and not many queries are needed.

The merged queries are read by another PromQL parser than ours, and answered by Prometheus' rules written out anew.
"""

from __future__ import annotations

import re

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.batching import (
    ENDS_WITHIN,
    FEW,
    GROW_AFTER,
    LENGTHS_WITHIN,
    MOST_MEMBERS,
    MOST_TEXT,
    SAMPLES_AIMED_AT,
    Appetite,
    Asked,
    Batch,
    alone,
    among,
    covers,
    is_certain,
    plan,
    split,
)
from firstwatch.selector import Matcher, Selector, parse
from firstwatch.series import RawSeries

NAMES, LABELS = ["a", "b", "a_bucket", "x:y"], ["service", "job", "le"]
VALUES = ["", "x", "y", "x|y", "x.y", "xzy", "(", "\\", 'q"', "+Inf", "ü", "a\nb", "$", "[x]"]
PATTERNS = ["", "x|y", "x.*", "5..", ".+", "(?:x|y)z?", "[a-y]+", r"\\?", r"x\.y", "(x)*", "x{2}", r"\s", "(?i:X)"]

series_of_labels = st.dictionaries(st.sampled_from(LABELS), st.sampled_from([v for v in VALUES if v]), max_size=3)
times = st.integers(0, 40).map(lambda i: i / 4)


@st.composite
def stored(draw: st.DrawFn) -> list[RawSeries]:
    keys = st.tuples(st.sampled_from(NAMES), series_of_labels.map(lambda d: tuple(sorted(d.items()))))
    found = []
    for name, labels in draw(st.lists(keys, unique=True, max_size=8)):
        at = sorted(draw(st.sets(times, max_size=6)))
        found.append(RawSeries({"__name__": name, **dict(labels)}, at, [t * 2 for t in at]))
    return found


matchers = st.builds(Matcher, st.sampled_from(LABELS), st.sampled_from(["=", "=", "!="]), st.sampled_from(VALUES)) | (
    st.builds(Matcher, st.sampled_from(LABELS), st.sampled_from(["=~", "!~"]), st.sampled_from(PATTERNS))
)
selectors = st.builds(Selector, st.sampled_from(NAMES), st.lists(matchers, max_size=3).map(tuple))
questions = st.builds(lambda s, a, b: Asked(s, min(a, b), max(a, b)), selectors, times, times)


def answered(batch: Batch, store: list[RawSeries]) -> list[RawSeries]:
    """What a Prometheus says to the query: both ends of the range are in it."""
    query = promql_parser.parse(batch.promql)
    assert isinstance(query, promql_parser.MatrixSelector)
    wanted, until = query.vector_selector, float(batch.at)
    since = until - query.range.total_seconds()
    found = []
    for series in store:
        names = [("__name__", "MatchOp.Equal", wanted.name)] if wanted.name else []
        tests = names + [(m.name, str(m.op), m.value) for m in wanted.matchers.matchers]
        if all(holds(series.labels.get(label, ""), op, value) for label, op, value in tests):
            points = [(t, v) for t, v in zip(series.at, series.value, strict=True) if since - 1e-6 <= t <= until]
            if points:
                found.append(RawSeries(series.labels, [t for t, _ in points], [v for _, v in points]))
    return found


def holds(actual: str, op: str, value: str) -> bool:
    if op in ("MatchOp.Equal", "MatchOp.NotEqual"):
        return (actual == value) is (op == "MatchOp.Equal")
    return (re.fullmatch(f"(?s:{value})", actual) is not None) is (op == "MatchOp.Re")


def shown(series: list[RawSeries]) -> list[object]:
    return sorted((str(s), tuple(s.at), tuple(s.value)) for s in series)


@given(stored(), st.lists(questions, max_size=12), st.integers(1, 12))
def test_everybody_gets_what_they_would_get_alone(store: list[RawSeries], asked: list[Asked], most: int) -> None:
    got: dict[Asked, list[RawSeries]] = {}
    for batch in plan(asked, most):
        parts = split(batch, answered(batch, store))
        assert not set(parts) & set(got)
        got |= parts
        assert len(batch.members) <= most
    assert set(got) == set(asked)
    for one in set(asked):
        assert shown(got[one]) == shown(split(alone(one), answered(alone(one), store))[one])


@given(stored(), selectors, st.lists(matchers, max_size=2))
def test_what_a_wider_selector_covers_is_picked_out_of_its_answer(
    store: list[RawSeries], wide: Selector, more: list[Matcher]
) -> None:
    narrow = Selector(wide.name, (*more, *wide.matchers))
    if covers(wide, narrow):
        of_wide = answered(alone(Asked(wide, 0, 10)), store)
        assert shown(among(narrow, of_wide)) == shown(answered(alone(Asked(narrow, 0, 10)), store))


def test_only_what_lies_within_is_covered() -> None:
    requests = parse('http_requests_total{service="shop"}')
    assert covers(requests, requests.with_matcher("status", "=~", "5.."))
    assert not covers(requests.with_matcher("status", "=~", "5.."), requests)
    assert not covers(requests, parse('errors_total{service="shop"}'))
    assert not covers(requests, requests.with_matcher("status", "=~", r"\s"))


def ask(text: str, since: float = 0.0, until: float = 100.0) -> Asked:
    return Asked(parse(text), since, until)


SIGNALS = ["http_requests_total", "latency_bucket", "memory", "db_pool", "up"]


def test_five_signals_of_fifty_services_are_five_queries_and_of_one_service_one() -> None:
    services = [f"shop-{i}" for i in range(50)]
    asked = [ask(f'{name}{{service="{service}"}}') for service in services for name in SIGNALS]
    batches = plan(asked)
    assert len(batches) == 5
    assert {len(batch.members) for batch in batches} == {MOST_MEMBERS}
    (one,) = plan(asked[:5])
    assert one.promql == '{__name__=~"db_pool|http_requests_total|latency_bucket|memory|up",service="shop-0"}[100001ms]'
    (two,) = plan([ask('up{service="x.1",job="a"}'), ask('up{job="a",service="y"}', 0.0004)])
    assert two.promql == r'up{service=~"x\\.1|y",job="a"}[100001ms]'
    assert (two.at, two.label) == ("100.000", "service")


def test_nothing_is_fetched_that_nobody_asked_for() -> None:
    """Two names and two services make one query only if all four combinations are wanted."""
    assert len(plan([ask('a{s="x"}'), ask('b{s="x"}'), ask('a{s="y"}'), ask('b{s="y"}')])) == 1
    assert len(plan([ask('a{s="x"}'), ask('b{s="y"}')])) == 2
    assert len(plan([ask('a{s="x"}'), ask('a{s="y"}'), ask('b{s="x"}')])) == 2


def test_the_same_is_asked_once_and_the_first_first() -> None:
    asked = [ask('b{s=~"\\\\s"}'), ask("a"), ask("a"), ask('b{s=~"\\\\s"}'), ask("c", 0, 1)]
    batches = plan(asked)
    assert [batch.promql for batch in batches] == ['b{s=~"\\\\s"}[100001ms]', "a[100001ms]", "c[1001ms]"]


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=30))
def test_ranges_that_go_together_are_alike(ranges: list[tuple[float, float]]) -> None:
    for batch in plan([ask("a", min(pair), max(pair)) for pair in ranges]):
        lengths = [m.until - m.since for m in batch.members]
        ends = [m.until for m in batch.members]
        assert max(ends) - min(ends) <= ENDS_WITHIN
        assert max(lengths) <= LENGTHS_WITHIN * min(lengths) * (1 + 1e-9)


def test_no_query_is_too_long() -> None:
    asked = [ask(f'm{{service="{"long" * 40}-{i}",other="ü"}}') for i in range(MOST_MEMBERS)]
    batches = plan([*asked, *(ask(f"{'name' * 40}_{i}") for i in range(MOST_MEMBERS))])
    assert sum(len(batch.members) for batch in batches) == 2 * MOST_MEMBERS
    assert max(len(batch.promql) for batch in batches) < MOST_TEXT
    assert len(batches) < 12


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ('m{a="b",c!="",d=~"5..",e!~"x|y.*"}', True),
        (r"m{a=~`GET|/api/(v1|v2)/[a-z0-9_]+`}", True),
        (r"m{a=~`(?:x\.y)+?`}", True),
        (r"m{a=~`\s`}", False),  # Python's knows a vertical tab, RE2's does not
        (r"m{a=~`a{,3}`}", False),  # three letters in RE2
        (r"m{a=~`a++`}", False),
        (r"m{a=~`(a)++`}", False),
        (r"m{a=~`(?i:é)`}", False),
        (r"m{a=~`(?P<n>a)(?P=n)`}", False),
        (r"m{a=~`a\Z`}", False),
        (r"m{a=~`a$`}", False),
        ('m{a="\\n"}', False),
        ('m{"a.b"="c"}', False),
        ('{"m.n"}', False),
    ],
)
def test_only_what_both_engines_read_alike_is_certain(text: str, certain: bool) -> None:
    assert is_certain(parse(text)) is certain


def test_a_series_that_nobody_asked_for_is_no_answer() -> None:
    (batch,) = plan([ask("a"), ask("b")])
    good = RawSeries({"__name__": "a"}, [1.0], [1.0])
    assert split(batch, [good])[ask("a")] == [good]
    for labels in ({}, {"__name__": "c"}):
        with pytest.raises(ValueError, match="nobody asked for"):
            split(batch, [good, RawSeries(labels, [1.0], [1.0])])


def test_appetite_falls_at_a_refusal_and_comes_back_slowly() -> None:
    appetite = Appetite().refused(30)
    assert appetite.most == 15
    for _ in range(GROW_AFTER - 1):
        appetite = appetite.answered(5, 100)
    assert appetite.most == 15
    assert appetite.answered(5, 100).most == 30
    assert Appetite(1).refused(1).most == 1
    assert Appetite().answered(10, SAMPLES_AIMED_AT * 2).most == 5


def test_where_all_is_slow_fewer_are_asked_for_together_and_never_few() -> None:
    assert [Appetite(most).slowed(30).most for most in (50, 20, 10, 8, 3, 1)] == [15, 10, 8, 8, 3, 1]
    slow = Appetite()
    for _ in range(10):
        slow = slow.slowed(slow.most)
    assert (slow.most, slow.refusals) == (FEW, 0), "it comes back as soon as ever"


def test_a_server_that_answers_no_merged_query_is_seldom_asked_one() -> None:
    appetite, refused = Appetite(), 0
    for _ in range(10_000):
        if appetite.most > 1:
            appetite, refused = appetite.refused(appetite.most), refused + 1
        else:
            appetite = appetite.answered(1, 100)
    assert 5 < refused < 20
