"""Tell people, in Slack: one thread a release. A message that cannot be delivered changes nothing but its own record.

Every delivery is a task run of its own, so that a lost message is seen in the UI; `tell` never raises.
A message may arrive twice (its answer was lost, and it was sent again): Slack has no key against that. One with a mark
is looked for before it is sent again (`tasks.deliver` gives one to each).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import URLError

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.tasks import Task
from slack_sdk.errors import SlackClientError

from firstwatch import spec
from firstwatch.redaction import Redactor, Secret
from firstwatch.report.messages import Message, render
from firstwatch.report.model import Delivery, map_text
from firstwatch.report.text import plain
from tasks.counts import ALERTS
from tasks.slack_doors import Bot, Closed, Door, Place, Refused, TryAgain, Unknowable, Webhook, marked

TOTAL = 10.0  # seconds that one delivery may take, with all its tries
_ONE_TRY = 5.0  # seconds of it for a single try
_PAUSES = (0.5, 1.0, 2.0)  # seconds between tries; the last one repeats

LoadSecret = Callable[[str], Awaitable[Secret]]
T = TypeVar("T")


class NotDelivered(Exception):
    """All tries failed. `worth_retrying`: another round may succeed; `unclear`: Slack may have the message."""

    def __init__(self, delivery: Delivery, *, worth_retrying: bool, unclear: bool = False):
        super().__init__(f"{delivery.message}: {delivery.error}")
        self.delivery = delivery
        self.worth_retrying = worth_retrying
        self.unclear = unclear


# ── a door, and the manners to use it with ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Mark:
    """How a message is known again. `since`: Unix seconds before which it cannot have been sent; `unclear`: it may have
    been sent before, and is looked for first."""

    id: str
    since: float
    unclear: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that Slack has: where it stands (None: a webhook does not tell), after how many tries and what trouble
    with them. `thread`: the message that it replies to. `found`: it was there already, and reads as it did then;
    `repeat`: it may have been sent before, which Slack did not tell."""

    place: Place | None
    tries: int
    trouble: str = ""
    thread: str | None = None
    found: bool = False
    repeat: bool = False


class Line:
    """A door, used as Slack wants it: several tries, pauses, its Retry-After; and with no secret in what is said."""

    def __init__(self, door: Door, redactor: Redactor):
        self.door = door
        self._redactor = redactor
        self._not_before = 0.0  # monotonic: until then, Slack does not want to hear from us

    @classmethod
    async def open(cls, slack: spec.Slack, load_secret: LoadSecret, redactor: Redactor, channel_id: str = "") -> Line:
        """The door that the service file asks for. A secret that is missing is told by each delivery."""
        try:
            secret = await load_secret(slack.webhook or slack.token or "")
        except Exception as missing:
            return cls(Closed(plain(redactor.text(str(missing)))), redactor)
        redactor.add(secret.reveal())
        if slack.webhook:
            return cls(Webhook(secret), redactor)
        return cls(Bot(secret, slack.channel or "", slack.api_url, channel_id), redactor)

    async def post(
        self,
        message: Message,
        thread: Place | str | None = None,
        mark: Mark | None = None,
        deadline: float | None = None,
    ) -> Sent:
        """Send, with several tries until `deadline` (monotonic; left out: TOTAL seconds from now).

        Raises NotDelivered.
        """
        post = _Post(self, message, thread, mark)
        try:
            place, tries, why = await self._try(message.kind, post.once, deadline)
        except NotDelivered as lost:
            lost.unclear = post.unclear
            ALERTS.labels(message.kind.split()[0], "no").inc()
            raise
        ALERTS.labels(message.kind.split()[0], "yes").inc()
        return Sent(place, tries, why, post.thread_ts, post.found, post.repeat)

    async def update(self, message: Message, place: Place, deadline: float | None = None) -> bool:
        """Have a message of ours read otherwise; False where the door cannot. Raises NotDelivered."""
        payload = self.payload(message)

        async def once(timeout: float) -> bool:
            return await self.request(timeout, self.door.update, place, payload)

        return (await self._try(message.kind, once, deadline))[0]

    def payload(self, message: Message) -> dict[str, Any]:
        """The message as Slack takes it, redacted before and after it is rendered."""
        rendered: dict[str, Any] = map_text(render(map_text(message, self._redactor.text)), self._redactor.text)
        return rendered

    async def _try(
        self, kind: str, once: Callable[[float], Awaitable[T]], deadline: float | None
    ) -> tuple[T, int, str]:
        """What `once` gives, after how many tries, and what was wrong with the last of those that failed."""
        deadline = time.monotonic() + TOTAL if deadline is None else deadline
        why = ""
        for tried, pause in enumerate(itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1]))):
            wait = self._not_before - time.monotonic()
            if time.monotonic() + max(wait, 0) >= deadline:
                why = why or (f"Slack asks us to wait {wait:.0f} s more" if wait > 0 else "there was no time left")
                raise NotDelivered(Delivery(kind, False, tried, why), worth_retrying=True)
            await asyncio.sleep(max(wait, 0))
            try:
                return await once(min(_ONE_TRY, deadline - time.monotonic())), tried + 1, why
            except TryAgain as problem:
                why = plain(self._redactor.text(str(problem)))
                self._not_before = time.monotonic() + (pause if problem.after is None else problem.after)
            except (Refused, _Enough) as problem:
                why = plain(self._redactor.text(str(problem)))
                worth = isinstance(problem, _Enough)
                raise NotDelivered(Delivery(kind, False, tried + 1, why), worth_retrying=worth) from None
        raise AssertionError("the tries never end by themselves")

    async def request(self, timeout: float, ask: Callable[..., T], *arguments: Any) -> T:
        """One request of the door's. The message of an error is not passed on where it may hold the URL."""
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.to_thread(ask, *arguments, timeout)
        except TimeoutError:
            raise TryAgain(f"Slack did not answer within {timeout:.0f} s", unclear=True) from None
        except URLError as problem:
            unclear = isinstance(problem.reason, BrokenPipeError | ConnectionResetError | TimeoutError)
            raise TryAgain(f"Slack cannot be reached: {problem.reason}", unclear=unclear) from None
        except (OSError, HTTPException) as problem:
            raise TryAgain(f"the connection to Slack broke ({type(problem).__name__})", unclear=True) from None
        except (SlackClientError, ValueError, KeyError) as problem:
            raise Refused(f"Slack's address or answer is not usable ({type(problem).__name__})") from None


