"""The one HTTP transport that every synthetic request passes: here live the rules of testing in production.

    async with open_transport(service, logger=log) as transport:
        attempt = await run_check(transport, check, conditions, deadline_monotonic=…, clock=time.time)

Works without Prefect. Nothing raised, recorded or logged here holds a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import httpcore
import httpx

from firstwatch import rules
from firstwatch.answer import Answer, NoAnswer, read_answer, retry_after
from firstwatch.conditions import Condition
from firstwatch.model import Attempt, Outcome, Phases, RequestRecord, as_json
from firstwatch.redaction import Redactor, Secret
from firstwatch.rules import Refused
from firstwatch.spec.models import Service
from firstwatch.spec.request import Check, Request
from firstwatch.units import show_duration
from tasks import wire
from tasks.budget import Budget, BudgetExhausted, open_budget
from tasks.secrets import SECRET_IN_TEXT, SecretMissing, load_secret

Logger = logging.Logger | logging.LoggerAdapter[Any]

_DEFAULT_HEADERS = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Cache-Control": "no-cache"}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ([\x21-\x7e]([\t\x20-\x7e]*[\x21-\x7e])?)?")  # RFC 9110, section 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request as it will be sent. Never shown: it holds secrets."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    check: str
    attempt: int
    came_from: tuple[str, ...] = ()  # redacted URLs
    began: str = ""  # the first of them, as it is


class Transport:
    """Sends requests to one service under its rules. `records` lists all that was sent or refused, redacted."""

    def __init__(self, service: Service, budget: Budget, logger: Logger, clock: Callable[[], float]) -> None:
        self.records: list[RequestRecord] = []
        self.redactor = Redactor()
        self._rules = service.rules
        self._base_url = str(httpx.URL(service.base_url))
        self._budget = budget
        self._logger = logger
        self._clock = clock
        self._secrets: dict[str, Secret] = {}
        base = httpx.URL(service.base_url)
        self._resolver = wire.Resolver(base.raw_host.decode("ascii"), wire.port_of(base))
        self._client = self._new_client()

    @property
    def base_url(self) -> str:
        """The service's, redacted."""
        return self.redactor.url(self._base_url)

    @property
    def resolver(self) -> wire.Resolver:
        """What gives only the addresses that may be connected to, for whoever connects in another way."""
        return self._resolver

    async def aclose(self) -> None:
        await self._client.aclose()

    async def turn(self, deadline: float) -> None:
        """Wait for one request's turn in the service's budget, for whoever asks in another way. Raises
        BudgetExhausted if it does not come before the deadline (monotonic seconds)."""
        await self._budget.take(deadline - time.monotonic())

    async def send(
        self, check: str, attempt: int, request: Request, *, deadline: float, fresh_connection: bool = False
    ) -> Answer | NoAnswer:
        """Send the request of a check. `deadline` is when the suite ends (monotonic seconds): nothing outlives it.

        Raises nothing for what the service or the network does: that is a NoAnswer.
        """
        try:
            hop = await self._prepare(check, attempt, request)
        except (SecretMissing, httpx.InvalidURL, ValueError, TypeError) as wrong:
            return self._not_sent(_Hop(request.method, request.path, {}, b"", check, attempt), _safe_text(wrong))
        verdict = rules.judge_request(
            hop.method, hop.url, hop.headers, hop.body, rules=self._rules, base_url=self._base_url
        )
        if isinstance(verdict, Refused):
            return self._not_sent(hop, f"refused: {verdict.why}")
        hop = _with_headers(hop, verdict.headers)
        timeout = request.timeout if request.timeout is not None else self._rules.timeout
        async with self._client_for(fresh_connection) as client:
            return await self._follow(hop, client, timeout, deadline)

    # ── from the file's request to what is sent ──────────────────────────────────────────────────────────────

    async def _prepare(self, check: str, attempt: int, request: Request) -> _Hop:
        """Raises SecretMissing, and ValueError or TypeError for what cannot be a request."""
        if SECRET_IN_TEXT.search(request.path):
            raise ValueError("a secret stands in the URL, where logs would show it; send it in a header or the body")
        url = str(httpx.URL(rules.target_url(self._base_url, request.path)))
        headers = httpx.Headers(_DEFAULT_HEADERS)
        body = b""
        if request.json_body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(await self._filled(request.json_body), allow_nan=False).encode()
        elif request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(await self._filled(request.form)).encode()
        elif request.body is not None:
            body = str(await self._filled(request.body)).encode()
        for name, value in (await self._filled(request.headers)).items():
            if not _HEADER.fullmatch(f"{name}: {value}"):  # httpcore would quote it in its log
                raise ValueError(f"the header {name!r} holds letters that HTTP does not allow there")
            headers[name] = value
        return _Hop(request.method, url, dict(headers), body, check, attempt)

    async def _filled(self, value: Any) -> Any:
        """The value with each secret:NAME in its texts replaced."""
        if isinstance(value, dict):
            return {key: await self._filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [await self._filled(item) for item in value]
        if not isinstance(value, str):
            return value
        for name in set(SECRET_IN_TEXT.findall(value)) - self._secrets.keys():
            secret = await load_secret(name)
            self.redactor.add(secret.reveal())
            self._secrets[name] = secret
        return SECRET_IN_TEXT.sub(lambda found: self._secrets[found[1]].reveal(), value)

    # ── hops ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, hop: _Hop, client: httpx.AsyncClient, timeout: float, deadline: float) -> Answer | NoAnswer:
        spent, phases = 0.0, Phases()
        while True:
            answer = await self._exchange(hop, client, timeout - spent, deadline)
            if isinstance(answer, NoAnswer):
                return _after(answer, spent, phases)
            spent += answer.elapsed
            phases = phases + (answer.phases or Phases())
            answer = replace(answer, elapsed=spent, redirected_from=hop.came_from, phases=phases)
            location = answer.headers.get("location")
            if not self._rules.redirects or answer.status not in _REDIRECTS or location is None:
                return answer
            following = self._next_hop(hop, location)
            if isinstance(following, NoAnswer):
                return _after(following, spent, phases)
            hop = following

    def _next_hop(self, hop: _Hop, location: str) -> _Hop | NoAnswer:
        """The request to where the redirect leads, judged again; or why it is not followed, which fails the check."""
        try:
            target = str(httpx.URL(hop.url).join(location).copy_with(fragment=None))
        except (httpx.InvalidURL, ValueError):
            return NoAnswer(Outcome.FAIL, "redirects to something that is no URL")
        shown = self.redactor.url(target)
        if len(hop.came_from) == self._rules.redirects:
            return NoAnswer(Outcome.FAIL, f"redirects more than {self._rules.redirects} times, at last to {shown}")
        headers = rules.headers_for_hop(hop.headers, hop.url, target)
        began, came_from = hop.began or hop.url, (*hop.came_from, self.redactor.url(hop.url))
        verdict = rules.judge_redirect(
            hop.method, hop.url, target, headers, rules=self._rules, base_url=self._base_url, began=began
        )
        following = replace(hop, url=target, headers=headers, body=b"", came_from=came_from, began=began)
        if isinstance(verdict, Refused):
            why = self.redactor.text(f"redirects to {shown}, which is refused: {verdict.why}")
            self._record(following, self._clock(), wire.Progress(), 0.0, "", why)
            return NoAnswer(Outcome.FAIL, why)
        return _with_headers(following, verdict.headers)

    async def _exchange(
        self, hop: _Hop, client: httpx.AsyncClient, timeout: float, deadline: float
    ) -> Answer | NoAnswer:
        """One request and its answer, within `timeout` seconds from connect to last byte, and before the deadline."""
        try:
            await self.turn(deadline)
        except BudgetExhausted as late:
            return self._not_sent(hop, f"not sent: {late}")
        limit = min(timeout, deadline - time.monotonic())
        if limit <= 0:
            return self._not_sent(hop, "not sent: the time was up")
        trace_id, progress = os.urandom(16).hex(), wire.Progress()
        at, started = self._clock(), time.monotonic()
        answer: Answer | NoAnswer | None = None
        outcome, why = Outcome.FAIL, ""
        try:
            async with asyncio.timeout(limit):
                response, body = await self._talk(hop, client, trace_id, progress)
            ended = time.monotonic()
            answer = _read(response, body, ended - started, progress, ended)
        except (TimeoutError, httpcore.TimeoutException):
            ending = ", when the suite's time was up" if limit < timeout else ""
            why = f"no answer within {show_duration(round(limit, 2))}{ending} ({progress})"
        except wire.TooLong:
            why = f"answer longer than {_show_bytes(self._rules.max_body)}"
        except wire.AddressRefused as refused:
            outcome = Outcome.FAIL if hop.came_from else Outcome.ERROR
            why = f"refused: {refused}"
        except (httpcore.NetworkError, httpcore.RemoteProtocolError, wire.Undecodable, OSError) as broken:
            why = self.redactor.text(wire.describe(broken))[:200]
        except Exception as bug:  # its text might quote the request
            outcome, why = Outcome.ERROR, f"the checker itself failed ({type(bug).__name__})"
        if answer is None:
            ended = time.monotonic()
            answer = NoAnswer(outcome, why, ended - started, progress.phases(ended))
        self._record(hop, at, progress, answer.elapsed or 0.0, trace_id, why, answer.phases)
        if isinstance(answer, Answer) and answer.status in (429, 503):
            self._budget.back_off(retry_after(answer.headers, self._clock()))
        return answer

    async def _talk(
        self, hop: _Hop, client: httpx.AsyncClient, trace_id: str, progress: wire.Progress
    ) -> tuple[httpx.Response, bytes]:
        headers = {**hop.headers, "traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01"}
        request = httpx.Request(  # made by hand: the client would add headers of its own
            hop.method, hop.url, headers=headers, content=hop.body or None, extensions={"trace": progress.trace}
        )
        await progress.resolve(self._resolver, request.url)
        response = await client.send(request, stream=True)
        progress.status, progress.way = response.status_code, wire.way_of(response)
        try:
            return response, await wire.read_body(response, self._rules.max_body, progress)
        finally:
            await response.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        return wire.open_client(wire.tls_context(self._rules.ca_file, self._rules.insecure), self._resolver)

    @contextlib.asynccontextmanager
    async def _client_for(self, fresh: bool) -> AsyncIterator[httpx.AsyncClient]:
        """The run's client, or one with a connection that nobody has used and nobody will."""
        if not fresh:
            yield self._client
            return
        self._resolver.forget()
        async with self._new_client() as alone:
            yield alone

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────

    def _not_sent(self, hop: _Hop, why: str) -> NoAnswer:
        why = self.redactor.text(why)
        self._record(hop, self._clock(), wire.Progress(), 0.0, "", why)
        return NoAnswer(Outcome.ERROR, why)

    def _record(
        self,
        hop: _Hop,
        at: float,
        progress: wire.Progress,
        elapsed: float,
        trace_id: str,
        error: str,
        phases: Phases | None = None,
    ) -> None:
        record = RequestRecord(
            at=at,
            check=hop.check,
            attempt=hop.attempt,
            method=hop.method,
            url=self.redactor.url(hop.url),
            status=progress.status,
            bytes=progress.bytes,
            milliseconds=round(elapsed * 1000, 1),
            trace_id=trace_id,
            error=self.redactor.text(error),
            phases=phases,
        )
        self.records.append(record)
        self._logger.info(json.dumps(as_json(record), ensure_ascii=False))


@contextlib.asynccontextmanager
async def open_transport(
    service: Service,
    *,
    logger: Logger,
    clock: Callable[[], float] = time.time,
    budget: Budget | None = None,
) -> AsyncIterator[Transport]:
    """The transport of a run, with one TLS context, one client and the service's budget."""
    async with contextlib.AsyncExitStack() as stack:
        if budget is None:
            budget = await stack.enter_async_context(open_budget(service.service, service.rules.requests_per_second))
        transport = Transport(service, budget, logger, clock)
        stack.push_async_callback(transport.aclose)
        yield transport


async def run_check(
    transport: Transport,
    check: Check,
    conditions: Sequence[Condition],
    *,
    deadline_monotonic: float,
    clock: Callable[[], float] = time.time,
    attempt: int = 1,
) -> Attempt:
    """One attempt of a check: its request, and every condition on the answer. `why` names all that do not hold.

    No answer is a FAIL, a request that was never sent an ERROR. A pass has a `why` only if a cache answered.
    """
    at = clock()
    answer = await transport.send(check.name, attempt, check, deadline=deadline_monotonic)
    return judge_answer(answer, conditions, at, transport.redactor)


def judge_answer(answer: Answer | NoAnswer, conditions: Sequence[Condition], at: float, redactor: Redactor) -> Attempt:
    """The attempt that this answer makes, asked for at `at` (Unix seconds): every condition must hold on it."""
    if isinstance(answer, NoAnswer):
        return Attempt(answer.outcome, answer.why, at, answer.elapsed, phases=answer.phases)
    if not conditions:
        why = "the check expects nothing"
        return Attempt(Outcome.ERROR, why, at, answer.elapsed, answer.status, answer.phases)
    values = answer.names()
    judged = [condition.holds(values) for condition in conditions]
    told = [each.why for each in judged if not each.held]
    outcome = Outcome.FAIL if told else Outcome.PASS
    if told and answer.json_why and any(path[0] == "json" for condition in conditions for path in condition.paths):
        told.append(answer.json_why)
    if answer.cached:
        told.append(f"a cache answered ({answer.cached})")
    return Attempt(outcome, redactor.text("; ".join(told)), at, answer.elapsed, answer.status, answer.phases)


def _with_headers(hop: _Hop, headers: Mapping[str, str]) -> _Hop:
    return replace(hop, headers={**hop.headers, **{name.lower(): value for name, value in headers.items()}})


def _after(answer: NoAnswer, spent: float, phases: Phases) -> NoAnswer:
    """What had no answer, told with the seconds of the hops before it; one that was not even sent adds none."""
    if answer.elapsed is None and not spent:
        return answer
    return replace(answer, elapsed=spent + (answer.elapsed or 0.0), phases=phases + (answer.phases or Phases()))


def _read(response: httpx.Response, body: bytes, elapsed: float, progress: wire.Progress, ended: float) -> Answer:
    answer = read_answer(
        response.status_code,
        dict(response.headers),
        body,
        charset=response.charset_encoding or "utf-8",
        elapsed=elapsed,
        wire_bytes=progress.bytes,
        phases=progress.phases(ended),
    )
    return replace(answer, way=progress.way)


def _safe_text(wrong: Exception) -> str:
    """The text of an error that we raised ourselves; of another one only its kind, for it may quote a value."""
    ours = isinstance(wrong, SecretMissing) or type(wrong) is ValueError
    return str(wrong) if ours else f"the request cannot be written ({type(wrong).__name__})"


def _show_bytes(count: int) -> str:
    return f"{count / 1_000_000:g} MB" if count >= 1_000_000 else f"{count:,} bytes"
