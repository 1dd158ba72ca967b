"""Nothing is proven: a person is asked, by a form, while no process is held. Answered as in the UI, or by nobody."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.production import Production, Result, Running, Scenario, kill, process_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SAID: dict[str, Any] = {}  # what the scenarios have seen on the way


def _asks(**policy: Any) -> Any:
    def change(file: dict[str, Any]) -> None:
        file["window"] = {"checkpoints": [{"at": "6s", "name": "errors", "signal": "errors"}], "look_every": "1s"}
        file["on_inconclusive"] = {"do": "ask", "within": "5m", **policy}

    return change


def _asks_nobody(file: dict[str, Any]) -> None:
    file["rules"]["account"]["password"] = "secret:is-missing"
    file["smoke"]["checks"] = file["smoke"]["checks"][2:3]
    file["smoke"]["checks"][0]["json"]["password"] = "secret:is-missing"
    file["on_inconclusive"] = "rollback"


def _suspended(production: Production, running: Running) -> str:
    """Wait for the question; its key comes back. By then no process is held."""
    until = time.monotonic() + 180
    while (run := production.get(f"flow_runs/{running.flow_run_id}"))["state"]["type"] != "PAUSED":
        assert time.monotonic() < until and run["state"]["type"] not in ("COMPLETED", "FAILED"), run["state"]
        time.sleep(0.2)
    gone = time.monotonic() + 10
    while process_of(running.flow_run_id) is not None:
        assert time.monotonic() < gone, "the process of a suspended run is still there"
        time.sleep(0.1)
    key: str = run["state"]["state_details"]["run_input_keyset"]["response"]
    return key.removesuffix("-response")


def _answer(production: Production, running: Running, **form: Any) -> str:
    """As the UI does; ACCEPT or REJECT."""
    given = production.ask(f"flow_runs/{running.flow_run_id}/resume", run_input=form)
    return str(given["status"])


def _roll_back(production: Production, running: Running) -> None:
    """Nonsense by the front door, nonsense by the back door, and then an answer."""
    question = _suspended(production, running)
    SAID["form"] = production.get(f"flow_runs/{running.flow_run_id}/input/{question}-schema")
    SAID["why"] = production.get(f"flow_runs/{running.flow_run_id}/input/{question}-description")
    nonsense = [{}, {"decision": "maybe", "reason": "I do not know", "name": "ann"}, {"decision": "proceed"}]
    SAID["nonsense"] = [_answer(production, running, **form) for form in nonsense]
    run = f"flow_runs/{running.flow_run_id}"
    production.ask(f"{run}/input", key=f"{question}-response", value='{"decision": "maybe"}')
    production.ask(f"{run}/set_state", state={"type": "SCHEDULED", "name": "Scheduled"})
    time.sleep(1)
    _suspended(production, running)
    said = {"decision": "roll back", "reason": "too few requests to be sure", "name": "ann"}
    _answer(production, running, **said)


def _kill_the_next(production: Production, running: Running) -> None:
    """The process that goes on with the default answer is killed, and a third one goes on after it."""
    _suspended(production, running)
    until = time.monotonic() + 60
    while (pid := process_of(running.flow_run_id)) is None:
        assert time.monotonic() < until, "the answered run was not entered again within 60 s"
        time.sleep(0.1)
    while production.get(f"flow_runs/{running.flow_run_id}")["state"]["type"] == "PENDING":
        time.sleep(0.1)
    kill(pid)


def _proceed(production: Production, running: Running) -> None:
    _suspended(production, running)
    watch = production.stack.start("watch", ["prefect", "flow-run", "watch", running.flow_run_id])
    time.sleep(4)
    SAID["waiting"] = watch.alive()
    _answer(production, running, decision="proceed", reason="it is a quiet night", name="bob")
    SAID["exit code"] = watch.popen.wait(180)


def _watch(production: Production, running: Running) -> None:
    _suspended(production, running)
    production.stack.traffic(running.shop.url, 20, 60, "traffic-back")
    time.sleep(1)
    said = {"decision": "keep watching", "reason": "traffic is back", "name": "eve", "watch_for": 0.15}
    _answer(production, running, **said)


SCENARIOS = [
    Scenario("ask-roll-back", rps=0, change=_asks(), meanwhile=_roll_back),
    Scenario("ask-proceed", rps=0, change=_asks(), meanwhile=_proceed),
    Scenario("ask-nobody", rps=0, change=_asks(within="8s", otherwise="rollback"), meanwhile=_kill_the_next),
    Scenario("ask-not", rps=0, flow="smoke", change=_asks_nobody),
    Scenario("ask-watch", rps=0, change=_asks(), meanwhile=_watch),
]


@pytest.fixture(scope="module")
def played(production: Production, side_by_side: ThreadPoolExecutor) -> dict[str, Future[Result]]:
    return {s.name: side_by_side.submit(production.play, s) for s in SCENARIOS}


def questions(result: Result) -> list[str]:
    return [m.words for m in result.messages if "How to answer" in m.words]


def test_answered_by_a_person_it_is_rolled_back_once(production: Production, played: dict[str, Future[Result]]) -> None:
    result = played["ask-roll-back"].result()
    assert result.ended == "Failed(RolledBack)", str(result)
    assert "ann: roll back. too few requests to be sure" in result.state["message"]
    assert len(result.shop["rollbacks"]) == 1
    properties = SAID["form"]["properties"]
    assert properties["decision"]["enum"] == ["proceed", "roll back", "keep watching", "stop"]
    assert set(SAID["form"]["required"]) == {"decision", "reason", "name"}
    assert "ask-roll-back v2 is inconclusive" in SAID["why"]
    assert f"({production.stack.ui_url}/artifacts/key/release-" in SAID["why"]
    assert SAID["nonsense"] == ["REJECT"] * 3
    first, second = questions(result)
    assert "The last answer could not be taken" in second and "could not be taken" not in first
    assert "| ann | **roll back** |" in report_of(production, result)


def test_proceed_lets_ci_go_on(production: Production, played: dict[str, Future[Result]]) -> None:
    result = played["ask-proceed"].result()
    assert result.ended == "Completed(Proceeded)", str(result)
    assert (SAID["waiting"], SAID["exit code"]) == (True, 0)
    assert result.shop["rollbacks"] == []
    assert "Inconclusive, and let through" in report_of(production, result) and "| bob | **proceed** |" in report_of(
        production, result
    )
    assert len(questions(result)) == 1


def test_what_nobody_answers_has_a_default(production: Production, played: dict[str, Future[Result]]) -> None:
    result = played["ask-nobody"].result()
    assert result.ended == "Failed(RolledBack)", str(result)
    assert "nobody answered within 8s" in result.state["message"]
    assert len(result.shop["rollbacks"]) == 1
    assert len(questions(result)) == 1


def test_watched_on_with_traffic_it_is_healthy(production: Production, played: dict[str, Future[Result]]) -> None:
    result = played["ask-watch"].result()
    assert result.ended == "Completed(Healthy)", str(result)
    assert result.shop["rollbacks"] == []
    assert "| eve | **keep watching** until T+" in report_of(production, result)


def test_a_policy_needs_nobody(played: dict[str, Future[Result]]) -> None:
    result = played["ask-not"].result()
    assert result.ended == "Failed(RolledBack)", str(result)
    assert "the service file: roll back. on_inconclusive: rollback" in result.state["message"]
    assert len(result.shop["rollbacks"]) == 1 and not questions(result)


def test_a_deadline_that_is_not_needed_starts_no_process(
    production: Production, played: dict[str, Future[Result]]
) -> None:
    for scenario in played.values():
        scenario.result()
    deadlines = production.ask("flow_runs/filter", flows={"name": {"any_": ["answer"]}})
    started = [run["name"] for run in deadlines if run["run_count"]]
    assert len(deadlines) == 5 and [name.split()[0] for name in started] == ["ask-nobody"]
    assert {run["state"]["type"] for run in deadlines} == {"COMPLETED"}


def report_of(production: Production, result: Result) -> str:
    """The last one: an earlier version was there for whoever was asked."""
    this_run = {"id": {"any_": [result.flow_run["id"]]}}
    newest = production.ask("artifacts/filter", flow_runs=this_run, sort="UPDATED_DESC")
    return str(next(a["data"] for a in newest if str(a["key"]).startswith("release-")))
