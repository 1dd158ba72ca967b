"""A PostgreSQL of one's own on 127.0.0.1: what stands behind a Prefect server that many runs talk to at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.stack import Process, free_port

_HASTE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")  # nothing here outlives the machine


@dataclass
class Postgres:
    process: Process
    port: int
    programs: Path

    @property
    def url(self) -> str:
        """As Prefect takes it."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def again(self) -> None:
        """Start it on its data once more, where it has ended by itself: its disk was full."""
        if not self.process.alive():
            self.process = Process(self.process.argv, self.process.log, dict(os.environ))
            _wait_for(self.process, self.programs, self.port)

    def dump(self) -> bytes:
        """All that was written to it, as SQL."""
        argv = [str(self.programs / "pg_dump"), "--host=127.0.0.1", f"--port={self.port}", "--username=postgres"]
        return subprocess.run(argv, capture_output=True, check=True, timeout=120).stdout


@contextmanager
def postgres(where: Path | None = None) -> Iterator[Postgres]:
    """An empty one, for a `with` block. Its files are its own user's, in a folder of their own, and go with it.

    `where` is the folder that this one is made in: that of temporary files, by default.
    """
    programs, folder = _programs(), Path(tempfile.mkdtemp(prefix="firstwatch-postgres-", dir=where))
    as_user = _as_user(folder)
    data, port = folder / "data", free_port()
    init = [*as_user, str(programs / "initdb"), f"--pgdata={data}", "--auth=trust", "--username=postgres", "--no-sync"]
    subprocess.run(init, cwd=folder, capture_output=True, check=True, timeout=120)
    settings = [*_HASTE, f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
    server = [*as_user, str(programs / "postgres"), "-D", str(data), *(f"-c{setting}" for setting in settings)]
    process = Process(server, folder / "postgres.log", dict(os.environ))
    made = Postgres(process, port, programs)
    try:
        _wait_for(process, programs, port)
        yield made
    finally:
        made.process.stop()
        shutil.rmtree(folder)


def _programs() -> Path:
    """Where the newest PostgreSQL's programs are: Debian keeps them off the PATH. Raises RuntimeError if nowhere."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    if not found:
        raise RuntimeError("PostgreSQL is needed: run .ci/system")
    return Path(found).parent


def _as_user(folder: Path) -> list[str]:
    """PostgreSQL does not run as root: there, the start of a command that runs as its own user, who gets the folder."""
    if os.getuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _wait_for(process: Process, programs: Path, port: int) -> None:
    until = time.monotonic() + 60
    ready = [str(programs / "pg_isready"), "--host=127.0.0.1", f"--port={port}", "--quiet"]
    while subprocess.run(ready, timeout=10).returncode != 0:
        if not process.alive() or time.monotonic() > until:
            raise RuntimeError(f"PostgreSQL did not start:\n{process.tail()}")
        time.sleep(0.1)
