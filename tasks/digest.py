"""The one message of a storm, shared by all services that tell people in the same place.

Whoever finds it out of date claims it, brings it up to date and looks once more: so that of two at once only one sends,
and the later word is what stays.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from firstwatch import spec
from firstwatch.alerting.model import packed, unpacked
from firstwatch.report import storm
from firstwatch.report.incident import IncidentReport
from firstwatch.report.model import Delivery
from firstwatch.report.storm import Channel, Digest
from tasks.slack import Line, Mark, NotDelivered, Sent
from tasks.slack_doors import Place, Webhook

_LOOKS = 5  # at a digest that others keep changing meanwhile; the next round goes on
T = TypeVar("T")


class Store(Protocol):
    """Documents that change by compare-and-set: `tasks.store`."""

    async def read(self, client: Any, key: str) -> Any | None: ...

    async def change(self, client: Any, key: str, change: Callable[[Any | None], Any]) -> Any: ...


AsTask = Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Does a piece of work as a task run of that name."""


def channel_key(slack: spec.Slack) -> str:
    """The key of the document that is shared in one place: by the names of its door, never by a secret's value."""
    names = "\n".join([slack.webhook or "", slack.token or "", slack.channel or "", slack.api_url])
    return f"slack-{hashlib.sha256(names.encode()).hexdigest()[:12]}"


def read_channel(document: Any) -> Channel:
    return Channel() if document is None else unpacked(Channel, document)


def place_text(place: Place | None) -> str:
    """A place as it is kept: `C0123456789/1700000000.000100`."""
    return f"{place.channel}/{place.ts}" if place else ""


def place_of(text: str) -> Place | None:
    channel, _, ts = text.rpartition("/")
    return Place(ts, channel) if ts else None


def mark_of(id: str, since: float, doubt: bool) -> Mark:
    """How a message is known again: by a digest of its id, which names what people call their checks."""
    return Mark(hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()[:32], since, doubt)


class Desk:
    """The channel's document, and the digest that it holds. `deadline`: monotonic, by which this round ends."""

    def __init__(
        self,
        client: Any,
        store: Store,
        alerts: spec.Alerts,
        line: Line,
        *,
        owner: str,
        clock: Callable[[], float],
        deadline: float,
        as_task: AsTask,
        url: str = "",
    ):
        assert alerts.slack is not None
        self.key, self.deliveries = channel_key(alerts.slack), list[Delivery]()
        self._client, self._store, self._policy, self._line = client, store, alerts.storm, line
        self._owner, self._clock, self._deadline, self._as_task, self._url = owner, clock, deadline, as_task, url

    async def change(self, change: Callable[[Channel], tuple[Channel, T]]) -> tuple[Channel, T]:
        """Change the channel's document; what `change` has found comes back too."""
        found: list[T] = []

        def apply(document: Any) -> Any:
            channel, said = change(read_channel(document))
            found.append(said)
            return packed(channel)

        document = await self._store.change(self._client, self.key, apply)
        return read_channel(document), found[-1]

    async def opened(self, report: IncidentReport, total: int) -> str:
        """Enter an incident that has opened; the id of the digest that it is told in, "" where it is told alone."""
        line, at = storm.service_line(report, total), report.opened_at  # however late it is told
        return (await self.change(lambda c: storm.opened(c, self._policy, report, line, at)))[1]

    async def changed(self, report: IncidentReport, total: int) -> None:
        """Enter the latest word on an incident that is told in the digest, or the end of any."""
        line, at = storm.service_line(report, total), report.closed_at
        if at is None:
            await self.change(lambda c: (storm.changed(c, report.id, line), None))
        else:
            await self.change(lambda c: (storm.closed(c, self._policy, report.id, line, at), None))

    async def learn(self, place: Place | None) -> None:
        """Keep the channel's id, by which Slack lets itself be read."""
        if place is not None and place.channel:
            await self.change(lambda c: (replace(c, id=place.channel), None))

    async def thread(self) -> str:
        """Where the digest stands, for replies to it; "" where that is not known."""
        channel = read_channel(await self._store.read(self._client, self.key))
        return channel.digest.place if channel.digest else ""

    async def keep_up(self) -> None:
        """Have people see the digest as it is, if nobody else is at it. Raises NotDelivered."""
        for _ in range(_LOOKS):
            if time.monotonic() >= self._deadline:
                return
            channel, ours = await self.change(lambda c: storm.claimed(c, self._policy, self._owner, self._clock()))
            if not ours or channel.digest is None:
                return
            await self._show(channel, channel.digest)

    async def _show(self, channel: Channel, digest: Digest) -> None:
        """Bring the claimed digest up to date, and give it back. A process that dies on the way leaves its claim, and
        with it the doubt, to the next."""
        over = storm.is_past(channel)
        try:
            digest = await self._sent(digest)
            if over:
                await self._end(digest)
        except NotDelivered as lost:
            self.deliveries.append(lost.delivery)
            doubt = lost.unclear
            await self.change(lambda c: (storm.given_back(c, self._owner, digest, doubt), None))
            raise
        await self.change(lambda c: (storm.shown(c, self._owner, digest, over), None))

    async def _sent(self, digest: Digest) -> Digest:
        """Post the digest, or update it where it stands. A webhook cannot update: it sends the digest again when it
        speaks of twice as many services."""
        message, services = storm.digest_message(list(digest.lines.values()), self._url), len(digest.lines)
        if (place := place_of(digest.place)) is not None:
            await self._done("storm", lambda: self._line.update(message, place, self._deadline))
        elif not isinstance(self._line.door, Webhook) or services >= 2 * digest.services:
            mark = self._mark(digest, digest.id)
            sent = await self._done("storm", lambda: self._line.post(message, None, mark, self._deadline))
            digest = replace(digest, place=place_text(sent.place), services=services, doubt=False)
            if sent.found:  # it says what was known when it was sent
                return await self._sent(digest)
        return digest

    async def _end(self, digest: Digest) -> None:
        over = storm.storm_over(list(digest.lines.values()), self._url)
        mark = self._mark(digest, f"{digest.id}/over")
        await self._done("storm over", lambda: self._line.post(over, place_of(digest.place), mark, self._deadline))

    def _mark(self, digest: Digest, id: str) -> Mark:
        return mark_of(id, min(line.opened_at for line in digest.lines.values()), digest.doubt)

    async def _done(self, label: str, work: Callable[[], Awaitable[Any]]) -> Any:
        done = await self._as_task(label, work)
        self.deliveries.append(Delivery(label, True, done.tries if isinstance(done, Sent) else 1))
        return done
