"""The command `firstwatch backtest`: files and words in, tables and JSON out, progress on standard error."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from firstwatch.backtest import Backtest, BacktestResult, Part
from firstwatch.past import PastRelease, ReleasesError, parse_releases
from firstwatch.report.backtest import backtest_text, release_line
from firstwatch.spec import Service, load
from firstwatch.units import parse_duration, show_duration
from tasks import past
from tasks.history import Replay
from tasks.secrets import SecretMissing

FINE, NOT_FINE, USED_WRONGLY, BROKEN_OFF = 0, 1, 2, 130
USUAL_LAST = "7d"
_WIDTH = 160  # columns, where there is no terminal to ask
_TOLD_EVERY = 3.0  # seconds, where there is no terminal


class Misused(Exception):
    """The words or files cannot be used; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Words:
    """What stands on the command line; see `firstwatch backtest --help`."""

    file: Path
    releases: Path | None = None
    prometheus: str = ""
    out: str = ""
    last: str | None = None
    jobs: int | None = None
    origin: past.Origin | None = None
    only: Part | None = None


def command(words: Words) -> int:
    """The whole command. Returns the exit code."""
    try:
        service, listed, span = _read(words)
        wanted = listed if listed is not None else _found(service, words, span)
        replay = Replay(service, wanted, words.jobs, words.only)
    except Misused as misused:
        return _complain(USED_WRONGLY, *misused.problems)
    except past.NotFound as nothing:
        hint = "" if nothing.ours else " (hint: name them with --releases, or look further back with --last)"
        return _complain(NOT_FINE, f"no past releases: {nothing}{hint}")
    except ReleasesError as error:
        return _complain(USED_WRONGLY, *error.problems)
    except (SecretMissing, ValueError) as error:
        return _complain(USED_WRONGLY, str(error))
    return _run(replay, len(wanted), words.out)


def _run(replay: Replay, wanted: int, out: str) -> int:
    progress = Progress(wanted, sys.stderr)
    broken_off = False
    try:
        asyncio.run(replay.run(progress.tell))
    except KeyboardInterrupt:
        broken_off = True
    except SecretMissing as error:
        return _complain(USED_WRONGLY, str(error))
    progress.end()
    done = replay.so_far
    _write(done, out)
    columns = shutil.get_terminal_size((_WIDTH, 0)).columns
    print(backtest_text(done, columns), file=sys.stderr if out == "-" else sys.stdout)
    if broken_off:
        return BROKEN_OFF
    return NOT_FINE if any(result.ours for result in done.results) else FINE


def _write(done: Backtest, out: str) -> None:
    text = json.dumps([result.as_json() for result in done.results], indent=1, ensure_ascii=False, allow_nan=False)
    if out == "-":
        print(text)
    elif out:
        whole = Path(f"{out}.part")  # nobody reads half a file
        whole.write_text(text + "\n", encoding="utf-8")
        whole.replace(out)


# ── what is asked for ────────────────────────────────────────────────────────────────────────────────────────


def _read(words: Words) -> tuple[Service, list[PastRelease] | None, float]:
    """The service, the releases if a list names them, and how far back to look for them otherwise. Raises Misused."""
    problems: list[str] = []
    service = _service(words.file, words.prometheus, problems)
    listed = _listed(words.releases, problems) if words.releases is not None else None
    span = 0.0
    try:
        span = parse_duration(words.last or USUAL_LAST)
    except ValueError as error:
        problems.append(f"--last: {error}")
    if words.releases is not None and (words.last is not None or words.origin is not None):
        problems.append("--releases names the releases; --last and --from are for finding them")
    if words.only == "canary" and service is not None and service.canary is None:
        problems.append(f"--only canary: {words.file} has no canary section")
    if words.jobs is not None and words.jobs < 1:
        problems.append(f"--jobs: {words.jobs} processes replay nothing; give 1 or more")
    if words.out not in ("", "-") and not _writable(Path(words.out)):
        problems.append(f"--json: {words.out} cannot be written")
    if problems or service is None:
        raise Misused(problems)
    return service, listed, span


def _writable(out: Path) -> bool:
    return os.access(out.parent, os.W_OK) and not out.is_dir()


def _service(file: Path, prometheus: str, problems: list[str]) -> Service | None:
    try:
        loaded = load(file.read_text(encoding="utf-8"), str(file), os.environ, prometheus=prometheus)
    except OSError as error:
        problems.append(f"{file}: {error.strerror}")
        return None
    except UnicodeDecodeError:
        problems.append(f"{file}: not UTF-8 text")
        return None
    problems += map(str, loaded.diagnostics)
    return loaded.service


def _listed(file: Path, problems: list[str]) -> list[PastRelease] | None:
    try:
        return parse_releases(json.loads(file.read_text(encoding="utf-8")), time.time())
    except OSError as error:
        problems.append(f"{file}: {error.strerror}")
    except ReleasesError as error:
        problems += [f"{file}: {problem}" for problem in error.problems]
    except (ValueError, RecursionError) as error:
        problems.append(f"{file}: not JSON: {error}")
    return None


def _found(service: Service, words: Words, span: float) -> list[PastRelease]:
    names = (words.file.stem, str(words.file))
    if words.origin != "prefect" and not service.metrics.prometheus:
        raise Misused(["only a Prometheus has a history: give metrics.prometheus in the file, or --prometheus"])
    releases, how = asyncio.run(past.find(service, names, words.origin, span, time.time()))
    print(f"Releases: {how}.", file=sys.stderr)
    return releases


def _complain(code: int, *problems: str) -> int:
    for problem in problems:
        print(f"firstwatch: {problem}", file=sys.stderr)
    return code


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────


class Progress:
    """How far it is: one line that is written over on a terminal; else one at once, and then now and then."""

    def __init__(self, wanted: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._wanted, self._stream, self._clock = wanted, stream, clock
        self._terminal = stream.isatty()
        self._done, self._began, self._told = 0, clock(), -math.inf

    def tell(self, result: BacktestResult) -> None:
        self._done += 1
        now = self._clock()
        if self._terminal:
            left = (self._wanted - self._done) * (now - self._began) / self._done
            head = f"{self._done}/{self._wanted}, about {show_duration(round(left))} left. "
            columns = shutil.get_terminal_size((_WIDTH, 0)).columns - 1
            self._put(f"\r\x1b[K{(head + release_line(result))[:columns]}")
        elif now - self._told >= _TOLD_EVERY:
            self._told = now
            self._put(f"{self._done} of {self._wanted} releases replayed\n")

    def end(self) -> None:
        if self._terminal:
            self._put("\r\x1b[K")

    def _put(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()
