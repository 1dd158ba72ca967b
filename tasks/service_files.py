"""Service files as they stand on the disk. One that has not changed is parsed once a process: it takes 13 ms, and there
are hundreds of rounds a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from firstwatch.spec import Service, load_or_raise

_MOST = 1000  # files that are kept
_SETTLED = 2_000_000_000  # nanoseconds: a file that is younger may yet change without its time telling so
_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file as it was parsed. `named`: the environment's variables that it asked for, and what they were."""

    stamp: _Stamp
    named: Mapping[str, str | None]
    service: Service

    def stands(self, stamp: _Stamp, environ: Mapping[str, str]) -> bool:
        return self.stamp == stamp and all(environ.get(name) == value for name, value in self.named.items())


_kept: dict[str, _Kept] = {}  # by absolute path


def parsed(path: Path) -> Service:
    """The service of the file as it is now, for nobody to change. Raises OSError and UnicodeDecodeError where it cannot
    be read, and SpecError with every diagnostic."""
    place, stamp = str(path.absolute()), _stamp(path)  # first the stamp: what is written meanwhile is another file
    kept = _kept.get(place)
    if kept is not None and kept.stands(stamp, os.environ):
        return kept.service
    _kept.pop(place, None)
    environ = _Noted(os.environ)
    service = load_or_raise(path.read_text(encoding="utf-8"), str(path), environ)
    if time.time_ns() - max(stamp[:2]) > _SETTLED:
        if len(_kept) >= _MOST:
            del _kept[next(iter(_kept))]
        _kept[place] = _Kept(stamp, environ.named, service)
    return service


def _stamp(path: Path) -> _Stamp:
    """What is another after each change: when it was written, when its entry was, its size, its place on the disk."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@dataclass(frozen=True, slots=True)
class _Noted(Mapping[str, str]):
    """The environment, and what was asked of it."""

    environ: Mapping[str, str]
    named: dict[str, str | None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        self.named[name] = self.environ.get(name)
        return self.environ[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.environ)

    def __len__(self) -> int:
        return len(self.environ)
