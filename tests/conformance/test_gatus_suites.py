"""Gatus' suites as journeys of ours, run against a real server: which steps are taken, what it comes to, what is saved.

`decide_suite` turns a suite into a journey: steps in order, those that always run as its clean-up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from firstwatch.answer import read_answer
from firstwatch.journey import save
from firstwatch.model import Outcome
from firstwatch.monitor import Probe
from firstwatch.spec.models import Rules, Service
from firstwatch.spec.synthetic import Journey, Step
from tasks.budget import Budget
from tasks.http import open_transport
from tasks.journey import probe_journey
from tests.support.answering import Said, answering

Vector = Mapping[str, Any]
DIRECTORY = Path(os.environ.get("FIRSTWATCH_VECTORS", Path(__file__).parent / "vectors"))


def load() -> list[Vector]:
    """The suites. A fact in words (what is stored) is held by a test of its own below."""
    path = DIRECTORY / "gatus_vectors.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return [{**v, "kind": "suite_facts"} for v in found.get("suite_facts", []) if "steps" in v]


# ── what we decide ───────────────────────────────────────────────────────────────────────────────────────────


def decide_suite(v: Vector) -> dict[str, Any]:
    """The steps that were taken, as the server saw them, and whether the journey passed."""
    steps = [step for step in v["steps"] if not step.get("always_run")]
    cleanup = [step for step in v["steps"] if step.get("always_run")]
    journey = Journey(name="suite", steps=[*map(_step, steps)], cleanup=[*map(_step, cleanup)], retries=0)
    with answering(Said("{}")) as server:
        probe = asyncio.run(_run(journey, server.url))
        return {"ran": [path.strip("/") for path, _ in server.seen], "passes": probe.outcome is Outcome.PASS}


decide = decide_suite


def _step(given: Vector) -> Step:
    """The server always answers 200, so a step that is to fail expects something else."""
    return Step(name=given["name"], get=f"/{given['name']}", expect=[f"status == {200 if given['passes'] else 204}"])


async def _run(journey: Journey, url: str) -> Probe:
    service = Service(service="shop", base_url=url, rules=Rules(requests_per_second=1000))
    budget = Budget("shop", service.rules.requests_per_second)
    async with open_transport(service, logger=logging.Logger("suite"), budget=budget) as transport:
        return await probe_journey(transport, journey, deadline=time.monotonic() + 20)


def expected(v: Vector) -> dict[str, Any]:
    return {"ran": v["ran"], "passes": v["suite_passes"]}


# ── what we choose to say instead ────────────────────────────────────────────────────────────────────────────


class Difference(NamedTuple):
    """Where it `applies`, what was expected is changed `into` what we say."""

    name: str
    applies: Callable[[Vector], bool]
    into: Callable[[Vector, dict[str, Any]], dict[str, Any]]
    reason: str


def _last(v: Vector, said: dict[str, Any]) -> dict[str, Any]:
    always = {step["name"] for step in v["steps"] if step.get("always_run")}
    return {**said, "ran": sorted(said["ran"], key=lambda name: name in always)}


def _without_cleanup(v: Vector, said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "passes": all(step["passes"] for step in v["steps"] if not step.get("always_run"))}


DIFFERENCES = (
    Difference(
        "clean-up last",
        lambda v: _last(v, expected(v)) != expected(v),
        _last,
        "What always runs is the clean-up, and comes after the steps, wherever it stands in the suite.",
    ),
    Difference(
        "clean-up warns",
        lambda v: _without_cleanup(v, expected(v)) != expected(v),
        _without_cleanup,
        "A clean-up that fails is a warning: the journey itself held, and users notice nothing.",
    ),
)


def difference(v: Vector) -> Difference | None:
    return next((each for each in DIFFERENCES if each.applies(v)), None)


def agrees(v: Vector, decided: Any) -> bool:
    """As Gatus, or as the differences that apply."""
    said = expected(v)
    for each in DIFFERENCES:
        said = each.into(v, said) if decided != said and each.applies(v) else said
    return bool(decided == said)


# ── their vectors, and more ──────────────────────────────────────────────────────────────────────────────────


def _suite(passes: bool, ran: str, **steps: str) -> Vector:
    """Each step `ok` or `bad`, with `always` if it always runs."""
    made = [{"name": n, "passes": "ok" in how, "always_run": "always" in how} for n, how in steps.items()]
    return {"kind": "suite_facts", "id": ran, "steps": made, "ran": list(ran), "suite_passes": passes}


MORE: tuple[Vector, ...] = (  # as its suites run: what is no longer run, and what is all the same
    _suite(True, "abz", a="ok", b="ok", z="ok always"),
    _suite(False, "a", a="bad", b="ok"),
    _suite(False, "ayz", a="bad", b="ok", y="ok always", z="ok always"),
    _suite(True, "azb", a="ok", z="ok always", b="ok"),
    _suite(False, "az", a="ok", z="bad always"),
)


@pytest.mark.parametrize("vector", [*load(), *MORE], ids=lambda v: v["id"])
def test_a_suite_is_run_as_by_gatus_or_as_we_chose(vector: Vector) -> None:
    decided = decide(vector)
    assert agrees(vector, decided), decided


def test_what_ran_wrongly_does_not_agree() -> None:
    for vector in MORE[:3]:  # without a difference
        decided = expected(vector)
        assert not agrees(vector, {**decided, "passes": not decided["passes"]})
        assert not agrees(vector, {**decided, "ran": [*decided["ran"], "b"]})


@pytest.mark.parametrize("chosen", DIFFERENCES, ids=lambda d: d.name)
def test_each_chosen_difference_is_seen_and_told_in_the_docs(chosen: Difference) -> None:
    assert any(decide(v) != expected(v) for v in MORE if difference(v) is chosen)
    docs = Path(__file__).parents[2] / "docs" / "monitoring-gatus.md"
    assert f"**{chosen.name}**" in docs.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "value"), [("5", 5), ("1.5", 1.5), ("true", True), ('"x"', "x"), ('"5"', "5"), ("1.0", 1.0)]
)
def test_what_is_saved_keeps_its_type(written: str, value: Any) -> None:
    saved = _saved(f'{{"v": {written}}}')
    assert saved.values == {"v": value} and type(saved.values["v"]) is type(value) and not saved.why


def test_what_is_missing_is_not_saved_and_said() -> None:
    saved = _saved("{}")
    assert not saved.values and 'json has no key "v"' in saved.why


def _saved(body: str) -> Any:
    step = Step(name="a", get="/a", expect=["status == 200"], save={"v": "json.v"})
    return save(step, read_answer(200, {}, body.encode(), charset="utf-8", elapsed=0.1, wire_bytes=len(body)))
