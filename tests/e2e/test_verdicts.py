"""Real releases of a real service under real faults: what is said of each, and what is done about it."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.production import IN_PROCESS, PLANTED, PROCESSES, Production, Result, Running, Scenario
from tests.support.browser import browser

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _embedded(file: dict[str, Any]) -> None:
    file["metrics"] = {"scrape": f"{file['base_url']}/metrics", "every": "1s"}


def _no_such_hook(file: dict[str, Any]) -> None:
    file["rollback"] = {"webhook": {"url": f"{file['base_url']}/no-such-hook"}}


def _lose_prometheus(production: Production, running: Running) -> None:
    """A Prometheus that this scenario alone reads dies in mid-window."""
    production.wait_for_window(running.flow_run_id)
    time.sleep(10)
    production.lost.kill()


def _late_start(file: dict[str, Any]) -> None:
    file["window"]["checkpoints"] = [{"at": "2m", "name": "errors", "signal": "errors"}]


def _typo(file: dict[str, Any]) -> None:
    file["objectives"] = {"availabilty": "99%"}
    file["smoke"]["checks"][0]["expect"] = ["statuss == 200"]


def _own_checkpoints(file: dict[str, Any]) -> None:
    connections = f'max(db_pool_connections_in_use{{service="{file["service"]}"}})'
    file["window"]["checkpoints"] = [
        {"at": "2s", "name": "errors", "signal": "errors"},
        {"at": "15s", "name": "connections", "query": connections, "expect": "value < 100"},
    ]


# Not "embedded": what it scrapes itself has no history, and two cores may take its minute to start so many processes.
IN_PROCESSES_OF_THEIR_OWN = {"good", "errors", "parked", "smoke-alone"}
SCENARIOS = [
    Scenario("good"),
    Scenario("errors", later={"errors": 0.3}),
    Scenario("slow", later={"latency": 0.8}),
    Scenario("leak", {"leak": 2_000_000}),
    Scenario("pool-leak", {"pool_leak": 1.0}),
    Scenario("down", later={"down": True, "after": 5}, rps=20),
    Scenario("sick", {"health_bad": True}),
    Scenario("hanging", {"hang": True}),
    Scenario("nan", {"nan": True}),
    Scenario("huge", {"huge": True, "paths": ["/products"]}),
    Scenario("redirected", {"redirect": "/payments"}),
    Scenario("elsewhere", {"redirect": "http://127.0.0.2:9/products"}),
    Scenario("not-arrived", {"old_version": True}),
    Scenario("no-traffic", rps=0),
    Scenario("dry", {"errors": 0.3}, parameters={"dry_run": True}),
    Scenario("no-hook", {"errors": 0.3}, change=_no_such_hook),
    Scenario("embedded", later={"errors": 0.3}, change=_embedded),
    Scenario("own-window", change=_own_checkpoints),
    Scenario("typo", change=_typo),
    Scenario("lost", prometheus="prometheus-lost", meanwhile=_lose_prometheus),
    Scenario("all-500", {"errors": 1.0, "paths": ["/version", "/health", "/products", "/auth/token"]}),
    Scenario("parked", change=_late_start),
    Scenario("smoke-alone", {"health_bad": True}, flow="smoke"),
    Scenario("observe-alone", {"errors": 0.3}, flow="observe"),
]


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, production: Production, side_by_side: ThreadPoolExecutor
) -> dict[str, Future[Result]]:
    """The scenarios of the tests that were asked for, started at once; each test waits for its own."""
    asked = {item.callspec.params.get("result") for item in request.session.items if hasattr(item, "callspec")}
    wanted = [s for s in SCENARIOS if s.name in asked | {"good"}]
    for scenario in wanted:  # the same deployments, in either kind of work pool
        scenario.pool = PROCESSES if scenario.name in IN_PROCESSES_OF_THEIR_OWN else IN_PROCESS
    return {s.name: side_by_side.submit(production.play, s) for s in wanted}


@pytest.fixture
def result(request: pytest.FixtureRequest, played: dict[str, Future[Result]]) -> Result:
    return played[request.param].result()


def of(name: str) -> Any:
    return pytest.mark.parametrize("result", [name], indirect=True)


@of("good")
def test_a_good_release_is_healthy(result: Result) -> None:
    assert result.ended == "Completed(Healthy)", str(result)
    assert result.shop["version"] == "v2"
    assert result.shop["rollbacks"] == []
    for name in ("smoke: version v2", "smoke: health", "smoke: login", "T+0s error rate", "T+4s p95 latency"):
        assert result.task(name)["state"]["type"] == "COMPLETED"
    assert result.task("T+1m memory creep")["state"]["name"] == "Pass"
    assert any(t["name"].startswith("waiting for T+1m memory creep (") for t in result.tasks)
    assert "Healthy" in result.messages[-1].text
    assert {m.thread_ts for m in result.messages[1:]} == {result.messages[0].ts}


@pytest.mark.parametrize(
    ("result", "check"),
    [
        ("errors", "error rate"),
        ("slow", "p95 latency"),
        ("leak", "memory"),
        ("pool-leak", "DB connections"),
        ("down", "error rate"),
        ("embedded", "error rate"),
        ("observe-alone", "error rate"),
    ],
    indirect=["result"],
)
def test_what_breaks_in_the_window_is_rolled_back_once(result: Result, check: str) -> None:
    assert result.ended == "Failed(RolledBack)", str(result)
    assert check in result.state["message"]
    assert result.shop["version"] == "v1"
    assert len(result.shop["rollbacks"]) == 1
    assert any(
        t["name"].startswith("T+") and check in t["name"] and t["state"]["type"] == "FAILED" for t in result.tasks
    )
    assert any("Rolled back" in m.text for m in result.messages)


@pytest.mark.parametrize(
    "result", ["sick", "hanging", "nan", "huge", "redirected", "elsewhere", "smoke-alone", "all-500"], indirect=True
)
def test_what_fails_the_smoke_test_is_rolled_back_at_once(result: Result) -> None:
    assert result.ended == "Failed(RolledBack)", str(result)
    assert result.shop["version"] == "v1"
    assert len(result.shop["rollbacks"]) == 1
    assert result.shop["payments"] == []
    assert not any(t["name"].startswith("T+") for t in result.tasks)


@of("sick")
def test_a_retry_confirms_and_never_overwrites(result: Result) -> None:
    assert result.task("smoke: health")["run_count"] == 2
    assert "status is 503" in result.task("smoke: health")["state"]["message"]
    page = result.artifacts[next(k for k in result.artifacts if k.startswith("release-"))]["data"]
    assert page.count("status is 503") >= 2


@of("not-arrived")
def test_the_old_version_answers(result: Result) -> None:
    assert result.ended == "Failed(Inconclusive)", str(result)
    assert "version v1 answers, not v2" in result.state["message"]
    assert result.shop["rollbacks"] == []


@of("no-traffic")
def test_nothing_unproven_is_healthy(result: Result) -> None:
    assert result.ended == "Failed(Inconclusive)", str(result)
    assert result.shop["rollbacks"] == []


@of("lost")
def test_prometheus_is_lost_in_mid_window(result: Result) -> None:
    assert result.ended == "Failed(Inconclusive)", str(result)
    assert "connection refused" in result.state["message"]
    assert result.shop["rollbacks"] == []


@of("dry")
def test_a_dry_run_judges_and_touches_nothing(result: Result) -> None:
    assert result.ended == "Failed(Unhealthy)", str(result)
    assert result.shop["version"] == "v2"
    assert result.shop["rollbacks"] == []


@of("no-hook")
def test_a_rollback_that_fails_says_so(result: Result) -> None:
    assert result.ended == "Failed(RollbackFailed)", str(result)
    assert "404" in str([m.words for m in result.messages])


@of("own-window")
def test_checkpoints_of_the_files_own(result: Result) -> None:
    assert result.ended == "Completed(Healthy)", str(result)
    assert result.task("T+15s connections")["state"]["name"] == "Pass"


@of("parked")
def test_a_long_wait_with_nothing_to_watch_holds_no_process(production: Production, result: Result) -> None:
    assert result.ended == "Completed(Healthy)", str(result)
    states = [s["name"] for s in production.get(f"flow_run_states/?flow_run_id={result.flow_run['id']}")]
    assert "Waiting T+2m errors" in states
    assert "Crashed" not in states
    assert result.flow_run["run_count"] == 2
    assert result.task("T+2m errors")["state"]["name"] == "Pass"


@of("typo")
def test_a_bad_file_sends_no_request_and_names_everything(result: Result) -> None:
    assert result.ended == "Failed(Inconclusive)", str(result)
    assert "availabilty" in result.state["message"]
    assert "statuss" in result.state["message"]
    assert result.shop["synthetic"] == []


@of("sick")
def test_the_ui_shows_it(production: Production, result: Result) -> None:
    report = next(a for key, a in result.artifacts.items() if key.startswith("release-"))
    ui = production.stack.ui_url

    async def look() -> None:
        async with browser() as page:
            await page.open(f"{ui}/runs/flow-run/{result.flow_run['id']}", "RolledBack", "Task Runs", "smoke: health")
            await page.open(f"{ui}/artifacts/artifact/{report['id']}", "Rolled back", "health", "status is 503")

    asyncio.run(look())


def test_every_request_is_marked_and_recorded(played: dict[str, Future[Result]]) -> None:
    result = played["good"].result()
    seen = result.shop["synthetic"]
    assert len(seen) >= 7
    for request in seen:
        headers = {k.lower(): v for k, v in request["headers"].items()}
        assert headers["x-synthetic-request"] == "true"
        assert headers["user-agent"] == "SyntheticMonitor/1.0"
        assert headers["traceparent"].startswith("00-")
    table = json.loads(result.artifacts[next(k for k in result.artifacts if k.startswith("requests-"))]["data"])
    assert len(table) == len(seen)
    sent = {h["headers"]["traceparent"].split("-")[1] for h in seen}
    assert {row["trace"] for row in table} == sent


def test_a_worker_counts_what_its_runs_have_done(production: Production, played: dict[str, Future[Result]]) -> None:
    ours = [future.result() for name, future in played.items() if name not in IN_PROCESSES_OF_THEIR_OWN]
    found, rolled_back = production.metrics(), sum(len(result.shop["rollbacks"]) for result in ours)
    assert found.get('firstwatch_worker_orders_total{order="rollback",state="accepted"}', 0) >= rolled_back
    if "no-hook" in played:
        assert found['firstwatch_worker_orders_total{order="rollback",state="failed"}'] >= 1
    if ours:
        assert found['firstwatch_worker_checks_total{kind="smoke",outcome="pass"}'] > 0
        assert found['firstwatch_worker_alerts_total{about="started",delivered="yes"}'] > 0
        assert found["firstwatch_worker_looks_total"] > 0


def test_no_secret_is_written_anywhere(production: Production, played: dict[str, Future[Result]]) -> None:
    for future in played.values():
        future.result()
    secrets = [PLANTED.encode(), production.slack.token.encode()]
    read = 0
    # Logs, results, service files; the Prometheus' store holds no text of ours.
    written = {file.name: file.read_bytes for file in production.stack.home.rglob("*") if file.is_file()}
    for name, content in {**written, "the database": production.database.dump}.items():
        text = content()
        read += len(text)
        for secret in secrets:
            assert secret not in text, f"a secret stands in {name}"
    assert read > 1_000_000
    for message in production.slack.messages:
        assert PLANTED not in str(message)
