"""What the doors can beyond sending: update a message, and find one whose answer was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from slack_sdk import WebClient

from demo.slack import CHANNEL_ID, Slack, as_lines
from firstwatch.redaction import Redactor, Secret
from firstwatch.report.messages import Message
from tasks import slack as tasks_slack
from tasks.slack import Line, Mark, NotDelivered
from tasks.slack_doors import EVENT_TYPE, Bot, Place, Refused, Unknowable, Webhook, marked

MESSAGE = Message("opened health", "shop: 1 of 2 checks down", "It does not answer.")
NOW = time.time()


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as server:
        yield server


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules on a smaller clock."""
    monkeypatch.setattr(tasks_slack, "TOTAL", 3.0)
    monkeypatch.setattr(tasks_slack, "_ONE_TRY", 1.0)
    monkeypatch.setattr(tasks_slack, "_PAUSES", (0.02, 0.05))


def bot(slack: Slack, channel: str = CHANNEL_ID, channel_id: str = "") -> Bot:
    return Bot(Secret("bot", slack.token), channel, slack.api_url, channel_id)


def line(slack: Slack, channel: str = CHANNEL_ID) -> Line:
    return Line(bot(slack, channel), Redactor())


def webhook(slack: Slack) -> Line:
    return Line(Webhook(Secret("hook", slack.webhook_url)), Redactor())


def words(slack: Slack) -> list[str]:
    return [m.words.split("\n")[0] for m in slack.messages]


# ── updates ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_is_updated_where_it_stands(slack: Slack) -> None:
    async def story() -> None:
        out = line(slack, "#releases")
        sent = await out.post(MESSAGE, mark=Mark("a", NOW))
        assert sent.place == Place(slack.messages[0].ts, CHANNEL_ID)
        assert await out.update(replace(MESSAGE, title="shop: resolved"), sent.place)

    asyncio.run(story())
    (message,) = slack.messages
    assert message.edited == 1 and "shop: resolved" in message.words and "1 of 2 checks down" in message.earlier[0]
    assert message.metadata == {"event_type": EVENT_TYPE, "event_payload": {"id": "a"}}  # it is found after an update
    assert as_lines(message).startswith("slack #releases (updated, 1)\nshop: resolved")


def test_what_cannot_be_updated_is_told(slack: Slack) -> None:
    asyncio.run(webhook(slack).post(MESSAGE))
    theirs = Place(slack.messages[0].ts, CHANNEL_ID)
    for place, why in (
        (theirs, "cant_update_message"),
        (Place("1.000000", CHANNEL_ID), "message_not_found"),
        (replace(theirs, channel="#releases"), "channel_not_found"),
    ):
        with pytest.raises(NotDelivered, match=why):
            asyncio.run(line(slack).update(MESSAGE, place))
    assert asyncio.run(webhook(slack).update(MESSAGE, theirs)) is False
    assert slack.messages[0].edited == 0


def test_an_update_outlives_trouble(slack: Slack) -> None:
    async def story() -> bool:
        sent = await line(slack).post(MESSAGE)
        slack.trouble.extend([500, "lost", "drop"])
        assert sent.place is not None
        return await line(slack).update(MESSAGE, sent.place)

    assert asyncio.run(story())
    assert slack.messages[0].edited == 2  # twice the same words: nobody sees it


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_is_found_by_its_mark_and_a_reply_in_its_thread(slack: Slack) -> None:
    top = bot(slack).post(marked({"text": "top"}, "a"), None, False, 5.0)
    reply = bot(slack).post(marked({"text": "reply"}, "b"), top.ts if top else None, False, 5.0)
    assert top and reply
    assert bot(slack).find("a", NOW, None, 5.0) == top
    assert bot(slack, "#releases", CHANNEL_ID).find("a", NOW, None, 5.0) == top
    assert bot(slack).find("b", NOW, top, 5.0) == reply
    assert bot(slack).find("b", NOW, None, 5.0) is None  # a channel's history has no replies
    assert bot(slack).find("c", NOW, None, 5.0) is None and bot(slack).find("c", NOW, top, 5.0) is None
    assert bot(slack).find("a", NOW + 3600, None, 5.0) is None


def test_others_metadata_is_not_taken_for_ours(slack: Slack) -> None:
    client = WebClient(slack.token, base_url=slack.api_url)
    client.chat_postMessage(
        channel="releases", text="x", metadata={"event_type": "other", "event_payload": {"id": "a"}}
    )
    client.chat_postMessage(channel="releases", text="x", metadata={"event_type": EVENT_TYPE, "event_payload": {}})
    assert bot(slack).find("a", NOW, None, 5.0) is None


