"""Debian's programs of the Prometheus family, as processes of a test's own on 127.0.0.1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.stack import Process, free_port


@contextmanager
def program(folder: Path, name: str, *arguments: str) -> Iterator[str]:
    """One that listens where --web.listen-address says (a Pushgateway, an exporter), for a `with` block; its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    argv = [name, f"--web.listen-address={url.removeprefix('http://')}", *arguments]
    running = Process(argv, folder / f"{name}.log", dict(os.environ))
    try:
        running.wait_for(f"{url}/-/healthy", 30)
        yield url
    finally:
        running.stop()
