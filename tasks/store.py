"""Documents that several runs share, kept on the Prefect server. Of two runs that change one at the same time, neither
overwrites the other: the later one looks again.

Version n of the document `monitor-shop` is the Prefect variable `firstwatch-monitor-shop-00000n`. The server creates a
variable of a name only once, so that whoever creates version n+1 has changed version n, and nobody else has. A document
that is too long for a variable is packed into it, or lies in an artifact, which the variable names and which costs
three questions more. Older versions are cleared away by those who write later ones.

A process remembers which version of a document it has seen last: whether that is still the newest is asked by name, and
for many documents at once.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import json
import random
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, VariableCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_logger
from pydantic import ValidationError

from firstwatch.model import as_json
from tasks.busy import patiently, will_pass, without_patience
from tasks.together import together

KEPT = 3  # versions that stay: a reader that is on its way to an older one finds it
TRIES = 20  # at a change that others keep getting ahead of
_IN_A_VARIABLE = 4_500  # characters; Prefect takes 5,000
_PACKED_AT_MOST = 30_000  # characters before they are packed; what is longer seldom fits
_LISTED = 50  # versions that are looked at; there are seldom more than KEPT
_AHEAD = 2  # versions after the one that we know that are asked for with it: the last must not be there
_AT_ONCE = 60  # documents that are asked for together; Prefect gives 200 variables at most
_REMEMBERED = 10_000  # documents of which a process remembers the versions
_STALE = 5.0  # seconds for which no version is cleared away; only after that may the name that we want be free again

_log = get_logger("firstwatch.store")

Change = Callable[[Any | None], Any]
"""A document (None: there is none yet) → the document that is to follow it. Called again when somebody was faster."""


def place_key(service: str, location: str) -> str:
    """What one location knows of a service: its votes, the speed and the baselines of each check."""
    return f"place {service} {location}".strip()


def turn_key(services: Sequence[str], location: str) -> str:
    """Whose turn it is to look at all of these from there."""
    return f"turn {' + '.join(sorted(services))} {location}".strip()


def alerts_key(service: str) -> str:
    """A service's alerts, and what people are yet to be told of them."""
    return f"alerts {service}"


class Contended(Exception):
    """Others kept changing the document for as long as we tried."""


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    variable: str  # its name
    value: Mapping[str, Any]  # `document`, `packed`, or the id of the `artifact` that holds it; `by` says who wrote it
    created: float = 0.0  # Unix seconds, by the server's clock


_remembered: dict[tuple[str, str], Sequence[_Version]] = {}  # API, key → newest first, without their documents


@dataclass(frozen=True, slots=True)
class Seen:
    """A document as it was read; None where there is none. `began`: when it was asked for (monotonic seconds)."""

    document: Any | None
    versions: Sequence[_Version]
    began: float


async def see(client: PrefectClient, key: str) -> Seen:
    """The document as it is now, to be changed soon. Waits for a server that is being restarted."""
    began = time.monotonic()
    versions, document = await _latest(client, key)
    return Seen(document, versions, began)


async def read(client: PrefectClient, key: str) -> Any | None:
    """The document as it is now; None where there is none. Waits for a server that is being restarted."""
    return (await see(client, key)).document


async def change(client: PrefectClient, key: str, change: Change, seen: Seen | None = None) -> Any:
    """Change the document and return what it has become. A change that gives the document as it was writes nothing.

    `seen` is how the caller has just seen it, which saves a question: where somebody has changed it since, or it is too
    long ago, it is read anew. Waits for a server that is being restarted. Raises Contended after TRIES collisions.
    """
    for tried in range(TRIES):
        if seen is None or time.monotonic() - seen.began >= _STALE:
            seen = await see(client, key)
        began, versions, document = seen.began, seen.versions, seen.document
        seen = None
        wanted = as_json(change(document))
        if versions and wanted == document:
            return wanted
        number = versions[0].number + 1 if versions else 1
        if (made := await _create(client, key, number, wanted, began)) is not None:
            old = [each for each in versions[KEPT - 1 :] if versions[0].created - each.created > _STALE]
            gone = old if await _clear_away(client, old) else []
            _remember(client, key, [made, *(each for each in versions if each not in gone)])
            return wanted
        await asyncio.sleep(random.uniform(0, 0.05) * (tried + 1))
    raise Contended(f"the document {key} was changed by others {TRIES} times in a row")