def test_many_messages_are_read_page_by_page_and_too_many_are_not(slack: Slack) -> None:
    first = bot(slack).post(marked({"text": "first"}, "a"), None, False, 5.0)
    door = bot(slack)
    for n in range(499):
        slack.answer("/api/chat.postMessage", f"Bearer {slack.token}", b'{"channel": "releases", "text": "%d"}' % n)
    slack.methods.clear()
    assert door.find("a", NOW, None, 5.0) == first and len(slack.methods) == 5
    slack.answer("/api/chat.postMessage", f"Bearer {slack.token}", b'{"channel": "releases", "text": "one more"}')
    with pytest.raises(Unknowable, match="too many messages"):
        door.find("a", NOW, None, 5.0)


def test_where_slack_does_not_tell_it_cannot_be_known(slack: Slack) -> None:
    with pytest.raises(Unknowable, match="by its id"):
        bot(slack, "#releases").find("a", NOW, None, 5.0)
    with pytest.raises(Unknowable, match="channel_not_found"):
        bot(slack, "C0000000002").find("a", NOW, None, 5.0)
    slack.scopes = {"chat:write"}
    with pytest.raises(Unknowable, match=r"missing_scope.*channels:history"):
        bot(slack).find("a", NOW, None, 5.0)
    with pytest.raises(Unknowable):
        webhook(slack).door.find("a", NOW, None, 5.0)


# ── a lost answer ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reply", [False, True])
def test_a_message_whose_answer_was_lost_is_found_and_not_repeated(slack: Slack, reply: bool) -> None:
    async def story() -> Any:
        thread = (await line(slack).post(MESSAGE, mark=Mark("top", NOW))).place if reply else None
        slack.trouble.append("lost")
        return await line(slack).post(replace(MESSAGE, title="again?"), thread, Mark("a", NOW))

    sent = asyncio.run(story())
    assert words(slack).count("again?") == 1 and not sent.repeat
    assert sent.place == Place(slack.messages[-1].ts, CHANNEL_ID)
    assert slack.messages[-1].thread_ts == (slack.messages[0].ts if reply else None)


@pytest.mark.parametrize("trouble", ["drop", 500])
def test_one_that_did_not_arrive_is_looked_for_and_sent_again(slack: Slack, trouble: int | str) -> None:
    slack.trouble.append(trouble)
    sent = asyncio.run(line(slack).post(MESSAGE, mark=Mark("a", NOW)))
    assert words(slack) == [MESSAGE.title] and not sent.repeat
    assert slack.methods == ["chat.postMessage", "conversations.history", "chat.postMessage"]


def test_what_slack_surely_did_not_take_is_not_looked_for(slack: Slack) -> None:
    slack.trouble.extend([503, 429])
    asyncio.run(line(slack).post(MESSAGE, mark=Mark("a", NOW)))
    assert slack.methods == ["chat.postMessage"] * 3


def test_where_it_cannot_be_known_it_is_sent_again_and_says_so_once_a_round(slack: Slack) -> None:
    slack.scopes = {"chat:write"}
    slack.trouble.append("lost")
    assert asyncio.run(line(slack).post(MESSAGE, mark=Mark("a", NOW))).repeat
    assert words(slack) == [MESSAGE.title, f"{MESSAGE.title} (may be a repeat)"]
    slack.trouble.extend(["lost"] * 50)
    with pytest.raises(NotDelivered) as lost:
        asyncio.run(webhook(slack).post(MESSAGE, mark=Mark("a", NOW)))
    assert lost.value.unclear and lost.value.worth_retrying and len(slack.messages) == 4


def test_a_message_of_an_earlier_process_is_looked_for_first(slack: Slack) -> None:
    earlier = asyncio.run(line(slack).post(MESSAGE, mark=Mark("a", NOW))).place
    assert asyncio.run(line(slack).post(MESSAGE, mark=Mark("a", NOW, unclear=True))).place == earlier
    assert len(slack.messages) == 1


def test_while_slack_does_not_answer_at_all_nothing_is_sent_on_suspicion(slack: Slack) -> None:
    slack.trouble.extend([500] * 500)
    with pytest.raises(NotDelivered) as lost:
        asyncio.run(line(slack).post(MESSAGE, mark=Mark("a", NOW), deadline=time.monotonic() + 0.5))
    assert lost.value.unclear and slack.methods.count("chat.postMessage") == 1


# ── the local Slack itself ───────────────────────────────────────────────────────────────────────────────────


def test_metadata_is_checked_as_slack_does(slack: Slack) -> None:
    with pytest.raises(Refused, match="invalid_metadata_format"):
        bot(slack).post({"text": "x", "metadata": {"event_type": "a", "event_payload": "no object"}}, None, False, 5.0)
    client = WebClient(slack.token, base_url=slack.api_url)
    answer = client.chat_postMessage(channel="#releases", text="x", metadata={"event_type": "a.b", "event_payload": {}})
    assert answer["warning"] == "invalid_metadata_schema" and slack.messages[0].metadata is None
