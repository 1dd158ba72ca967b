"""What a round in which nothing happens asks of the Prefect server: a worker takes hundreds of them a minute."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact

from demo.slack import Slack
from flows.observe import observe
from flows.synthetic import synthetic
from tasks import afterwards
from tests.support.counted import counted
from tests.support.shop import PASSWORD, DemoShop, demo_shop

OF_THE_ENGINE = {
    "GET /csrf-token": 1,
    "POST /flows/": 1,
    "POST /flow_runs/": 1,
    "PATCH /flow_runs/…": 1,
    "POST /flow_runs/…/set_state": 2,
    "GET /flow_runs/…": 1,
    "GET /admin/storage": 2,
}
OURS = {
    "POST /variables/filter": 3,  # the turn, the place, the alerts
    "POST /variables/": 3,
    "POST /v2/concurrency_limits/increment": 3,  # at most: one a check
    "POST /events": 1,
}
SO_SOON = {"GET /flow_runs/…": 1, "POST /variables/filter": 1}  # after the round before: has that one's run ended?
PATHS = {"health": "/health", "catalogue": "/products?limit=1", "version": "/version"}


def write(folder: Path, shop: DemoShop, slack: Slack) -> None:
    checks = [{"name": name, "get": path, "expect": ["status == 200"], "retries": 0} for name, path in PATHS.items()]
    bot = {"token": "secret:oncall-token", "channel": "releases", "api_url": slack.api_url}
    file = {
        "service": "quiet",
        "base_url": shop.url,
        "rules": {"requests_per_second": 50},
        "synthetic": {"every": "1m", "checks": checks},
        "alerts": {"slack": bot, "open": {"after": "2 in a row"}},
    }
    (folder / "quiet.yaml").write_text(json.dumps(file))


async def rounds(asked: list[str], number: int) -> list[list[str]]:
    """What each of so many rounds has asked for."""
    found = []
    for _ in range(number):
        asked.clear()
        await synthetic("quiet", return_state=True)  # type: ignore[call-overload]
        found.append(list(asked))
    return found


async def page() -> Any:
    return await Artifact.aget(key="monitor-quiet")


def test_a_quiet_round_asks_for_little_and_its_page_follows_what_happens(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTWATCH_SERVICES", str(tmp_path))
    monkeypatch.setenv("SHOP_SMOKE_PASSWORD", PASSWORD)
    monkeypatch.setattr(afterwards, "AT_REST", 1e12)

    async def work(shop: DemoShop) -> None:
        with counted(prefect_api) as asked:
            *_, last = await rounds(asked, 4)
            ours = Counter(last) - Counter(OF_THE_ENGINE) - Counter(SO_SOON)
            deletes = sum(ours.pop(question) for question in list(ours) if question.startswith("DELETE"))
            assert not ours - Counter(OURS) and deletes <= 3, sorted(last)

            first = await page()
            assert "Round 1," in first.data  # no round since has found anything new
            shop.faults(down=True)
            await rounds(asked, 1)
            assert "✗ quiet: 3 of" in (await page()).data
            shop.faults()
            await rounds(asked, 1)
            assert "✓ quiet" in (await page()).data
            monkeypatch.setattr(afterwards, "AT_REST", 1e-3)  # the page is old
            await rounds(asked, 1)
            assert "Round 7," in (await page()).data

    with demo_shop() as shop, Slack() as slack:
        monkeypatch.setenv("ONCALL_TOKEN", slack.token)
        write(tmp_path, shop, slack)
        asyncio.run(work(shop))


def test_whose_the_run_is_is_asked_ahead_of_a_checkpoint_and_at_it_and_for_the_verdict(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTWATCH_SERVICES", str(tmp_path))
    checkpoint = {"query": "sum(queue_depth)", "expect": "value < 100"}
    window = [{"at": f"{n}s", "name": f"queue {n}", **checkpoint} for n in range(3)]
    nobody = {"prometheus": "http://127.0.0.1:9", "timeout": "200ms"}
    file = {"service": "short", "base_url": "http://127.0.0.1:9", "metrics": nobody, "window": window}
    (tmp_path / "short.yaml").write_text(json.dumps(file))

    async def work() -> Any:
        return await observe("short", "v1", dry_run=True, return_state=True)  # type: ignore[call-overload]

    with counted(prefect_api) as asked:
        assert asyncio.run(work()).name == "Inconclusive"
    # The engine's and the verdict's; those at each checkpoint; those ahead of all but the first, where there is time.
    assert 2 + 3 <= asked.count("GET /flow_runs/…") <= 2 + 3 + 2
