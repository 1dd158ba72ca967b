"""Artifacts on a real Prefect server, read back over its API."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from demo.stack import free_port
from firstwatch.model import Release
from firstwatch.redaction import Redactor
from firstwatch.report import ReleaseReport
from tasks import report as tasks_report
from tasks.report import MAX_REQUESTS, WindowProgress, publish_report, publish_requests
from tests.support.reports import DEPLOYED, check, failed, hostile, requests, rolled_back

PLANTED = "pl*nted_s3cret|`<x>"


def of(version: str, report: ReleaseReport | None = None) -> ReleaseReport:
    """A report of a release that no other test knows."""
    return replace(report or rolled_back(), release=Release("shop", version, DEPLOYED))


def artifact(key: str) -> Any:
    async def read() -> Any:
        return await Artifact.aget(key)

    return asyncio.run(read())


def publish(report: ReleaseReport, redactor: Redactor) -> Any:
    """The state of a flow run that publishes both, with what came of them."""

    @flow(name="publishes")
    async def publishes() -> list[bool]:
        page = await publish_report(report, redactor)
        return [page, await publish_requests(report.requests, report.release, redactor)]

    return asyncio.run(publishes(return_state=True))


def result(state: Any) -> Any:
    return asyncio.run(state.aresult())


@pytest.mark.usefixtures("prefect_api")
def test_a_release_has_a_page_and_a_table() -> None:
    report = of("page")
    state = publish(report, Redactor())
    assert result(state) == [True, True]
    page = artifact(f"release-{report.release.slug}")
    assert page.type == "markdown" and page.data.startswith("# ✗ Rolled back: shop page")
    assert page.flow_run_id == state.state_details.flow_run_id
    table = artifact(f"requests-{report.release.slug}")
    rows = json.loads(table.data)
    assert table.type == "table" and len(rows) == 3
    assert rows[1]["request"] == "GET http://127.0.0.1/1" and rows[1]["status"] == "no answer"


@pytest.mark.usefixtures("prefect_api")
def test_what_is_hostile_or_large_is_stored_all_the_same() -> None:
    report = of("large", replace(hostile(), requests=requests(MAX_REQUESTS + 7)))
    assert result(publish(report, Redactor())) == [True, True]
    rows = json.loads(artifact(f"requests-{report.release.slug}").data)
    assert len(rows) == MAX_REQUESTS + 1 and rows[-1]["check"] == "and 7 more"


@pytest.mark.usefixtures("prefect_api")
def test_secrets_are_taken_out_before_anything_is_cut_or_escaped() -> None:
    report = of(
        "secrets",
        replace(
            rolled_back(),
            reasons=(f"{'x' * 590}{PLANTED}",),
            smoke=[check(PLANTED, failed(f"said {PLANTED}"))],
            charts=[replace(c, title=PLANTED) for c in rolled_back().charts],
            requests=[replace(r, url=f"http://127.0.0.1/?q={PLANTED}", error=PLANTED) for r in requests()],
            notes=(PLANTED,),
        ),
    )
    redactor = Redactor([PLANTED])
    publish(report, redactor)
    written = "".join(str(artifact(f"{kind}-{report.release.slug}").data) for kind in ("release", "requests"))
    assert redactor.text(written) == written and "***" in written
    for part in ("s3cret", "pl*n", "pl\\*n"):
        assert part not in written


def test_megabytes_without_a_space_are_redacted_in_no_time() -> None:
    begin = time.monotonic()
    assert Redactor([PLANTED]).text("a" * 1_000_000 + PLANTED).endswith("a***")
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("prefect_api")
def test_the_window_has_one_progress_artifact_that_survives_a_restart() -> None:
    release = Release("shop", "progress", DEPLOYED)

    @flow(name="watches")
    async def watches() -> list[bool]:
        redactor = Redactor([PLANTED])
        first = WindowProgress(release, redactor)
        told = [await first.update(0.0, "waiting for T+0s error rate"), await first.update(0.25, "x")]
        after_a_restart = WindowProgress(release, redactor)
        return [*told, await after_a_restart.update(1.7, f"waiting for {PLANTED}")]

    assert asyncio.run(watches()) == [True, True, True]

    async def all_of_them() -> list[Any]:
        async with get_client() as client:
            found = await client.read_artifacts(limit=200)
            return [a for a in found if a.key == f"window-{release.slug}"]

    (progress,) = asyncio.run(all_of_them())
    assert (progress.type, progress.data, progress.description) == ("progress", 100.0, "waiting for ***")

    assert asyncio.run(watches()) == [True, True, True]
    assert len(asyncio.run(all_of_them())) == 2  # another run of the same release has its own


def test_a_server_that_is_away_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for task in (tasks_report._publish_markdown, tasks_report._publish_table):
        monkeypatch.setattr(task, "retry_delay_seconds", [0.1, 0.1])
    report = of("away")

    async def goes_on() -> list[bool]:
        page = await publish_report(report, Redactor())
        table = await publish_requests(report.requests, report.release, Redactor())
        return [page, table, await WindowProgress(report.release, Redactor()).update(0.5, "half")]

    nobody = f"http://127.0.0.1:{free_port()}/api"
    with temporary_settings({PREFECT_API_URL: nobody, PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert asyncio.run(goes_on()) == [False, False, False]
