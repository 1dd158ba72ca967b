"""Rounds of a monitor on real parts: the demo shop, a Prefect server, a Slack that checks what Slack would. Only the
clock is ours: a minute passes from one round to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import get_client

from demo.slack import Slack
from firstwatch.monitor import Health
from firstwatch.report.round import RoundReport, round_markdown
from tasks import heartbeats, store
from tasks.accept import NothingToAccept, accept_check
from tasks.samples import read_samples
from tasks.turns import give_turn_back, take_turn
from tests.support.rounds import START, Day, monitored
from tests.support.shop import PASSWORD, DemoShop, demo_shop


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoShop]:
    monkeypatch.setenv("SHOP_SMOKE_PASSWORD", PASSWORD)
    with demo_shop() as running:
        yield running


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as running:
        yield running


def test_an_outage_is_one_thread_opened_and_resolved_once(prefect_api: str, shop: DemoShop, slack: Slack) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "outage", slack), slack)
        await day.rounds(2)
        assert set(day.healths().values()) == {Health.UP} and slack.messages == []
        shop.faults(down=True)
        await day.rounds(2)
        assert day.healths()["health"] is Health.DOWN and slack.messages == []  # not yet three in a row
        await day.rounds(3)
        first = slack.messages[0]
        assert len([m for m in slack.messages if m.thread_ts is None]) == 1
        assert "outage" in first.text and "catalogue" not in first.text.splitlines()[0]
        shop.faults()
        await day.rounds(4)
        top = [m for m in slack.messages if m.thread_ts is None]
        assert len(top) == 1 and "🟢" in top[0].words
        replies = [m for m in slack.messages if m.thread_ts == first.ts]
        assert [m.broadcast for m in replies if "resolved" in m.words.lower()] == [True]

    asyncio.run(work())


@pytest.mark.parametrize("moment", ["look", "remember", "judge"])
def test_a_round_that_dies_anywhere_is_taken_again_and_tells_once(
    prefect_api: str, shop: DemoShop, slack: Slack, moment: str
) -> None:
    async def work() -> None:
        day = Day(monitored(shop, f"dies-{moment}", slack), slack)
        shop.faults(down=True)
        await day.rounds(2)
        await day.round(minute=2, dies_after=moment)  # the one that opens the alert
        await day.round(minute=2, late=30)
        day.minute = 3
        await day.rounds(2)
        opened = [m for m in slack.messages if m.thread_ts is None]
        assert len(opened) == 1, [m.text for m in slack.messages]
        assert day.last is not None and day.last.alerts is not None
        assert day.last.alerts.checks["health"].results == "ddd"

    asyncio.run(work())


def test_what_is_at_rest_is_written_down_now_and_then_and_news_at_once(prefect_api: str, shop: DemoShop) -> None:
    async def written(day: Day, rounds: int) -> list[int]:
        """Which version of the alerts there is after each round."""
        found = []
        for _ in range(rounds):
            await day.round()
            async with get_client() as client:
                found.append((await store.see(client, store.alerts_key(day.file.service))).versions[0].number)
        return found

    async def main() -> None:
        day = Day(monitored(shop, "at-rest"))
        assert await written(day, 3) == [1, 2, 3], "the votes that open an alert are yet to be counted"
        assert await written(day, 10) == [3, 3, 3, 3, 4, 4, 4, 4, 4, 5]
        shop.faults(down=True)
        assert await written(day, 3) == [6, 7, 8]
        assert day.last is not None and day.last.alerts is not None
        assert day.last.alerts.open_checks == ("health",)

    asyncio.run(main())


def test_two_rounds_at_once_tell_once(prefect_api: str, shop: DemoShop, slack: Slack) -> None:
    async def work() -> None:
        file = monitored(shop, "at-once", slack)
        shop.faults(down=True)
        day, twin = Day(file, slack), Day(file, slack)
        await day.rounds(2)
        await asyncio.gather(day.round(minute=2), twin.round(minute=2), twin.round(minute=2))
        assert len([m for m in slack.messages if m.thread_ts is None]) == 1

    asyncio.run(work())


def test_while_slack_is_away_nothing_is_lost(prefect_api: str, shop: DemoShop, slack: Slack) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "away", slack), slack)
        shop.faults(down=True)
        slack.trouble.extend([503] * 40)
        await day.rounds(3)
        assert slack.messages == [] and day.last is not None and any(not d.ok for d in day.last.deliveries)
        slack.trouble.clear()
        await day.rounds(3)
        assert len([m for m in slack.messages if m.thread_ts is None]) == 1

    asyncio.run(work())


def test_a_journey_carries_values_and_cleans_up(prefect_api: str, shop: DemoShop) -> None:
    bearer = {"Authorization": "Bearer ${token}"}
    login = {"username": "smoke@example.com", "password": "secret:shop-smoke-password"}
    journey = {
        "name": "fill a cart",
        "steps": [
            {
                "name": "log in",
                "post": "/auth/token",
                "json": login,
                "expect": ["status == 200"],
                "save": {"token": "json.token"},
            },
            {
                "name": "put tea into it",
                "post": "/cart",
                "json": {"product": 1},
                "headers": bearer,
                "expect": ["status == 201"],
                "save": {"cart": "json.id"},
            },
            {"name": "see it", "get": "/cart/${cart}", "headers": bearer, "expect": ["json.product == 2"]},
        ],
        "cleanup": {
            "name": "give it back",
            "delete": "/cart/${cart}",
            "headers": bearer,
            "expect": ["status == 204"],
        },
        "retries": 0,
    }

    async def work() -> None:
        day = Day(monitored(shop, "journeys", journeys=[journey]))
        monitor = await day.round()
        probe = day.probe("fill a cart")
        assert probe.health is Health.DOWN and "see it" in probe.why and probe.warning == ""
        sent = [
            f"{r.method} {r.url.rpartition('/')[0].rpartition('/')[2]} {r.status}" for r in monitor.transport.records
        ]
        assert "DELETE cart 204" in sent  # cleaned up although the step before had failed
        page = round_markdown(RoundReport("journeys", "", monitor.place, state=monitor.alerts))
        assert PASSWORD not in page and "fill a cart" in page

    asyncio.run(work())


def test_a_change_without_a_release_is_told_and_accepted_with_one_command(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        drift = {"name": "version page", "get": "/version", "watch": ["json"]}
        file = monitored(shop, "drifting", drift=[drift])
        day = Day(file)
        await day.round()
        assert day.healths()["version page"] is Health.UP
        shop.deploy("v2")
        await day.round()
        assert day.healths()["version page"] is Health.DOWN
        assert '"v1" → "v2"' in day.probe("version page").why
        async with get_client() as client:
            assert "baseline" in await accept_check(client, file, "version page", START + 200)
            with pytest.raises(NothingToAccept, match="no check 'nonsense'"):
                await accept_check(client, file, "nonsense", START + 200)
        await day.round()
        assert day.healths()["version page"] is Health.UP

    asyncio.run(work())


def test_a_release_may_change_what_must_not_drift(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        drift = {"name": "version page", "get": "/version", "watch": ["json"], "version": "json.version"}
        day = Day(monitored(shop, "released", drift=[drift]))
        await day.round()
        shop.deploy("v2")
        await day.round()
        probe = day.probe("version page")
        assert probe.health is Health.UP and "changed with a release" in probe.why

    asyncio.run(work())


def test_a_job_that_does_not_call_in_is_down(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "jobs", heartbeats=[{"name": "backup", "every": "2m", "grace": "1m"}]))
        await day.round()
        assert "backup" not in day.healths()  # it has time left: nothing is said of it
        assert day.last is not None and day.last.alerts is not None and "backup" not in day.last.alerts.checks
        async with get_client() as client:
            await heartbeats.beat(client, "jobs", "backup", START + 90)
            for _ in range(40):
                if (await heartbeats.last_beats(client, "jobs", ["backup"], START + 120))["backup"]:
                    break
                await asyncio.sleep(0.5)
        await day.round(minute=2)
        assert day.healths()["backup"] is Health.UP
        await day.round(minute=6)
        assert day.healths()["backup"] is Health.DOWN and "overdue" in day.probe("backup").why

    asyncio.run(work())


def test_three_locations_vote_and_one_that_sees_nothing_has_no_vote(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        places = {"names": ["eu", "us", "ap"], "reference": f"{shop.url}/health"}
        file = monitored(shop, "voted", locations=places)
        days = {name: Day(file, location=name) for name in ("eu", "us", "ap")}
        shop.faults(down=True)  # nobody reaches its reference either
        for _ in range(4):
            for day in days.values():
                await day.round()
        last = days["ap"].last
        assert last is not None and last.alerts is not None
        assert last.alerts.checks["health"].level.value == "none" and last.alerts.checks["health"].unwatched
        assert "cannot reach its own reference" in last.seen[0].why or "its reference answered" in last.seen[0].why

    asyncio.run(work())


def test_turns_are_taken_one_at_a_time_and_end_by_themselves(prefect_api: str) -> None:
    async def work() -> None:
        async with get_client() as client:
            assert await take_turn(client, "turn t", "run 1", 0.0) == (True, 0)
            assert await take_turn(client, "turn t", "run 1", 5.0) == (True, 0)  # the same run, restarted
            assert await take_turn(client, "turn t", "run 2", 24.0) == (False, 1)
            assert await take_turn(client, "turn t", "run 3", 26.0) == (True, 1)  # run 1 is dead
            await give_turn_back(client, "turn t", "run 1")  # too late: it is another's
            assert await take_turn(client, "turn t", "run 4", 30.0) == (False, 2)
            await give_turn_back(client, "turn t", "run 3")
            assert await take_turn(client, "turn t", "run 4", 31.0) == (True, 2)

    asyncio.run(work())


def test_the_turn_of_a_run_that_has_ended_is_free(prefect_api: str) -> None:
    @flow(name="a round", persist_result=False)
    async def a_round() -> None:
        async with get_client() as client:
            run = str(runtime.flow_run.id)
            assert await take_turn(client, "turn of a run", run, 0.0) == (True, 0)
            assert await take_turn(client, "turn of a run", "another", 1.0) == (False, 1)

    async def work() -> None:
        await a_round()
        async with get_client() as client:
            assert await take_turn(client, "turn of a run", "another", 2.0) == (True, 1)
            gone = "00000000-0000-4000-8000-000000000000"  # the server does not know it: it may be anybody's
            await take_turn(client, "turn of none", gone, 0.0)
            assert await take_turn(client, "turn of none", "another", 1.0) == (False, 1)

    asyncio.run(work())


def test_the_metrics_page_reads_what_the_last_rounds_found(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        file = monitored(shop, "metered")
        await Day(file).round()
        async with get_client() as client:
            samples = await read_samples(client, [file])
        assert {(s.service, s.probe.check, s.health) for s in samples} == {
            ("metered", "health", Health.UP),
            ("metered", "catalogue", Health.UP),
        }

    asyncio.run(work())
