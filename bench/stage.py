"""What the benches of many runs stand on: a Prefect server on PostgreSQL, set up as a user would, and its workers."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.processes import end_all, family
from demo.postgres import Postgres, postgres
from demo.stack import Process, Stack, free_port

Keep = Callable[[dict[str, Any]], None]
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_PAGE = 200  # the most that the API gives at once
_BUSY = 120  # times, each half a second, that a busy server is asked


class Stage:
    """Ended, with all that was started on it, when the `with` block ends."""

    def __init__(self, stack: Stack, database: Postgres) -> None:
        self.stack, self.database = stack, database
        self.services = stack.home / "services"
        self.services.mkdir()
        stack.env.update(PREFECT_SERVER_DATABASE_CONNECTION_URL=database.url, FIRSTWATCH_SERVICES=str(self.services))
        self.server = stack.prefect_server()
        self._http = httpx.Client(base_url=stack.api_url, timeout=60, trust_env=False)
        self._families: list[Process] = []

    def set_up(self) -> None:
        """Pool, deployments and automations, as `firstwatch setup` makes them; no schedule starts anything."""
        done = self.stack.run("firstwatch", "setup", "--pool-type", "firstwatch")
        if done.returncode:
            raise RuntimeError(f"firstwatch setup failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
        for deployment in self.pages("deployments/filter"):
            for schedule in deployment["schedules"]:
                self.call("PATCH", f"deployments/{deployment['id']}/schedules/{schedule['id']}", active=False)

    def call(self, method: str, path: str, /, **body: Any) -> Any:
        """`send` with these fields, if any."""
        return self.send(method, path, body or None)

    def send(self, method: str, path: str, body: Any) -> Any:
        """What the API answers; asked again while it is busy or away. Raises RuntimeError for a refusal."""
        for left in reversed(range(_BUSY)):
            try:
                answer = self._http.request(method, f"/{path}", json=body)
            except httpx.TransportError:
                if not left:
                    raise
            else:
                if answer.status_code != 503:
                    break
            time.sleep(0.5)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def pages(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """All that a filter finds, page after page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("POST", path, **body, limit=_PAGE, offset=len(found))
            found += page
            if len(page) < _PAGE:
                return found

    def deployment(self, flow: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"deployments/name/{flow}/production")
        return found

    def worker(self, pool: str = "production", kind: str = "firstwatch", name: str = "", **env: str) -> Worker:
        worker = Worker(self.stack, pool, kind, name, env)
        self._families.append(worker.process)
        return worker

    def server_again(self) -> None:
        """Start the server that has ended once more, on its port."""
        self.server = self.stack.prefect_server(int(self.stack.api_url.removesuffix("/api").rpartition(":")[2]))

    def process_pool(self, deployment: Mapping[str, Any], pool: str, at_once: int | None = None) -> str:
        """The id of the same deployment for a pool of type `process`, which is made; `at_once`: runs, at most."""
        self.call("POST", "work_pools/", name=pool, type="process", concurrency_limit=at_once)
        return self.like(deployment, pool, work_pool_name=pool)

    def like(self, deployment: Mapping[str, Any], name: str, **more: Any) -> str:
        """The id of a new deployment like that one."""
        same = ("flow_id", "entrypoint", "path", "pull_steps", "tags", "job_variables", "parameter_openapi_schema")
        made = self.call("POST", "deployments/", name=name, **{key: deployment[key] for key in same}, **more)
        return str(made["id"])

    def close(self) -> None:
        """End the workers, and whatever of theirs would outlive them."""
        self._http.close()
        for process in self._families:
            members = family([process.pid])[process.pid] if process.alive() else []
            process.stop()
            end_all(members[1:])


class Worker:
    """A worker's process, of our type or of Prefect's; ours tells how it is."""

    def __init__(self, stack: Stack, pool: str, kind: str, name: str, env: Mapping[str, str]) -> None:
        self._kind, self._url = kind, f"http://127.0.0.1:{free_port()}"
        argv = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", kind]
        argv += ["--name", name] if name else []
        more = {"FIRSTWATCH_WORKER_METRICS": self._url.removeprefix("http://"), "FIRSTWATCH_WORKER_DRAIN_SECONDS": "1"}
        self.process = Process(argv, stack.home / f"worker-{name or pool}.log", {**stack.env, **more, **env})

    def ready(self, patience: float = 60) -> Worker:
        """Once it has told the server that it is there. Raises RuntimeError with the end of its log."""
        if self._kind == "firstwatch":
            self.process.wait_for(f"{self._url}/healthz", patience)
            return self
        until = time.monotonic() + patience
        while "started!" not in self.process.tail(40):
            if not self.process.alive() or time.monotonic() > until:
                raise RuntimeError(f"the worker did not start:\n{self.process.tail()}")
            time.sleep(0.2)
        return self

    def metric(self, name: str) -> float | None:
        """A metric's value now, summed over its labels; None where it does not answer."""
        try:
            page = httpx.get(f"{self._url}/metrics", timeout=5, trust_env=False).text
        except httpx.HTTPError:
            return None
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", page, re.MULTILINE))


@contextmanager
def stage(settings: Sequence[str] = (), disk: Path | None = None) -> Iterator[Stage]:
    """A new one. `settings`: `NAME=VALUE` for the environment of all that is started on it. `disk`: the folder for what
    they write themselves, and the database; their logs are elsewhere."""
    with ExitStack() as rest:
        home = rest.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        database, stack = rest.enter_context(postgres(disk)), rest.enter_context(Stack(Path(home)))
        stack.env["PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE"] = "40"  # as docs/operations.md says
        stack.env.update({name: value for name, _, value in (setting.partition("=") for setting in settings)})
        if disk is not None:
            stack.env.update(PREFECT_HOME=str(disk / "prefect"), TMPDIR=str(disk))
        made = Stage(stack, database)
        rest.callback(made.close)
        yield made


def measured(measure: Callable[[Keep], dict[str, Any]], keep: Keep) -> dict[str, Any] | None:
    """What `measure` finds, given `keep` for what is known so far. None: it was broken off, by Ctrl-C or SIGTERM, which
    leave nothing behind but what was kept."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return measure(keep)
    except KeyboardInterrupt:
        say("broken off; what was measured until then is kept")
        return None


def as_json(out: Path) -> Keep:
    """Keeps what is known in that file."""

    def keep(known: dict[str, Any]) -> None:
        out.write_text(json.dumps(known, indent=1) + "\n")

    return keep


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def say(text: str) -> None:
    """Progress, for who waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
