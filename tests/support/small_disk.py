"""A small disk of one's own, to be filled to the last byte: what is on it then fails as it would in production."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CAN_BE_MADE = os.getuid() == 0  # only root may mount one
_PIECE = 1 << 16  # bytes


@dataclass(frozen=True)
class SmallDisk:
    folder: Path

    @property
    def free(self) -> int:
        """Bytes."""
        return os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize

    @contextmanager
    def full(self) -> Iterator[None]:
        """Nobody can write a byte more, for a `with` block."""
        ballast = self.folder / "ballast"
        self._fill(ballast)
        try:
            yield
        finally:
            ballast.unlink()

    def stay_full(self, seconds: float) -> None:
        """In `full`: what others delete meanwhile is taken as well."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._fill(self.folder / "ballast")
            time.sleep(0.1)

    def _fill(self, ballast: Path) -> None:
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as out:  # until there is no space left
            while out.write(bytes(_PIECE)):
                pass


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """One of so many megabytes, for a `with` block. Every user may write on it: PostgreSQL has one of its own."""
    at = Path(tempfile.mkdtemp(prefix="firstwatch-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=1777", "tmpfs", str(at)]
    subprocess.run(mount, check=True, capture_output=True, timeout=30)
    try:
        yield SmallDisk(at)
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, capture_output=True, timeout=30)
        at.rmdir()
