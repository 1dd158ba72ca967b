from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.postgres import postgres
from demo.slack import Slack
from demo.stack import Stack, free_port
from tests.e2e.production import IN_PROCESS, PLANTED, Production


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    slack = Slack()
    threading.Thread(target=slack.serve, daemon=True).start()
    with postgres() as database, Stack(tmp_path_factory.mktemp("production")) as stack:
        stack.env.update(
            PREFECT_SERVER_DATABASE_CONNECTION_URL=database.url,
            FIRSTWATCH_WORKER_API_CONNECTIONS="20",
            FIRSTWATCH_WORKER_DRAIN_SECONDS="1",
            SHOP_SMOKE_PASSWORD=PLANTED,
            SHOP_ACCOUNT_PASSWORD=PLANTED,
            SHOP_ROLLBACK_SECRET=PLANTED,
            ROLLBACK_HMAC=PLANTED,
            SLACK_BOT_TOKEN=slack.token,
        )
        prometheus, lost = stack.prometheus({}), stack.prometheus({}, name="prometheus-lost")
        assert prometheus is not None and lost is not None, (
            "the end-to-end tests need a Prometheus on the PATH: run .ci/system"
        )
        stack.prefect_server()
        (stack.home / "services").mkdir()
        stack.env["FIRSTWATCH_SERVICES"] = str(stack.home / "services")  # nothing is monitored here
        stack.setup()
        stack.pause_schedules()  # the shop of services/shop.yaml is not here
        stack.worker()
        stack.run("prefect", "work-pool", "create", IN_PROCESS, "--type", "firstwatch").check_returncode()
        door = stack.env["FIRSTWATCH_WORKER_METRICS"] = f"127.0.0.1:{free_port()}"
        stack.worker("worker-in-process", IN_PROCESS, "firstwatch")
        del stack.env["FIRSTWATCH_WORKER_METRICS"]  # no other worker can have the same port
        yield Production(stack, database, slack, prometheus, lost, door)


@pytest.fixture(scope="session")
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool
