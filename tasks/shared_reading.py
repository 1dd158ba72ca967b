"""All that a process asks of one Prometheus, with the same credentials: few requests for many askers.

A request goes at once if few are under way; what is asked meanwhile waits, and then goes together as
firstwatch.batching plans it. Nobody waits for others to come. A merged request that is refused decides nothing: its
members ask again, each alone. Who leaves takes nobody's answer away.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from contextvars import Context
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.util.retry import Retry

from firstwatch.batching import FEW, Appetite, Asked, Batch, alone, plan, split
from firstwatch.kept import Kept
from firstwatch.series import RawSeries
from firstwatch.units import show_duration
from tasks.access import Access
from tasks.prometheus_answers import all_series
from tasks.prometheus_session import BoundedSession, Refusal, TooSlow, as_it_is, in_thread
from tasks.prometheus_turns import AT_ONCE_UNHURRIED, Turns, turns_at

# A store that is missing makes the answer an error rather than a part of the truth (Thanos, VictoriaMetrics).
WHOLE = {"partial_response": "false", "deny_partial_response": "1"}
_PLANNED = 500  # questions that are planned at a time; the next come when these are under way
_SHARE = 0.6  # of the time that is left: what a merged request may take, so that its members can still ask alone
_GRACE = 0.05  # seconds after its end that an asker leaves: what was sent ends by then, and says why

T = TypeVar("T")


class Apart(Exception):
    """A merged request came to nothing: the question is to be asked alone."""


@dataclass
class Patience:
    """Until when (of the monotonic clock) an asker waits, and how many seconds one request may take.

    `unhurried`: there is no look to come, and waiting for a turn is not counted.
    """

    ends: float
    timeout: float
    unhurried: bool = False

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()


@dataclass(eq=False)
class _Question:
    """One question, of as many askers as ask it. `asked` are raw samples; `work` is anything else, given a timeout."""

    key: Hashable
    patience: Patience
    asked: Asked | None = None
    work: Callable[[float], Any] | None = None
    alone: bool = True
    askers: int = 0
    came: float = field(default_factory=time.monotonic)
    sent: float | None = None
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, result: Any, failure: BaseException | None) -> None:
        if self.answer.done():
            return
        if failure is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(failure)
            self.answer.exception()  # perhaps nobody is left to be told: no complaint about that


@dataclass(frozen=True)
class _Request:
    """One HTTP request that is about to go, and the questions that it answers. `batch`: the query for several."""

    questions: tuple[_Question, ...]
    batch: Batch | None = None

    @property
    def merged(self) -> bool:
        return len(self.questions) > 1

    @property
    def timeout(self) -> float:
        """Seconds. The most patient asker's, as a rule all have the same; others leave by themselves."""
        left = [min(q.patience.timeout, q.patience.left) for q in self.questions]
        return max(0.001, _SHARE * min(left) if self.merged else max(left))


