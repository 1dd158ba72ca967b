"""deploy/compose.yaml on 127.0.0.1, without Docker: the same commands in the same environments, at other ports.

What a container would have of its own (its address, a folder for Prefect's files) each process has here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from ruamel.yaml import YAML

from demo.postgres import Postgres
from demo.stack import ROOT, Process, Stack, free_port

DEPLOY = ROOT / "deploy"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*)|:\?[^}]*)?\}")


def compose() -> dict[str, Any]:
    """The file, its anchors and merges resolved, its variables as they stand."""
    document: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
    return document


def filled(text: str, values: dict[str, str]) -> str:
    """`${NAME}`, `${NAME:?}` and `${NAME:-default}` as Compose fills them in. Raises KeyError where one is required."""

    def value(found: re.Match[str]) -> str:
        if found["default"] is not None:
            return values.get(found["name"], found["default"])
        return values[found["name"]]

    return _VARIABLE.sub(value, text)


class Scaled(Stack):
    """Starts services of the file by their names. `dotenv` is what a team writes into deploy/.env."""

    def __init__(self, home: Path, dotenv: dict[str, str]):
        super().__init__(home)
        # The settings are those of the file alone.
        self.env = {name: value for name, value in self.env.items() if not name.startswith("PREFECT_")}
        self.env["PATH"] += f"{os.pathsep}/usr/sbin"  # where Debian has HAProxy
        self.services: dict[str, Any] = compose()["services"]
        self._dotenv = dotenv
        self._at: dict[str, str] = {}  # address in the file → address here

    def place(self, address: str, at: str = "") -> str:
        """What the file calls `address` (host:port) is here, at this host:port; left out: at a free port."""
        self._at[address] = at or f"127.0.0.1:{free_port()}"
        return self._at[address]

    def place_of(self, address: str) -> str:
        return self._at[address]

    def environment(self, service: str, home: str = "") -> dict[str, str]:
        """What the service's processes see: this machine's, what the tests add for all, and what the file says."""
        given = self.services[service].get("environment", {})
        own = {"PREFECT_HOME": str(self.home / (home or service)), "PREFECT_LOGGING_COLORS": "false"}
        return {**self.env, **own, **{name: self._here(str(value)) for name, value in given.items()}}

    def argv(self, service: str) -> list[str]:
        return shlex.split(self._here(self.services[service]["command"]))

    def up(self, service: str, name: str = "", **env: str) -> Process:
        """One more container of the service, as `name`, with these settings besides."""
        name = name or service
        argv = [self._loopback(service, word) for word in self.argv(service)]
        process = Process(argv, self.home / f"{name}.log", {**self.environment(service, name), **env})
        self._processes.append(process)
        return process

    def once(self, service: str) -> None:
        """A service that ends, to its end. Raises CalledProcessError."""
        env = self.environment(service)
        subprocess.run(self.argv(service), cwd=ROOT, env=env, check=True, capture_output=True, timeout=180)

    def talk_to(self, url: str) -> None:
        """What is run from now on by hand speaks to this API, as the file's clients do."""
        self.api_url = url
        self.env |= {name: value for name, value in self.environment("setup").items() if name.startswith("PREFECT_")}

    def wait_until_ready(self, url: str, processes: list[Process], seconds: float = 120) -> None:
        """Return when the URL answers 200. Raises RuntimeError when one of the processes has ended, or it is late."""
        until = time.monotonic() + seconds
        while not _answers(url):
            for process in processes:
                if not process.alive() or time.monotonic() > until:
                    raise RuntimeError(f"{url} is not ready; {process.name}:\n{process.tail(40)}")
            time.sleep(0.2)

    def _here(self, text: str) -> str:
        """Variables filled in, addresses and mounted files where they are on this machine."""
        text = filled(text, self._dotenv)
        for address, at in self._at.items():
            text = text.replace(address, at)
        for here, there in self._mounted():
            text = text.replace(there, str(DEPLOY / here))
        return text

    def _mounted(self) -> Iterator[tuple[str, str]]:
        """The files of this folder that containers see, and where."""
        for service in self.services.values():
            for here, there, *_ in (volume.split(":") for volume in service.get("volumes", [])):
                if here.startswith("./"):
                    yield here, there

    def _loopback(self, service: str, word: str) -> str:
        """A container listens on all its own addresses; a process here, on the one that it was placed at."""
        host, _, port = self._at.get(f"{service}:4200", "").partition(":")
        return {"0.0.0.0": host, "4200": port}.get(word, word) if port else word


def prepare(database: Postgres) -> None:
    """The role and the database that the file's postgres comes with."""
    psql = [database.programs / "psql", "--host=127.0.0.1", f"--port={database.port}", "--username=postgres"]
    sql = ("--command=CREATE ROLE prefect LOGIN", "--command=CREATE DATABASE prefect OWNER prefect")
    subprocess.run([*psql, *sql], check=True, capture_output=True, timeout=60, env=dict(os.environ))


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
