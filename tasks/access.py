"""How a metric source is let in, and what the system says when it is not: shared by the sources."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from firstwatch.redaction import Redactor, Secret
from firstwatch.spec.models import Metrics
from tasks.secrets import load_secret


@dataclass(frozen=True)
class Access:
    """How a source is let in: headers (values may be secret), basic or bearer authentication, TLS, patience."""

    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    basic: tuple[str, Secret] | None = None
    bearer: Secret | None = None
    ca_file: str | None = None
    insecure: bool = False
    timeout: float = 10.0  # seconds for one question, connect to last byte

    def plain_headers(self) -> dict[str, str]:
        """The headers as they are sent: only for what is about to be sent."""
        sent = {name: value.reveal() if isinstance(value, Secret) else value for name, value in self.headers.items()}
        return {**sent, "Authorization": f"Bearer {self.bearer.reveal()}"} if self.bearer else sent

    def redactor(self) -> Redactor:
        """Takes out of a text all that must not be told."""
        held = [*self.headers.values(), self.bearer, self.basic[1] if self.basic else None]
        return Redactor(value.reveal() for value in held if isinstance(value, Secret))


async def access_to(metrics: Metrics) -> Access:
    """The file's `metrics:` with its secrets looked up. Raises SecretMissing."""
    headers: dict[str, str | Secret] = {}
    for name, value in metrics.headers.items():
        prefix, _, secret = value.partition(":")
        headers[name] = await load_secret(secret) if prefix == "secret" else value
    return Access(
        headers=headers,
        basic=(metrics.basic.username, await load_secret(metrics.basic.password)) if metrics.basic else None,
        bearer=await load_secret(metrics.bearer) if metrics.bearer else None,
        ca_file=metrics.ca_file,
        insecure=metrics.insecure,
        timeout=metrics.timeout,
    )


def system_reason(error: BaseException | None) -> str:
    """What the operating system or TLS said at the bottom of a client library's exception; empty if they did not."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and isinstance(error.errno, int) and error.strerror:
            own_numbers = isinstance(error, ssl.SSLError | socket.gaierror)  # not those of the operating system
            return str(error.strerror if own_numbers else os.strerror(error.errno)).lower()
        group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        inner = [getattr(error, "reason", None), *error.args, *group, error.__cause__, error.__context__]
        error = next((e for e in inner if isinstance(e, BaseException) and e not in seen), None)
    return ""
