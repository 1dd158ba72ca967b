"""Past releases, as a list names them (`releases.json`) and as the series of a service's versions show them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from firstwatch.model import Release, rfc3339
from firstwatch.series import RawSeries

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TIME_HINT = "RFC 3339 with a time zone, as in 2026-01-01T12:00:00Z, or Unix seconds"


@dataclass(frozen=True, slots=True)
class PastRelease:
    """A release of the past. `given` is its deployed_at as the list had it, `args` what `{{args.NAME}}` stands for."""

    release: Release
    given: str | float
    args: Mapping[str, str] = field(default_factory=dict)


class ReleasesError(ValueError):
    """The list cannot be used; `problems` has a line for each thing that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


# ── a list ───────────────────────────────────────────────────────────────────────────────────────────────────


def parse_releases(data: Any, now: float) -> list[PastRelease]:
    """The entries `{"service", "version", "deployed_at", "args"}` of a list, in its order; further keys are ignored.

    Raises ReleasesError with everything that is wrong, each with the entry's index and a hint. `now`: Unix seconds.
    """
    if not isinstance(data, list):
        raise ReleasesError(["the releases are not a list (hint: [{service, version, deployed_at}, …])"])
    if not data:
        raise ReleasesError(["the list of releases is empty (hint: leave it out, and past releases are looked for)"])
    problems = [f"releases[{i}]{problem}" for i, entry in enumerate(data) for problem in _problems(entry, now)]
    if problems:
        raise ReleasesError(problems)
    found = [_past(entry) for entry in data]
    first: dict[str, int] = {}
    for i, past in enumerate(found):
        if (earlier := first.setdefault(past.release.id, i)) != i:
            problems.append(f"releases[{i}] is releases[{earlier}] again: {past.release.id} (hint: take one out)")
    if problems:
        raise ReleasesError(problems)
    return found


def _past(entry: Mapping[str, Any]) -> PastRelease:
    release = Release(entry["service"], entry["version"], _moment(entry["deployed_at"]))
    args = {str(key): _text(value) for key, value in (entry.get("args") or {}).items()}
    return PastRelease(release, entry["deployed_at"], args)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problems(entry: Any, now: float) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f" is {_shown(entry)} (hint: an object with service, version and deployed_at)"
        return
    for key in ("service", "version", "deployed_at"):
        if key not in entry:
            yield f" has no {key} (hint: each release has service, version and deployed_at)"
    if "service" in entry and not (isinstance(entry["service"], str) and _SERVICE.fullmatch(entry["service"])):
        yield f".service: {_shown(entry['service'])} is no service's name (hint: letters, digits, `_`, `.` and `-`)"
    if "version" in entry and not (isinstance(entry["version"], str) and entry["version"].strip()):
        yield f".version: {_shown(entry['version'])} is no version (hint: a text, in quotes)"
    if "deployed_at" in entry:
        yield from (f".deployed_at: {problem}" for problem in _time_problems(entry["deployed_at"], now))
    args = entry.get("args") or {}
    if not isinstance(args, dict):
        yield f".args: {_shown(args)} is no object (hint: a value for each name)"
    elif bad := [key for key, value in args.items() if not isinstance(value, str | int | float)]:
        yield f".args: {', '.join(bad)} is neither text nor number (hint: it replaces {{{{args.NAME}}}} in a text)"


def _time_problems(given: Any, now: float) -> Iterator[str]:
    try:
        at = _moment(given)
    except ValueError as error:
        yield f"{_shown(given)} {error} (hint: {_TIME_HINT})"
        return
    if at > now:
        hint = "seconds, not milliseconds" if at > 100 * now else "only what has happened can be replayed"
        yield f"{_shown(given)} lies in the future (hint: {hint})"
    elif at <= 0:
        yield f"{_shown(given)} lies before 1970 (hint: {_TIME_HINT})"


def _moment(given: Any) -> float:
    """RFC 3339 or Unix seconds → Unix seconds. Raises ValueError."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        if not math.isfinite(given):
            raise ValueError("is not a finite number")
        return float(given)
    if not isinstance(given, str):
        raise ValueError("is no time")
    try:
        at = datetime.fromisoformat(given.strip().upper())
    except ValueError:
        raise ValueError("is no time") from None
    if at.tzinfo is None:
        raise ValueError("has no time zone")
    return at.timestamp()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


# ── versions over time ───────────────────────────────────────────────────────────────────────────────────────


def deploys(seen: Sequence[RawSeries], label: str) -> list[tuple[str, float]]:
    """(version, time) of each deploy that the series show, oldest first.

    `seen` has a sample for each step at which a version was there, on one grid of times for all versions. A version
    that appears while or after another one was there was deployed then; one that comes back, while another was there
    in between, was too: a rollback. What was there at the first step of all was deployed before, nobody knows when.
    """
    by_version: dict[str, set[float]] = {}
    for one in seen:
        if version := one.labels.get(label, ""):
            by_version.setdefault(version, set()).update(one.at)
    steps = sorted(set().union(*by_version.values())) if by_version else []
    found: list[tuple[str, float]] = []
    for before, at in pairwise(steps):
        for version, times in by_version.items():
            if at in times and before not in times:
                found.append((version, at))
    return found


def past_releases(service: str, found: Sequence[tuple[str, float]]) -> list[PastRelease]:
    """Deploys as past releases of the service, oldest first, each once."""
    releases = {(version, at): Release(service, version, at) for version, at in sorted(found, key=lambda one: one[1])}
    return [PastRelease(release, rfc3339(release.deployed_at)) for release in releases.values()]
