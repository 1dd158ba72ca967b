"""The flow of a round on a real Prefect server, where we ourselves go wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Late, Pending, Running, Scheduled

from demo.slack import Slack
from firstwatch.alerting import AlertState, Incident, Notice, NoticeKind, Outbox, Part
from firstwatch.alerting import outbox as outboxes
from firstwatch.monitor import Health
from firstwatch.report.told import Book, written
from flows.synthetic import synthetic
from tasks import store
from tasks.monitor import Monitor
from tasks.opening_monitor import planned_by
from tasks.restart import RESTARTING
from tasks.turns import take_turn
from tests.support.shop import DemoShop, demo_shop

PLANNED = datetime(2026, 1, 1, tzinfo=UTC)
QUOTED = "Authorization: s3cret"
BROKE_OFF = "The round broke off (ValueError); its log says where."


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as running:
        yield running


@pytest.fixture
def shop() -> Iterator[DemoShop]:
    with demo_shop() as running:
        yield running


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slack: Slack) -> Path:
    monkeypatch.setenv("FIRSTWATCH_SERVICES", str(tmp_path))
    monkeypatch.setenv("ONCALL_TOKEN", slack.token)
    return tmp_path


def write(services: Path, name: str, slack: Slack, url: str = "http://127.0.0.1:9") -> None:
    file = {
        "service": name,
        "base_url": url,
        "synthetic": {
            "every": "1m",
            "checks": [{"name": "health", "get": "/health", "expect": ["status == 200"], "retries": 0}],
        },
        "alerts": {"slack": {"token": "secret:oncall-token", "channel": "releases", "api_url": slack.api_url}},
    }
    (services / f"{name}.yaml").write_text(json.dumps(file))


def run(name: str | list[str]) -> State[Any]:
    state: State[Any] = asyncio.run(synthetic(name, return_state=True))  # type: ignore[call-overload]
    return state


@pytest.mark.parametrize("step", ["look", "remember", "judge"])
def test_a_fault_of_ours_is_unknown_quotes_nothing_and_keeps_nobody_from_being_told(
    prefect_api: str,
    services: Path,
    slack: Slack,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    name = f"faulty-{step}"
    write(services, name, slack)
    opened = Notice(
        f"{name}@1/opened/1",
        NoticeKind.OPENED,
        name,
        f"{name}@1",
        time.time(),
        (Part("health", Health.DOWN, "status is 503"),),
        first=True,
    )
    waiting = Book(
        AlertState(name, incident=Incident(f"{name}@1", opened.at, ("health",))), outboxes.add(Outbox(), [opened])
    )

    async def left_by_an_earlier_round() -> None:
        async with get_client() as client:
            await store.change(client, store.alerts_key(name), lambda _: written(None, waiting))

    async def breaks(_: Monitor) -> None:
        raise ValueError(QUOTED)

    asyncio.run(left_by_an_earlier_round())
    monkeypatch.setattr(Monitor, step, breaks)
    with caplog.at_level(logging.DEBUG):
        state = run(name)
    assert (state.name, state.message) == ("Unknown", BROKE_OFF)
    assert QUOTED not in caplog.text and "in breaks" in caplog.text
    assert [m.words.splitlines()[0] for m in slack.messages if m.thread_ts is None] != []


def test_a_round_while_another_one_is_at_it_is_cancelled(prefect_api: str, services: Path, slack: Slack) -> None:
    write(services, "overlapped", slack)

    async def another() -> None:
        async with get_client() as client:
            await take_turn(client, store.turn_key(["overlapped"], ""), "another", time.time())

    asyncio.run(another())
    state = run("overlapped")
    assert state.name == "Overlapped" and "1 cancelled in all" in (state.message or "")


# ── the rounds of several services in one run ─────────────────────────────────────────────────────────────────


def test_the_rounds_of_several_services_are_taken_in_one_run_and_each_is_remembered_for_itself(
    prefect_api: str, services: Path, slack: Slack, shop: DemoShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firstwatch.schedule.APART", 0.2)
    names = [f"together-{n}" for n in range(7)]
    for name in names:
        write(services, name, slack, shop.url)
    write(services, "together-3", slack)  # nothing answers there
    (services / "together-4.yaml").write_text("service: together-4\nbase_url: nowhere\n")
    ordinary = Monitor.judge

    async def breaks_for_one(monitor: Monitor) -> None:
        if monitor.service.service == "together-5":
            raise ValueError(QUOTED)
        await ordinary(monitor)

    monkeypatch.setattr(Monitor, "judge", breaks_for_one)
    state = run([*names, "together-0"])

    async def found() -> tuple[dict[str, Any], dict[str, str], str]:
        async with get_client() as client:
            places = {name: await store.read(client, store.place_key(name, "")) for name in names}
            assert state.state_details.flow_run_id is not None
            flow_run = await client.read_flow_run(state.state_details.flow_run_id)
            of_it = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
            until = time.monotonic() + 20  # the server writes task runs down when it has time to
            while True:
                runs = await client.read_task_runs(flow_run_filter=of_it)
                named = {run.name: run.state_name or "" for run in runs if run.name.startswith("together")}
                if (len(named) >= 7 and "Running" not in named.values()) or time.monotonic() > until:
                    return places, named, flow_run.name
                await asyncio.sleep(0.3)

    places, checks, name = asyncio.run(found())
    assert name == "synthetic together-0 and 6 more"
    assert (state.type.value, state.name) == ("FAILED", "Down")
    message = state.message or ""
    assert message.startswith("4 of 7 services up; together-4: Unknown: Nothing could be monitored: ")
    assert "; together-3: Down: " in message and message.endswith("; together-5: Unknown: " + BROKE_OFF)
    assert QUOTED not in message
    seen = {name: {each["check"]: each["health"] for each in place["seen"]} for name, place in places.items() if place}
    up = {"health": "up", "schedule": "up"}
    assert seen == {**{name: up for name in names if name[-1] not in "34"}, "together-3": {**up, "health": "down"}}
    up_rounds = {name: "Up" for name in names if name[-1] in "0126"}
    amiss = {"together-3": "Down", "together-3: health": "Failed", "together-5": "Unknown"}
    assert checks == {**up_rounds, **amiss}, "a check that passes at once is told by its round"


def test_of_several_services_all_are_up_or_none_could_be_looked_at(
    prefect_api: str, services: Path, slack: Slack, shop: DemoShop
) -> None:
    for name in ("both-1", "both-2"):
        write(services, name, slack, shop.url)
    state = run(["both-1", "both-2"])
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "Up", "2 of 2 services up")
    state = run(["nobody", "none"])
    assert (state.type.value, state.name) == ("FAILED", "Unknown") and (state.message or "").startswith("0 of 2 serv")
    state = run([])
    assert (state.type.value, state.name) == ("FAILED", "Unknown") and "names no service" in (state.message or "")


def test_a_run_of_several_services_while_another_one_is_at_them_is_cancelled(
    prefect_api: str, services: Path, slack: Slack
) -> None:
    for name in ("busy-1", "busy-2"):
        write(services, name, slack)

    async def another() -> None:
        async with get_client() as client:
            await take_turn(client, store.turn_key(["busy-2", "busy-1"], ""), "another", time.time())

    asyncio.run(another())
    assert run(["busy-1", "busy-2"]).name == "Overlapped"


# ── when a run that has begun before was to begin ────────────────────────────────────────────────────────────


def planned(*states: State[Any]) -> tuple[float, bool]:
    return planned_by(states, PLANNED, 0.0)


def test_a_killed_run_was_planned_for_its_schedule() -> None:
    cron = Scheduled(scheduled_time=PLANNED)
    again = Scheduled(name=RESTARTING, scheduled_time=PLANNED + timedelta(minutes=2))
    late = Late(scheduled_time=PLANNED)
    assert planned(cron, late, Pending(), Running(), Crashed(), again) == (PLANNED.timestamp(), True)
    assert planned(cron, Running(), again, Running(), again) == (PLANNED.timestamp(), True)


def test_a_run_that_a_person_asks_for_once_more_is_planned_for_then() -> None:
    cron = Scheduled(scheduled_time=PLANNED)
    asked = Scheduled(name="AwaitingRetry", scheduled_time=PLANNED + timedelta(hours=5))
    again = Scheduled(name=RESTARTING)
    assert planned(cron, Running(), Completed(name="Up"), asked) == (0.0, False)
    died = planned(cron, Running(), Completed(name="Up"), asked, Running(), Crashed(), again)
    assert died == ((PLANNED + timedelta(hours=5)).timestamp(), True)
