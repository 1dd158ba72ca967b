"""`secret:NAME`, looked up in the process that needs it: a Prefect Secret block or the environment. Never on disk."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from firstwatch.redaction import Secret
from firstwatch.spec import Model, SecretName

SECRET_IN_TEXT = re.compile(r"secret:([A-Za-z0-9_-]+)")
"""Where a text of the service file asks for a secret."""

_SERVER_PATIENCE = 5.0  # seconds for the Prefect server to answer before the environment is asked instead


class SecretMissing(Exception):
    """There is neither a block nor an environment variable of that name."""


async def load_secret(name: str) -> Secret:
    """The secret `name`: the Prefect Secret block of that name, else the environment variable in capitals.

    Raises SecretMissing, which says where it was looked for.
    """
    value, from_server = await _from_server(name)
    if value is None:
        value = os.environ.get(variable_name(name))
    if not value:
        raise SecretMissing(
            f"secret:{name} has no value: {from_server}, and the environment variable {variable_name(name)} is not set"
        )
    return Secret(name, value)


async def known_secrets(file: Model, age: float = 0.0) -> list[str]:
    """The values of all secrets that a service file names and that can be found, for the redactor.

    One that is missing is told where it is used. `age`: seconds for which what this process has found may be old. That
    is for those who add to the redactor what they look up themselves to use it.
    """
    values = [await _known(name, age) for name in sorted(set(_secret_names(file)))]
    return [value.reveal() for value in values if value is not None]


async def _known(name: str, age: float) -> Secret | None:
    from prefect.settings import PREFECT_API_URL  # lazily, as below

    place, now = (str(PREFECT_API_URL.value()), name), time.monotonic()
    found, at = _found.get(place, (None, float("-inf")))
    if now - at >= age:
        try:
            found = await load_secret(name)
        except SecretMissing:
            found = None
        _found[place] = found, now
    return found


_found: dict[tuple[str, str], tuple[Secret | None, float]] = {}  # API, name → what it was, and when (monotonic)


def _secret_names(value: Any) -> Iterator[str]:
    """Every name in a field of the file that is for a secret, and each `secret:NAME` in a text. What a request carries
    is the team's own: of a body, `{"password": "wrong"}` names no secret."""
    if isinstance(value, Model):
        for field in type(value).model_fields:
            item = getattr(value, field)
            yield from [item] if item and field in _secret_fields(type(value)) else _secret_names(item)
    elif isinstance(value, dict):
        yield from _secret_names(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secret_names(item)
    elif isinstance(value, str):
        yield from SECRET_IN_TEXT.findall(value)


@cache
def _secret_fields(model: type[Model]) -> frozenset[str]:
    """The fields that are a SecretName, or may be one: they hold the name alone, without `secret:`."""
    mark = get_args(SecretName)[1]
    fields = model.model_fields.items()
    return frozenset(n for n, f in fields if mark in f.metadata or SecretName in get_args(f.annotation))


def variable_name(name: str) -> str:
    """`shop-password` → `SHOP_PASSWORD`."""
    return name.upper().replace("-", "_")


async def _from_server(name: str) -> tuple[str | None, str]:
    """The block's value, or None and the reason. The reason never quotes what the server said: it may hold a value."""
    from prefect.settings import PREFECT_API_URL  # lazily: without a server none of this is needed

    if not PREFECT_API_URL.value():
        return None, "there is no Prefect server to ask for a block"
    from prefect.blocks.system import Secret as SecretBlock

    try:
        async with asyncio.timeout(_SERVER_PATIENCE):
            block: SecretBlock[str] = await SecretBlock.aload(name)
    except ValueError:
        return None, f"there is no Prefect Secret block {name}"
    except Exception as broken:
        return None, f"the Prefect server could not be asked for a block ({type(broken).__name__})"
    value: object = block.get()
    return (value if isinstance(value, str) else None), f"the Prefect Secret block {name} is not a text"
