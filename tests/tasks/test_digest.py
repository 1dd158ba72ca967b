"""Many services fail at once: the first few are told alone, the others in one message, whoever dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from demo.slack import Slack
from firstwatch.alerting.outbox import CLAIM_LASTS
from tasks import slack as tasks_slack
from tasks.digest import channel_key, read_channel
from tests.support.documents import Killed
from tests.support.incidents import DOWN, Monitored, World
from tests.tasks.test_deliver import titles

STORM = {"after": 3, "within": "5m"}


@pytest.fixture
def world() -> Iterator[World]:
    with Slack() as slack:
        made = World(slack)
        slack._clock = made.clock
        yield made


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules on a smaller clock."""
    monkeypatch.setattr(tasks_slack, "TOTAL", 2.0)
    monkeypatch.setattr(tasks_slack, "_ONE_TRY", 0.5)
    monkeypatch.setattr(tasks_slack, "_PAUSES", (0.02, 0.05))


def services(world: World, number: int, **more: Any) -> list[Monitored]:
    return [Monitored(world, f"s{n}", storm=STORM, **more) for n in range(number)]


async def all_fail(them: list[Monitored]) -> None:
    for service in them:
        await service.round({"health": DOWN}, after=1)


async def channel(world: World, one: Monitored) -> Any:
    assert one.spec.alerts.slack is not None
    return read_channel(await world.documents.read(None, channel_key(one.spec.alerts.slack)))


def test_from_the_third_on_they_are_one_message_which_ends_with_the_storm(world: World) -> None:
    async def story() -> None:
        them = services(world, 7)
        await all_fail(them)
        assert titles(world) == [
            "🔴 s0: 1 of 2 checks down",
            "🔴 s1: 1 of 2 checks down",
            "🔴 5 services: s2, s3, s4, s5, s6",
        ]
        assert "s4\n🔴 1 of 2 checks down: health (status is 503)" in world.slack.messages[2].words.replace("*", "")
        for service in them[2:]:
            await service.round(after=100)
        assert titles(world)[2].startswith("🟢 5 services: all resolved after 8m")
        for service in them[:2]:
            await service.round(after=400)
        assert (await channel(world, them[0])).digest is None

    asyncio.run(story())
    assert [title.split(":")[0] for title in titles(world)] == [
        "🟢 s0",
        "🟢 s1",
        "🟢 5 services",
        "  🟢 5 services",
        "  🟢 s0",
        "  🟢 s1",
    ]
    over = world.slack.messages[3]
    assert over.broadcast and over.thread_ts == world.slack.messages[2].ts


def test_services_that_fail_in_the_same_moment_make_one_digest(world: World) -> None:
    async def story() -> None:
        them = services(world, 8)
        for service in them:
            await service.look({"health": DOWN}, after=0)
        await asyncio.gather(*(service.deliver(service.name) for service in them))
        for service in them:  # whoever was at the digest had no time for the last word
            await service.deliver(service.name)

    asyncio.run(story())
    own = [title for title in titles(world) if "services" not in title]
    (digest,) = [title for title in titles(world) if "services" in title]
    assert len(own) == 2 and digest.startswith("🔴 6 services: ")


def test_while_one_is_at_the_digest_the_others_send_nothing(world: World) -> None:
    async def story() -> None:
        them = services(world, 4)
        await all_fail(them[:2])
        for service in them[2:]:
            await service.look({"health": DOWN}, after=1)
        world.slack.trouble.append("hang")
        first = asyncio.create_task(them[2].deliver("first"))
        await asyncio.sleep(0.2)
        asked = len(world.slack.asked)
        await them[3].deliver("second")
        assert len(world.slack.asked) == asked == 3
        await first

    asyncio.run(story())
    assert titles(world)[2:] == ["🔴 2 services: s2, s3"]