async def _latest(client: PrefectClient, key: str) -> tuple[Sequence[_Version], Any | None]:
    """The versions that are there, newest first, and the newest one's document. One that is damaged, or whose artifact
    somebody has deleted, is none: who keeps it begins anew."""
    looked_for = ""
    for _ in range(TRIES):
        versions = await _known_and_since(client, key) or await _versions(client, key)
        _remember(client, key, versions)
        if not versions:
            return versions, None
        try:
            return versions, await _document(client, versions[0].value)
        except _Damaged:
            break
        except httpx.HTTPStatusError as gone:  # cleared away while we were on the way to it, if there is a newer one
            if gone.response.status_code != httpx.codes.NOT_FOUND:
                raise
            if versions[0].variable == looked_for:
                break
            looked_for = versions[0].variable
            _forget(client, key)
            await asyncio.sleep(0.01)
    else:
        raise Contended(f"the document {key} was changed by others {TRIES} times before it could be read")
    _log.warning("The document %s (%s) cannot be read: it begins anew.", key, versions[0].variable)
    return versions, None


async def _versions(client: PrefectClient, key: str) -> list[_Version]:
    newest_first = {"variables": {"tags": {"all_": [_tag(key)]}}, "sort": "NAME_DESC", "limit": _LISTED}
    found = await patiently(client, lambda: client.request("POST", "/variables/filter", json=newest_first))
    named = ((v, re.fullmatch(rf"{_name(key)}-(\d+)", v["name"])) for v in found.json())
    return [_version(v, int(name[1])) for v, name in named if name]


def _version(variable: Mapping[str, Any], number: int) -> _Version:
    value = variable["value"] if isinstance(variable["value"], dict) else {}  # else a person has edited it
    created = datetime.fromisoformat(variable["created"].replace("Z", "+00:00")).timestamp()
    return _Version(number, variable["name"], value, created)


# ── what this process remembers ──────────────────────────────────────────────────────────────────────────────


async def _known_and_since(client: PrefectClient, key: str) -> Sequence[_Version]:
    """The versions that this process remembers, and the few that have come since; none where there may be more."""
    known = _remembered.get((str(client.api_url), key))
    if not known:
        return []
    names = {_version_name(key, known[0].number + n): known[0].number + n for n in range(_AHEAD + 1)}
    all_of_them = together(("documents", str(client.api_url)), _rows)
    found = [_version(row, names[row["name"]]) for row in await all_of_them.ask((client, list(names)))]
    if not found or found[-1].number == known[0].number + _AHEAD:
        return []
    return [*reversed(found), *known[1:]]


Asked = tuple[PrefectClient, Sequence[str]]  # by whom, and the variables' names


async def _rows(asked: Sequence[Asked]) -> list[list[Mapping[str, Any]]]:
    """For each of the questions, those of its variables that there are."""
    client = asked[0][0]  # whoever waits for the answer has an open client
    found: dict[str, Mapping[str, Any]] = {}
    for n in range(0, len(asked), _AT_ONCE):
        names = {"name": {"any_": [name for _, names in asked[n : n + _AT_ONCE] for name in names]}}
        ask = functools.partial(client.request, "POST", "/variables/filter", json={"variables": names, "limit": 200})
        found |= {row["name"]: row for row in (await patiently(client, ask)).json()}
    return [[found[name] for name in names if name in found] for _, names in asked]


def _remember(client: PrefectClient, key: str, versions: Sequence[_Version]) -> None:
    _forget(client, key)
    if versions:
        _remembered[str(client.api_url), key] = [_without_document(each) for each in versions[:_LISTED]]
    while len(_remembered) > _REMEMBERED:
        _remembered.pop(next(iter(_remembered)), None)


def _forget(client: PrefectClient, key: str) -> None:
    _remembered.pop((str(client.api_url), key), None)


def _without_document(version: _Version) -> _Version:
    return replace(version, value={name: it for name, it in version.value.items() if name == "artifact"})


# ── reading and writing a version ────────────────────────────────────────────────────────────────────────────


class _Damaged(Exception):
    """What is there is no document of ours."""


