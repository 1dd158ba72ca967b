"""A person says that what a check shows now is how it is to be: the baseline of a drift, or the usual speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect.client.orchestration import PrefectClient
from pydantic import TypeAdapter, ValidationError

from firstwatch import slowness
from firstwatch.model import as_json
from firstwatch.rounds import Place
from firstwatch.spec import Service
from tasks import store

_PLACE = TypeAdapter(Place)


class NothingToAccept(Exception):
    """There is no such check, or it has shown nothing yet."""


async def accept_check(client: PrefectClient, service: Service, check: str, now: float) -> str:
    """Accept what the check shows at every location; what was done comes back, in words.

    Raises NothingToAccept, which names what there is.
    """
    assert service.synthetic is not None
    names = service.synthetic.locations.names if service.synthetic.locations else [""]
    known: set[str] = set()
    done: list[str] = []

    def accepted(kept: Any) -> Any:
        if not kept:
            return kept
        try:
            place = _PLACE.validate_python(kept)
        except ValidationError:  # the next round begins it anew
            return kept
        known.update((*place.baselines, *place.histories))
        place, what = _accepted(place, check, now)
        done.extend(what)
        return as_json(place)

    for name in names:
        key = store.place_key(service.service, name)
        if await store.read(client, key):
            await store.change(client, key, accepted)
    if not done:
        there = ", ".join(sorted(known)) or "none of its checks has shown anything yet"
        raise NothingToAccept(f"{service.service} has no check {check!r} that could be accepted ({there})")
    return f"{service.service}: {check}: {'; '.join(dict.fromkeys(done))}"


def _accepted(place: Place, check: str, now: float) -> tuple[Place, list[str]]:
    done = []
    if (kept := place.baselines.get(check)) is not None and "seen" in kept:
        baseline = {**kept, "baseline": kept["seen"], "diff": []}
        place = replace(place, baselines={**place.baselines, check: baseline})
        done.append("what it shows now is the baseline")
    if (packed := place.histories.get(check)) is not None:
        history = slowness.accept(slowness.unpack(packed)[0], now)
        place = replace(place, histories={**place.histories, check: slowness.pack(history)})
        done.append("its speed now is the usual one")
    return place, done