class Reader:
    """The one door to a Prometheus for all in this event loop who are let in the same way. See `reader_for`."""

    def __init__(self, url: str, access: Access) -> None:
        self.loop = asyncio.get_running_loop()
        self.users = 0
        self.where = f"Prometheus at {urlsplit(url).netloc}"
        self.session = BoundedSession(self.where)
        self.session.verify = access.ca_file or not access.insecure
        self.server = PrometheusConnect(
            url,
            headers=access.plain_headers(),
            auth=HTTPBasicAuth(access.basic[0], access.basic[1].reveal()) if access.basic else as_it_is,
            retry=Retry(0, read=False),
            session=self.session,
        )
        self.session.mount(url, HTTPAdapter(pool_maxsize=AT_ONCE_UNHURRIED, max_retries=Retry(0, read=False)))
        self._turns: Turns = turns_at(url, self.where)
        self._redactor = access.redactor()
        self.known: dict[Hashable, Kept] = {}  # what is the same for all who ask
        self._appetite = Appetite()
        self._waiting: dict[_Question, None] = {}  # in the order in which they came
        self._open: dict[Hashable, _Question] = {}  # what one may still join
        self._pump: asyncio.Task[None] | None = None
        self._flights: set[asyncio.Task[Any]] = set()

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────

    async def samples(self, asked: Asked, patience: Patience, *, apart: bool = False) -> list[RawSeries]:
        """Raw samples, merged with what others ask unless `apart`. Raises Refusal, and Apart (not if `apart`).

        What was sent before is not joined: who asks now wants what is known now.
        """
        return cast(
            list[RawSeries],
            await self._answer((asked, apart), patience, lambda key: _Question(key, patience, asked, alone=apart)),
        )

    async def result(self, key: Hashable, work: Callable[[float], T], patience: Patience) -> T:
        """What `work` brings, called in a thread with a timeout; the same `key` under way is joined. Raises Refusal."""
        return cast(T, await self._answer(key, patience, lambda key: _Question(key, patience, work=work)))

    async def _answer(self, key: Hashable, patience: Patience, made: Callable[[Hashable], _Question]) -> Any:
        if (refusal := self._turns.hopeless(patience.ends)) is not None:
            raise refusal
        question = self._open.get(key)
        if question is None:
            question = self._open[key] = made(key)
            self._waiting[question] = None
            self._start()
        question.askers += 1
        if question.patience.ends < patience.ends:
            question.patience = patience
        try:
            async with asyncio.timeout(None if patience.unhurried else max(0.0, patience.left) + _GRACE):
                return await asyncio.shield(question.answer)
        except TimeoutError:
            raise self._too_late(question) from None
        finally:
            question.askers -= 1
            if not question.askers and question.sent is None:
                self._waiting.pop(question, None)
                self._forget(question)

    def _too_late(self, question: _Question) -> Refusal:
        now = time.monotonic()
        if question.sent is not None:
            return TooSlow(self.where, now - question.sent)
        if (trouble := self._turns.trouble()) is not None:
            return trouble
        waited = show_duration(round(now - question.came, 1))
        return Refusal(f"{self.where} was not asked within {waited}: {self._turns.under_way} requests were under way")

    def _forget(self, question: _Question) -> None:
        if self._open.get(question.key) is question:
            del self._open[question.key]

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        """Tasks of all, in nobody's context: a run's log and name are its own."""
        if self._pump is None or self._pump.done():
            self._pump = self.loop.create_task(self._serve(), context=Context())

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # those who come together go together
        try:
            await self._serve_the_waiting()
        except Exception as problem:  # nobody must wait for what will not come
            for question in list(self._waiting):
                self._drop(question, problem)

    async def _serve_the_waiting(self) -> None:
        while self._waiting:
            free = self._turns.free(self._is_unhurried())
            if not free:
                self._refuse_the_hopeless()
                if self._waiting:
                    await self._turns.change()
                continue
            for request in self._planned(free):
                self._send(request)

    def _is_unhurried(self) -> bool:
        """Whether a backtest is waiting. Those who ask a live window's questions are many, and none of them is."""
        return any(q.patience.unhurried for q in islice(self._waiting, _PLANNED))

    def _refuse_the_hopeless(self) -> None:
        if not self._turns.breaker.open:  # as a rule: and many may be waiting
            return
        for question in list(self._waiting):
            if (refusal := self._turns.hopeless(question.patience.ends)) is not None:
                self._drop(question, refusal)

    def _drop(self, question: _Question, failure: Exception) -> None:
        self._waiting.pop(question)
        self._forget(question)
        question.settle(None, failure)

    def _planned(self, most: int) -> list[_Request]:
        """The next requests, those of who came first; where the server is being tried out, the first question alone."""
        waiting = list(islice(self._waiting, 1 if self._turns.breaker.open else _PLANNED))
        requests, groups = list[_Request](), defaultdict[int, dict[Asked, _Question]](dict)
        for q in waiting:
            if q.asked is None or q.alone or self._appetite.most <= 1:
                requests.append(_Request((q,)))
            else:  # together only who has about as much time left
                groups[_urgency(q.patience.left)][q.asked] = q
        for group in groups.values():
            batches = plan(group, self._appetite.most)
            requests += [_Request(tuple(group[member] for member in batch.members), batch) for batch in batches]
        requests.sort(key=lambda request: min(q.came for q in request.questions))
        return requests[:most]

    def _send(self, request: _Request) -> None:
        tried, now = self._turns.begin(), time.monotonic()
        for question in request.questions:
            question.sent = now
            self._waiting.pop(question)
            if question.asked is not None:
                self._forget(question)
            if question.patience.unhurried and not tried:
                question.patience.ends += now - question.came
        flight = self.loop.create_task(self._fly(request), context=Context())
        self._flights.add(flight)
        flight.add_done_callback(lambda done: self._landed(request, tried, done), context=Context())

    async def _fly(self, request: _Request) -> Any:
        """One HTTP request, whoever of its askers stays to hear of it. Raises Refusal."""
        timeout = request.timeout
        try:
            async with asyncio.timeout(timeout):
                return await in_thread(lambda: self._work(request, timeout))
        except TimeoutError:
            raise TooSlow(self.where, timeout, max(q.patience.timeout for q in request.questions)) from None

    def _landed(self, request: _Request, tried: bool, flight: asyncio.Task[Any]) -> None:
        self._flights.discard(flight)
        if flight.cancelled():
            self._turns.abandon(tried=tried)
            self._settle(request, None, Refusal(f"{self.where} is not asked any more"))
            return
        failure = flight.exception()
        self._turns.end(failure, tried=tried, why=self._redactor.text(str(failure)) if failure else "")
        self._settle(request, None if failure else flight.result(), failure)

    def _work(self, request: _Request, timeout: float) -> Any:
        """In a thread: the request, and all that is to be done with its answer."""
        first = request.questions[0]
        if first.work is not None:
            return first.work(timeout)
        assert first.asked is not None
        batch = request.batch or alone(first.asked)
        answer = self.server.custom_query(batch.promql, params={"time": batch.at, **WHOLE}, timeout=timeout)
        return split(batch, all_series(answer))

    def _settle(self, request: _Request, result: Any, failure: BaseException | None) -> None:
        if request.questions[0].asked is not None:
            self._learn(request, result, failure)
        unmet = isinstance(failure, Refusal) and failure.unmet  # then alone it would be no better
        # Where a query for many took too long, one for each of them would take longer: fewer go together next time.
        late = isinstance(failure, TooSlow) and len(request.questions) > FEW
        told = Apart() if failure is not None and request.merged and not unmet and not late else failure
        for question in request.questions:
            self._forget(question)
        self._hand_out(deque(request.questions), result, told)

    def _hand_out(self, questions: deque[_Question], result: Any, failure: BaseException | None) -> None:
        """One in each turn of the loop: what they do with it takes milliseconds, and others want their turns too."""
        question = questions.popleft()
        question.settle(result[question.asked] if failure is None and question.asked is not None else result, failure)
        if questions:
            self.loop.call_soon(self._hand_out, questions, result, failure, context=Context())

    def _learn(
        self, request: _Request, result: dict[Asked, list[RawSeries]] | None, failure: BaseException | None
    ) -> None:
        """How many may go into one query. One that had not the usual time says nothing of that."""
        members = len(request.questions)
        if result is not None:
            samples = sum(len(series.at) for found in result.values() for series in found)
            self._appetite = self._appetite.answered(members, samples)
        elif isinstance(failure, TooSlow):
            usual = _SHARE * min(q.patience.timeout for q in request.questions)
            if request.merged and failure.seconds >= usual - 1e-6:
                self._appetite = self._appetite.slowed(members)
        elif request.merged and failure is not None:
            self._appetite = self._appetite.refused(members)

    # ── its end ──────────────────────────────────────────────────────────────────────────────────────────────

    def release(self) -> None:
        """One user less; with the last one it ends."""
        self.users -= 1
        if self.users > 0 or self.loop.is_closed():
            return
        for task in [*self._flights, *([self._pump] if self._pump is not None else [])]:
            task.cancel()
        self.session.close()


def _urgency(left: float) -> int:
    """The same for times that differ by no more than a factor of two."""
    return max(1, round(left * 1000)).bit_length()


# ── one for all ──────────────────────────────────────────────────────────────────────────────────────────────

_lock = threading.Lock()  # event loops of several threads ask
_readers: WeakValueDictionary[tuple[int, str, bytes], Reader] = WeakValueDictionary()


def reader_for(url: str, access: Access) -> Reader:
    """The running event loop's reader for that server (its URL without a user) and these credentials.

    `release` it in the end. Never one for two different credentials: with others one may see other series.
    """
    loop = asyncio.get_running_loop()
    key = (id(loop), url, _fingerprint(access))
    with _lock:
        reader = _readers.get(key)
        if reader is None or reader.loop is not loop or reader.users < 1:
            reader = _readers[key] = Reader(url, access)
        reader.users += 1
        return reader


def _fingerprint(access: Access) -> bytes:
    """All that decides how one is let in; not to be read back."""
    basic = [access.basic[0], access.basic[1].reveal()] if access.basic else None
    parts = [sorted(access.plain_headers().items()), basic, access.ca_file, access.insecure]
    return hashlib.sha256(json.dumps(parts).encode()).digest()
