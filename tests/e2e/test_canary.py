"""A real canary behind a real Prometheus: promoted on evidence only, rolled back when three in a row are below 99 %."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.production import Production, Result, Running, Scenario, kill, process_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SUCCESS = (
    'sum(rate(http_requests_total{service="{{service}}",status!~"5.."}[5s]))'
    ' / sum(rate(http_requests_total{service="{{service}}"}[5s]))'
)


def gated(**more: Any) -> Callable[[dict[str, Any]], None]:
    """The mission's gate, at a sixtieth of its time."""

    def change(file: dict[str, Any]) -> None:
        del file["smoke"]
        metric = {
            "name": "success-rate",
            "initialDelay": "4s",
            "interval": "2s",
            "count": 5,
            "successCondition": "result[0] >= 0.99",
            "consecutiveFailureLimit": 3,
            "provider": {"prometheus": {"query": SUCCESS}},
        }
        file["canary"] = {"metrics": [metric]}
        if "steps" in more:
            webhook = {"url": f"{file['base_url']}/admin/promote", "secret": "secret:rollback-hmac"}
            file["canary"] |= {"steps": more["steps"], "promote": {"webhook": webhook}}
        if "proceed" in more:
            file["canary"]["metrics"][0] |= {"name": "rate {metric}", "count": 1, "consecutiveFailureLimit": 1}
            file["on_inconclusive"] = "proceed"
        if "compare" in more:
            file["objectives"] = {"availability": "60%"}  # it is the other version that the canary is held against
            file["canary"]["metrics"] = [
                {
                    "name": "errors vs stable",
                    "judge": "compare",
                    "interval": "2s",
                    "count": 30,
                    "canary": {"version": "{{args.version}}"},
                    "stable": {"version": "{{args.stable}}"},
                }
            ]

    return change


def _kill_at_the_second_step(production: Production, running: Running) -> None:
    """Once its gate is being measured: a kill while the hook's answer is awaited would, rightly, be inconclusive."""
    until = time.monotonic() + 120
    query = {"flow_runs": {"id": {"any_": [running.flow_run_id]}}, "task_runs": {"name": {"like_": "canary 50%"}}}
    while not production.ask("task_runs/filter", **query):
        assert time.monotonic() < until, "the second step's gate was not reached within 120 s"
        time.sleep(0.2)
    pid = process_of(running.flow_run_id)
    assert pid is not None
    kill(pid)


SCENARIOS = {
    s.name: s
    for s in (
        Scenario("gate-held", flow="canary", change=gated()),
        Scenario("gate-bad", {"errors": 0.2}, flow="canary", rps=30, change=gated()),
        Scenario("gate-silent", rps=0, flow="canary", change=gated(), patience=300),
        Scenario("steps-held", flow="canary", change=gated(steps=["5%", "25%", "100%"])),
        Scenario("steps-proceed", rps=0, flow="canary", change=gated(steps=[5, 50], proceed=True), patience=300),
        Scenario("steps-killed", flow="canary", change=gated(steps=[5, 50]), meanwhile=_kill_at_the_second_step),
        Scenario(
            "compared",
            {"errors": 0.25},
            flow="canary",
            parameters={"stable": "v1"},
            change=gated(compare=True),
            rps=25,
            stable=True,
        ),
    )
}


@pytest.fixture(scope="module")
def played(production: Production, side_by_side: ThreadPoolExecutor) -> dict[str, Future[Result]]:
    return {name: side_by_side.submit(production.play, scenario) for name, scenario in SCENARIOS.items()}


def promotions(result: Result) -> list[tuple[Any, Any]]:
    bodies = [json.loads(call["body"]) for call in result.shop["promotions"]]
    return [(body["from"], body["to"]) for body in bodies]


def test_a_canary_that_holds_is_healthy(played: dict[str, Future[Result]]) -> None:
    result = played["gate-held"].result()
    assert result.ended == "Completed(Healthy)", str(result)
    for n in range(1, 6):
        assert result.task(f"canary {n}/5 success-rate")["state"]["name"] == "Pass"
    assert result.shop["rollbacks"] == [] and result.shop["version"] == "v2"


def test_three_in_a_row_below_99_percent_are_rolled_back(played: dict[str, Future[Result]]) -> None:
    result = played["gate-bad"].result()
    assert result.ended == "Failed(RolledBack)", str(result)
    measured = sorted(t["name"] for t in result.tasks if t["name"].startswith("canary "))
    assert measured[:3] == [f"canary {n}/5 success-rate" for n in (1, 2, 3)] and len(measured) <= 4
    assert [r["acted"] for r in result.shop["rollbacks"]] == [True] and result.shop["version"] == "v1"
    [page] = [a["data"] for key, a in result.artifacts.items() if key.startswith("release-")]
    assert "3 failures in a row" in page and "## Canary" in page and "✗" in page and "data:image/svg" in page
    assert "3 failures in a row" in result.messages[-1].text or "3 failures" in str(result.messages[-1])


def test_a_canary_without_traffic_is_neither_promoted_nor_rolled_back(played: dict[str, Future[Result]]) -> None:
    result = played["gate-silent"].result()
    assert result.ended == "Failed(Inconclusive)", str(result)
    assert result.shop["rollbacks"] == [] and result.shop["promotions"] == []


def test_each_gate_that_holds_promotes_to_the_next_step(played: dict[str, Future[Result]]) -> None:
    result = played["steps-held"].result()
    assert result.ended == "Completed(Healthy)", str(result)
    assert promotions(result) == [(5, 25), (25, 100)]
    assert result.task("promote to 25 %")["state"]["type"] == "COMPLETED"
    assert result.task("canary 100% 5/5 success-rate")["state"]["name"] == "Pass"


def test_proceed_takes_a_canary_to_its_next_step_and_never_leaves_it_half_way(
    played: dict[str, Future[Result]],
) -> None:
    result = played["steps-proceed"].result()
    assert promotions(result) == [(5, 50), (50, 100)], str(result)
    assert result.ended == "Completed(Proceeded)", str(result)
    [said, *_] = json.loads(result.shop["promotions"][0]["body"])["reasons"]
    assert said == "the service file: proceed. on_inconclusive: proceed"
    assert result.task("canary 50% 1/1 rate {metric}")["state"]["name"] == "NoData"


def test_a_killed_gate_goes_on_and_promotes_each_step_once(played: dict[str, Future[Result]]) -> None:
    result = played["steps-killed"].result()
    assert result.ended == "Completed(Healthy)", str(result)
    assert promotions(result) == [(5, 50), (50, 100)], str(result)
    names = [t["name"] for t in result.tasks if t["name"].startswith("canary 5%") and t["state"]["type"] == "COMPLETED"]
    assert len(names) == len(set(names)) == 5


def test_a_canary_that_is_worse_than_the_stable_version_is_rolled_back(played: dict[str, Future[Result]]) -> None:
    result = played["compared"].result()
    assert result.ended == "Failed(RolledBack)", str(result)
    assert len(result.shop["rollbacks"]) == 1
