"""A journey's steps carry values over: what an answer gives is saved, and `${name}` in a later step is filled in.

What a service answers is hostile: no value may make another request of a step than the file wrote. Pure; whether the
filled request may be sent, the rules decide once more.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from firstwatch.answer import Answer
from firstwatch.conditions import HTTP_NAMES, ConditionError, compile_expression, evaluate
from firstwatch.model import Attempt, Outcome, Phases
from firstwatch.monitor import Kind, Probe
from firstwatch.redaction import MASK, Redactor
from firstwatch.spec.journey_findings import sent_texts
from firstwatch.spec.synthetic import SAVED, Journey, Step

LONGEST = 4096
"""Characters of a saved value, as JSON. It is looked for in all that is written, so it must not be any size."""
_MOST_TEXTS = 50  # in one saved value, for the same reason
_HIDDEN_FROM = 8  # characters: a shorter text is hidden only where its name is telling …
_HIDDEN_AT_ALL = 4  # … and an even shorter one would blot out innocent words

_SECRET = re.compile(r"secret:[A-Za-z0-9_-]+")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BY_NAME = Redactor()


class CannotFill(ValueError):
    """A step asks for what was not saved, or for what must not stand there. The text names it, and quotes no value."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What a step has saved, by name; and why something could not be (empty if all is there)."""

    values: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


# ── filling in ───────────────────────────────────────────────────────────────────────────────────────────────


def names_in(step: Step) -> list[str]:
    """The saved values that a step asks for, each once."""
    return list(dict.fromkeys(name for _, text in sent_texts(step) for name in SAVED.findall(text)))


def fill_step(step: Step, saved: Mapping[str, Any]) -> Step:
    """The step as it is sent. Raises CannotFill.

    In path and query a value is percent-encoded, so that it adds none; a header stays one line; in JSON a text that is
    `${name}` and no more becomes the value itself.
    """
    if missing := [name for name in names_in(step) if name not in saved]:
        raise CannotFill(f"nothing has been saved as {' and '.join(missing)}")
    filled = step.model_copy(
        update={
            step.method.lower(): _filled_path(step.path, saved),
            "headers": {name: _filled_header(name, text, saved) for name, text in step.headers.items()},
            "json_body": _filled_json(step.json_body, saved),
            "form": step.form and {name: _filled(text, saved) for name, text in step.form.items()},
            "body": step.body and _filled(step.body, saved),
        }
    )
    if _secrets(filled) - _secrets(step):  # the transport would replace it by a secret of ours
        raise CannotFill(f"{' or '.join(names_in(step))} holds a text that would name a secret of ours")
    return filled


