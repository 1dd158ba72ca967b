"""Rounds among faults of our own: documents that are damaged, clocks that differ, a file that changes, a server that is
away."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from prefect.client.orchestration import PrefectClient, get_client

from demo.slack import Slack
from firstwatch.monitor import Health
from tasks import busy, store, turns
from tasks.accept import NothingToAccept, accept_check
from tasks.monitor import leave_word
from tasks.samples import read_samples
from tasks.turns import give_turn_back, keeping_turn, renew_turn, take_turn
from tests.support.door import door
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


def test_a_turn_outlives_neither_a_clock_that_is_ahead_nor_damage(prefect_api: str) -> None:
    async def work() -> None:
        async with get_client() as client:
            assert await take_turn(client, "turn ahead", "run 1", 3600.0) == (True, 0)  # an hour ahead, and dead since
            assert await take_turn(client, "turn ahead", "run 2", 60.0) == (True, 0)
            await renew_turn(client, "turn ahead", "run 1", 61.0)  # it wakes up: the turn is another's
            assert await take_turn(client, "turn ahead", "run 2", 62.0) == (True, 0)
            for damaged in ("nonsense", {"run": None}, [1]):
                await store.change(client, "turn damaged", lambda _, damaged=damaged: damaged)
                await renew_turn(client, "turn damaged", "run 1", 0.0)
                await give_turn_back(client, "turn damaged", "run 1")
                assert await take_turn(client, "turn damaged", "run 1", 0.0) == (True, 0)

    asyncio.run(work())


def test_a_turn_is_renewed_again_after_the_server_was_away(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN", 0.4)
    monkeypatch.setattr(busy, "PATIENCE", 0.2)

    async def work() -> None:
        async with (
            door(urlsplit(prefect_api).port or 0) as through,
            PrefectClient(f"http://127.0.0.1:{through.port}/api") as behind,
            get_client() as client,
        ):
            await through.open()
            clock = itertools.count(100.0)
            assert (await take_turn(behind, "turn away", "run 1", 99.0)).ours
            async with keeping_turn(behind, "turn away", "run 1", lambda: next(clock)):
                through.shut()
                await asyncio.sleep(1.0)
                await through.open()
                before = (await store.read(client, "turn away"))["until"]
                await asyncio.sleep(1.0)
                assert (await store.read(client, "turn away"))["until"] > before
                through.shut()  # that it cannot be given back is no fault of the round's
            assert (await store.read(client, "turn away"))["run"] == "run 1"

    asyncio.run(work())


def test_a_damaged_document_of_the_alerts_is_begun_anew_and_said(
    prefect_api: str, shop: DemoShop, slack: Slack
) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "damaged", slack), slack)
        shop.faults(down=True)
        await day.rounds(3)
        async with get_client() as client:
            await store.change(client, "alerts damaged", lambda kept: {**kept, "state": {"checks": 7}})
            await day.rounds(3)
            assert [m.words.splitlines()[0] for m in slack.messages if m.thread_ts is None] == [
                "🔴 damaged: 1 of 3 checks down"
            ] * 2
            assert day.last is not None and day.last.notes == []
            await store.change(client, "alerts damaged", lambda _: "nonsense")
            monitor = await day.round()
            assert monitor.notes == [
                "The state of the alerts could not be read: begun anew. What was open may be told again."
            ]
            assert {s.health for s in await read_samples(client, [day.file])} == {Health.DOWN}

    asyncio.run(work())


def test_what_a_location_knew_is_begun_anew_where_it_is_damaged(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "known"))
        await day.round()
        async with get_client() as client:
            await store.change(client, "place known", lambda _: {"every": "often"})
            with pytest.raises(NothingToAccept, match="none of its checks has shown anything yet"):
                await accept_check(client, day.file, "health", START)
            monitor = await day.round()
            assert len(monitor.notes) == 1 and "begun anew" in monitor.notes[0]
            assert set(day.healths().values()) == {Health.UP} and monitor.place.rounds == 1
            assert "usual one" in await accept_check(client, day.file, "health", START + 200)

    asyncio.run(work())


def test_alerts_go_on_when_the_interval_changes(prefect_api: str, shop: DemoShop, slack: Slack) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "interval", slack), slack)
        await day.rounds(2)
        day.file = monitored(shop, "interval", slack, every="5m")
        shop.faults(down=True)
        for minute in (5, 10, 15, 20):
            await day.round(minute=minute)
        assert len([m for m in slack.messages if m.thread_ts is None]) == 1

    asyncio.run(work())


def test_a_death_whose_run_cannot_come_back_is_said_by_the_next_round(prefect_api: str, shop: DemoShop) -> None:
    async def work() -> None:
        day = Day(monitored(shop, "word"))
        async with get_client() as client:
            await leave_word(client, day.file, "", "run 1", "its process died")
            await day.round()
            assert day.healths()["schedule"] is Health.DOWN
            await day.round()
            assert day.healths()["schedule"] is Health.UP
            await store.change(
                client, "place word", lambda kept: {**kept, "votes": [{**v, "run": "run 2"} for v in kept["votes"]]}
            )
            await leave_word(client, day.file, "", "run 2", "it has voted: only its end was not heard of")
        await day.round()
        assert day.healths()["schedule"] is Health.UP

    asyncio.run(work())
