"""What can be wrong with a journey although every single field is in order: above all, what it saves and uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from firstwatch.spec.diagnostics import Finding, did_you_mean
from firstwatch.spec.findings import Loc, condition, expression, passes
from firstwatch.spec.request import Request
from firstwatch.spec.synthetic import SAVED, Journey, Step


def findings(loc: Loc, journey: Journey) -> Iterator[Finding]:
    """Every fault of meaning in one journey, except for what its requests may be (see plan)."""
    steps = list(_steps(loc, journey))
    for place, step in steps:
        for i, text in enumerate(step.expect):
            yield from condition((*place, "expect", i), text)
        for name, text in step.save.items():
            yield from expression((*place, "save", name), text)
        yield from passes((*place, "timeout"), step.timeout, "for example 5s")
    yield from _saved_values(steps)


def _steps(loc: Loc, journey: Journey) -> Iterator[tuple[Loc, Step]]:
    """Each step with its place, in the order in which they are taken; clean-up may stand there as a single one."""
    for key, steps in (("steps", journey.steps), ("cleanup", journey.cleanup)):
        yield from (((*loc, key, i), step) for i, step in enumerate(steps))


def _saved_values(steps: list[tuple[Loc, Step]]) -> Iterator[Finding]:
    """What a step uses must have been saved by an earlier one, and by one only."""
    saved_by: dict[str, str] = {}
    names = {name: step.name for _, step in reversed(steps) for name in step.save}
    for place, step in steps:
        for at, name in _used(step):
            if name in saved_by:
                continue
            if name in names:
                told = f"`${{{name}}}` is used before it is saved, by {names[name]!r}"
                yield Finding((*place, *at), told, "put that step before this one", needs=("synthetic",))
            else:
                hint = did_you_mean(name, names) if names else f"add save: {{{name}: json.…}} to an earlier step"
                yield Finding((*place, *at), f"`${{{name}}}` is saved by no step", hint, needs=("synthetic",))
        for name in step.save:
            if name in saved_by:
                told = f"`{name}` is saved twice, first by {saved_by[name]!r}"
                yield Finding((*place, "save", name), told, "give it another name here")
            saved_by.setdefault(name, step.name)


def _used(step: Step) -> Iterator[tuple[Loc, str]]:
    """The saved values that a step asks for, each once a place."""
    for at, text in sent_texts(step):
        yield from ((at, name) for name in dict.fromkeys(SAVED.findall(text)))


def sent_texts(request: Request) -> Iterator[tuple[Loc, str]]:
    """Every text of a request in which `${name}` may stand, with its place."""
    method = request.method.lower()
    yield (method,), request.path
    for key, given in (("headers", request.headers), ("json", request.json_body), ("form", request.form)):
        yield from _texts((key,), given)
    yield from _texts(("body",), request.body)


def _texts(at: Loc, given: Any) -> Iterator[tuple[Loc, str]]:
    if isinstance(given, str):
        yield at, given
    elif isinstance(given, dict):
        for key, inner in given.items():
            yield from _texts((*at, key), inner)
    elif isinstance(given, list):
        for i, inner in enumerate(given):
            yield from _texts((*at, i), inner)
