"""What is written about a storm (many services at once), and what the services that tell people in the same place share
of it: the ledger, and the digest with who is at it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from firstwatch.alerting.outbox import holds
from firstwatch.alerting.storm import Ledger, Way, ended, settled, storm
from firstwatch.report.incident import IncidentReport, clock, fingerprint, lasted, names_of, standing
from firstwatch.report.messages import Message
from firstwatch.report.text import count, plain
from firstwatch.spec.alerts import Storm


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """One service in the digest of a storm."""

    service: str
    words: str
    opened_at: float
    closed_at: float | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """A storm's one message: what it says of each incident, and what is known of its delivery. `place`: where it
    stands; `shown`: the fingerprint of what people see there, and of how many services."""

    id: str
    lines: Mapping[str, ServiceLine] = field(default_factory=dict)
    place: str = ""
    shown: str = ""
    services: int = 0
    by: str = ""  # who is at it
    claimed_at: float | None = None
    doubt: bool = False  # an earlier try may have arrived

    @property
    def over(self) -> bool:
        return all(line.closed_at is not None for line in self.lines.values())


@dataclass(frozen=True, slots=True)
class Channel:
    """What is shared by all services that tell people in one place. `id`: as Slack names it."""

    ledger: Ledger = field(default_factory=Ledger)
    digest: Digest | None = None
    id: str = ""


# ── what the digest says ─────────────────────────────────────────────────────────────────────────────────────


def service_line(report: IncidentReport, total: int) -> ServiceLine:
    """The incident in one line: how it is, which checks, and why the worst of them."""
    mark, words = standing(report, total)
    still = report.open_lines
    why = f": {names_of([line.check for line in still])} ({plain(still[0].why, 150)})" if still else ""
    return ServiceLine(report.service, f"{mark} {words}{why}", report.opened_at, report.closed_at)


def digest_message(lines: Sequence[ServiceLine], url: str = "") -> Message:
    """Many services at once, as one message that is brought up to date."""
    still = [line for line in lines if line.closed_at is None]
    worst_first = [*still, *(line for line in lines if line.closed_at is not None)]
    services, began = count(len(lines), "service"), min((line.opened_at for line in lines), default=0.0)
    if still:
        of = f"{len(still)} of {services}" if len(still) < len(lines) else services
        title = f"🔴 {of}: {names_of([line.service for line in still])}"
        text = f"Since {clock(began)}. They are told together, as so many failed at once."
    else:
        last = max((line.closed_at or began for line in lines), default=began)
        title = f"🟢 {services}: all resolved after {lasted(last - began)}"
        text = f"From {clock(began)} to {clock(last)}."
    return Message("storm", title, text, items=tuple((line.service, line.words) for line in worst_first), url=url)


def storm_over(lines: Sequence[ServiceLine], url: str = "") -> Message:
    """The end of a storm, told in the channel too."""
    return replace(digest_message(lines, url), kind="storm over", items=(), broadcast=True)


# ── what is shared ───────────────────────────────────────────────────────────────────────────────────────────


def opened(
    channel: Channel, policy: Storm, report: IncidentReport, line: ServiceLine, now: float
) -> tuple[Channel, str]:
    """With an incident that has opened; the digest's id, if it is told there, and "" if it is told alone."""
    ledger, decision = storm(channel.ledger, policy, report.service, report.id, now)
    channel = replace(channel, ledger=ledger)
    if decision.way is Way.ALONE:
        return channel, ""
    digest = channel.digest
    if digest is None or digest.id != decision.digest:
        digest = Digest(decision.digest)
    return replace(channel, digest=_with(digest, report.id, line)), decision.digest


def changed(channel: Channel, incident: str, line: ServiceLine) -> Channel:
    """With the latest word on an incident; one that is not in the digest changes nothing."""
    if channel.digest is None or incident not in channel.digest.lines:
        return channel
    return replace(channel, digest=_with(channel.digest, incident, line))


def closed(channel: Channel, policy: Storm, incident: str, line: ServiceLine, now: float) -> Channel:
    """With an incident that has closed, told alone or in the digest."""
    ledger, _ = ended(channel.ledger, policy, incident, now)
    return changed(replace(channel, ledger=ledger), incident, line)


def _with(digest: Digest, incident: str, line: ServiceLine) -> Digest:
    return replace(digest, lines={**digest.lines, incident: line})


# ── who brings the digest up to date ─────────────────────────────────────────────────────────────────────────


def claimed(channel: Channel, policy: Storm, by: str, now: float) -> tuple[Channel, bool]:
    """The channel with its digest claimed by `by`, and whether it is: something is to be shown, and nobody else is at
    it."""
    channel = replace(channel, ledger=settled(channel.ledger, policy, now))
    digest = channel.digest
    if digest is None or not (_news(digest) or is_past(channel)):
        return channel, False
    if holds(digest.claimed_at, now):
        return channel, False
    taken = replace(digest, by=by, claimed_at=now, doubt=digest.doubt or digest.claimed_at is not None)
    return replace(channel, digest=taken), True


def _news(digest: Digest) -> bool:
    return fingerprint(digest_message(list(digest.lines.values()))) != digest.shown


def is_past(channel: Channel) -> bool:
    """The storm is over, and its digest is still kept: that is to be told."""
    return channel.digest is not None and channel.digest.over and channel.ledger.digest != channel.digest.id


def given_back(channel: Channel, by: str, digest: Digest, doubt: bool) -> Channel:
    """The claim on the digest ends without success. `doubt`: the last try may have arrived."""
    if channel.digest is None or channel.digest.by != by:
        return channel
    free = replace(channel.digest, by="", claimed_at=None, doubt=doubt)
    return replace(channel, digest=replace(free, place=digest.place, services=digest.services))


def shown(channel: Channel, by: str, digest: Digest, over: bool) -> Channel:
    """People see `digest` now. `over`: they were told that the storm is; what has joined since keeps it going."""
    if over and channel.digest is not None and channel.digest.by == by and is_past(channel):
        return replace(channel, digest=None)
    channel = given_back(channel, by, digest, False)
    if channel.digest is None:
        return channel
    seen = fingerprint(digest_message(list(digest.lines.values())))
    return replace(channel, digest=replace(channel.digest, shown=seen))
