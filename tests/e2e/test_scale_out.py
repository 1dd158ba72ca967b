"""deploy/ at work: Postgres, Redis, two API servers behind HAProxy, two processes of services, three workers.

While four releases are under way, one API server, one process of services and one worker are killed, and none of them
comes back: what is left brings every release to its right end, and goes on with another region's monitor.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from demo.postgres import postgres
from demo.redis import redis
from demo.slack import Slack
from demo.stack import Process, free_port
from tests.e2e.production import Production, Result, Running, Scenario
from tests.support.scaled import Scaled, compose, prepare

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

AUTH = ("firstwatch", "an-Auth0-string")
DOTENV = {
    "POSTGRES_PASSWORD": "unused-by-trust",
    "PREFECT_AUTH": ":".join(AUTH),
    "PREFECT_UI_URL": "http://127.0.0.1:4200",
    "WORKER_LIMIT": "2",  # so that both workers of the pool get some of the four
}
GOOD, BAD = ("scale-good-1", "scale-good-2"), ("scale-bad-1", "scale-bad-2")


class Balanced(Production):
    """Behind the balancer: where the server behind it has just died, it asks again, as Prefect's own client does."""

    def _call(self, method: str, path: str, **more: Any) -> Any:
        for _ in range(60):
            with suppress(httpx.TransportError):
                answer = self._api.request(method, f"/{path.lstrip('/')}", auth=AUTH, **more)
                if answer.status_code not in (500, 502, 503):
                    break
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None


class Fleet:
    """All processes of deploy/compose.yaml, by their names."""

    def __init__(self, stack: Scaled) -> None:
        self.stack = stack
        self.api: dict[str, Process] = {}
        self.services: dict[str, Process] = {}
        self.workers: dict[str, Process] = {}
        self.health: dict[str, str] = {}  # worker → the address of its metrics

    def start_server(self) -> None:
        """In the order of the file's `depends_on`: the migration, then the first API server, then the second."""
        here = self.stack.place("balancer:4200")
        self.stack.place("0.0.0.0:4200", here)  # where it listens
        self.stack.once("migrate")
        for name in ("services-1", "services-2"):
            self.services[name] = self.stack.up("services", name)
        at = {name: self.stack.place(f"{name}:4200") for name in ("api-1", "api-2")}
        for name in at:
            self.api[name] = self.stack.up(name)
            self._wait_until_ready(at[name])
        self.balancer = self.stack.up("balancer")
        self._wait_until_ready(here)
        self.stack.talk_to(f"http://{here}/api")

    def _wait_until_ready(self, at: str) -> None:
        self.stack.wait_until_ready(f"http://{at}/api/ready", [*self.api.values(), *self.services.values()])

    def start_worker(self, service: str, name: str) -> None:
        self.health[name] = f"127.0.0.1:{free_port()}"
        self.workers[name] = self.stack.up(service, name, FIRSTWATCH_WORKER_METRICS=self.health[name])

    def in_flight(self, worker: str) -> int:
        page = httpx.get(f"http://{self.health[worker]}/metrics", timeout=5, trust_env=False).text
        [line] = [line for line in page.splitlines() if line.startswith("firstwatch_worker_runs_in_flight ")]
        return int(float(line.split()[1]))


