"""A monitor that falls silent is told by the Prefect server itself: a real one, and a Slack that checks what Slack
would."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect.client.orchestration import get_client

from demo.slack import Slack
from firstwatch.redaction import Secret
from firstwatch.spec import Service
from tasks import watchdog
from tasks.hooks import LoadSecret
from tasks.secrets import SecretMissing


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as running:
        yield running


def service(name: str, **alerts: object) -> Service:
    return Service.model_validate(
        {
            "service": name,
            "base_url": "http://127.0.0.1:1",
            "synthetic": {"every": "1m", "locations": ["eu"]},
            "alerts": alerts,
        }
    )


def secrets(slack: Slack) -> LoadSecret:
    async def load(name: str) -> Secret:
        known = {"hook": slack.webhook_url, "token": slack.token}
        if name not in known:
            raise SecretMissing(f"secret:{name} has no value")
        return Secret(name, known[name])

    return load


def test_a_silence_is_told_once_and_the_next_one_again(
    prefect_api: str, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a webhook and by a bot, side by side."""
    monkeypatch.setattr(watchdog, "watched", lambda s: [watchdog.Watched(s.service, "eu", 10.0)])
    bot = {"token": "secret:token", "channel": "releases", "api_url": slack.api_url}
    shops = [service("webhook", slack={"webhook": "secret:hook"}), service("bot", slack=bot)]
    load: LoadSecret = secrets(slack)

    def told(shop: Service) -> list[str]:
        return [m.text for m in slack.messages if f"Nobody watches {shop.service} at eu" in m.text]

    async def work() -> None:
        async with get_client() as client:
            lines = await watchdog.ensure_watchdogs(client, shops, load, time.time())
            assert sum("created" in line for line in lines) == 2, lines
            await asyncio.sleep(6)
            assert slack.messages == []
            for shop in shops:
                await watchdog.round_ended(client, shop.service, "eu", "up", time.time())
            await _until(lambda: all(len(told(shop)) == 1 for shop in shops), 40)
            assert "silent for 10s" in slack.messages[0].text
            await asyncio.sleep(13)
            assert len(slack.messages) == 2  # one silence, one message
            for shop in shops:
                await watchdog.round_ended(client, shop.service, "eu", "up", time.time())
            await _until(lambda: all(len(told(shop)) == 2 for shop in shops), 40)
            again = await watchdog.ensure_watchdogs(client, [], load, time.time())
            assert sum("deleted" in line for line in again) == 2, again

    asyncio.run(work())


async def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        await asyncio.sleep(0.2)


def test_without_a_secret_it_says_that_nobody_will_be_told(prefect_api: str, slack: Slack) -> None:
    async def work() -> None:
        async with get_client() as client:
            silent = service("quiet", slack={"webhook": "secret:unknown"})
            [line] = await watchdog.ensure_watchdogs(client, [silent], secrets(slack), time.time())
            assert line.startswith("nobody will be told when the monitor of quiet at eu falls silent")
            assert line.endswith(": secret:unknown has no value")
            assert not [a for a in await client.read_automations() if "quiet" in a.name]

    asyncio.run(work())


def test_while_a_service_file_is_broken_its_watch_stays(prefect_api: str, slack: Slack) -> None:
    """Its monitor cannot take a round, and somebody runs `firstwatch setup`."""

    async def names() -> list[str]:
        async with get_client() as client:
            return [a.name for a in await client.read_automations() if "broken" in a.name]

    async def work() -> None:
        async with get_client() as client:
            shop, load = service("broken", slack={"webhook": "secret:hook"}), secrets(slack)
            await watchdog.ensure_watchdogs(client, [shop], load, time.time())
            lines = await watchdog.ensure_watchdogs(client, [], load, time.time(), all_read=False)
            assert len(await names()) == 1 and any("stays" in line for line in lines)
            await watchdog.ensure_watchdogs(client, [], load, time.time())
            assert await names() == []

    asyncio.run(work())


def test_no_monitor_speaks_for_another() -> None:
    pairs = [("shop", ""), ("shop", "eu"), ("shop.eu", ""), ("shop-eu", ""), ("Shop", "eu"), ("shop_eu", "")]
    assert len({watchdog.monitor_resource(*pair) for pair in pairs}) == len(pairs)
    names = ["shop", "Shop", "shop.eu", "shop-eu", "shop_eu"]
    assert len({watchdog._block_name(name) for name in names}) == len(names)
    assert watchdog._block_name("shop-eu") == "firstwatch-shop-eu"


def test_what_must_be_alive() -> None:
    two = Service.model_validate(
        {"service": "shop", "base_url": "http://x", "synthetic": {"every": "1m", "locations": ["eu", "us"]}}
    )
    assert [(w.shown, w.within) for w in watchdog.watched(two)] == [("shop at eu", 150.0), ("shop at us", 150.0)]
    assert list(watchdog.watched(Service.model_validate({"service": "shop", "base_url": "http://x"}))) == []


@pytest.fixture
def switch() -> Iterator[tuple[str, list[str], list[int]]]:
    """A dead-man switch: its URL, the paths that were asked, and the statuses that it answers next."""
    asked: list[str] = []
    answers: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/ping/s3cret", asked, answers
    server.shutdown()
    server.server_close()


def test_the_dead_man_switch_is_asked_and_its_url_is_never_told(switch: tuple[str, list[str], list[int]]) -> None:
    url, asked, answers = switch
    assert asyncio.run(watchdog.ping(Secret("ping", url))) == ""
    assert asked == ["/ping/s3cret"]
    answers.append(503)
    assert asyncio.run(watchdog.ping(Secret("ping", url))) == "the dead-man switch answered 503"
    gone = asyncio.run(watchdog.ping(Secret("ping", "http://127.0.0.1:9/s3cret")))
    assert gone == "the dead-man switch could not be reached (ConnectError)"
