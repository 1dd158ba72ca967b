"""Slack through the real slack-sdk, against a local server that checks what Slack checks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from demo.slack import Slack
from firstwatch import spec
from firstwatch.redaction import Redactor, Secret
from firstwatch.report import messages
from firstwatch.report.messages import Message
from tasks import slack as tasks_slack
from tasks.slack import Bot, NotDelivered, Thread, Webhook, tell
from tests.support.reports import check, failed, hostile, rolled_back

MESSAGE = Message("verdict", "shop 1.4.3: healthy", "All is well.", broadcast=True)


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as server:
        yield server


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rules on a smaller clock."""
    monkeypatch.setattr(tasks_slack, "TOTAL", 3.0)
    monkeypatch.setattr(tasks_slack, "_ONE_TRY", 1.0)
    monkeypatch.setattr(tasks_slack, "_PAUSES", (0.05, 0.1, 0.2))


def bot(slack: Slack, ts: str | None = None, token: str = "", redactor: Redactor | None = None) -> Thread:
    return Thread(Bot(Secret("bot", token or slack.token), "#releases", slack.api_url), redactor or Redactor(), ts)


def webhook(slack: Slack, url: str = "") -> Thread:
    return Thread(Webhook(Secret("hook", url or slack.webhook_url)), Redactor())


def send(thread: Thread, message: Message = MESSAGE) -> Any:
    """What came of it, delivered or not."""
    try:
        return asyncio.run(thread.send(message))
    except NotDelivered as lost:
        return lost.delivery


# ── one thread a release ─────────────────────────────────────────────────────────────────────────────────────


def test_the_first_message_opens_the_thread_and_the_others_reply(slack: Slack) -> None:
    async def story() -> str | None:
        thread, report = bot(slack), rolled_back()
        for message in (messages.started(report), messages.rollback(report), messages.verdict(report)):
            assert (await thread.send(message)).ok
        return thread.ts

    ts = asyncio.run(story())
    first, *replies = slack.messages
    assert first.ts == ts and first.thread_ts is None
    assert [r.thread_ts for r in replies] == [ts, ts]
    assert [r.broadcast for r in replies] == [False, True]


def test_a_thread_is_found_again_after_a_restart(slack: Slack) -> None:
    first = send(bot(slack))
    assert send(bot(slack, ts=first.ts)).ok
    assert slack.messages[1].thread_ts == slack.messages[0].ts == first.ts


def test_messages_sent_at_once_still_make_one_thread(slack: Slack) -> None:
    async def all_at_once() -> None:
        thread = bot(slack)
        await asyncio.gather(*(thread.send(replace(MESSAGE, text=str(n))) for n in range(5)))

    asyncio.run(all_at_once())
    assert [m.thread_ts for m in slack.messages] == [None] + [slack.messages[0].ts] * 4


def test_through_a_webhook_each_message_stands_alone(slack: Slack) -> None:
    thread = webhook(slack)
    assert send(thread).ok and send(thread).ok and thread.ts is None
    assert [m.thread_ts for m in slack.messages] == [None, None]
    assert "shop 1.4.3" in slack.messages[1].words


@pytest.mark.parametrize("through", [bot, webhook])
def test_slack_takes_hostile_messages_too(slack: Slack, through: Any) -> None:
    report = hostile()
    told = [messages.started, messages.smoke_failed, messages.rollback, messages.verdict]
    for build in told:
        assert send(through(slack), build(report)).ok
    assert send(through(slack), messages.checkpoint_failed(report, report.checkpoints[0])).ok
    assert all(m.blocks for m in slack.messages) and len(slack.messages) == 5


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("through", [bot, webhook])
@pytest.mark.parametrize("trouble", [500, 503, "drop", "hang"])
def test_trouble_that_passes_is_outlived(slack: Slack, through: Any, trouble: int | str) -> None:
    slack.trouble.append(trouble)
    delivery = send(through(slack))
    assert delivery.ok and delivery.attempts == 2 and len(slack.messages) == 1


@pytest.mark.parametrize("through", [bot, webhook])
def test_slack_is_given_the_time_it_asks_for(slack: Slack, through: Any) -> None:
    slack.trouble.append(429)
    assert send(through(slack)).attempts == 2
    assert slack.asked[1] - slack.asked[0] >= 1.0


def test_slack_is_not_asked_before_its_time_even_by_the_next_message(slack: Slack) -> None:
    slack.trouble.append(429)
    slack.retry_after = 60
    thread = bot(slack)
    first, second = send(thread), send(thread)
    assert not first.ok and "wait 60 s" in first.error
    assert not second.ok and second.attempts == 0
    assert len(slack.asked) == 1


@pytest.mark.parametrize("trouble", [500, "drop", "hang"])
def test_trouble_that_stays_ends_in_time(slack: Slack, trouble: int | str) -> None:
    slack.trouble.extend([trouble] * 100)
    begin = time.monotonic()
    delivery = send(bot(slack))
    assert not delivery.ok and delivery.attempts > 1 and delivery.error
    assert time.monotonic() - begin < 3.5


def test_nobody_listens() -> None:
    with Slack() as gone:
        thread = bot(gone)
    delivery = send(thread)
    assert not delivery.ok and "cannot be reached" in delivery.error and delivery.attempts > 1


@pytest.mark.parametrize("through", [bot, webhook])
def test_an_answer_that_is_not_slacks_is_no_delivery(slack: Slack, through: Any) -> None:
    slack.trouble.extend(["garbage"] * 100)
    assert not send(through(slack)).ok


