"""The nouns of alerting: what is known of each check, the service's incident, and what there is to tell.

Everything is frozen and turns into plain JSON and back (`packed`, `unpacked`), without what is as usual: a service's
state is to fit in the 5,000 characters of a variable. Times are Unix seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from firstwatch.model import as_json
from firstwatch.monitor import Health

UP, SLOW, DOWN = "u", "s", "d"
"""A vote as it is kept, one letter each. UNKNOWN is none."""
LETTERS = {Health.UP: UP, Health.DEGRADED: SLOW, Health.DOWN: DOWN}
BAD = SLOW + DOWN
ROUNDS_KEPT = 5  # of which it is known that they were applied; a round comes again at once, or never


class Level(StrEnum):
    """How bad an open alert says that the check is."""

    NONE = "none"  # no alert is open
    DEGRADED = "degraded"
    DOWN = "down"

    @property
    def rank(self) -> int:
        return list(Level).index(self)

    @property
    def health(self) -> Health:
        return {Level.NONE: Health.UP, Level.DEGRADED: Health.DEGRADED, Level.DOWN: Health.DOWN}[self]


@dataclass(frozen=True, slots=True)
class CheckState:
    """What is known of one check: its latest votes, its alert, and what was said of it."""

    results: str = ""  # the latest votes, oldest first, as many as the policy asks for
    at: float = 0.0  # of the last vote
    row: int = 0  # votes in a row: good ones above zero, bad ones below
    row_since: float = 0.0
    since: float | None = None  # when the trouble began that an alert is, or would be, about
    unknown: int = 0  # rounds in a row without a vote
    unwatched: bool = False  # … which were told
    level: Level = Level.NONE
    opened_at: float | None = None
    held: str = ""  # why its alert is not opened although it is due
    maintenance: str = ""  # the window's name, if the last round lay in one
    changes: tuple[float, ...] = ()  # between good and bad, within the time of `flapping`
    flapping: bool = False
    warned: tuple[str, ...] = ()  # threshold and fingerprint of each warning that was told

    @property
    def health(self) -> Health:
        """As the last vote had it, whatever is told about it."""
        return next((h for h, letter in LETTERS.items() if self.results.endswith(letter)), Health.UNKNOWN)

    @property
    def is_open(self) -> bool:
        return self.level is not Level.NONE


@dataclass(frozen=True, slots=True)
class Incident:
    """One outage of one service: from the first alert that opens to the last that closes."""

    id: str  # shop@2026-11-25T21:49:00Z
    opened_at: float
    checks: tuple[str, ...]  # all that have been in it
    told_at: float | None = None  # when people last heard that it is open; None: they do not know yet
    closed_at: float | None = None


@dataclass(frozen=True, slots=True)
class AlertState:
    """All that is remembered of a service's alerts, from one round to the next."""

    service: str
    checks: Mapping[str, CheckState] = field(default_factory=dict)
    incident: Incident | None = None  # the open one, or the last
    rounds: tuple[str, ...] = ()  # the keys of the latest ones that were applied

    @property
    def open_checks(self) -> tuple[str, ...]:
        return tuple(name for name, check in self.checks.items() if check.is_open)

    @property
    def open_incident(self) -> Incident | None:
        return self.incident if self.incident is not None and self.incident.closed_at is None else None


def at_rest(before: AlertState, after: AlertState) -> bool:
    """Whether nothing is lost if `after` is never written down, and its rounds are applied again: only rows of good
    votes have become longer, and times later."""
    return _without_counts(before) == _without_counts(after)


def _without_counts(state: AlertState) -> AlertState:
    checks = {name: dataclasses.replace(check, at=0.0, row=min(check.row, 1)) for name, check in state.checks.items()}
    return dataclasses.replace(state, checks=checks, rounds=())


class NoticeKind(StrEnum):
    OPENED = "opened"
    REOPENED = "opened again"  # within the same incident
    WORSENED = "worsened"  # degraded → down
    IMPROVED = "improved"  # down → degraded
    CLOSED = "closed"
    REMINDER = "reminder"
    FLAPPING = "flapping"  # an open alert's check has begun to go up and down
    STEADY = "steady"  # … and has stopped, on the bad side
    WARNING = "warning"  # works, and will not for much longer: a certificate
    UNWATCHED = "not watched"  # nothing is known of the check
    WATCHED = "watched again"
    HELD = "held back"  # for the record
    DIGEST = "digest"  # several of the above, which had to wait for too long to be told one by one


@dataclass(frozen=True, slots=True)
class Part:
    """What a notice says of one check: `results` of the last `out_of` votes led to it."""

    check: str
    health: Health
    why: str
    since: float | None = None
    results: int = 0
    out_of: int = 0
    facts: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell, of all the checks that it happened to in one round.

    `id` is the same however often the round is applied: by it a notice is delivered once. `first` opens its incident,
    `last` closes it. What is not to be told (`tell`) is for the record.
    """

    id: str
    kind: NoticeKind
    service: str
    incident: str  # "" where it belongs to none
    at: float
    parts: tuple[Part, ...] = ()
    first: bool = False
    last: bool = False
    tell: bool = True
    lines: tuple[str, ...] = ()  # of a digest

    @property
    def checks(self) -> tuple[str, ...]:
        return tuple(part.check for part in self.parts)


# ── to JSON and back ─────────────────────────────────────────────────────────────────────────────────────────

T = TypeVar("T")


def packed(value: Any) -> Any:
    """As plain JSON values, without the fields that are as usual."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: packed(x) for name, x in kept.items() if x != _usual(type(value)).get(name, _MISSING)}
    if isinstance(value, dict):
        return {str(key): packed(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [packed(x) for x in value]
    return as_json(value)


def unpacked(kind: type[T], value: Any) -> T:
    """What `packed` has made of a `kind`. Raises pydantic.ValidationError for anything else."""
    adapter: TypeAdapter[T] = _adapter(cast(Hashable, kind))
    made = adapter.validate_python(value)
    return made


_MISSING = object()


@lru_cache(maxsize=64)
def _usual(kind: type) -> dict[str, Any]:
    """Each field's usual value, for those that have one."""
    made = {f.name: f.default_factory() for f in dataclasses.fields(kind) if callable(f.default_factory)}
    return made | {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
