"""What the services of bench/day.py do, minute by minute: seeded, and known to whoever answers for them and whoever
expects alerts. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

BEGIN = 20_759 * 86_400.0  # Unix seconds: midnight, UTC
MINUTE = 60.0
APART = 2.0  # seconds between the starts of two services' rounds, as their schedules have it
UP, SLOW, DOWN = "u", "s", "d"
STORM = 8  # minutes


@dataclass(frozen=True, slots=True)
class Script:
    """One service: a letter for each minute of the day."""

    service: str
    states: str


def planned(place: int, minute: int) -> float:
    """When the `place`-th service's round of a minute is to begin, Unix seconds."""
    return BEGIN + MINUTE * minute + APART * place


def minute_of(at: float) -> int:
    """The minute of the day that a time lies in."""
    return int((at - BEGIN) // MINUTE)


def scripts(seed: int, services: int, minutes: int) -> list[Script]:
    """Each service has its outages; in the middle of the day all of them fail at once."""
    rng = random.Random(seed)
    # Slow minutes take their time in this bench too, so they come for several services at once.
    slow_at = [minutes * part // 100 for part in (21, 36, 65, 80)]
    made = []
    for n in range(services):
        states = [UP] * minutes
        for kind, start in _outages(rng, minutes, slow_at[n % len(slow_at)]):
            letters = _letters(kind, rng)[: minutes - start]
            states[start : start + len(letters)] = letters
        middle = slice(minutes // 2, minutes // 2 + STORM)
        states[middle] = DOWN * STORM
        made.append(Script(f"svc-{n:02d}", "".join(states)))
    return made


def _outages(rng: random.Random, minutes: int, slow_at: int) -> Iterator[tuple[str, int]]:
    """What goes wrong, and from which minute on."""
    yield SLOW, slow_at
    for kind in ("flapping", DOWN, DOWN, "blip"):
        yield kind, rng.randrange(minutes // 20, minutes * 9 // 10)


def _letters(kind: str, rng: random.Random) -> str:
    if kind == "flapping":
        return "".join(DOWN * rng.randint(1, 2) + UP * rng.randint(1, 2) for _ in range(4))
    if kind == "blip":  # too short to be told
        return DOWN * rng.randint(1, 2)
    return kind * (rng.randint(11, 13) if kind == SLOW else rng.randint(3, 25))