async def _document(client: PrefectClient, value: Mapping[str, Any]) -> Any:
    """Raises _Damaged, and httpx.HTTPStatusError 404 where its artifact is gone."""
    if "document" in value:
        return value["document"]
    if "packed" in value:
        return _unpacked(value["packed"])
    if not isinstance(value.get("artifact"), str):
        raise _Damaged
    names = {"id": value["artifact"]}
    answer = await patiently(client, lambda: client.request("GET", "/artifacts/{id}", path_params=names))
    try:
        return json.loads(answer.json()["data"])
    except (TypeError, ValueError):
        raise _Damaged from None


async def _create(client: PrefectClient, key: str, number: int, document: Any, began: float) -> _Version | None:
    """This version, if it is ours to write, and is written."""
    name, by = _version_name(key, number), uuid4().hex
    value = await _value(client, key, document, by)
    variable = VariableCreate(name=name, value=value, tags=["firstwatch", _tag(key)])
    try:
        standing: Any = await patiently(client, lambda: client.create_variable(variable))
    except ObjectAlreadyExists:
        standing = await patiently(client, lambda: client.read_variable_by_name(name))
        if standing is None or not isinstance(standing.value, dict) or standing.value.get("by") != by:
            await patiently(client, lambda: _drop(client, _Version(number, "", value)))
            return None  # else it is ours: the answer had been lost, and the client asked again
    made = _Version(number, name, value, standing.created.timestamp())
    if time.monotonic() - began < _STALE:
        return made
    newest = await _versions(client, key)
    if newest and newest[0].number > number:  # we were asleep: the name had been used, and cleared away since
        await patiently(client, lambda: _drop(client, made))
        return None
    return made


async def _value(client: PrefectClient, key: str, document: Any, by: str) -> dict[str, Any]:
    """The variable's value: the document, as it is or packed, or the artifact that holds it."""
    value = {"document": document, "by": by}
    if _fits(value):
        return value
    text = json.dumps(document, allow_nan=False)
    if len(text) <= _PACKED_AT_MOST and _fits(value := {"packed": _packed(text), "by": by}):
        return value
    artifact = ArtifactCreate(key=None, type="json", description=f"firstwatch document {key}", data=text)
    made = await patiently(client, lambda: client.create_artifact(artifact))
    return {"artifact": str(made.id), "by": by}


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _unpacked(packed: Any) -> Any:
    """Raises _Damaged."""
    try:
        return json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
    except (TypeError, ValueError, zlib.error):
        raise _Damaged from None


def _fits(value: dict[str, Any]) -> bool:
    """Whether a variable takes it. Besides what is long, Prefect or its database refuse half a character, a NUL, what
    is nested deep and huge numbers: services answer all of these. An artifact's text has them in plain letters."""
    text = json.dumps(value)
    if len(text) > _IN_A_VARIABLE or "\\u0000" in text:
        return False
    try:
        VariableCreate(name="fits", value=value)
    except ValidationError:
        return False
    return True


async def _clear_away(client: PrefectClient, old: Sequence[_Version]) -> bool:
    """Delete older versions; whether all of them are gone. What the server has no time for is left to who writes next:
    with SQLite, a delete beside other writers is refused again and again, at the price of several that are not."""
    try:
        with without_patience(client):
            for version in old:
                await _drop(client, version)
    except (httpx.TransportError, httpx.HTTPStatusError) as problem:
        if not will_pass(problem):
            raise
        return False
    return True


async def _drop(client: PrefectClient, version: _Version) -> None:
    """Clear away what nobody needs; somebody else may have done so already. The variable last: it names the rest."""
    if "artifact" in version.value:
        await _delete(client, "/artifacts/{id}", {"id": version.value["artifact"]})
    if version.variable:
        await _delete(client, "/variables/name/{name}", {"name": version.variable})


async def _delete(
    client: PrefectClient, path: Literal["/variables/name/{name}", "/artifacts/{id}"], names: dict[str, Any]
) -> None:
    try:
        await client.request("DELETE", path, path_params=names)
    except httpx.HTTPStatusError as problem:
        if problem.response.status_code != httpx.codes.NOT_FOUND:
            raise


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────


def _name(key: str) -> str:
    """As Prefect's names allow it (a-z, 0-9, dash); two keys never share one."""
    words = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[:150]
    digest = "" if words == key else f"-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return f"firstwatch-{words}{digest}"


def _version_name(key: str, number: int) -> str:
    return f"{_name(key)}-{number:08d}"


def _tag(key: str) -> str:
    return f"firstwatch document {key}"
