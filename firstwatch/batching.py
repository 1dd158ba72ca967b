"""Many questions for raw samples, asked in few queries: which go together, and who gets what of an answer.

Raw samples can be told apart again, so that merging changes nothing but the number of requests. A query that serves
several selectors asks for exactly their series, over a range of time that covers all of theirs:

    {__name__=~"a|b",service="x"}     other names, the same matchers
    a{service=~"x|y"}                 one equality in which they differ

What a selector means must be certain for that: Prometheus reads regular expressions as RE2, we as Python's, so only
patterns that both read alike are merged. Everything else is asked alone.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import quote

from firstwatch.selector import Matcher, Selector
from firstwatch.series import RawSeries

MOST_MEMBERS = 50  # questions in one query
MOST_TEXT = 4000  # characters of a query's selector, as a URL holds them: proxies refuse longer ones than 8,000
ENDS_WITHIN = 5.0  # seconds between the ends of ranges that go together
LENGTHS_WITHIN = 2.0  # the longest of them, in lengths of the shortest
SAMPLES_AIMED_AT = 150_000  # in one answer: some 4 MB of JSON
FEW = 8  # questions in one query, which cost hardly more than one
GROW_AFTER = 20  # answers in a row, after which more is asked at a time again

_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
_SAME_IN_BOTH = re.compile(
    r"""(?: \| | \) | \((?:\?:)?
      | (?: [A-Za-z0-9_\-/:@%&=,;!~<>\ ] | \. | \\[dDwW] | \\[.+*?()|\[\]{}^$\-/]
          | \[\^?(?:[A-Za-z0-9_]-[A-Za-z0-9_]|[A-Za-z0-9_])+\]
        ) (?: [*+?]\?? (?![*+?{]) )?
      | (?<=\)) [*+?]\?? (?![*+?{])
    )*""",
    re.VERBOSE,
)
_LONGEST_PATTERN = 300
_GROUPS_COMPARED = 10  # the newest: a history's questions have all different ends

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """The raw samples of a selector in [since, until] (Unix seconds)."""

    selector: Selector
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Batch:
    """One instant query of a range of raw samples, and whose it is. `label` is where members differ, if they do.

    `promql` is asked at `at`, Unix seconds as text, whole milliseconds: floats would be rounded on their way.
    """

    promql: str
    at: str
    members: tuple[Asked, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Appetite:
    """How many questions may go into one query: fewer after a refusal or a large answer, slowly more again.

    `answers` came since it last grew. The more `refusals` of merged queries without an answer to one, the slower.
    """

    most: int = MOST_MEMBERS
    answers: int = 0
    refusals: int = 0

    def refused(self, members: int) -> Appetite:
        """A query for so many was refused."""
        return Appetite(max(1, min(self.most, members) // 2), 0, self.refusals + 1)

    def slowed(self, members: int) -> Appetite:
        """A query for so many took too long: perhaps as it was for so many, perhaps as everything is slow. So it is for
        fewer, and never for few: who has no time for eight in one query has none for eight queries."""
        return Appetite(max(min(self.most, FEW), min(self.most, members) // 2), 0, self.refusals)

    def answered(self, members: int, samples: int) -> Appetite:
        refusals = 0 if members > 1 else self.refusals
        grown = self.answers + 1 >= GROW_AFTER * 2 ** min(refusals, 6)
        most = min(MOST_MEMBERS, 2 * self.most) if grown else self.most
        fitting = SAMPLES_AIMED_AT * members // max(samples, 1)
        return Appetite(max(1, min(most, fitting)), 0 if grown else self.answers + 1, refusals)


@dataclass(frozen=True)
class _Family:
    """Questions with the same matchers, each for one of the names."""

    matchers: tuple[Matcher, ...]
    members: tuple[Asked, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({member.selector.name for member in self.members}))

    def value_of(self, label: str) -> str:
        return next((m.value for m in self.matchers if m.label == label), "")


# ── before asking ────────────────────────────────────────────────────────────────────────────────────────────


def plan(asked: Iterable[Asked], most: int = MOST_MEMBERS) -> list[Batch]:
    """The queries that answer all of `asked`, at most so many in one; who asked first comes first."""
    order = {one: i for i, one in enumerate(dict.fromkeys(asked))}
    certain = [one for one in order if most > 1 and is_certain(one.selector)]
    batches = [alone(one) for one in order if most <= 1 or not is_certain(one.selector)]
    for group in _alike_in_time(certain):
        batches += _merged(group, most)
    return sorted(batches, key=lambda batch: min(order[member] for member in batch.members))


def alone(one: Asked) -> Batch:
    """The query for one question only."""
    return _batch(str(one.selector), (one,))


def is_certain(selector: Selector) -> bool:
    """Do we know for each series whether Prometheus would say that the selector matches it?"""
    return bool(_NAME.fullmatch(selector.name)) and all(map(_is_certain, selector.matchers))


def covers(wide: Selector, narrow: Selector) -> bool:
    """Are all series of `narrow` among those of `wide`, and can we pick them out?"""
    return wide.name == narrow.name and set(wide.matchers) <= set(narrow.matchers) and is_certain(narrow)


def _is_certain(matcher: Matcher) -> bool:
    if not _LABEL.fullmatch(matcher.label) or matcher.label == "__name__" or not matcher.value.isprintable():
        return False
    if matcher.op in ("=", "!="):
        return True
    return len(matcher.value) <= _LONGEST_PATTERN and _SAME_IN_BOTH.fullmatch(matcher.value) is not None


def _alike_in_time(asked: Iterable[Asked]) -> list[list[Asked]]:
    """Groups of about the same range: then the range that covers them all is hardly longer than each."""
    groups: list[list[Asked]] = []
    for one in sorted(asked, key=lambda a: (a.until, a.since)):
        home = next((group for group in groups[-_GROUPS_COMPARED:] if _fits(one, group)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return groups


def _fits(one: Asked, group: Sequence[Asked]) -> bool:
    """Compared with the group's first: its end is the earliest. Within the root of the limit, any two are within it."""
    first, factor = group[0], math.sqrt(LENGTHS_WITHIN)
    length, usual = one.until - one.since, group[0].until - group[0].since
    return one.until - first.until <= ENDS_WITHIN and usual / factor <= length <= usual * factor


def _merged(group: Sequence[Asked], most: int) -> list[Batch]:
    """First by name, then by the label that brings most families together. The product is complete each time: no
    series is fetched that nobody asked for."""
    families = list(_families(group, most))
    relatives: dict[tuple[tuple[str, ...], frozenset[Matcher], str], list[int]] = defaultdict(list)
    for i, family in enumerate(families):
        for label in _labels_to_differ_in(family):
            others = frozenset(m for m in family.matchers if m.label != label)
            relatives[family.names, others, label].append(i)
    batches, left = [], set(range(len(families)))
    for (_, _, label), members in sorted(relatives.items(), key=lambda entry: -len(entry[1])):
        free = [families[i] for i in members if i in left]
        if len(free) > 1:
            left -= set(members)
            batches += _joined(free, label, most)
    return batches + [_batch_of([families[i]], "") for i in sorted(left)]


def _joined(families: Sequence[_Family], label: str, most: int) -> list[Batch]:
    """Families that differ in `label` only."""
    packs = _packs(families, lambda f: len(f.members), lambda f: len(quote(f.value_of(label))), most)
    return [_batch_of(pack, label) for pack in packs]


def _families(group: Sequence[Asked], most: int) -> Iterator[_Family]:
    by_matchers: dict[frozenset[Matcher], list[Asked]] = defaultdict(list)
    for one in group:
        by_matchers[frozenset(one.selector.matchers)].append(one)
    for members in by_matchers.values():
        for pack in _packs(members, lambda _: 1, lambda one: len(one.selector.name), most):
            yield _Family(pack[0].selector.matchers, tuple(pack))


def _labels_to_differ_in(family: _Family) -> list[str]:
    """An empty value is left out: it means a missing label, too."""
    labels = [m.label for m in family.matchers]
    return sorted(m.label for m in family.matchers if m.op == "=" and m.value and labels.count(m.label) == 1)


def _packs(items: Iterable[T], weight: Callable[[T], int], length: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """The items in packs that neither hold too many questions nor make too long a text."""
    pack: list[T] = []
    for item in items:
        grown = [*pack, item]
        if pack and (sum(map(weight, grown)) > most or sum(length(i) + len(quote("|")) for i in grown) > MOST_TEXT / 2):
            yield pack
            grown = [item]
        pack = grown
    if pack:
        yield pack


def _batch_of(families: Sequence[_Family], label: str) -> Batch:
    first = families[0]
    matchers = first.matchers
    if len(families) > 1:
        values = _either(family.value_of(label) for family in families)
        matchers = tuple(replace(m, op="=~", value=values) if m.label == label else m for m in matchers)
    if len(first.names) > 1:
        named = Matcher("__name__", "=~", _either(first.names))
        text = f"{{{','.join(map(str, (named, *matchers)))}}}"
    else:
        text = str(Selector(first.names[0], matchers))
    return _batch(text, tuple(member for family in families for member in family.members), label)


def _either(values: Iterable[str]) -> str:
    """A pattern that matches each of the values, and nothing else."""
    return "|".join(_SPECIAL.sub(r"\\\1", value) for value in values)


def _batch(text: str, members: tuple[Asked, ...], label: str = "") -> Batch:
    promql, at = ranged(text, min(m.since for m in members), max(m.until for m in members))
    return Batch(promql, at, members, label)


def ranged(text: str, since: float, until: float) -> tuple[str, str]:
    """The query for raw samples in [since, until], and its time; a millisecond more, as Prometheus 3 leaves out the
    range's left end."""
    end = math.ceil(until * 1000)
    width = max(1, end - math.floor(since * 1000) + 1)
    return f"{text}[{width}ms]", f"{end / 1000:.3f}"


# ── after the answer ─────────────────────────────────────────────────────────────────────────────────────────


def split(batch: Batch, answer: Sequence[RawSeries]) -> dict[Asked, list[RawSeries]]:
    """What each member would have been answered alone.

    Raises ValueError if the answer holds a series that no member asked for: then it does not mean what we think.
    """
    if len(batch.members) == 1:
        return {batch.members[0]: _trimmed(batch.members[0], answer)}
    homes: dict[tuple[str, str], list[RawSeries]] = defaultdict(list)
    for series in answer:
        homes[series.labels.get("__name__", ""), series.labels.get(batch.label, "")].append(series)
    found: dict[Asked, list[RawSeries]] = {}
    placed: set[int] = set()
    for member in batch.members:
        home = homes.get((member.selector.name, _value(member.selector, batch.label)), [])
        mine = [s for s in home if member.selector.matches(s.labels["__name__"], s.labels)]
        placed.update(map(id, mine))
        found[member] = _trimmed(member, mine)
    if len(placed) < len(answer):
        raise ValueError("the answer to a merged query holds a series that nobody asked for")
    return found


def among(selector: Selector, series: Iterable[RawSeries]) -> list[RawSeries]:
    """The series that the selector matches, of those of a selector that covers it."""
    return [one for one in series if selector.matches(one.labels.get("__name__", ""), one.labels)]


def _value(selector: Selector, label: str) -> str:
    return next((m.value for m in selector.matchers if m.label == label), "") if label else ""


def _trimmed(asked: Asked, answer: Iterable[RawSeries]) -> list[RawSeries]:
    """The samples in the asker's own range; a series without any is none."""
    trimmed = []
    for series in answer:
        first, end = bisect_left(series.at, asked.since), bisect_right(series.at, asked.until)
        if first == 0 and end == len(series.at) and end:
            trimmed.append(series)
        elif first < end:
            trimmed.append(RawSeries(series.labels, series.at[first:end], series.value[first:end]))
    return trimmed
