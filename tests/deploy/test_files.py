"""deploy/ says what can be said: its settings exist, its references lead somewhere, its programs take its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings
from prefect_redis.client import RedisMessagingSettings
from prefect_redis.messaging import RedisMessagingPublisherSettings
from ruamel.yaml import YAML

from demo.redis import events_in
from tests.support.scaled import DEPLOY, ROOT, compose, filled

SERVICES: dict[str, Any] = compose()["services"]
OF_PREFECT_REDIS = (RedisMessagingSettings, RedisMessagingPublisherSettings, RedisWorkerCleanupQueueSettings)


def settings() -> list[tuple[str, str]]:
    """Each setting of Prefect's in the file, with its value."""
    given = [pair for service in SERVICES.values() for pair in service.get("environment", {}).items()]
    return sorted({(name, str(value)) for name, value in given if name.startswith("PREFECT_")})


def of_prefect_redis() -> set[str]:
    models = OF_PREFECT_REDIS
    return {f"{model.model_config['env_prefix']}{field}".upper() for model in models for field in model.model_fields}


@pytest.mark.parametrize("name", sorted({name for name, _ in settings()}))
def test_each_setting_exists(name: str) -> None:
    """Prefect takes no notice of one that does not."""
    assert name in of_prefect_redis() or hasattr(prefect.settings, name)


def test_the_redis_of_the_tests_is_set_as_here() -> None:
    there = dict(setting.split("=", 1) for setting in events_in("redis:6379"))
    assert there.items() <= SERVICES["api-1"]["environment"].items()


def test_the_server_reads_the_file_as_it_is_meant() -> None:
    """What the settings come to in a process that has them: nothing is left in the memory of one server."""
    dotenv = {"POSTGRES_PASSWORD": "a", "PREFECT_AUTH": "b:c", "PREFECT_UI_URL": "http://127.0.0.1:4200"}
    environment = {name: filled(str(value), dotenv) for name, value in SERVICES["api-1"]["environment"].items()}
    script = (
        "import json; from prefect.settings import get_current_settings as now; s = now().server;"
        "print(json.dumps([s.events.messaging_broker, s.events.messaging_cache, s.events.causal_ordering,"
        "s.concurrency.lease_storage, s.worker_channel.cleanup_queue_storage, s.docket.url,"
        "s.database.migrate_on_start, sorted(s.services.db_vacuum.enabled_vacuum_types)]))"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    argv = [sys.executable, "-c", script]
    said = subprocess.run(argv, env={**plain, **environment}, capture_output=True, text=True, check=True, timeout=60)
    *modules, docket, migrates, vacuums = json.loads(said.stdout)
    assert all(module.startswith("prefect_redis.") for module in modules), modules
    assert docket.startswith("redis://") and migrates is False
    assert vacuums == ["events", "flow_runs", "orphans"]


def test_both_api_servers_are_the_same_and_no_service_is_run_in_them() -> None:
    assert {**SERVICES["api-1"], "depends_on": None} == {**SERVICES["api-2"], "depends_on": None}
    assert "--no-services" in SERVICES["api-1"]["command"].split()


def test_the_second_api_server_starts_after_the_first() -> None:
    """Both register Prefect's block types; on an empty database, the one that comes too late ends with an error."""
    assert SERVICES["api-2"]["depends_on"] == {"api-1": {"condition": "service_healthy"}}


def test_what_a_service_waits_for_is_there() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", [])) <= set(SERVICES), name


def test_what_must_stay_up_is_started_again() -> None:
    ends = {name for name, service in SERVICES.items() if service["restart"] == "no"}
    assert ends == {"migrate", "setup"}
    assert all(service["restart"] == "always" for name, service in SERVICES.items() if name not in ends)


def test_haproxy_takes_its_file() -> None:
    env = {**os.environ, "BIND": "127.0.0.1:4200", "API_1": "127.0.0.1:4201", "API_2": "127.0.0.1:4202"}
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"  # where Debian has it
    argv = [program, "-c", "-f", str(DEPLOY / "haproxy.cfg")]
    checked = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0 and "WARNING" not in checked.stderr, checked.stderr


def test_a_region_has_flows_that_are_there() -> None:
    region = YAML(typ="safe").load(DEPLOY / "region-us.yaml")
    pools = {deployment["work_pool"]["name"] for deployment in region["deployments"]}
    assert pools == {"us"} and "--pool us" in SERVICES["worker-us"]["command"]
    for deployment in region["deployments"]:
        file, _, function = deployment["entrypoint"].partition(":")
        assert f"def {function}(" in Path(ROOT / file).read_text()
