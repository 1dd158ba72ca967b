"""How a metric source is let in, and what the system says when it is not: shared by the sources."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import httpx

from firstwatch.redaction import Redactor, Secret
from firstwatch.spec.canary import Header, OAuth2, PrometheusProvider
from firstwatch.spec.models import Metrics
from tasks.secrets import SECRET_IN_TEXT, load_secret

TOKEN_SPARE = 30.0  # seconds before its end that a token is renewed


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
        values = [value.reveal() for value in held if isinstance(value, Secret)]
        return Redactor(part for value in values for part in {value, value.split()[-1]})  # `Bearer …`


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


async def access_of_provider(provider: PrometheusProvider | None, metrics: Metrics) -> tuple[Access, float]:
    """How a canary metric's Prometheus is asked, and until when that holds (Unix seconds; infinity as a rule).

    One without an address of its own is the service's, with what the metric adds. Raises SecretMissing, and ValueError
    where a token is refused.
    """
    if provider is None:
        return await access_to(metrics), math.inf
    headers: dict[str, str | Secret] = {header.key: await _filled(header) for header in provider.headers}
    timeout = provider.timeout or metrics.timeout
    oauth = provider.authentication.oauth2 if provider.authentication else None
    token, ends = await _token(oauth, timeout) if oauth else (None, math.inf)
    if provider.address:
        return Access(headers=headers, bearer=token, insecure=provider.insecure, timeout=timeout), ends
    usual = await access_to(metrics)
    if token is not None:
        usual = replace(usual, basic=None, bearer=token)
    insecure = usual.insecure or provider.insecure
    return replace(usual, headers={**usual.headers, **headers}, timeout=timeout, insecure=insecure), ends


async def _filled(header: Header) -> str | Secret:
    """A header's value, with each `secret:NAME` in it looked up."""
    value = header.value
    for name in SECRET_IN_TEXT.findall(value):
        value = value.replace(f"secret:{name}", (await load_secret(name)).reveal())
    return value if value == header.value else Secret(header.key, value)


async def _token(oauth: OAuth2, timeout: float) -> tuple[Secret, float]:
    """A token by client credentials (RFC 6749, section 4.4), and when it should be renewed (Unix seconds)."""
    secret = await load_secret(oauth.client_secret)
    form = {"grant_type": "client_credentials", **({"scope": " ".join(oauth.scopes)} if oauth.scopes else {})}
    try:
        async with asyncio.timeout(timeout), httpx.AsyncClient(trust_env=False, timeout=timeout) as client:
            answer = await client.post(oauth.token_url, data=form, auth=(oauth.client_id, secret.reveal()))
        given = answer.json() if answer.status_code == httpx.codes.OK else {}
        token, lasts = str(given["access_token"]), float(given.get("expires_in", 300))
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"no token from {oauth.token_url}: {type(problem).__name__}") from None
    return Secret("access token", token), time.time() + max(lasts - TOKEN_SPARE, lasts / 2)


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