def test_what_slack_refuses_for_good_is_not_tried_again(slack: Slack) -> None:
    wrong = send(bot(slack, token="xoxb-wrong"))
    assert (wrong.ok, wrong.attempts) == (False, 1) and "invalid_auth" in wrong.error
    lost = send(Thread(Bot(Secret("bot", slack.token), "#nowhere", slack.api_url), Redactor()))
    assert (lost.ok, lost.attempts) == (False, 1) and "channel_not_found" in lost.error
    gone = send(webhook(slack, f"{slack.url}/services/T0/B0/gone"))
    assert (gone.ok, gone.attempts) == (False, 1) and "404 no_service" in gone.error


def test_a_message_refused_for_its_shape_goes_out_as_bare_text(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.block_kit.MAX_BLOCKS", 1)  # Slack changes its mind
    for thread in (bot(slack), webhook(slack)):
        assert send(thread).attempts == 2
    assert [(m.text, m.blocks) for m in slack.messages] == [("shop 1.4.3: healthy: All is well.", [])] * 2


def test_a_reply_whose_thread_was_deleted_opens_a_new_one(slack: Slack) -> None:
    thread = bot(slack, ts="1.000000")
    assert send(thread).ok
    assert slack.messages[0].thread_ts is None and thread.ts == slack.messages[0].ts


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_secrets_reach_neither_messages_nor_logs_nor_errors(
    slack: Slack, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    planted = "pl*nt_<d>&" + "s3cret" * 60
    caplog.set_level(logging.DEBUG)
    report = replace(rolled_back(), reasons=(f"it said {planted}",), smoke=[check("c", failed("x" * 280 + planted))])
    thread = bot(slack, redactor=Redactor([planted, slack.token]))
    deliveries = [send(thread, messages.verdict(report)), send(thread, messages.smoke_failed(report))]
    slack.trouble.extend([500, "drop", 429])
    broken = f"{slack.url}/bad path {planted}"
    for door in (bot(slack), webhook(slack), webhook(slack, broken), webhook(slack, f"ftp://{planted}")):
        deliveries.append(send(door))
    out, err = capfd.readouterr()
    written = "".join([*map(str, slack.messages), *map(str, deliveries), caplog.text, out, err])
    for secret in (planted, planted[:20], slack.token, slack.webhook_url, "s3cret", "/bad path"):
        assert secret not in written
    assert "***" in written


# ── as a task of a flow ──────────────────────────────────────────────────────────────────────────────────────


def test_a_thread_is_opened_from_the_service_file(slack: Slack) -> None:
    known = {"bot": slack.token, "hook": slack.webhook_url}

    async def load_secret(name: str) -> Secret:
        return Secret(name, known[name])

    async def deliver(door: spec.Slack) -> Any:
        redactor = Redactor()
        thread = await Thread.open(door, load_secret, redactor)
        assert redactor.text(slack.token if door.token else slack.webhook_url) == "***"
        return await thread.send(MESSAGE)

    assert asyncio.run(deliver(spec.Slack(token="secret:bot", channel="#releases", api_url=slack.api_url))).ts
    assert asyncio.run(deliver(spec.Slack(webhook="secret:hook"))).ok


def test_a_secret_that_is_missing_is_told_by_each_delivery() -> None:
    async def load_secret(name: str) -> Secret:
        raise LookupError(f"secret:{name} has no value")

    async def deliver() -> Any:
        return await (await Thread.open(spec.Slack(webhook="secret:hook"), load_secret, Redactor())).send(MESSAGE)

    with pytest.raises(NotDelivered, match="secret:hook has no value"):
        asyncio.run(deliver())


def test_deliveries_are_task_runs_and_a_lost_one_fails_nothing_else(
    slack: Slack, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_slack.deliver, "retry_delay_seconds", 0.1)

    @flow(name="tells")
    async def tells() -> list[Any]:
        thread = bot(slack)
        told = [await tell(None, MESSAGE), await tell(thread, messages.started(rolled_back()))]
        slack.trouble.extend([500] * 1000)
        told.append(await tell(thread, messages.checkpoint_failed(hostile(), hostile().checkpoints[0])))
        slack.trouble.clear()
        return [*told, await tell(thread, messages.verdict(rolled_back())), thread.ts]

    async def run() -> tuple[Any, Any]:
        state = await tells(return_state=True)
        by_flow = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            for _ in range(60):  # the recorder of task runs is behind by a second or two
                runs = await client.read_task_runs(flow_run_filter=by_flow)
                if len(runs) == 3 and all(run.state and run.state.is_final() for run in runs):
                    break
                await asyncio.sleep(0.5)
        return state, runs

    state, runs = asyncio.run(run())
    nobody, first, lost, last, ts = asyncio.run(state.aresult())
    assert state.is_completed() and nobody is None and first.ok and last.ok and last.ts == ts
    assert not lost.ok and "500" in lost.error
    names = {r.name: r for r in runs}
    assert names["slack: started"].state_type == names["slack: verdict"].state_type == "COMPLETED"
    failures = [r for r in runs if r.state_type == "FAILED"]
    assert len(failures) == 1 and failures[0].run_count == 2 and failures[0].name.startswith("slack: ")
    assert len(failures[0].name) < 150 and "\n" not in failures[0].name


def test_the_demo_slack_prints_what_people_would_read(slack: Slack) -> None:
    from demo.slack import as_lines

    thread = bot(slack)
    send(thread, messages.started(rolled_back()))
    send(thread, messages.verdict(rolled_back()))
    first, reply = map(as_lines, slack.messages)
    assert first.startswith("slack #releases\n👀 shop 1.4.3 is out") and "│ ❌ shop 1.4.3: Rolled back" in reply
