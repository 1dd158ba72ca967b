"""Put the report of a release where people look: artifacts in the Prefect UI. The one sink, and so redacted here.

Publishing never changes a verdict: what cannot be published is tried again, then logged, and life goes on.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    Artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.runtime import flow_run

from firstwatch.backtest import Backtest
from firstwatch.model import Release, RequestRecord, rfc3339
from firstwatch.redaction import Redactor
from firstwatch.report.backtest import backtest_markdown, sentence
from firstwatch.report.markdown import release_markdown
from firstwatch.report.model import ReleaseReport, map_text
from firstwatch.report.summary import headline
from firstwatch.report.text import plain
from firstwatch.spec import Service
from tasks.access import access_to

MAX_REQUESTS = 1000  # rows of the request table
_PATIENCE = 3.0  # seconds for Prefect's server to take a progress update: a look waits for it
_AFTER_FAILURE = 60.0  # seconds until a server that did not is asked again, or a thousand windows would at each look
AT_REST = 300.0  # seconds between two updates of a progress artifact of which nothing but the time is new


async def publish_report(report: ReleaseReport, redactor: Redactor) -> bool:
    """The markdown artifact `release-<slug>`; published again, it becomes the next version under the same key.
    False where Prefect would not take it."""
    # Secrets go first, while they are whole; then once more, should putting the page together have made one.
    clean = map_text(report, redactor.text)
    page, about = redactor.text(release_markdown(clean)), f"{headline(clean)}: {_about(clean.release)}"
    return await _published(_publish_markdown, f"release-{report.release.slug}", page, about)


async def publish_backtest(service: Service, done: Backtest) -> bool:
    """The markdown artifact `backtest-<service>`. False where Prefect would not take it. Raises SecretMissing."""
    redactor = (await access_to(service.metrics)).redactor()
    key = artifact_key("backtest", service.service)
    return await publish_markdown(key, redactor.text(backtest_markdown(done)), redactor.text(sentence(done)))


def artifact_key(*words: str) -> str:
    """`monitor-shop-eu`: as Prefect's keys allow it (a-z, 0-9, dash)."""
    return "-".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)))


async def publish_markdown(key: str, page: str, description: str) -> bool:
    """A page that is redacted already, as a task run. False where Prefect would not take it."""
    return await _published(_publish_markdown, key, page, description)


async def publish_requests(records: Sequence[RequestRecord], release: Release, redactor: Redactor) -> bool:
    """The table artifact `requests-<slug>`, a row for each request sent. False where Prefect would not take it."""
    rows = [_row(map_text(record, redactor.text)) for record in records[:MAX_REQUESTS]]
    if (more := len(records) - MAX_REQUESTS) > 0:
        rows.append({**dict.fromkeys(rows[0], ""), "check": f"and {more} more"})
    return await _published(
        _publish_table, f"requests-{release.slug}", rows, f"Requests sent to {redactor.text(_about(release))}"
    )


def _row(record: RequestRecord) -> dict[str, Any]:
    return {
        "at": rfc3339(record.at),
        "check": plain(record.check, 120),
        "attempt": record.attempt,
        "status": record.status if record.status is not None else "no answer",
        "ms": round(record.milliseconds, 1),
        "request": plain(f"{record.method} {record.url}", 500),
        "error": plain(record.error),
        "bytes": record.bytes,
        "trace": record.trace_id,
    }


def _about(release: Release) -> str:
    return plain(f"{release.service} {release.version}, deployed {rfc3339(release.deployed_at)}")


@task(
    name="publish report",
    task_run_name="report: {key}",
    retries=2,
    retry_delay_seconds=[1, 5],
    timeout_seconds=30,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def _publish_markdown(key: str, page: str, description: str) -> None:
    await acreate_markdown_artifact(page, key=key, description=description)


@task(
    name="publish requests",
    task_run_name="report: {key}",
    retries=2,
    retry_delay_seconds=[1, 5],
    timeout_seconds=30,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def _publish_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    await acreate_table_artifact(rows, key=key, description=description)


async def _published(publish: Any, key: str, content: Any, description: str) -> bool:
    try:
        await publish(key, content, description)
    except Exception as problem:
        _log().warning("%s was not published: %s", key, type(problem).__name__)
        return False
    return True


class WindowProgress:
    """The progress artifact `window-<slug>`: how far the window is, and what it waits for. Picked up again after a
    restart of the same flow run. A failed update is made good by a later one."""

    def __init__(self, release: Release, redactor: Redactor):
        self._key = f"window-{release.slug}"
        self._redactor = redactor
        self._artifact: UUID | None = None
        self._shown: tuple[str, float] | None = None  # what, and when
        self._failed_at = -math.inf

    async def keep_up(self, fraction: float, text: str, now: float, *, about: str) -> None:
        """Update it if there is something else to read than the last time, or AT_REST seconds have passed by `now`
        (Unix seconds). `about` is what there is to read, without the time. An update at each look would cost Prefect's
        server more than all else that a window does."""
        shown = self._shown
        if 0 <= now - self._failed_at < _AFTER_FAILURE:
            return
        if shown is not None and shown[0] == about and 0 <= now - shown[1] < AT_REST:
            return
        if await self.update(fraction, text):
            self._shown = (about, now)
        else:
            self._shown, self._failed_at = None, now

    async def update(self, fraction: float, text: str) -> bool:
        """`fraction` (0..1) of the window is over; `text` says what it waits for. False: Prefect did not take it."""
        percent = round(100 * min(1.0, max(0.0, fraction)), 1)
        description = plain(self._redactor.text(text), 500)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._write(percent, description)
        except Exception as problem:
            _log().warning("%s was not updated: %s", self._key, type(problem).__name__)
            return False
        return True

    async def _write(self, percent: float, description: str) -> None:
        self._artifact = self._artifact or await self._earlier()
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(percent, key=self._key, description=description)
        else:
            await aupdate_progress_artifact(self._artifact, percent, description=description)

    async def _earlier(self) -> UUID | None:
        """What an earlier process of this flow run has created."""
        found = await Artifact.aget(key=self._key)
        ours = found is not None and flow_run.id is not None and str(found.flow_run_id) == str(flow_run.id)
        return found.id if found is not None and ours else None


def _log() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("firstwatch.report")
