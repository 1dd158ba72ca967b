"""Empty the outbox of a service's alerts into Slack: one thread an incident, whose top message is brought up to date.

What is to be told waits in the service's document, and leaves it once Slack has it: a message that cannot be delivered
now is delivered by a later round. Of two rounds at once only one sends, as each notice is claimed first. After a crash
between sending and recording, Slack is asked whether it has the message; where that cannot be known it is sent again,
and says that it may be a repeat.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext

from firstwatch.alerting import outbox
from firstwatch.alerting.model import Notice, NoticeKind
from firstwatch.alerting.outbox import Entry
from firstwatch.redaction import Redactor
from firstwatch.report import told
from firstwatch.report.incident import fingerprint, top
from firstwatch.report.messages import Message
from firstwatch.report.model import Delivery
from firstwatch.report.notices import label, reply
from firstwatch.report.told import Book, Told, read_book, written
from firstwatch.spec import Service
from tasks import slack
from tasks.digest import Desk, Store, channel_key, mark_of, place_of, place_text, read_channel
from tasks.slack import Line, LoadSecret, NotDelivered, Sent
from tasks.slack_doors import Closed, Webhook
from tasks.store import alerts_key

_MOST = 100  # notices that one round delivers
_LEAST_TIME = 0.2  # seconds that must be left of a round for another message to be begun
_CALM = 120.0  # seconds for which a channel that was found without a storm is left alone by those with nothing to tell
# too little for a message that stands alone
_BY_WEBHOOK_SILENT = (NoticeKind.REOPENED, NoticeKind.IMPROVED, NoticeKind.STEADY)
_IN_A_STORM_TOLD = (NoticeKind.WORSENED, NoticeKind.REMINDER, NoticeKind.DIGEST)  # the digest's lines say the rest
T = TypeVar("T")
_no_storm: dict[tuple[str, str], float] = {}  # API, channel → when it had none (Unix seconds)


async def deliver_outbox(
    client: Any,
    service: Service,
    redactor: Redactor,
    load_secret: LoadSecret,
    *,
    owner: str,
    clock: Callable[[], float],
    store: Store,
    flow_run_url: str | None = None,
    report_url: str = "",
    book: Book | None = None,
) -> list[Delivery]:
    """Send what waits, for about `tasks.slack.TOTAL` seconds at most; what became of each message comes back.

    `owner` names this process: nobody else may use the name. `book` is what the caller knows of the service's document;
    left out, it is read. Raises what the store raises, and nothing for Slack.
    """
    if service.alerts.slack is None:
        return []
    if book is None:
        book = read_book(await store.read(client, alerts_key(service.service)), service.service)
    waits, now = bool(book.outbox.entries or book.told), clock()
    place = str(getattr(client, "api_url", "")), channel_key(service.alerts.slack)
    if not waits and 0 <= now - _no_storm.get(place, float("-inf")) < _CALM:
        return []
    channel = read_channel(await store.read(client, place[1]))
    if channel.digest is None:
        _no_storm[place] = now
        if not waits:
            return []
    line = await Line.open(service.alerts.slack, load_secret, redactor, channel.id)
    if isinstance(line.door, Closed):
        return _kept(book, line.door.why)
    url = str(runtime.flow_run.ui_url or "") if flow_run_url is None else flow_run_url
    work = _Round(client, service, line, owner, clock, store, url, report_url, channel.id)
    await work.empty()
    await work.refresh()
    await work.keep_up()
    return [*work.deliveries, *work.desk.deliveries]


def _kept(book: Book, why: str) -> list[Delivery]:
    """There is no way in: all stays in the outbox, and the run says so."""
    for entry in book.outbox.entries:
        slack.log().warning("Slack message %r waits: %s", label(entry.notice), why)
    return [Delivery(label(entry.notice), False, 0, why) for entry in book.outbox.entries]


class _Round:
    """One round of delivering, by one process."""

    def __init__(
        self,
        client: Any,
        service: Service,
        line: Line,
        owner: str,
        clock: Callable[[], float],
        store: Store,
        flow_run_url: str,
        report_url: str,
        channel_id: str,
    ):
        self.deliveries: list[Delivery] = []
        self._name, self._key = service.service, alerts_key(service.service)
        self._client, self._line, self._owner, self._clock, self._store = client, line, owner, clock, store
        self._urls, self._channel_id = (flow_run_url, report_url), channel_id
        self._by_webhook = isinstance(line.door, Webhook)
        self._deadline = time.monotonic() + slack.TOTAL
        self.desk = Desk(
            client,
            store,
            service.alerts,
            line,
            owner=owner,
            clock=clock,
            deadline=self._deadline,
            as_task=_as_task,
            url=flow_run_url,
        )

    async def empty(self) -> None:
        """Deliver what waits, each incident's notices in their order, while there is time."""
        for _ in range(_MOST):
            if not self._has_time():
                return
            book, claimed = await self._change(self._claimed)
            if not claimed:
                return
            await self._deliver(book, claimed[0])

    def _has_time(self) -> bool:
        return time.monotonic() < self._deadline - _LEAST_TIME

    def _claimed(self, book: Book) -> tuple[Book, tuple[Entry, ...]]:
        kept, mine = outbox.claim(book.outbox, self._owner, self._clock(), most=1)
        return replace(book, outbox=kept), mine

    async def _change(self, change: Callable[[Book], tuple[Book, T]]) -> tuple[Book, T]:
        """Change the service's document; what `change` has found comes back too."""
        found: list[T] = []

        def apply(document: Any) -> Any:
            book, said = change(read_book(document, self._name))
            found.append(said)
            return written(document, book)

        document = await self._store.change(self._client, self._key, apply)
        return read_book(document, self._name), found[-1]

    # ── one notice ───────────────────────────────────────────────────────────────────────────────────────────

    async def _deliver(self, book: Book, entry: Entry) -> None:
        """Send a claimed notice, and record what became of it."""
        outcome, known, thread = outbox.Delivery.FAILED, told.with_notice(book, entry.notice), ""
        try:
            known, thread = await self._told(book, entry, known)
            outcome = outbox.Delivery.OK
        except NotDelivered as lost:
            self._note(lost.delivery)
            outcome = outbox.Delivery.UNKNOWN if lost.unclear else outbox.Delivery.FAILED
        now = self._clock()
        await self._change(
            lambda b: (told.settled(b, entry, self._owner, outcome, now, known, thread), None),
        )

    async def _told(self, book: Book, entry: Entry, known: Told | None) -> tuple[Told | None, str]:
        """Tell a notice as it is due: alone, at the top of a thread, in it, or in a storm's digest.

        Returns its incident as people know it then, and where its thread is. Raises NotDelivered.
        """
        notice, shown = entry.notice, told.context(book, *self._urls)
        if known is None or _is_past(book, notice, known):
            await self._send(entry, reply(notice, None, shown), "")
            return None, ""
        if notice.first:
            known = replace(known, digest=await self.desk.opened(known.report, shown.total))
        if known.digest:
            await self._told_in_storm(book, entry, known)
            return known, ""
        if notice.last:
            await self.desk.changed(known.report, shown.total)
        thread = book.outbox.threads.get(notice.incident, "")
        if notice.first:
            message = replace(top(known.report, shown), kind=label(notice))
            sent = await self._send(entry, message, "")
            return replace(known, shown="" if sent.found else fingerprint(message)), place_text(sent.place)
        if not self._by_webhook or self._is_told_by_webhook(notice):
            await self._send(entry, reply(notice, known.report, shown), thread)
        return known, ""

    def _is_told_by_webhook(self, notice: Notice) -> bool:
        return notice.kind not in _BY_WEBHOOK_SILENT and (notice.kind is not NoticeKind.CLOSED or notice.last)

    async def _told_in_storm(self, book: Book, entry: Entry, known: Told) -> None:
        """The digest says how the service is; what people must hear of all the same replies to it."""
        shown, notice = told.context(book, *self._urls), entry.notice
        await self.desk.changed(known.report, shown.total)
        await self.desk.keep_up()
        if notice.kind in _IN_A_STORM_TOLD and not notice.first:
            await self._send(entry, reply(notice, known.report, shown), await self.desk.thread())

    async def _send(self, entry: Entry, message: Message, thread: str) -> Sent:
        """Post one message as a task run. Raises NotDelivered."""
        notice = entry.notice
        mark = mark_of(notice.id, notice.at, entry.doubt)
        sent: Sent = await _as_task(
            message.kind, lambda: self._line.post(message, place_of(thread), mark, self._deadline)
        )
        ts = sent.thread or (sent.place.ts if sent.place else None)
        self.deliveries.append(Delivery(message.kind, True, sent.tries, sent.trouble, ts))
        if sent.place is not None and sent.place.channel != self._channel_id:
            self._channel_id = sent.place.channel
            await self.desk.learn(sent.place)
        return sent

    def _note(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        slack.log().warning("Slack message %r was not delivered: %s", delivery.message, delivery.error)

    # ── what stands in Slack already ─────────────────────────────────────────────────────────────────────────

    async def refresh(self) -> None:
        """Bring the top messages of incidents up to date, and forget those that are over."""
        book = read_book(await self._store.read(self._client, self._key), self._name)
        for incident, known in book.told.items():
            over = told.current(book, incident, self._clock()).report.closed_at is not None
            if (
                over and known.report.closed_at is None
            ):  # its end is not told: the ledger has to hear of it all the same
                now = told.current(book, incident, self._clock())
                await self.desk.changed(now.report, len(book.state.checks))
            if over or not told.is_shown(book, incident, self._clock()):
                await self._show(book, incident)

    async def _show(self, book: Book, incident: str) -> None:
        """Have people see an incident as it is. What cannot be shown now is tried again by the next round."""
        current = told.current(book, incident, self._clock())
        name = f"update {self._name}"
        message = replace(top(current.report, told.context(book, *self._urls)), kind=name)
        place = place_of(book.outbox.threads.get(incident, ""))
        if place is not None and not current.digest and fingerprint(message) != current.shown:
            try:
                if not self._has_time():
                    return
                await _as_task(name, lambda: self._line.update(message, place, self._deadline))
            except NotDelivered as lost:
                self._note(lost.delivery)
                if lost.worth_retrying:
                    return
            else:
                self.deliveries.append(Delivery(name, True, 1, "", place.ts))
        seen = replace(current, shown=fingerprint(message))
        await self._change(lambda b: (told.after_showing(b, incident, seen) if incident in b.told else b, None))

    async def keep_up(self) -> None:
        """Bring a storm's digest up to date, whoever has joined it."""
        try:
            await self.desk.keep_up()
        except NotDelivered as lost:
            slack.log().warning("Slack message %r was not delivered: %s", lost.delivery.message, lost.delivery.error)


def _is_past(book: Book, notice: Notice, known: Told) -> bool:
    """Outages that were joined, and are over before anybody was told of them: there is nothing to bring up to date."""
    return bool(notice.lines) and known.report.closed_at is not None and notice.incident not in book.told


# ── the task ─────────────────────────────────────────────────────────────────────────────────────────────────


@task(name="slack", task_run_name="slack: {label}", cache_policy=NO_CACHE, persist_result=False)
async def _task(label: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """One message, as people see it in the run. There are no retries: the next round is one."""
    return await work()


async def _as_task(label: str, work: Callable[[], Awaitable[Any]]) -> Any:
    """Do `work` as a task run, where there is a run that it belongs to."""
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return await work()
    return await _task(label, work)