class Story:
    """What happened, and what came of it."""

    def __init__(self, fleet: Fleet, production: Balanced) -> None:
        self.fleet, self.production = fleet, production
        self.results: dict[str, Result] = {}
        self.rounds: list[dict[str, Any]] = []
        self.held: dict[str, int] = {}  # worker → how many releases it had when one was killed
        self.victims: list[str] = []
        self.first_of_queue: list[str] = []
        self.killed_at = self.restarted_after = 0.0
        self._all_under_way = threading.Barrier(len(GOOD) + len(BAD) + 1, timeout=120)
        self._killed = threading.Event()

    def play(self, side_by_side: ThreadPoolExecutor) -> None:
        turns = [name for pair in zip(GOOD, BAD, strict=True) for name in pair]  # each worker gets one of each, mostly
        scenarios = [Scenario(name, meanwhile=self._under_way, patience=240) for name in turns]
        playing = {s.name: side_by_side.submit(self.production.play, s) for s in scenarios}
        try:
            self._monitor_the_other_region()
            self._all_under_way.wait()
            self._kill_one_of_each()
        finally:
            self._all_under_way.abort()  # nobody waits for what will not come
        self.restarted_after = self._crash_one()
        self.results = {name: future.result() for name, future in playing.items()}
        self.rounds = self._rounds_since_the_kill()

    def _under_way(self, production: Production, running: Running) -> None:
        """In its window, then: the kill. What is bad gets bad right after it."""
        production.wait_for_window(running.flow_run_id)
        self._all_under_way.wait()
        assert self._killed.wait(60)
        if running.scenario.name in BAD:
            running.shop.faults(errors=0.3)

    def _kill_one_of_each(self) -> None:
        self.held = {name: self.fleet.in_flight(name) for name in ("worker-1", "worker-2")}
        worker = max(self.held, key=lambda name: self.held[name])
        self._wait_for_the_triggers_to_rest()
        for name, process in (
            ("services-1", self.fleet.services["services-1"]),
            ("api-1", self.fleet.api["api-1"]),
            (worker, self.fleet.workers[worker]),
        ):
            process.kill()
            self.victims.append(name)
        self.killed_at = time.time()
        self._killed.set()

    def _wait_for_the_triggers_to_rest(self) -> None:
        """Whoever is killed while it looks at the automations takes its turn with it, for minutes: docs/scale-out.md.

        A look takes milliseconds every 5 s, more where it is busy. Return with a second left until the next one.
        """
        until = time.monotonic() + 20
        while (turn := self._turn())["state"] != "scheduled" or float(turn["when"]) < time.time() + 1:
            assert time.monotonic() < until, f"the services do not look at the automations: {turn}"
            time.sleep(0.01)

    def _turn(self) -> dict[str, str]:
        """Whose turn it is to look at the automations, and when."""
        with Redis.from_url(f"redis://{self.fleet.stack.place_of('redis:6379')}/1") as docket:
            found = docket.hgetall("prefect:runs:evaluate_proactive_triggers_periodic")
        turn = {key.decode(): value for key, value in found.items()}
        return {name: turn[name].decode() for name in ("state", "when", "worker") if name in turn}

    def _crash_one(self) -> float:
        """The seconds until a run that crashes now is scheduled again: by an automation, and so by the services."""
        deployment = self.production.get("deployments/name/verify-release/us")
        due = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
        path = f"deployments/{deployment['id']}/create_flow_run"
        run = self.production.ask(path, parameters={"service": "nowhere", "version": "v1"}, state=due)["id"]
        self.production.ask(f"flow_runs/{run}/set_state", state={"type": "CRASHED", "name": "Crashed"}, force=True)
        begun = time.monotonic()
        while self.production.get(f"flow_runs/{run}")["state"]["type"] == "CRASHED":
            assert time.monotonic() < begun + 60, f"no automation has acted: {self._turn()}"
            time.sleep(0.5)
        return time.monotonic() - begun

    # ── another region ───────────────────────────────────────────────────────────────────────────────────────

    def _monitor_the_other_region(self) -> None:
        """As docs/scale-out.md has it: a pool, two queues, deploy/region-us.yaml, and a worker there."""
        ask, stack = self.production.ask, self.fleet.stack
        ask("work_pools/", name="us", type="firstwatch")
        for priority, queue in enumerate(("releases", "monitors"), start=1):
            ask("work_pools/us/queues", name=queue, priority=priority)
        stack.run(
            "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deploy/region-us.yaml"
        ).check_returncode()
        self.first_of_queue = self._who_goes_first()
        edge = stack.shop("v1", "edge-us")
        file = {
            "service": "shop",
            "base_url": edge.url,
            "rules": {"timeout": "2s"},
            "synthetic": {
                "every": "1m",
                "locations": ["us"],
                "checks": [{"name": "health", "get": "/health", "expect": ["status == 200"]}],
            },
        }
        (stack.home / "services" / "shop.yaml").write_text(json.dumps(file))
        self.fleet.start_worker("worker-us", "worker-us")

    def _who_goes_first(self) -> list[str]:
        """A monitor's round is due, then a release: the queues of what a worker with one place is given, in turn."""
        made = []
        for flow in ("synthetic", "verify-release"):
            deployment = self.production.get(f"deployments/name/{flow}/us")
            due = {"type": "SCHEDULED", "state_details": {"scheduled_time": f"2026-01-0{len(made) + 1}T00:00:00Z"}}
            parameters = {"service": "shop"} | ({"version": "v1"} if flow == "verify-release" else {})
            run = self.production.ask(
                f"deployments/{deployment['id']}/create_flow_run", parameters=parameters, state=due
            )
            made.append(run["id"])
        queues = {q["id"]: q["name"] for q in self.production.ask("work_pools/us/queues/filter")}
        given = self.production.ask("work_pools/us/get_scheduled_flow_runs", limit=2)
        for run in made:
            self.production._call("DELETE", f"flow_runs/{run}")
        return [queues[entry["work_queue_id"]] for entry in given]

    def _rounds_since_the_kill(self) -> list[dict[str, Any]]:
        """The rounds in `us` that were due since then, once one of them has ended."""
        until = time.monotonic() + 90
        deployment = {"id": {"any_": [self.production.get("deployments/name/synthetic/us")["id"]]}}
        while True:
            found = self.production.ask("flow_runs/filter", deployments=deployment)
            due = [run for run in found if run["expected_start_time"] > _iso(self.killed_at)]
            if ended := [run for run in due if run["state"]["type"] in ("COMPLETED", "FAILED")]:
                return ended
            assert time.monotonic() < until, [run["state"] for run in due]
            time.sleep(1)


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, side_by_side: ThreadPoolExecutor) -> Iterator[Story]:
    home: Path = tmp_path_factory.mktemp("scaled")
    with ExitStack() as on_exit:
        slack = on_exit.enter_context(Slack())
        database = on_exit.enter_context(postgres())
        streams = on_exit.enter_context(redis(compose()["services"]["redis"]["command"].split()))
        stack = on_exit.enter_context(Scaled(home, DOTENV))
        prepare(database)
        stack.place("postgres:5432", f"127.0.0.1:{database.port}")
        stack.place("redis:6379", streams.at)
        stack.env |= {"SLACK_BOT_TOKEN": slack.token, "FIRSTWATCH_SERVICES": str(home / "services")}
        (home / "services").mkdir()
        prometheus = stack.prometheus({})
        assert prometheus is not None, "the end-to-end tests need a Prometheus on the PATH: run .ci/system"
        fleet = Fleet(stack)
        fleet.start_server()
        stack.once("setup")
        production = Balanced(stack, database, slack, prometheus, prometheus)
        monitor = production.get("deployments/name/synthetic/production")
        production.ask(f"deployments/{monitor['id']}/pause_deployment")  # the shop of services/shop.yaml is not here
        for name in ("worker-1", "worker-2"):
            fleet.start_worker("worker", name)
        made = Story(fleet, production)
        made.play(side_by_side)
        yield made


