"""`secret:NAME`, looked up in the process that needs it: a Prefect Secret block or the environment. Never on disk."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from typing import Any

from firstwatch.redaction import Secret

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


async def known_secrets(file: Any) -> list[str]:
    """The values of all secrets that a service file (as plain data) names and that can be found, for the redactor.

    One that is missing is told where it is used.
    """
    values = []
    for name in sorted(set(_secret_names(file))):
        try:
            values.append((await load_secret(name)).reveal())
        except SecretMissing:
            continue
    return values


def _secret_names(value: Any) -> Iterator[str]:
    """Every name in the file's secret fields (`secret`, `password`, `token`, `bearer`, `client_secret`, Slack's
    `webhook`, the dead-man's `ping`), and each `secret:NAME` in a text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _SECRET_FIELDS and isinstance(item, str):
                yield item
            yield from _secret_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _secret_names(item)
    elif isinstance(value, str):
        yield from SECRET_IN_TEXT.findall(value)


_SECRET_FIELDS = frozenset({"secret", "password", "token", "bearer", "webhook", "client_secret", "ping"})


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
