"""Has an answer changed without a release?

The first answer that is seen is the baseline. A change that comes with a new version is the new baseline; a change of
which no release tells is a failure, until it is undone, released or accepted.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from firstwatch.answer import Answer
from firstwatch.conditions import ConditionError, evaluate
from firstwatch.found import Found
from firstwatch.model import Outcome, rfc3339
from firstwatch.redaction import Redactor
from firstwatch.report.text import count, plain
from firstwatch.spec.synthetic import Drift

_KEPT_TEXT = 2_000  # characters of a text
_KEPT_JSON = 8_000  # characters of JSON; what is longer is kept as a text
_DIFF_LINES = 40
_LINE = 200  # characters of one


@dataclass(frozen=True, slots=True)
class Sight:
    """What one answer shows of what is watched. `values` are redacted JSON, cut to what is kept; `digest` is of all of
    them as they came, so that what is cut or secret cannot change unseen. `missing` says, by expression, why there is
    no value. `version` is empty where none is asked for or named; `broken` says why the answer is none to compare."""

    values: Mapping[str, Any]
    digest: str
    version: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is compared with. Plain JSON with firstwatch.model.as_json, and back with pydantic's TypeAdapter. `absent`
    are expressions that have no value, which a person has accepted."""

    values: Mapping[str, Any]
    digest: str
    version: str
    taken_at: float
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """`diff` are lines as people read them, `baseline` what is to be stored from now on; None: leave it as it is."""

    found: Found
    diff: tuple[str, ...] = ()
    baseline: Baseline | None = None


# ── what an answer shows ─────────────────────────────────────────────────────────────────────────────────────


def watched(drift: Drift, answer: Answer, redactor: Redactor) -> Sight:
    """What is to be compared of the answer: the fields of `watch`, or without any the status and the body."""
    try:
        return _seen(drift, answer, redactor)
    except RecursionError:
        return Sight({}, "", broken="answered JSON that is nested too deep")


def _seen(drift: Drift, answer: Answer, redactor: Redactor) -> Sight:
    values, missing = _looked_at(drift.watch, answer) if drift.watch else (_all_of(answer), {})
    return Sight(
        values=redactor.value({name: _cut(value) for name, value in values.items()}),
        digest=hashlib.sha256(_dumped([values, sorted(missing)]).encode("utf-8", "surrogatepass")).hexdigest(),
        version=plain(redactor.text(_version(drift, answer)), 100),
        missing={name: redactor.text(why) for name, why in missing.items()},
        broken=f"answered {answer.status}" if answer.status >= 500 else "",
    )


def _all_of(answer: Answer) -> dict[str, Any]:
    return {"status": answer.status, "body": answer.text if answer.json_why else answer.json}


def _looked_at(expressions: Sequence[str], answer: Answer) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for text in expressions:
        try:
            values[text] = json.loads(_dumped(evaluate(text, answer.names())))
        except ConditionError as why:
            missing[text] = str(why)
    return values, missing


def _version(drift: Drift, answer: Answer) -> str:
    try:
        found = evaluate(drift.version, answer.names()) if drift.version else ""
    except ConditionError:
        return ""
    return found if isinstance(found, str) else _dumped(found)


