"""What tests share: one real Prefect server for all that only need an API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from demo.stack import Stack

# Nothing leaves this machine, and no test reads the user's own Prefect settings.
os.environ.update(PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
os.environ.pop("PREFECT_API_URL", None)

# The same examples in each run, and no deadline: the machine may be busy.
hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None)
hypothesis.settings.load_profile("seeded")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait for real servers first: a process that comes to them last ends long after the others."""
    items.sort(key=lambda item: "tasks" not in item.path.parts)


@pytest.fixture(scope="session")
def prefect_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Prefect server of its own (fresh database), one for the whole session."""
    with Stack(tmp_path_factory.mktemp("prefect")) as stack:
        stack.prefect_server()
        yield stack


@pytest.fixture
def prefect_api(prefect_stack: Stack, tmp_path: Path) -> Iterator[str]:
    """This process talks to that server for the length of a test; the answer is the API's URL."""
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_HOME,
        PREFECT_LOCAL_STORAGE_PATH,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    with temporary_settings(
        {
            PREFECT_API_URL: prefect_stack.api_url,
            PREFECT_HOME: prefect_stack.home / "client",
            PREFECT_LOGGING_TO_API_ENABLED: False,  # its sender outlives the server and waits for it
            PREFECT_LOCAL_STORAGE_PATH: tmp_path / "results",
        }
    ):
        yield prefect_stack.api_url
