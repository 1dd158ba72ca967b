"""From a check that fails to what people read in Slack: once, in order, in one thread; whatever dies on the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from demo.slack import CHANNEL_ID, Slack
from firstwatch.alerting.outbox import CLAIM_LASTS
from tasks import slack as tasks_slack
from tests.support.documents import Killed
from tests.support.incidents import DOWN, SLOW, UNKNOWN, UP, Monitored, World
from tests.support.reports import HOSTILE


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


def run(story: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(story)


def titles(world: World) -> list[str]:
    """The first line of each message as it reads now; replies are indented, those shown in the channel too marked."""
    return [
        f"{'  ' if m.thread_ts else ''}{m.words.splitlines()[0]}{' (broadcast)' if m.broadcast else ''}"
        for m in world.slack.messages
    ]


OUTAGE = [
    "🟢 shop: resolved after 4m",
    "  🔴 shop: login down too",
    "  🟢 shop: login up again",
    "  🟢 shop: resolved after 4m (broadcast)",
]


async def outage(shop: Monitored, each: Any = None) -> None:
    """Health fails, login too, login works again, health works again; `each` follows each round."""
    for found in ({"health": DOWN}, {"health": DOWN, "login": DOWN}, {"health": DOWN}, {"health": DOWN}, {}):
        await shop.look(found)
        await (each or shop.deliver)()


# ── one thread an incident ───────────────────────────────────────────────────────────────────────────────────


def test_an_outage_is_one_thread_whose_top_is_brought_up_to_date(world: World) -> None:
    run(outage(Monitored(world)))
    assert titles(world) == OUTAGE
    top, *replies = world.slack.messages
    assert {m.thread_ts for m in replies} == {top.ts}
    assert [words.splitlines()[0] for words in top.earlier] == [
        "🔴 shop: 1 of 2 checks down",
        "🔴 shop: 2 of 2 checks down",
        "🔴 shop: 1 of 2 checks down",
    ]
    assert "status is 503" in top.earlier[0] and "runs/flow-run/1" in top.earlier[0]


def test_a_second_outage_has_a_thread_of_its_own_and_the_first_is_forgotten(world: World) -> None:
    async def story() -> Any:
        shop = Monitored(world)
        await outage(shop)
        await shop.round({"health": DOWN})
        return await shop.book()

    book = run(story())
    assert titles(world) == [*OUTAGE, "🔴 shop: 1 of 2 checks down"]
    assert list(book.told) == [book.state.incident.id] and not book.outbox.entries


def test_a_round_without_news_asks_slack_nothing(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        assert await shop.round() == []
        await shop.round({"health": DOWN})
        asked, changes = len(world.slack.asked), len(world.documents.written)
        for _ in range(3):
            assert await shop.round({"health": DOWN}) == []
        assert len(world.slack.asked) == asked and len(world.documents.written) == changes + 3  # the rounds themselves

    run(story())


def test_worse_better_reminded_and_flapping_are_replies(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world, remind="30m", flapping={"changes": 3, "within": "10m"}, close={"after": 2})
        await shop.round({"health": SLOW})
        assert titles(world) == ["🟡 shop: 1 of 2 checks degraded"]
        await shop.round({"health": DOWN})
        await shop.round({"health": SLOW})
        await shop.round({"health": SLOW})
        await shop.round({"health": DOWN})
        await shop.round({"health": DOWN}, after=1800)
        for found in ({}, {"health": DOWN}, {}):
            await shop.round(found)

    run(story())
    assert titles(world) == [
        "🔴 shop: 1 of 2 checks down",
        "  🔴 shop: health worse, now down",
        "  🟡 shop: health better, now degraded",
        "  🔴 shop: health worse, now down",
        "  ⏰ shop: health still down after 34m",
        "  🔁 shop: health goes up and down",
    ]
    assert "silent until it is steady" in world.slack.messages[0].words


def test_what_is_held_back_is_shown_at_the_top_with_its_parent(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world, needs={"basket": ("health",)})
        await shop.round({"health": DOWN})
        assert "Held back" not in world.slack.messages[0].words
        assert await shop.round({"health": DOWN, "basket": DOWN}) != []

    run(story())
    assert titles(world) == ["🔴 shop: 1 of 3 checks down"]
    assert "basket, as it needs 'health', which is down" in world.slack.messages[0].words


def test_what_belongs_to_no_incident_stands_alone(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        await shop.round({"health": UNKNOWN}, why="our own network is gone")
        await shop.round()

    run(story())
    assert titles(world) == ["⚪ shop: health is not watched", "👀 shop: health is watched again"]
    assert "our own network is gone" in world.slack.messages[0].words


def test_an_end_that_is_not_told_is_shown_all_the_same(world: World) -> None:
    async def story() -> Any:
        shop = Monitored(world, close={"after": 1, "tell": False})
        await shop.round({"health": DOWN})
        await shop.round()
        return (await shop.book()).told

    assert run(story()) == {}
    assert titles(world) == ["🟢 shop: resolved after 1m"]


# ── Slack is in trouble ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trouble", [500, 503, "drop", "hang"])
def test_while_slack_is_down_everything_waits_and_then_arrives_in_order_once(world: World, trouble: Any) -> None:
    async def story() -> None:
        shop = Monitored(world)
        world.slack.trouble.extend([trouble] * 10_000)

        async def fails() -> None:
            assert not any(d.ok for d in await shop.deliver())

        await outage(shop, fails)
        assert world.slack.messages == []
        world.slack.trouble.clear()
        world.now += 60
        assert all(d.ok for d in await shop.deliver())

    run(story())
    assert titles(world) == OUTAGE


def test_a_rate_limit_is_obeyed_and_nothing_is_lost(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        await shop.look({"health": DOWN})
        world.slack.trouble.append(429)
        world.slack.retry_after = 60
        (lost,) = await shop.deliver()
        assert "wait 60 s" in lost.error and len(world.slack.asked) == 1
        world.now += 60
        assert [d.ok for d in await shop.deliver()] == [True]

    run(story())
    assert titles(world) == ["🔴 shop: 1 of 2 checks down"]


def test_a_lost_answer_makes_no_second_message(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)

        async def loses() -> None:
            world.slack.trouble.append("lost")
            await shop.deliver()

        await outage(shop, loses)

    run(story())
    assert titles(world) == OUTAGE


def test_a_round_ends_in_time_however_much_waits(world: World) -> None:
    async def story() -> float:
        shop = Monitored(world)
        await shop.look({"health": UNKNOWN})
        await shop.look({"health": DOWN})
        world.slack.trouble.extend(["hang"] * 1000)
        began = time.monotonic()
        await shop.deliver()
        return time.monotonic() - began

    assert run(story()) < 2.0 + 0.7


@pytest.mark.parametrize("open_still", [False, True])
def test_what_had_to_be_joined_is_told_in_short(world: World, open_still: bool) -> None:
    async def story() -> Any:
        shop = Monitored(world, flapping={"changes": 100})
        outages = 40 if open_still else 25
        for n in range(outages):
            await shop.look({"health": DOWN, "login": DOWN if open_still else UP}, why=f"fault {n}")
            await shop.look({"login": DOWN if open_still else UP})
        while (await shop.book()).outbox.entries:
            world.now += 60
            assert all(d.ok for d in await shop.deliver())
        return await shop.book()

    book = run(story())
    first = world.slack.messages[0]
    assert "earlier notices" in first.words and len(world.slack.messages) == 20
    if open_still:  # one incident: its first message says how it is, and all others reply to it
        assert titles(world)[0] == "🔴 shop: 1 of 2 checks down" and list(book.told) == [book.state.incident.id]
        assert all(m.thread_ts == first.ts for m in world.slack.messages[1:])
    else:
        assert titles(world)[0] == "🗂️ shop: 12 messages that had to wait" and first.edited == 0
        assert titles(world)[-2:] == ["🟢 shop: resolved after 1m", "  🟢 shop: resolved after 1m (broadcast)"]
        assert book.told == {}


def test_an_update_that_failed_is_made_good_by_the_next_round(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        await shop.round({"health": DOWN})
        await shop.look({"health": DOWN, "login": DOWN})
        world.slack.trouble.extend([None, *[500] * 1000])
        await shop.deliver()
        assert titles(world)[0] == "🔴 shop: 1 of 2 checks down"
        world.slack.trouble.clear()
        await shop.deliver()

    run(story())
    assert titles(world) == ["🔴 shop: 2 of 2 checks down", "  🔴 shop: login down too"]


def test_a_top_message_that_was_deleted_stops_nothing(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        await shop.round({"health": DOWN})
        world.slack.messages.clear()
        await shop.round({"health": DOWN, "login": DOWN})
        assert await shop.round({"health": DOWN, "login": DOWN}) == []
        await shop.round()

    run(story())
    assert [m.text.split(":")[1] for m in world.slack.messages] == [" login down too", " resolved after 3m"]


# ── processes die, and meet ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at_once", [2, 4])
def test_of_several_at_once_only_one_sends(world: World, at_once: int) -> None:
    async def story() -> None:
        shop = Monitored(world)

        async def several() -> None:
            await asyncio.gather(*(shop.deliver(f"run {n}") for n in range(at_once)))

        await outage(shop, several)

    run(story())
    assert titles(world) == OUTAGE and world.documents.collisions > 0


@pytest.mark.parametrize("reply", [False, True])
def test_one_that_is_killed_after_sending_is_found_and_not_repeated(world: World, reply: bool) -> None:
    async def story() -> None:
        shop = Monitored(world)
        if reply:
            await shop.round({"health": DOWN})
        await shop.look({"health": DOWN, **({"login": DOWN} if reply else {})})
        sent = len(world.slack.messages)
        world.documents.dies = lambda key, document: len(world.slack.messages) > sent
        with pytest.raises(Killed):
            await shop.deliver("killed")
        world.documents.dies = lambda key, document: False
        assert await shop.deliver("too early") == []
        world.now += CLAIM_LASTS + 1
        assert [d.ok for d in await shop.deliver("heir")][:1] == [True]
        await shop.round()

    run(story())
    assert sum("login down too" in title for title in titles(world)) == reply
    assert sum(not m.thread_ts for m in world.slack.messages) == 1
    assert titles(world)[-1].startswith("  🟢 shop: resolved") and titles(world)[0].startswith("🟢")


def test_one_that_is_found_is_brought_up_to_date(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world, needs={"basket": ("health",)})
        await shop.look({"health": DOWN})
        world.documents.dies = lambda key, document: bool(world.slack.messages)
        with pytest.raises(Killed):
            await shop.deliver("killed")
        world.documents.dies = lambda key, document: False
        await shop.look({"health": DOWN, "basket": DOWN}, after=CLAIM_LASTS + 1)
        await shop.deliver("heir")

    run(story())
    (message,) = world.slack.messages
    assert "Held back" not in message.earlier[0] and "Held back" in message.words


def test_one_that_is_killed_before_sending_is_made_good(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        await shop.look({"health": DOWN})
        world.slack.trouble.append("hang")
        killed = asyncio.create_task(shop.deliver("killed"))
        await asyncio.sleep(0.2)
        assert world.slack.asked
        killed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killed
        world.now += CLAIM_LASTS + 1
        await shop.deliver("heir")

    run(story())
    assert titles(world) == ["🔴 shop: 1 of 2 checks down"]


def test_where_slack_does_not_tell_it_is_sent_again_and_says_so(world: World) -> None:
    async def story() -> None:
        world.slack.scopes = {"chat:write"}
        shop = Monitored(world)
        await shop.look({"health": DOWN})
        world.documents.dies = lambda key, document: bool(world.slack.messages)
        with pytest.raises(Killed):
            await shop.deliver("killed")
        world.documents.dies = lambda key, document: False
        world.now += CLAIM_LASTS + 1
        await shop.deliver("heir")
        await shop.round()

    run(story())
    first, again, end = world.slack.messages
    assert "(may be a repeat)" in again.earlier[0] and end.thread_ts == again.ts
    assert first.words.startswith("🔴") and again.words.startswith("🟢")


def test_the_id_of_a_channel_given_by_name_is_learned(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world, channel="#releases")
        await outage(shop)
        await shop.look({"health": DOWN})
        world.slack.trouble.append("lost")
        await shop.deliver()

    run(story())
    assert titles(world) == [*OUTAGE, "🔴 shop: 1 of 2 checks down"]


# ── other doors, other texts ─────────────────────────────────────────────────────────────────────────────────


def test_through_a_webhook_the_news_stand_alone(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world, webhook=True, remind="30m")
        await outage(shop)
        await shop.round({"health": SLOW})
        await shop.round({"health": DOWN})
        await shop.round({"health": SLOW})
        await shop.round({"health": SLOW}, after=1800)
        assert (await shop.book()).outbox.entries == ()

    run(story())
    assert titles(world) == [
        "🔴 shop: 1 of 2 checks down",
        "🔴 shop: login down too",
        "🟢 shop: resolved after 4m",
        "🟡 shop: 1 of 2 checks degraded",
        "🔴 shop: health worse, now down",
        "⏰ shop: health still degraded after 32m",
    ]
    assert set(world.slack.methods) == {world.slack.webhook_url.rpartition("/")[2]}


@pytest.mark.parametrize("webhook", [False, True])
def test_hostile_texts_stay_texts(world: World, webhook: bool) -> None:
    async def story() -> None:
        shop = Monitored(world, webhook=webhook, needs={"<!channel> {x} *b*": ()})
        bad = {"health": DOWN, "<!channel> {x} *b*": DOWN}
        deliveries = [*await shop.round(bad, why=HOSTILE * 50), *await shop.round()]
        assert all(d.ok and d.attempts == 1 for d in deliveries)

    run(story())
    shown = "".join(str(m.blocks) + m.text for m in world.slack.messages)
    for live in ("<!channel>", "<!here>", "<@U123>", "<script>", "\u202e", "\x1b"):
        assert live not in shown
    assert "&lt;!channel&gt;" in shown


def test_a_secret_that_is_missing_keeps_all_in_the_outbox_and_says_so(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world)
        held, shop.secrets = shop.secrets, {}
        (lost,) = await shop.round({"health": DOWN})
        assert not lost.ok and lost.message == "opened health" and "secret:bot has no value" in lost.error
        shop.secrets = held
        await shop.deliver()

    run(story())
    assert titles(world) == ["🔴 shop: 1 of 2 checks down"]


def test_nobody_is_told_where_nobody_is_named(world: World) -> None:
    async def story() -> None:
        shop = Monitored(world, slack=None)
        assert await shop.round({"health": DOWN}) == []

    run(story())
    assert world.slack.asked == [] and CHANNEL_ID not in str(world.documents.kept)
