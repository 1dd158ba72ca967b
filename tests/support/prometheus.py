"""Debian's Prometheus as a process of its own, scraping what a test names."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

USER, PASSWORD = "watcher", "open-sesame"  # where a test asks for basic authentication
_HASH = "$2b$04$abcdefghijklmnopqrstuuXcjcm5avyCiJoD2uS24xa2lb6fjMB3G"  # bcrypt of PASSWORD


class RunningPrometheus:
    """`url`, `pid`, and `kill()` for the middle of a test."""

    def __init__(self, folder: Path, targets: Mapping[str, str], *, every: float, login: bool) -> None:
        binary = shutil.which("prometheus")
        if binary is None:
            raise FileNotFoundError("prometheus is not on the PATH: apt-get install prometheus")
        folder.mkdir(parents=True, exist_ok=True)
        config, web = folder / "prometheus.yml", folder / "web.yml"
        config.write_text(json.dumps(_config(targets, every)))  # JSON is YAML
        web.write_text(json.dumps({"basic_auth_users": {USER: _HASH} if login else {}}))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        self._log = (folder / "log.txt").open("w")
        command = [
            binary,
            f"--config.file={config}",
            f"--web.config.file={web}",
            f"--web.listen-address={address}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
        ]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        self.pid = self._process.pid
        self._wait(folder / "log.txt")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/-/ready", auth=(USER, PASSWORD)).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"Prometheus did not start: {log.read_text()[-2000:]}")


@contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, str], *, every: float = 1.0, login: bool = False
) -> Iterator[RunningPrometheus]:
    """A Prometheus that scrapes `targets` (service name → URL) for the length of a `with` block."""
    running = RunningPrometheus(folder, targets, every=every, login=login)
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def prometheus_of(folder: Path, openmetrics: str) -> Iterator[RunningPrometheus]:
    """A Prometheus with this history (OpenMetrics with timestamps), which scrapes nothing, for a `with` block."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "history.om"
    text.write_text(openmetrics)
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with prometheus(folder, {}) as running:
        yield running


def openmetrics(samples: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> str:
    """Gauges and counters as text: name → labels as PromQL writes them → (time, value)."""
    lines = [
        f"{name}{{{labels}}} {value:g} {at:.3f}"
        for name, series in samples.items()
        for labels, points in series.items()
        for at, value in points
    ]
    return "\n".join([*lines, "# EOF\n"])


def _config(targets: Mapping[str, str], every: float) -> object:
    scraped = [{"targets": [url.removeprefix("http://")], "labels": {"service": name}} for name, url in targets.items()]
    seconds = f"{round(every * 1000)}ms"
    return {
        "global": {"scrape_interval": seconds, "scrape_timeout": seconds},
        "scrape_configs": [{"job_name": "services", "static_configs": scraped}],
    }