def _dumped(value: Any) -> str:
    """JSON in one spelling. What CEL has besides JSON (times, bytes) is a text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _KEPT_TEXT else f"{value[:_KEPT_TEXT]}…"
    text = _dumped(value)
    return value if len(text) <= _KEPT_JSON else f"{text[:_KEPT_TEXT]}…"


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────


def compare(baseline: Baseline | None, sight: Sight, now: float) -> Compared:
    """Is it still as it was? `now` is Unix time. An answer that is broken, or does not show what is watched, is never
    taken as the baseline."""
    if sight.broken:
        return Compared(Found(Outcome.FAIL, f"{sight.broken}, so what is watched cannot be seen"))
    if baseline is None or _watches_something_else(baseline, sight):
        return _first_sight(sight, now, "seen" if baseline is None else "what the file watches now is seen")
    if sight.digest == baseline.digest:
        return _unchanged(baseline, sight, now)
    diff = tuple(_diff(baseline, sight))
    if sight.version and sight.version != baseline.version:
        return _released(baseline, sight, now, diff)
    return Compared(Found(Outcome.FAIL, _without_a_release(baseline, sight, diff), facts=_facts(baseline, sight)), diff)


def accept(sight: Sight, now: float) -> Baseline:
    """What is seen, as the baseline: a person has said so, or nothing was known before."""
    return Baseline(sight.values, sight.digest, sight.version, now, tuple(sight.missing))


def _unchanged(baseline: Baseline, sight: Sight, now: float) -> Compared:
    """A new version with the same answer is kept, so that a change after it is not taken for its own."""
    new = accept(sight, now) if sight.version and sight.version != baseline.version else None
    found = Found(Outcome.PASS, f"as it was on {rfc3339(baseline.taken_at)}", facts=_facts(baseline, sight))
    return Compared(found, baseline=new)


def _watches_something_else(baseline: Baseline, sight: Sight) -> bool:
    """Has the file another selection now, and is the part that was there before unchanged?"""
    before, names = {*baseline.values, *baseline.absent}, {*sight.values, *sight.missing}
    both = baseline.values.keys() & names
    same = all(name in sight.values and _dumped(baseline.values[name]) == _dumped(sight.values[name]) for name in both)
    return same and before != names


def _first_sight(sight: Sight, now: float, seen: str) -> Compared:
    if sight.missing:
        return Compared(Found(Outcome.NO_DATA, f"no baseline can be taken: {'; '.join(sight.missing.values())}"))
    found = Found(Outcome.PASS, f"{seen} for the first time: taken as the baseline")
    return Compared(found, baseline=accept(sight, now))


def _released(baseline: Baseline, sight: Sight, now: float, diff: tuple[str, ...]) -> Compared:
    came = f"version {baseline.version or '(none)'} became {sight.version}"
    facts = _facts(baseline, sight)
    if gone := "; ".join(why for name, why in sight.missing.items() if name not in baseline.absent):
        return Compared(Found(Outcome.FAIL, f"{came}, and what is watched is gone: {gone}", facts=facts), diff)
    why = f"changed with a release: {came}; taken as the baseline ({count(len(diff), 'line')} of difference)"
    return Compared(Found(Outcome.PASS, why, facts=facts), diff, accept(sight, now))


def _without_a_release(baseline: Baseline, sight: Sight, diff: Sequence[str]) -> str:
    since = f"since {rfc3339(baseline.taken_at)}"
    if sight.version:
        release = f" (still version {sight.version})"
    else:
        release = " (it names no version any more)" if baseline.version else ""
    more = f"; and {count(len(diff) - 3, 'further line')}" if len(diff) > 3 else ""
    return f"changed without a release {since}{release}: {'; '.join(diff[:3])}{more}"


def _facts(baseline: Baseline, sight: Sight) -> dict[str, float | str]:
    facts: dict[str, float | str] = {"baseline_at": baseline.taken_at}
    return {**facts, "version": sight.version} if sight.version else facts


# ── the difference, as people read it ────────────────────────────────────────────────────────────────────────


def _diff(baseline: Baseline, sight: Sight) -> Iterator[str]:
    """At most so many lines; never none."""
    lines = list(_all_lines(baseline, sight)) or ["what differs is secret, or lies beyond what is kept"]
    yield from (plain(line, _LINE) for line in lines[:_DIFF_LINES])
    if len(lines) > _DIFF_LINES:
        yield f"… and {count(len(lines) - _DIFF_LINES, 'more line')}"


def _all_lines(baseline: Baseline, sight: Sight) -> Iterator[str]:
    for name in dict.fromkeys((*baseline.values, *sight.values)):
        if name in sight.missing and name in baseline.values:
            yield f"{name}: {_shown(baseline.values[name])} → gone"
        else:
            yield from _changes(name, baseline.values.get(name, _ABSENT), sight.values.get(name, _ABSENT))


_ABSENT = object()


def _changes(where: str, before: Any, after: Any) -> Iterator[str]:
    """Key by key for objects, line by line for lists and long texts, and as a whole for the rest."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _changes(f"{where}.{key}", before.get(key, _ABSENT), after.get(key, _ABSENT))
    elif before is not _ABSENT and after is not _ABSENT and _dumped(before) == _dumped(after):
        return
    elif (old := _lines(before)) is not None and (new := _lines(after)) is not None:
        unified = islice(difflib.unified_diff(old, new, n=0, lineterm=""), 2, None)  # after the two names
        yield from (f"{where}: {line[0]} {line[1:]}" for line in unified if not line.startswith("@@"))
    else:
        yield f"{where}: {_shown(before)} → {_shown(after)}"


def _lines(value: Any) -> list[str] | None:
    """The lines of what has several, None for the rest."""
    if isinstance(value, list):
        return [_dumped(item) for item in value]
    return value.splitlines() if isinstance(value, str) and "\n" in value else None


def _shown(value: Any) -> str:
    return "nothing" if value is _ABSENT else plain(_dumped(value), 80)
