"""Kill the flow run's process at random moments: it goes on at the right checkpoint, and rolls back at most once.

FIRSTWATCH_KILLS sets how many kills there are in all (4 if left out); they are shared out over releases that run side
by side, half of them good. The moments are random with a fixed seed. Two more are killed by their own rollback hook, in
the moment in which it is called.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.e2e.production import Production, Result, Running, Scenario, kill, process_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLS = int(os.environ.get("FIRSTWATCH_KILLS", "4"))
EACH = 2 if KILLS > 4 else 1
SPAN = {"good": 40.0, "bad": 12.0}  # seconds in which the first kill falls: as long as such a run takes


def killer(rng: random.Random, kind: str, log: list[str]) -> Callable[[Production, Running], None]:
    moments = [rng.uniform(0, SPAN[kind] if n == 0 else 10) for n in range(EACH)]

    def meanwhile(production: Production, running: Running) -> None:
        for moment in moments:
            pid = _wait_for_process(production, running.flow_run_id)
            if pid is None:
                return  # it has ended already
            time.sleep(moment)
            if process_of(running.flow_run_id) == pid:
                kill(pid)
                log.append(f"{running.scenario.name} killed at T+{time.time() - running.deployed_at:.1f}s")

    return meanwhile


def _wait_for_process(production: Production, flow_run_id: str) -> int | None:
    until = time.monotonic() + 180  # the second chance, where an event was lost, takes 90 s of silence
    while time.monotonic() < until:
        if (pid := process_of(flow_run_id)) is not None:
            return pid
        if production.get(f"flow_runs/{flow_run_id}")["state"]["type"] in ("COMPLETED", "FAILED"):
            return None
        time.sleep(0.1)
    raise AssertionError("the killed run was not picked up again within 180 s")


def test_killed_runs_go_on(production: Production, side_by_side: ThreadPoolExecutor) -> None:
    rng, log = random.Random(20261122), []
    releases = max(2, KILLS // EACH)
    good = [Scenario(f"kill-good-{n}", meanwhile=killer(rng, "good", log), patience=420) for n in range(releases // 2)]
    bad = [
        Scenario(f"kill-bad-{n}", later={"errors": 0.3}, meanwhile=killer(rng, "bad", log), patience=420)
        for n in range(releases - releases // 2)
    ]
    futures = {s.name: side_by_side.submit(production.play, s) for s in (*good, *bad)}
    results = {name: future.result() for name, future in futures.items()}
    print("\n".join(log))
    assert len(log) >= KILLS // 2, log
    for name, result in results.items():
        expected = "Completed(Healthy)" if name.startswith("kill-good") else "Failed(RolledBack)"
        assert result.ended == expected, result
        assert len(result.shop["rollbacks"]) == (0 if name.startswith("kill-good") else 1), result
        _no_finished_checkpoint_is_repeated(result)
        _people_are_told_once(result)


@dataclass
class DeadlyHook:
    """A rollback hook, in front of the shop's: its first call kills the run that calls, and gets no answer.

    `acts`: the shop was rolled back before.
    """

    acts: bool
    shop: str = ""
    calls: list[str] = field(default_factory=list)  # their keys

    def called(self, headers: dict[str, str], body: bytes) -> int | None:
        """The status to answer with; None: no answer."""
        self.calls.append(headers["Idempotency-Key"])
        first = len(self.calls) == 1
        if self.acts or not first:
            httpx.post(f"{self.shop}/admin/rollback", content=body, headers=headers, trust_env=False).raise_for_status()
        if not first:
            return 200
        pid = process_of(json.loads(body)["flow_run_url"].rpartition("/")[2])
        assert pid is not None
        kill(pid)
        return None

    @contextmanager
    def listening(self) -> Iterator[str]:
        """The hook's URL, for the length of a `with` block."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                passed_on = ("Idempotency-Key", "X-Firstwatch-Signature", "Content-Type")
                if status := hook.called({name: self.headers[name] for name in passed_on}, body):
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/rollback"
        finally:
            server.shutdown()
            server.server_close()


def test_a_kill_in_the_moment_of_the_rollback(production: Production, side_by_side: ThreadPoolExecutor) -> None:
    """What arrived is not sent again: the service is asked. What did not is sent once more, where the hook allows."""
    arrived, swallowed = DeadlyHook(acts=True), DeadlyHook(acts=False)
    with arrived.listening() as url, swallowed.listening() as other:
        scenarios = [
            _killed_by_its_hook("kill-arrived", arrived, url),
            _killed_by_its_hook("kill-swallowed", swallowed, other),
        ]
        first, second = side_by_side.map(production.play, scenarios)
    for result in (first, second):
        assert result.ended == "Failed(RolledBack)", str(result)
        assert [call["acted"] for call in result.shop["rollbacks"]] == [True], result
        _no_finished_checkpoint_is_repeated(result)
        _people_are_told_once(result)
    assert len(arrived.calls) == 1, str(first)
    assert len(swallowed.calls) == 2 and len(set(swallowed.calls)) == 1, (swallowed.calls, str(second))
    assert second.task("rollback, once more")["state"]["type"] == "COMPLETED"


def _killed_by_its_hook(name: str, hook: DeadlyHook, url: str) -> Scenario:
    def change(file: dict[str, Any]) -> None:
        hook.shop = file["base_url"]
        file["rollback"]["webhook"]["url"] = url

    return Scenario(name, later={"errors": 0.3}, change=change, patience=420)


def _no_finished_checkpoint_is_repeated(result: Result) -> None:
    finished = Counter(
        t["name"] for t in result.tasks if t["name"].startswith("T+") and t["state"]["type"] in ("COMPLETED", "FAILED")
    )
    assert max(finished.values()) == 1, (finished, str(result))
    left_open = [t["name"] for t in result.tasks if t["state"]["type"] not in ("COMPLETED", "FAILED", "CRASHED")]
    assert left_open == [], str(result)


def _people_are_told_once(result: Result) -> None:
    """Slack has no key against doubles: only a kill between sending and recording may tell something twice."""
    told = Counter(m.text for m in result.messages)
    assert sum(told.values()) <= len(told) + EACH, told