class _Enough(Exception):
    """No more tries now: each of them may be one more message."""


class _Post:
    """A message on its way, and what the tries so far have taught about it."""

    def __init__(self, line: Line, message: Message, thread: Place | str | None, mark: Mark | None):
        self._line, self._message, self._mark = line, message, mark
        self._thread = thread if isinstance(thread, Place) else None
        self.thread_ts = thread.ts if isinstance(thread, Place) else thread
        self.unclear = mark is not None and mark.unclear
        self.found = self.repeat = False
        self._bare = False

    async def once(self, timeout: float) -> Place | None:
        if self._mark and self.unclear and not self.repeat and (there := await self._look(self._mark, timeout)):
            self.found = True
            return there
        try:
            return await self._line.request(
                timeout, self._line.door.post, self._payload(), self.thread_ts, self._message.broadcast
            )
        except TryAgain as problem:
            self.unclear = self.unclear or problem.unclear
            if self.repeat and problem.unclear:
                raise _Enough(str(problem)) from None
            raise
        except Refused as problem:
            if not problem.shape or self._bare:
                raise
            self._bare, self.thread_ts = True, None  # better plain than not at all
            raise TryAgain(str(problem), 0.0) from None

    async def _look(self, mark: Mark, timeout: float) -> Place | None:
        """The message, if Slack has it. Where it does not tell, better twice than never, and said so."""
        try:
            there = await self._line.request(timeout, self._line.door.find, mark.id, mark.since, self._thread)
        except Unknowable:
            self.repeat = True
            return None
        self.unclear = False
        return there

    def _payload(self) -> dict[str, Any]:
        title = f"{self._message.title} (may be a repeat)" if self.repeat else self._message.title
        payload = self._line.payload(dataclasses.replace(self._message, title=title))
        if self._bare:
            payload = {"text": payload["text"]}
        return marked(payload, self._mark.id) if self._mark else payload


# ── the thread of a release ──────────────────────────────────────────────────────────────────────────────────


class Thread:
    """The messages of one release, in order. `ts` is the first one's timestamp, under which the others are replies:
    keep it, and give it back after a restart. None: nothing was sent yet, or there are no threads (a webhook)."""

    def __init__(self, door: Door, redactor: Redactor, ts: str | None = None):
        self.ts = ts
        self._line = Line(door, redactor)
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    async def open(
        cls, slack: spec.Slack, load_secret: LoadSecret, redactor: Redactor, ts: str | None = None
    ) -> Thread:
        """The thread that the service file asks for. A secret that is missing is told by each delivery."""
        return cls((await Line.open(slack, load_secret, redactor)).door, redactor, ts)

    async def send(self, message: Message) -> Delivery:
        """Deliver, with several tries in at most TOTAL seconds. Raises NotDelivered."""
        async with self._one_at_a_time:
            try:
                sent = await self._line.post(message, self.ts)
            except NotDelivered as lost:
                lost.delivery = dataclasses.replace(lost.delivery, ts=self.ts)
                raise
            self.ts = sent.thread or (sent.place.ts if sent.place else None)
            return Delivery(message.kind, True, sent.tries, sent.trouble, self.ts)


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────────


async def _worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    problem = await state.aresult(raise_on_failure=False)
    return isinstance(problem, NotDelivered) and problem.worth_retrying


@task(
    name="slack",
    task_run_name="slack: {message.kind}",
    retries=1,
    retry_delay_seconds=3,
    retry_condition_fn=_worth_another_try,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def deliver(message: Message, thread: Thread) -> Delivery:
    """One message as a task run. Raises NotDelivered."""
    return await thread.send(message)


async def tell(thread: Thread | None, message: Message) -> Delivery | None:
    """Deliver and go on, whatever comes of it; what came of it is logged and returned, for the report.
    None where nobody wants to be told."""
    if thread is None:
        return None
    try:
        return await deliver(message, thread)
    except NotDelivered as lost:
        delivery = lost.delivery
    except Exception as problem:  # the task itself could not run: Prefect's server is away
        delivery = Delivery(message.kind, False, 0, f"it could not be sent ({type(problem).__name__})", thread.ts)
    log().warning("Slack message %r was not delivered: %s", delivery.message, delivery.error)
    return delivery


def log() -> Any:
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("firstwatch.slack")
