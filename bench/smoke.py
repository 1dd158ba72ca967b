"""What a smoke test costs beside what it does: 50 checks, each 200 ms away, side by side in one run.

    python -m bench.smoke            measures, prints the table and writes bench/smoke.json

Three ways to ask the same 50 questions of the same server:
  gather   one bare asyncio.gather of 50 requests with one httpx client: the floor
  smoke    our smoke flow in a live process on a running Prefect server: every check a task run, judged and recorded
  pytest   50 pytest tests with requests, one after the other, as teams write them today
For `smoke`, the spans are told apart: from the trigger (calling the flow) to the first request; from the first request
to the last answer; to the suite's end, when Prefect has all 50 task runs; and the whole flow with its report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKS, AWAY = 50, 0.2
LIMIT_RATIO, LIMIT_TRIGGER = 1.5, 2.0
RESULT = Path(__file__).with_suffix(".json")


class Server:
    """Answers every request after 200 ms, and remembers when each came."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.url = ""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.came.append(time.perf_counter())
                await asyncio.sleep(AWAY)
                body = b'{"status": "ok"}'
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @contextmanager
    def running(self) -> Iterator[Server]:
        """In a thread and an event loop of its own."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        start = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=200), loop)
        self.url = f"http://127.0.0.1:{start.result().sockets[0].getsockname()[1]}"
        yield self
        loop.call_soon_threadsafe(loop.stop)


def gather(server: Server) -> float:
    import httpx

    async def ask() -> float:
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None)) as client:
            began = time.perf_counter()
            await asyncio.gather(*(client.get(f"{server.url}/check/{n}") for n in range(CHECKS)))
            return time.perf_counter() - began

    return asyncio.run(ask())


def smoke(server: Server, folder: Path) -> dict[str, float]:
    from flows.smoke import smoke as flow
    from tasks.journal import Journal

    ended: list[float] = []
    answers: list[float] = []
    record = Journal.finish  # the suite is done when its results are about to be written down

    async def noting(self: Journal, step: str, found: Any) -> None:
        if step == "smoke":
            ended.append(time.perf_counter())
            requests = found["requests"]
            last = max(request.at + request.milliseconds / 1000 for request in requests)
            answers.append(last - min(request.at for request in requests))
        await record(self, step, found)

    Journal.finish = noting  # type: ignore[method-assign]  # it notes when each step has ended
    try:
        server.came.clear()
        triggered = time.perf_counter()
        # Prefect has no overload for an async flow that returns its state.
        state = asyncio.run(flow(service=str(folder / "fifty.yaml"), return_state=True))  # type: ignore[call-overload]
        done = time.perf_counter()
    finally:
        Journal.finish = record  # type: ignore[method-assign]  # as it was
    assert state.name == "Healthy", state
    assert len(server.came) == CHECKS, len(server.came)
    first = min(server.came)
    return {"trigger": first - triggered, "answers": answers[0], "suite": ended[0] - first, "flow": done - triggered}


def pytest_requests(server: Server, folder: Path) -> float:
    test = folder / "test_fifty.py"
    test.write_text(
        "import pytest, requests\n"
        f"@pytest.mark.parametrize('n', range({CHECKS}))\n"
        "def test_check(n):\n"
        f"    answer = requests.get('{server.url}/check/%d' % n, timeout=10)\n"
        "    assert answer.status_code == 200 and answer.json()['status'] == 'ok'\n"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)], check=True,
                   cwd=folder, stdout=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - began


def service_file(server: Server, folder: Path) -> None:
    checks = [
        {"name": f"check {n}", "get": f"/check/{n}", "expect": ["status == 200", 'json.status == "ok"']}
        for n in range(CHECKS)
    ]
    file = {
        "service": "fifty",
        "base_url": server.url,
        "rules": {"requests_per_second": 1000},
        "smoke": {"checks": checks},
        "metrics": {"scrape": f"{server.url}/metrics"},
    }
    (folder / "fifty.yaml").write_text(json.dumps(file))


def measure(runs: int) -> dict[str, Any]:
    from demo.stack import Stack

    with tempfile.TemporaryDirectory() as name, Stack(Path(name)) as stack, Server().running() as server:
        folder = Path(name)
        stack.prefect_server()
        os.environ.update(PREFECT_API_URL=stack.api_url, PREFECT_HOME=str(folder / "client"))
        service_file(server, folder)
        smoke(server, folder)  # imports, and the first connection to the Prefect server
        rows: list[dict[str, float]] = []
        for _ in range(runs):
            row = {"gather": gather(server), **smoke(server, folder), "pytest": pytest_requests(server, folder)}
            ratios = {f"{span} / gather": row[span] / row["gather"] for span in ("answers", "suite")}
            rows.append({**row, **ratios, "allowed": LIMIT_RATIO * row["gather"] + LIMIT_TRIGGER})
            print(json.dumps({k: round(v, 3) for k, v in rows[-1].items()}), flush=True)
    return {
        "checks": CHECKS,
        "away_s": AWAY,
        "runs": runs,
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "median": {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]},
        "worst": {key: round(max(row[key] for row in rows), 3) for key in rows[0]},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.smoke", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=7)
    result = measure(parser.parse_args().runs)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    median = result["median"]
    print(f"first request to last answer / gather: {median['answers / gather']:.2f} (at most {LIMIT_RATIO})")
    print(f"first request to the last task run / gather: {median['suite / gather']:.2f}")
    print(f"trigger to first request: {median['trigger']:.2f} s (at most {LIMIT_TRIGGER:g})")
    print(f"the whole flow: {median['flow']:.2f} s (at most {median['allowed']:.2f})")
    print(f"pytest + requests / our whole flow: {median['pytest'] / median['flow']:.1f}")
    held = (
        median["answers / gather"] <= LIMIT_RATIO
        and median["trigger"] <= LIMIT_TRIGGER
        and median["flow"] <= median["allowed"]
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