def _filled(text: str, saved: Mapping[str, Any]) -> str:
    return SAVED.sub(lambda found: _text(saved[found[1]]), text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _filled_path(path: str, saved: Mapping[str, Any]) -> str:
    """A path with its query. Raises CannotFill for a host that is to be filled in, and for a segment that would vanish
    or lead upwards: clients and servers take `.` and `..` out of a path, however they are written."""
    authority = found[0] if (found := _AUTHORITY.match(path)) else ""
    if "${" in authority:
        raise CannotFill("a saved value cannot stand in a host")
    where, mark, query = path[len(authority) :].partition("?")
    segments = [_filled_segment(segment, saved) for segment in where.split("/")]
    return f"{authority}{'/'.join(segments)}{mark}{_quoted(query, saved)}"


def _filled_segment(segment: str, saved: Mapping[str, Any]) -> str:
    for name in SAVED.findall(segment):
        if not _text(saved[name]):
            raise CannotFill(f"{name} is empty, which cannot stand in a path")
    filled = _quoted(segment, saved)
    if filled != segment and not filled.strip("."):
        raise CannotFill(f"{' and '.join(SAVED.findall(segment))} would lead to another path")
    return filled


def _quoted(text: str, saved: Mapping[str, Any]) -> str:
    return SAVED.sub(lambda found: quote(_text(saved[found[1]]), safe=""), text)


def _filled_header(name: str, text: str, saved: Mapping[str, Any]) -> str:
    for key in SAVED.findall(text):
        if _CONTROL.search(_text(saved[key])):
            raise CannotFill(f"{key} holds a line break or another control character, which the header {name} cannot")
    return _filled(text, saved)


def _filled_json(value: Any, saved: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled_json(item, saved) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled_json(item, saved) for item in value]
    if not isinstance(value, str):
        return value
    whole = SAVED.fullmatch(value)
    return saved[whole[1]] if whole else _filled(value, saved)


def _secrets(step: Step) -> Counter[str]:
    """Every `secret:NAME` of a step, with how often it stands there."""
    return Counter(name for _, text in sent_texts(step) for name in _SECRET.findall(text))


# ── saving ───────────────────────────────────────────────────────────────────────────────────────────────────


def save(step: Step, answer: Answer) -> Saved:
    """What the step's `save` finds in the answer. What can be had is kept even where the rest is missing: clean-up may
    need it."""
    values, wrong = {}, []
    for name, text in step.save.items():
        try:
            values[name] = _kept(text, answer)
        except ConditionError as missing:
            # What is there instead is told, unless that may be the secret itself.
            said = f"{text} does not give it" if is_telling(name) else str(missing)
            wrong.append(f"cannot save {name}: {said}")
    if wrong and answer.json_why and any(_looks_at_json(text) for text in step.save.values()):
        wrong.append(answer.json_why)
    return Saved(values, "; ".join(wrong))


def _kept(text: str, answer: Answer) -> Any:
    """The value of the expression. Raises ConditionError if there is none that can be carried on."""
    value = evaluate(text, answer.names())
    if value is None or value == "":
        raise ConditionError(f"{text}: it is {'null' if value is None else 'empty'}")
    try:
        size = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise ConditionError(f"{text}: it is nothing that JSON can hold") from None
    if size > LONGEST or sum(1 for _ in _leaves("", value)) > _MOST_TEXTS:
        raise ConditionError(f"{text}: it is longer than {LONGEST} characters or {_MOST_TEXTS} values")
    return value


def _looks_at_json(text: str) -> bool:
    return any(path[0] == "json" for path in compile_expression(text, HTTP_NAMES))


def is_telling(name: str) -> bool:
    """Does the name say that its value is a secret (token, session, password …)?"""
    return MASK in _BY_NAME.url(f"?{name}=x")


def to_hide(values: Mapping[str, Any]) -> Iterator[str]:
    """The texts among saved values that must never be shown: all long ones, and short ones under a telling name."""
    for name, value in values.items():
        for key, leaf in _leaves(name, value):
            telling = is_telling(name) or is_telling(key)
            if (isinstance(leaf, str) and len(leaf) >= _HIDDEN_FROM) or (
                telling and len(_text(leaf)) >= _HIDDEN_AT_ALL
            ):
                yield _text(leaf)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every plain value, with the name that it goes by."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(str(key), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(name, inner)
    elif not isinstance(value, bool) and not (isinstance(value, float) and not math.isfinite(value)):
        yield name, value


# ── what a journey comes to ──────────────────────────────────────────────────────────────────────────────────


def step_label(journey: Journey, i: int, attempt: int = 1) -> str:
    """`buy tea 2/4 add to cart`: the step at index `i`, as its task run is named; a confirming one says so."""
    label = f"{journey.name} {i + 1}/{len(journey.steps)} {journey.steps[i].name}"
    return label if attempt == 1 else f"{label}, attempt {attempt}"


def probe_of(
    journey: Journey, taken: Sequence[Attempt], *, target: str, at: float, warning: str = "", skipped: str = ""
) -> Probe:
    """What one way through a journey found. `taken` are its steps as far as it came, `at` is when it began; `warning`
    and `skipped` tell of the clean-up. It passes only if every step was taken and passed."""
    n = len(journey.steps)
    done = len(taken) == n and all(a.outcome is Outcome.PASS for a in taken)
    outcome = Outcome.PASS if done else taken[-1].outcome if taken else Outcome.ERROR
    told = [(i, a) for i, a in enumerate(taken) if a.why and (done or i == len(taken) - 1)]
    why = "; ".join(f"step {i + 1}/{n} {journey.steps[i].name}: {a.why}" for i, a in told)
    if outcome is Outcome.PASS and not done:
        outcome = Outcome.ERROR
    facts: dict[str, float | str] = {"steps": n}
    if not done and taken:
        facts["failed_step"] = journey.steps[len(taken) - 1].name
    if skipped:
        facts["cleanup_skipped"] = skipped
    sent = [a.elapsed for a in taken if a.elapsed is not None]
    elapsed, status = sum(sent) if sent else None, taken[-1].status if taken else None
    phases = sum((a.phases for a in taken if a.phases is not None), Phases())
    attempt = Attempt(outcome, why or ("" if done else "was not taken to its end"), at, elapsed, status, phases)
    return Probe(
        check=journey.name,
        kind=Kind.JOURNEY,
        target=target,
        outcome=outcome,
        why=attempt.why,
        at=at,
        elapsed=elapsed,
        warning=warning,
        phases=phases,
        attempts=(attempt,),
        facts=facts,
    )
