"""The list of kills of bench/kills.py, and what counts as held."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from bench.kills import SHARES, Gap, Storm, gaps, held, kinds


@pytest.mark.parametrize("kills", [1, 7, 200])
def test_every_kind_is_killed_as_often_as_its_share_says_and_in_a_seeded_order(kills: int) -> None:
    order = kinds(kills, random.Random(1))
    assert len(order) == kills and order == kinds(kills, random.Random(1))
    assert kills == 1 or order != kinds(kills, random.Random(2))
    assert all(abs(times - SHARES[kind] * kills) <= 1 for kind, times in Counter(order).items())


def test_releases_go_on_for_as_long_as_there_are_kills() -> None:
    assert Storm(kills=200, every=5).seconds == 1000 and Storm(kills=200, every=5).releases == 125


WELL: dict[str, Any] = {
    "ended": 3,
    "states": {"Healthy": 2, "RolledBack": 1},
    "not_as_it_should": {},
    "rollbacks": {"bad": 1, "bad_once": 1, "good": 0},
    "checkpoints_lost": 0,
    "checkpoints_doubled": 0,
}


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({}, []),
        ({"ended": 2}, ["none is stuck"]),
        ({"not_as_it_should": {"good: Inconclusive": 1}}, ["good are healthy, bad are rolled back"]),
        ({"rollbacks": {"bad": 1, "bad_once": 0, "good": 0}}, ["one rollback for each bad release, none else"]),
        ({"rollbacks": {"bad": 1, "bad_once": 1, "good": 1}}, ["one rollback for each bad release, none else"]),
        ({"checkpoints_lost": 1}, ["no checkpoint lost"]),
        ({"checkpoints_doubled": 1}, ["no checkpoint repeated"]),
    ],
)
def test_each_promise_can_be_broken(change: dict[str, Any], broken: list[str]) -> None:
    assert [name for name, kept in held({**WELL, **change}).items() if not kept] == broken


def states(*of_a_run: tuple[float, str, str]) -> list[dict[str, Any]]:
    return [
        {"timestamp": datetime.fromtimestamp(at, UTC).isoformat(), "type": kind, "name": kind, "message": message}
        for at, kind, message in of_a_run
    ]


def test_how_long_it_took_until_somebody_took_a_run_up_again() -> None:
    died = "Its worker one has died; another one goes on."
    histories = {
        "killed": states((0, "RUNNING", ""), (5, "CRASHED", ""), (15, "SCHEDULED", ""), (17, "PENDING", "")),
        "had ended": states((0, "RUNNING", ""), (5, "COMPLETED", "")),
        "orphan": states((0, "RUNNING", ""), (30, "SCHEDULED", died), (32, "PENDING", ""), (33, "RUNNING", "")),
    }
    log: list[dict[str, Any]] = [
        {"what": "a run's process", "run": "killed", "at": 4.0},
        {"what": "a run's process", "run": "had ended", "at": 6.0},
        {"what": "one", "at": 2.0},
        {"what": "one", "at": 31.0},
    ]
    assert gaps(log, histories) == [Gap("process", "killed", 13.0), Gap("worker", "orphan", 30.0)]