def test_what_gets_worse_is_a_reply_to_the_digest(world: World) -> None:
    async def story() -> None:
        them = services(world, 3, remind="30m")
        await all_fail(them)
        await them[2].round({"health": DOWN, "login": DOWN})
        await them[2].round({"health": DOWN, "login": DOWN}, after=1800)

    asyncio.run(story())
    assert titles(world)[2:] == ["🔴 1 service: s2", "  ⏰ s2: health, login still down after 31m"]
    assert "2 of 2 checks down: health, login" in world.slack.messages[2].words


def test_a_digest_that_cannot_be_shown_is_brought_up_to_date_by_anybodys_round(world: World) -> None:
    async def story() -> None:
        them = services(world, 4)
        await all_fail(them[:3])
        await them[3].look({"health": DOWN}, after=1)
        world.slack.trouble.extend([500] * 1000)
        assert not any(d.ok for d in await them[3].deliver())
        world.slack.trouble.clear()
        await them[0].deliver()

    asyncio.run(story())
    assert titles(world)[2] == "🔴 2 services: s2, s3"


def test_one_that_dies_while_it_posts_the_digest_leaves_one_digest(world: World) -> None:
    async def story() -> None:
        them = services(world, 4)
        await all_fail(them[:2])
        await them[2].look({"health": DOWN}, after=1)
        world.documents.dies = lambda key, document: len(world.slack.messages) > 2
        with pytest.raises(Killed):
            await them[2].deliver("killed")
        world.documents.dies = lambda key, document: False
        await them[3].round({"health": DOWN}, after=1)
        assert len(world.slack.messages) == 3
        world.now += CLAIM_LASTS + 1
        await them[0].deliver("heir")

    asyncio.run(story())
    assert titles(world) == [
        "🔴 s0: 1 of 2 checks down",
        "🔴 s1: 1 of 2 checks down",
        "🔴 2 services: s2, s3",
    ]


def test_through_a_webhook_a_digest_is_sent_again_when_it_has_doubled(world: World) -> None:
    async def story() -> None:
        them = services(world, 10, webhook=True)
        await all_fail(them)
        for service in them[2:]:
            await service.round(after=100)
        await them[0].round({"health": DOWN})

    asyncio.run(story())
    assert [title.split(":")[0] for title in titles(world)] == [
        "🔴 s0",
        "🔴 s1",
        "🔴 1 service",
        "🔴 2 services",
        "🔴 4 services",
        "🔴 8 services",
        "🟢 8 services",
    ]


def test_the_channels_document_names_no_secret(world: World) -> None:
    asyncio.run(all_fail(services(world, 4)))
    for key, (_, document) in world.documents.kept.items():
        assert world.slack.token not in key + document


# ── as task runs ─────────────────────────────────────────────────────────────────────────────────────────────


def test_each_message_is_a_task_run_and_a_lost_one_fails_nothing_else(world: World, prefect_api: str) -> None:
    shop = Monitored(world, needs={"{x}": ()})

    @flow(name="delivers")
    async def delivers() -> None:
        await shop.round({"health": DOWN, "{x}": DOWN})
        world.slack.trouble.extend([503] * 1000)
        await shop.round({"health": DOWN, "login": DOWN, "{x}": DOWN})
        world.slack.trouble.clear()
        await shop.round()

    async def story() -> Any:
        state = await delivers(return_state=True)
        by_flow = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            for _ in range(60):  # the recorder of task runs is behind by a second or two
                runs = await client.read_task_runs(flow_run_filter=by_flow)
                if len(runs) == 5 and all(run.state and run.state.is_final() for run in runs):
                    break
                await asyncio.sleep(0.5)
        return state, runs

    state, runs = asyncio.run(story())
    assert state.is_completed()
    assert sorted((run.name, str(run.state_type.value)) for run in runs) == [
        ("slack: closed health, login, {x}", "COMPLETED"),
        ("slack: opened health, {x}", "COMPLETED"),
        ("slack: opened login", "COMPLETED"),
        ("slack: opened login", "FAILED"),
        ("slack: update shop", "COMPLETED"),
    ]
