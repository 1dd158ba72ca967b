"""One monitor from three places, each a work pool with a worker of its own: they vote, and one alert comes of it.

Each place sees the shop through an edge of its own, which can break without the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import yaml

from demo.slack import Posted, Slack
from demo.stack import Shop
from tests.e2e.production import Production

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SERVICE, PLACES = "corner", ("eu", "us", "ap")


class Places:
    """The three places, while the story is played. `told`: what Slack was told to be down, at each of its turns. (That
    the places do not agree is told too, and on a busy machine that a round was late.)"""

    def __init__(self, production: Production, slack: Slack) -> None:
        self.production, self.stack, self.slack = production, production.stack, slack
        self.edges = {place: self.stack.shop("v1", f"edge-{place}") for place in PLACES}
        self.told: dict[str, list[str]] = {}

    def play(self) -> None:
        self._deploy()
        self._each_place_sees(eu="Up", us="Up", ap="Up")
        self._note("all is well")
        self.edges["us"].faults(down=True)
        self.edges["ap"].faults(down=True)  # which does not reach its reference either
        self._each_place_sees(eu="Up", us="Down", ap="Unknown")
        self._each_place_sees(eu="Up", us="Down", ap="Unknown")  # once more: its votes have been counted
        self._note("half of those that can look")
        self.edges["eu"].faults(down=True)
        self._each_place_sees(eu="Down", us="Down")
        self._until(lambda: any(map(_says_down, self.slack.messages)), 150, "the alert")
        self._note("all that can look")

    def runs(self, place: str, since: float = 0.0) -> list[dict[str, Any]]:
        """Of this place, those that were due at or after `since` (Unix seconds) and have begun; oldest first."""
        asked = {"name": {"any_": [f"synthetic {self._file(place)} {place}"]}}
        found = self.production.ask("flow_runs/filter", flow_runs=asked, sort="EXPECTED_START_TIME_ASC")
        return [run for run in found if run["start_time"] and _unix(run["expected_start_time"]) >= since]

    def _deploy(self) -> None:
        """A pool, a worker, a deployment and a schedule for each place, as docs/monitoring.md has it."""
        deployments = []
        for second, (place, edge) in enumerate(self.edges.items()):
            self._write(place, edge)
            self.stack.run("prefect", "work-pool", "create", place, "--type", "firstwatch").check_returncode()
            parameters = {"service": self._file(place), "location": place}
            schedule = {"cron": f"* * * * * {5 * second}", "timezone": "UTC", "slug": place, "parameters": parameters}
            entrypoint = "flows/synthetic.py:synthetic"
            deployments.append(
                {"name": place, "entrypoint": entrypoint, "work_pool": {"name": place}, "schedules": [schedule]}
            )
        file = self.stack.home / "places-prefect.yaml"
        file.write_text(yaml.safe_dump({"name": "places", "deployments": deployments}))
        self.stack.run("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)).check_returncode()
        for place in PLACES:
            self.stack.worker(f"worker-{place}", place, "firstwatch")

    def _file(self, place: str) -> str:
        return str(self.stack.home / f"{place}.yaml")

    def _write(self, place: str, edge: Shop) -> None:
        file = {
            "service": SERVICE,
            "base_url": edge.url,
            "rules": {"timeout": "2s"},
            "synthetic": {
                "every": "1m",
                "locations": {
                    "names": list(PLACES),
                    "reference": f"{edge.url}/health"
                    if place == "ap"
                    else f"{self.production.prometheus.announced}/-/ready",
                },
                "checks": [{"name": "health", "get": "/health", "expect": ["status == 200"]}],
            },
            "alerts": {
                "slack": {
                    "token": "secret:slack-bot-token",
                    "channel": f"#{self.slack.channel}",
                    "api_url": self.slack.api_url,
                },
                "open": {"after": "1 in a row"},
            },
        }
        (self.stack.home / f"{place}.yaml").write_text(json.dumps(file))

    def _each_place_sees(self, **wanted: str) -> None:
        """Wait until each of these has ended a round, begun from now on, in this state."""
        since = time.time()
        for place, state in wanted.items():

            def seen(place: str = place, state: str = state) -> bool:
                return any(run["state_name"] == state for run in self.runs(place, since))

            self._until(seen, 200, f"{place}: {state}")

    def _note(self, turn: str) -> None:
        self.told[turn] = [message.words for message in self.slack.messages if _says_down(message)]

    def _until(self, true: Any, seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not true():
            states = {place: [run["state_name"] for run in self.runs(place)] for place in PLACES}
            assert time.monotonic() < end, f"{what} did not come within {seconds:g} s: {states}, {self.told}"
            time.sleep(1)


def _says_down(message: Posted) -> bool:
    first = (*message.earlier, message.words)[0].splitlines()[0]
    return "down" in first and "health" in message.words


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


@pytest.fixture(scope="module")
def places(production: Production) -> Iterator[Places]:
    with Slack(token=production.slack.token) as slack:
        made = Places(production, slack)
        made.play()
        yield made


def test_a_place_that_is_alone_with_its_trouble_wakes_nobody(places: Places) -> None:
    assert places.told["all is well"] == []
    assert places.told["half of those that can look"] == [], "one of two is not more than half"


def test_more_than_half_of_those_that_can_look_are_told_as_one_alert(places: Places) -> None:
    [alert] = places.told["all that can look"]
    assert SERVICE in alert and "health" in alert


def test_a_place_that_does_not_reach_its_reference_says_so(places: Places) -> None:
    blind = [run["state"]["message"] for run in places.runs("ap") if run["state_name"] == "Unknown"]
    assert blind and "ap cannot reach its own reference" in blind[-1], blind


def test_each_run_is_tagged_with_its_place_and_ran_in_its_pool(places: Places) -> None:
    for place in PLACES:
        ended = [run for run in places.runs(place) if run["end_time"]]
        assert ended
        for run in ended:
            assert f"location:{place}" in run["tags"] and run["work_pool_name"] == place
