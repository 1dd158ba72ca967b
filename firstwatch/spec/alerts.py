"""Who is told, when an alert opens and closes, and when nobody wants to be told."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from firstwatch.spec.base import Model, Seconds, SecretName

LEAST_REMINDER = 300.0  # seconds


class Slack(Model):
    """An incoming webhook, or a bot token and a channel (which allows one thread a release or incident)."""

    webhook: SecretName | None = Field(None, description="an incoming webhook's URL")
    token: SecretName | None = Field(None, description="a bot's; needs a channel")
    channel: str | None = Field(None, description="name or id, for the bot token")
    api_url: str = Field("https://slack.com/api/", description="base URL of the Web API")


class Streak(Model):
    """So many results of the last so many: `3 in a row` is 3 of 3."""

    count: int = Field(ge=1, le=100)
    out_of: int = Field(ge=1, le=100)


def parse_streak(given: Any) -> Any:
    """`3 in a row`, `2 of 5` or a plain `3` → count and out_of. Raises ValueError for anything else."""
    if isinstance(given, int) and not isinstance(given, bool):
        given = f"{given} in a row"
    if not isinstance(given, str):
        return given
    if found := re.fullmatch(r"\s*(\d+)\s+in\s+a\s+row\s*", given):
        count = out_of = int(found[1])
    elif found := re.fullmatch(r"\s*(\d+)\s+(?:out\s+)?of\s+(\d+)\s*", given):
        count, out_of = int(found[1]), int(found[2])
    else:
        raise ValueError(f"{given!r} is no such number; write 3 in a row, or 2 of 5")
    if not 1 <= count <= out_of:
        raise ValueError(f"{given!r} can never be reached; write 3 in a row, or 2 of 5")
    return {"count": count, "out_of": out_of}


_STREAK_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": r"^\d+ (in a row|of \d+)$", "examples": ["3 in a row", "2 of 5"]},
            {"type": "integer", "minimum": 1},
        ]
    }
)
Results = Annotated[Streak, BeforeValidator(parse_streak), _STREAK_SCHEMA]


class Opening(Model):
    after: Results = Field(description="bad results: `3 in a row`, or `2 of 5`")
    lasting: Seconds | None = Field(None, alias="for", description="and not before the trouble has lasted so long: 10m")


class Closing(Model):
    after: Results = Field(description="good results: `2 in a row`")
    tell: bool = Field(True, description="whether the end of an alert is told")


class Flapping(Model):
    """A check that goes up and down keeps one alert open, instead of one message each time."""

    changes: int = Field(6, ge=3, le=100, description="changes between good and bad within the time")
    within: Seconds = Field(3600.0, description="the time in which they are counted")


class Storm(Model):
    """When many services fail at once, they are told in one message."""

    after: int = Field(5, ge=2, le=1000, description="incidents that open within the time")
    within: Seconds = Field(300.0, description="the time in which they are counted")


class Maintenance(Model):
    """A time in which nothing opens: each day or on some days (`start` and `duration`), by cron, or once (`from`,
    `until`)."""

    name: str = Field("maintenance", min_length=1, description="as people read it")
    start: str | None = Field(None, pattern=r"^([01]?\d|2[0-3]):[0-5]\d$", description="02:30, with `duration`")
    duration: Seconds | None = Field(None, description="how long it lasts, up to 24h, or longer by cron")
    days: list[str] = Field(default_factory=list, description="Monday, Tuesday, …; left out: each day")
    cron: str | None = Field(None, description="when it starts, with `duration`")
    begins: str | None = Field(None, alias="from", description="2026-12-24T22:00, for once")
    ends: str | None = Field(None, alias="until", description="2026-12-25T06:00")
    timezone: str = Field("UTC", description="IANA name, as in Europe/Amsterdam")
    checks: list[str] = Field(default_factory=list, description="which checks; left out: all of the service")


def _quorum(given: Any) -> Any:
    """`2 of 3`."""
    return parse_streak(given) if isinstance(given, str | int) else given


class Alerts(Model):
    slack: Slack | None = Field(None, description="where people are told")
    open: Opening = Field(
        default_factory=lambda: Opening(after=Streak(count=3, out_of=3)), description="when an alert opens"
    )
    close: Closing = Field(
        default_factory=lambda: Closing(after=Streak(count=2, out_of=2)), description="when it closes"
    )
    degraded: Opening | None = Field(
        None, description="when slowness opens an alert of its own level; left out: as `open`"
    )
    remind: Seconds | None = Field(None, description="how often an open alert is told again; left out: never")
    flapping: Flapping = Field(default_factory=Flapping, description="when a check counts as flapping")
    locations: Annotated[Streak, BeforeValidator(_quorum), _STREAK_SCHEMA] | None = Field(
        None, description="how many locations must agree: `2 of 3`; left out: more than half of those that vote"
    )
    maintenance: list[Maintenance] = Field(default_factory=list, description="times in which no alert opens")
    storm: Storm = Field(default_factory=Storm, description="when many incidents become one message")
    ping: SecretName | None = Field(
        None, description="a dead-man switch's URL, which is asked after each round that went through"
    )
