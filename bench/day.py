"""A day of monitoring in minutes, across killed processes and a restart of the Prefect server: is anything lost?

    python -m bench.day          replays it, prints what came of it and writes bench/day.json

A process of ours takes the rounds (bench/day_worker.py) on a real Prefect server, asks services that do as their
seeded scripts say (down, slow, flapping, all at once), and tells a local Slack. It is killed twice: at a moment of a
round that the seed chooses, and as Slack has taken a message and not yet said so. The server is restarted once, on its
database, while rounds are under way. Minutes follow each other as fast as the rounds can be taken; every round is a
real one.

Rounds around everything that happens (a service changes, an alert opens or closes, a process dies, the server is
restarted) have their documents on the server; the quiet ones between them, in the memory of the same code
(bench/day_store.py says why). `--busy` has all of them on the server, which takes two hours.

Then every alert that stands in Slack is held against what the scripts alone say must stand there, and every round
against the documents. Exits 1 if anything is lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient

from bench.day_expected import Incident, busy, incidents
from bench.day_found import Taken, wrong_alerts, wrong_requests, wrong_rounds
from bench.day_script import Script, minute_of, planned, scripts
from bench.day_worker import AGAIN, service_file
from bench.day_world import Fate, Services
from demo.postgres import postgres
from demo.slack import Posted, Slack
from demo.stack import SLACK_TOKEN, Process, Stack
from firstwatch.spec import Service
from tasks import store
from tasks.store import alerts_key, place_key, turn_key

SEED, SERVICES, DAY = 20261125, 20, 24 * 60
PATIENCE = 3 * 3600.0  # seconds that a replay may take at most; `--busy` needs two hours
SETTLES = 1.5  # seconds: what a killed process had asked for last may still be done
RESULT = Path(__file__).with_suffix(".json")


@dataclass
class Blow:
    """What befalls, once: at a minute, or `messages` messages later than the one before."""

    kind: str  # "kill", "kill at a message", "restart"
    minute: int = 0
    delay: float = 0.0
    messages: int = 0


@dataclass
class Outcome:
    """What came of a replay."""

    rounds: int
    on_the_server: int
    seconds: float
    blows: list[dict[str, Any]]
    taken_again: list[Taken]
    expected: list[Incident]
    messages: list[Posted]
    problems: list[str]
    states: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "of_which_on_the_server": self.on_the_server,
            "seconds": round(self.seconds, 1),
            "minutes_by_state": self.states,
            "blows": self.blows,
            "rounds_taken_again": [asdict(each) for each in self.taken_again],
            "incidents": len(self.expected),
            "replies": sum(len(one.replies) for one in self.expected),
            "slack_messages": len(self.messages),
            "problems": self.problems,
        }


class Replay:
    """One replay: the world, and the processes in it."""

    def __init__(self, folder: Path, stack: Stack, made: Sequence[Script], blows: Sequence[Blow], all_busy: bool):
        self.made, self.blows, self.folder, self.stack = made, list(blows), folder, stack
        around = {blow.minute + d for blow in blows if not blow.messages for d in range(-2, 4)}
        day = {*range(len(made[0].states))}
        self.busy = {script.service: day if all_busy else (busy(script) | around) & day for script in made}
        self.fate = Fate()
        self.services = Services(made, seen=self.fate.minute)
        self.slack = Slack(token=SLACK_TOKEN, show=self.fate.message, clock=self.services.clock)
        self.struck: list[dict[str, Any]] = []
        self.taken: list[Taken] = []
        self.late: dict[str, dict[int, float]] = {script.service: {} for script in made}

    def run(self) -> Outcome:
        server = self.stack.prefect_server()
        with self.services.running(), self.slack:
            self._write_plan()
            began = time.monotonic()
            for number, blow in enumerate(self.blows, 1):
                worker = self._worker(number)
                server = self._strike(blow, worker, server)
            self._ends(self._worker(0), began + PATIENCE)
            took = time.monotonic() - began
            return self._outcome(took)

    def _write_plan(self) -> None:
        plan = {
            "api": self.stack.api_url,
            "url": self.services.url,
            "slack": self.slack.api_url,
            "scripts": [asdict(script) for script in self.made],
            "busy": {service: sorted(minutes) for service, minutes in self.busy.items()},
        }
        (self.folder / "plan.json").write_text(json.dumps(plan))

    # ── blows ────────────────────────────────────────────────────────────────────────────────────────────────

    def _worker(self, number: int) -> Process:
        """The process that takes the rounds; one that is alive goes on."""
        if self.fate.pid == 0:
            argv = [sys.executable, "-m", "bench.day", "--worker", str(self.folder / "plan.json")]
            self._process = self.stack.start(f"rounds-{number}", argv)
            self.fate.pid = self._process.pid
        return self._process

    def _strike(self, blow: Blow, worker: Process, server: Process) -> Process:
        """Wait for the blow, and see to what follows; the server is another one after a restart."""
        restarts = blow.kind == "restart"
        if restarts:
            self.fate.pid = 0  # nobody dies of it
        if blow.messages:
            self.fate.at_message(blow.messages)
        else:
            self.fate.at_minute(blow.minute, blow.delay)
        until = time.monotonic() + PATIENCE
        while not self.fate.struck.wait(0.2):
            if not worker.alive() or time.monotonic() > until:
                raise RuntimeError(f"before {blow}, the rounds ended:\n{worker.tail(40)}")
        at = {"kind": blow.kind, "minute": minute_of(self.services.now), "slack_messages": len(self.slack.messages)}
        if restarts:
            self.fate.pid = worker.pid
            began = time.monotonic()
            server = self._restarted(server)
            at["seconds_away"] = round(time.monotonic() - began, 1)
        else:
            worker.popen.wait(10)
            self.fate.pid = 0
            at["under_way"] = self._look_at_the_documents()
        self.struck.append(at)
        return server

    def _restarted(self, server: Process) -> Process:
        """The same database, the same port."""
        server.stop()
        port = self.stack.api_url.removesuffix("/api").rpartition(":")[2]
        argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        again = self.stack.module("prefect-server-again", *argv)
        again.wait_for(f"{self.stack.api_url}/health", 120)
        return again

    def _look_at_the_documents(self) -> int:
        """Which rounds were under way, by their turns; how many."""
        time.sleep(SETTLES)
        under_way = 0
        for script, (place, _, turn) in zip(self.made, asyncio.run(self._documents()), strict=True):
            if turn and turn["run"]:
                written = any(vote["run"] == turn["run"] for vote in (place or {}).get("votes", ()))
                self.taken.append(Taken(script.service, minute := int(turn["run"].split()[1]), written))
                under_way += 1
                if not written:
                    self.late[script.service][minute] = AGAIN
        return under_way

    async def _documents(self) -> list[tuple[Any, Any, Any]]:
        """Of each service: its place, its alerts and its turn."""
        async with PrefectClient(self.stack.api_url) as client:
            return [
                (
                    await store.read(client, place_key(script.service, "")),
                    await store.read(client, alerts_key(script.service)),
                    await store.read(client, turn_key([script.service], "")),
                )
                for script in self.made
            ]

    def _ends(self, worker: Process, until: float) -> None:
        worker.popen.wait(max(until - time.monotonic(), 1))
        if worker.popen.returncode:
            raise RuntimeError(f"the rounds ended with {worker.popen.returncode}:\n{worker.tail(40)}")

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────

    def _outcome(self, took: float) -> Outcome:
        expected = [one for script in self.made for one in incidents(script, self.late[script.service])]
        policy = Service.model_validate(service_file("any", "http://127.0.0.1:1", "http://127.0.0.1:1/")).alerts.storm
        problems = [*wrong_alerts(expected, self.slack.messages, self._opened_at, policy.after)]
        for script, (place, alerts, turn) in zip(self.made, asyncio.run(self._documents()), strict=True):
            problems += wrong_rounds(script, place, alerts, turn)
        deaths = sum(blow["kind"] != "restart" for blow in self.struck)
        problems += wrong_requests(self.made, self.busy, self.services.asked, self.taken, deaths)
        return Outcome(
            rounds=sum(len(script.states) for script in self.made),
            on_the_server=sum(map(len, self.busy.values())),
            seconds=took,
            blows=self.struck,
            taken_again=self.taken,
            expected=expected,
            messages=[*self.slack.messages],
            problems=problems,
            states={s: sum(script.states.count(s) for script in self.made) for s in "usd"},
        )

    def _opened_at(self, one: Incident) -> float:
        place = next(n for n, script in enumerate(self.made) if script.service == one.service)
        return planned(place, one.opened) + self.late[one.service].get(one.opened, 0.0)


def blows(seed: int, minutes: int) -> list[Blow]:
    """In the order in which they fall: a kill at a moment, the server's restart, and a kill at a message."""
    rng, part = random.Random(seed), minutes // 5
    return [
        Blow("kill", part + rng.randrange(part // 2), rng.uniform(0.0, 0.3)),
        Blow("restart", 2 * part + rng.randrange(part // 3), rng.uniform(0.0, 0.1)),
        Blow("kill at a message", messages=rng.randint(2, 9)),
    ]


def replay(made: Sequence[Script], falling: Sequence[Blow], all_busy: bool = False) -> Outcome:
    """Raises RuntimeError where a process ends by itself."""
    with tempfile.TemporaryDirectory() as name, postgres() as database, Stack(Path(name)) as stack:
        stack.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        return Replay(Path(name), stack, made, falling, all_busy).run()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    parser = argparse.ArgumentParser(prog="bench.day", description=__doc__.split("\n")[0])
    parser.add_argument("--worker", type=Path, metavar="PLAN", help="take the rounds (it is started by the bench)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--busy", action="store_true", help="every round's documents are on the server")
    options = parser.parse_args()
    if options.worker:
        from bench.day_worker import main as work

        return work(options.worker)
    outcome = replay(scripts(options.seed, SERVICES, DAY), blows(options.seed, DAY), options.busy)
    said = outcome.as_json()
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    head = {"seed": options.seed, "services": SERVICES, "hours": DAY // 60, "machine": machine}
    RESULT.write_text(json.dumps({**head, **said}, indent=1) + "\n")
    print(f"{said['rounds']} rounds in {said['seconds']:.0f} s, {said['of_which_on_the_server']} of them on the server")
    print(f"{said['incidents']} incidents with {said['replies']} replies; {said['slack_messages']} messages in Slack")
    print("\n".join([*map(str, said["blows"]), *(outcome.problems or ["nothing is lost, doubled or out of order"])]))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
