"""The dashboard and the alert rules of docs/: on a real Prometheus that scrapes our page, as the page says it is to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml

from demo.stack import free_port
from firstwatch.monitor import Health
from tasks.metrics import Sample, exposition, serve
from tests.support.prometheus import RunningPrometheus, prometheus
from tests.support.samples import Page, a_sample, every_kind, moved_to_now

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RULES = DOCS / "alert-rules.yaml"
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana-synthetic.json").read_text())
PANELS: dict[str, dict[str, Any]] = {panel["title"]: panel for panel in DASHBOARD["panels"]}
VARIABLES: dict[str, dict[str, Any]] = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
QUERIES = {title: target["expr"] for title, panel in PANELS.items() for target in panel["targets"]}


def filled(query: str, **chosen: str) -> str:
    """A dashboard's query as Grafana sends it, with `all` where nothing is chosen."""
    names = {"service": ".*", "location": ".*", "check": ".*", "__range": "1h", **chosen}
    return re.sub(r"\$(\w+)", lambda found: names[found[1]], query)


def rule_queries() -> dict[str, str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def metrics_of(query: str) -> set[str]:
    """The metric names that a query asks for."""
    found: set[str] = set()

    def see(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)

    promql_parser.walk(promql_parser.parse(query), see)
    return found


# ── the page, its server, and a Prometheus ───────────────────────────────────────────────────────────────────


def everything() -> list[Sample]:
    """Checks in each state; one of them was looked at last when Prometheus would have given it up."""
    silent = a_sample("silent")
    silent = replace(silent, probe=replace(silent.probe, at=silent.probe.at - 1000))
    return moved_to_now([*every_kind(), silent])


@contextmanager
def served(samples: list[Sample]) -> Iterator[str]:
    """The address where `serve` serves them, in a thread."""
    loop, port = asyncio.new_event_loop(), free_port()

    async def read() -> list[Sample]:
        return samples

    serving = loop.create_task(serve(read, "127.0.0.1", port))
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.wait([serving]),))
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(10)
        loop.close()


def configured(target: str) -> str:
    """The prometheus.yml that docs/monitoring-metrics.md shows, with a test's target and pace."""
    text = (DOCS / "monitoring-metrics.md").read_text()
    config = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    (job,) = config["scrape_configs"]
    job |= {"static_configs": [{"targets": [target]}], "scrape_interval": "1s", "scrape_timeout": "1s"}
    config |= {"rule_files": [str(RULES)], "global": {"evaluation_interval": "1s"}}
    return json.dumps(config)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrometheus]:
    """A Prometheus that has scraped the page a few times."""
    folder = tmp_path_factory.mktemp("prometheus")
    with served(everything()) as target, prometheus(folder, {}) as running:
        (folder / "prometheus.yml").write_text(configured(target))
        os.kill(running.pid, signal.SIGHUP)  # read it anew
        until = time.monotonic() + 30
        while not asked(running, "count_over_time(firstwatch_round_interval_seconds[1h]) >= 3"):
            assert time.monotonic() < until, "nothing was scraped"
            time.sleep(0.2)
        yield running


def asked(running: RunningPrometheus, query: str) -> list[tuple[dict[str, str], float]]:
    """The labels and values of an instant query. Fails on whatever Prometheus calls an error."""
    answer = httpx.get(f"{running.url}/api/v1/query", params={"query": query}, trust_env=False).json()
    assert answer["status"] == "success", answer
    return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]


# ── what they ask for ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", [*QUERIES, *rule_queries()])
def test_every_metric_that_is_asked_for_is_on_the_page(name: str) -> None:
    query = filled(QUERIES[name]) if name in QUERIES else rule_queries()[name]
    wanted = metrics_of(query)
    assert wanted
    assert wanted <= Page(exposition(every_kind())).types.keys()


def test_every_metric_is_in_the_documentation() -> None:
    text = (DOCS / "monitoring-metrics.md").read_text()
    told = set(re.findall(r"\b(?:probe|firstwatch)_[a-z0-9_]+", text)) - {"probe_failed_due_to_regex"}
    assert told == Page(exposition(every_kind())).types.keys()


@pytest.mark.parametrize("title", QUERIES)
def test_every_panel_of_the_dashboard_has_data(scraped: RunningPrometheus, title: str) -> None:
    assert asked(scraped, filled(QUERIES[title])), title


def test_the_variables_of_the_dashboard_have_values(scraped: RunningPrometheus) -> None:
    queried = {name: variable for name, variable in VARIABLES.items() if variable["type"] == "query"}
    assert queried.keys() == {"service", "location", "check"}
    for name, variable in queried.items():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None and found[2] == name
        params = {"match[]": filled(found[1])}
        url = f"{scraped.url}/api/v1/label/{name}/values"
        assert httpx.get(url, params=params, trust_env=False).json()["data"], name


def test_the_status_is_the_worst_that_is_known_and_silence_is_not_up(scraped: RunningPrometheus) -> None:
    told = {labels["check"]: value for labels, value in asked(scraped, filled(QUERIES["Status now"]))}
    texts = PANELS["Status now"]["fieldConfig"]["defaults"]["mappings"][0]["options"]
    status = {check: texts[f"{value:g}"]["text"] for check, value in told.items()}
    known = {"health": "up", "slow": "degraded", "broken": "down", "locked": "unknown", "silent": "unknown"}
    assert {check: status[check] for check in known} == known


def test_a_choice_of_the_dashboard_reaches_every_panel(scraped: RunningPrometheus) -> None:
    for title, query in QUERIES.items():
        assert not [v for _, v in asked(scraped, filled(query, service="nobody")) if v], title


def test_the_rules_speak_of_what_is_scraped(scraped: RunningPrometheus) -> None:
    queries = rule_queries()
    told = {name: {labels.get("check", "") for labels, _ in asked(scraped, query)} for name, query in queries.items()}
    assert told["FirstwatchNotProbed"] == {"silent"}
    assert told["FirstwatchIncidentOpen"] == {""}
    assert told["FirstwatchCheckDown"] == set()  # of the same service, whose incident is known
    assert told["FirstwatchCheckDegraded"] == {"slow"}
    assert told["FirstwatchCannotLook"] == {"locked"}
    assert told["FirstwatchMetricsGone"] == set()
    rules = httpx.get(f"{scraped.url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    assert {rule["name"] for group in rules for rule in group["rules"]} == queries.keys()


# ── their form ───────────────────────────────────────────────────────────────────────────────────────────────


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules_and_speak_when_they_should() -> None:
    promtool("check", "rules", str(RULES))
    tests = ROOT / "tests/tasks/alert_rules_test.yaml"
    promtool("test", "rules", str(tests))
    tried = {
        case["alertname"] for test in yaml.safe_load(tests.read_text())["tests"] for case in test["alert_rule_test"]
    }
    assert tried == rule_queries().keys()


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    panels = list(PANELS.values())
    assert DASHBOARD["schemaVersion"] >= 38  # Grafana 10
    assert len({panel["id"] for panel in panels}) == len(panels) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["description"]
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}
    assert set(Health) == {
        each["text"] for each in PANELS["Status now"]["fieldConfig"]["defaults"]["mappings"][0]["options"].values()
    }