def test_one_of_each_was_killed_while_it_had_work(story: Story) -> None:
    assert len(story.victims) == 3 and story.victims[2].startswith("worker-")
    assert story.held[story.victims[2]] > 0, story.held
    left = {**story.fleet.api, **story.fleet.services, **story.fleet.workers, "balancer": story.fleet.balancer}
    assert {name for name, process in left.items() if not process.alive()} == set(story.victims)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_release_is_found_healthy(story: Story, name: str) -> None:
    assert story.results[name].ended == "Completed(Healthy)", story.results[name]
    assert story.results[name].shop["rollbacks"] == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_release_is_rolled_back_once(story: Story, name: str) -> None:
    assert story.results[name].ended == "Failed(RolledBack)", story.results[name]
    assert len(story.results[name].shop["rollbacks"]) == 1


@pytest.mark.parametrize("name", (*GOOD, *BAD))
def test_no_finished_checkpoint_is_repeated_and_none_is_left_open(story: Story, name: str) -> None:
    result = story.results[name]
    ended = Counter(t["name"] for t in result.tasks if t["state"]["type"] in ("COMPLETED", "FAILED"))
    assert max(ended[task] for task in ended if task.startswith("T+")) == 1, result
    assert [t["name"] for t in result.tasks if t["state"]["type"] not in ("COMPLETED", "FAILED", "CRASHED")] == []


def test_the_releases_of_the_killed_worker_were_taken_up_again_and_no_others(story: Story) -> None:
    again = [name for name, result in story.results.items() if result.flow_run["run_count"] > 1]
    assert len(again) == story.held[story.victims[2]], (again, story.held)


def test_the_balancer_took_the_killed_server_out(story: Story) -> None:
    said = story.fleet.balancer.log.read_text()
    assert "Server api/api-1 is DOWN" in said and "Server api/api-2 is DOWN" not in said


def test_the_services_that_are_left_act_on_a_crash(story: Story) -> None:
    """Its event reaches them through Redis; Prefect looks at what should have followed for 10 s, every 5 s."""
    assert story.restarted_after < 40


def test_the_other_region_went_on(story: Story) -> None:
    """Its rounds were still handed out, taken up and recorded: by what was left of the server."""
    assert [run["state"]["name"] for run in story.rounds] == ["Up"] * len(story.rounds), story.rounds
    assert {run["work_queue_name"] for run in story.rounds} == {"monitors"}


def test_a_release_goes_before_a_monitor(story: Story) -> None:
    assert story.first_of_queue == ["releases", "monitors"]


def test_nobody_gets_in_without_the_password(story: Story) -> None:
    url = f"{story.production.stack.api_url}/flow_runs/count"
    assert httpx.post(url, json={}, timeout=10, trust_env=False).status_code == 401
