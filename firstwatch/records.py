"""What DNS resolvers answered for one name, and whether that is as it should be.

Resolvers that the file lists are asked as their users would ask: one that is silent is a failure. Those of this machine
are ours: they fail the record only together, and only by what they answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from firstwatch.found import Found
from firstwatch.hosts import to_ascii
from firstwatch.model import Outcome
from firstwatch.report.text import plain
from firstwatch.spec.synthetic import Record
from firstwatch.units import show_duration

_SHOWN = 6  # values in one sentence


class Silence(Enum):
    """Why there is nothing of a resolver that could be judged."""

    THEIRS = "it did not answer, or nothing that can be read"
    OURS = "this machine could not ask"


@dataclass(frozen=True, slots=True)
class Reply:
    """What one resolver said. `values` are canonical (see below) and sorted; `ttl` is in seconds, the least on the way
    through aliases to them; `leads_to` is the last of the aliases. Of a silent resolver there is only `why`."""

    resolver: str
    rcode: str = ""  # "NOERROR", "NXDOMAIN", …
    values: tuple[str, ...] = ()
    ttl: int | None = None
    authoritative: bool = False
    answers: int = 0  # records in the answer, aliases included
    leads_to: str = ""
    elapsed: float | None = None  # seconds
    why: str = ""  # of silence; or what the resolver itself says of a failure
    silence: Silence | None = None


def canonical(type: str, value: str) -> str:
    """A record's value as it is compared: names in lower case without the last dot, addresses in their short form,
    quotes and the joints of a TXT record's pieces dropped."""
    if type in ("A", "AAAA"):
        try:
            return str(ipaddress.ip_address(value.strip()))
        except ValueError:
            return value.strip()
    if type == "TXT":
        text = value.strip()
        return text[1:-1].replace('" "', "") if len(text) > 1 and text[0] == text[-1] == '"' else text
    return " ".join(_canonical_word(word.strip('"')) for word in value.split())


def _canonical_word(word: str) -> str:
    try:
        return to_ascii(word) or "."
    except ValueError:  # it is no name
        return word.lower().rstrip(".") or "."


def judge(record: Record, replies: Sequence[Reply], *, listed: bool, ttl_before: float | None = None) -> Found:
    """`listed`: the file names these resolvers. `ttl_before` is the last known TTL of an authoritative answer."""
    heard = _Heard(record, replies, listed)
    facts = _facts(replies)
    if heard.wrong:
        return Found(Outcome.FAIL, "; ".join(heard.told()), facts=facts)
    if heard.unasked or not heard.right:
        told = heard.told() or ["there is no resolver to ask"]
        return Found(Outcome.ERROR, "; ".join(told), facts=facts)
    first = heard.right[0]
    why = f"{_listing(first.values)}{f' by way of {first.leads_to}' if first.leads_to else ''}"
    warnings = dict(_warnings(record, heard.right, ttl_before))
    if warnings:
        facts |= {"threshold": ", ".join(warnings), "fingerprint": f"{record.name} {record.type}"}
    if any(key.startswith("ttl ") for key in warnings) and ttl_before is not None:
        facts["ttl_before"] = ttl_before
    return Found(Outcome.PASS, "; ".join([why, *heard.told()]), warning="; ".join(warnings.values()), facts=facts)


# ── one resolver's answer ────────────────────────────────────────────────────────────────────────────────────


_REFUSALS = {
    "REFUSED": "it refuses to answer",
    "NOTIMP": "it cannot answer such a question",
    "FORMERR": "it does not understand the question",
    "NOTAUTH": "it is not responsible for the name",
}


class _Heard:
    """The replies, sorted by what they prove of the record."""

    def __init__(self, record: Record, replies: Sequence[Reply], listed: bool) -> None:
        self.faults = {id(reply): "; ".join(_faults(record, reply)) for reply in replies}
        self.replies = replies
        self.right = [reply for reply in replies if not self.faults[id(reply)]]
        self.unasked = [reply for reply in replies if listed and reply.silence is Silence.OURS]
        self.wrong = [reply for reply in replies if self.faults[id(reply)] and self._proves(reply, listed)]

    def _proves(self, reply: Reply, listed: bool) -> bool:
        if reply.silence is Silence.OURS:
            return False
        if listed:
            return True
        if reply.silence or reply.rcode in _REFUSALS:
            return False
        return reply.rcode != "SERVFAIL" or not self.right  # where one fails, the next one is asked

    def told(self) -> list[str]:
        """What is wrong, once for all resolvers that it is wrong at, and who disagrees with them."""
        groups: dict[str, list[str]] = {}
        for reply in self.replies:
            if fault := self.faults[id(reply)]:
                groups.setdefault(fault, []).append(reply.resolver)
        if len(self.replies) == 1:
            return list(groups)
        told = [f"{', '.join(resolvers)}: {fault}" for fault, resolvers in groups.items()]
        if self.wrong and self.right:
            told.append(f"{', '.join(reply.resolver for reply in self.right)} answered as expected")
        if self.wrong and _disagree(self.replies):
            told.append("the resolvers disagree")
        return told


def _faults(record: Record, reply: Reply) -> Iterator[str]:
    """All that is wrong with one reply."""
    if reply.silence is not None:
        yield reply.why
        return
    to = f"leads to {reply.leads_to}, and " if reply.leads_to else ""
    said = f": {plain(reply.why, 150)}" if reply.why else ""
    if reply.rcode == "NXDOMAIN":
        yield f"{to}there is no such name (NXDOMAIN){said}"
    elif reply.rcode == "SERVFAIL":
        yield f"{to}it could not find out (SERVFAIL){said}"
    elif reply.rcode != "NOERROR":
        yield f"{_REFUSALS.get(reply.rcode, 'it failed')} ({reply.rcode}){said}"
    elif not reply.values:
        yield f"{to}there is no {record.type} record{said}"
    else:
        yield from _wrong_values(record, reply.values)
        yield from _wrong_ttl(record, reply)


def _wrong_values(record: Record, found: Sequence[str]) -> Iterator[str]:
    if record.values is None:
        return
    expected = {canonical(record.type, value) for value in record.values}
    if missing := sorted(expected - {*found}):
        yield f"{_listing(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    if more := sorted({*found} - expected):
        yield f"{_listing(more)} {'is' if len(more) == 1 else 'are'} not expected"


def _wrong_ttl(record: Record, reply: Reply) -> Iterator[str]:
    """A cache counts down, so it proves only that a TTL is too long; that it is too short, an authority has to tell."""
    if reply.ttl is None:
        return
    if record.most_ttl is not None and reply.ttl > record.most_ttl:
        yield f"may be kept for {show_duration(reply.ttl)}, longer than {show_duration(record.most_ttl)}"
    if record.least_ttl is not None and reply.authoritative and reply.ttl < record.least_ttl:
        yield f"may be kept for {show_duration(reply.ttl)}, less than {show_duration(record.least_ttl)}"


# ── all answers together ─────────────────────────────────────────────────────────────────────────────────────


def _warnings(record: Record, right: Sequence[Reply], ttl_before: float | None) -> Iterator[tuple[str, str]]:
    """What people should know of answers that are right, each with a key that stays while it is so."""
    if _disagree(right):
        told = (f"{reply.resolver} has {_listing(reply.values)}" for reply in right)
        yield "disagreement", f"the resolvers disagree: {'; '.join(told)}"
    ttl, authoritative = _ttl(right)
    if record.least_ttl is not None and ttl is not None and not authoritative and ttl < record.least_ttl:
        least = show_duration(record.least_ttl)
        yield "least_ttl", f"only an authoritative server tells whether the TTL is {least} or more, and none is listed"
    if ttl is not None and authoritative and ttl_before is not None and ttl != ttl_before:
        yield f"ttl {ttl}", f"the TTL is {show_duration(ttl)} now, and was {show_duration(ttl_before)}"


def _disagree(replies: Sequence[Reply]) -> bool:
    return len({(reply.rcode, reply.values) for reply in replies if reply.silence is None}) > 1


def _ttl(replies: Sequence[Reply]) -> tuple[int | None, bool]:
    """The TTL, and whether an authority tells it; else the longest that a cache has left."""
    known = [(reply.ttl, reply.authoritative) for reply in replies if reply.ttl is not None]
    own = [ttl for ttl, authoritative in known if authoritative]
    return (min(own), True) if own else (max((ttl for ttl, _ in known), default=None), False)


def _facts(replies: Sequence[Reply]) -> dict[str, float | str]:
    heard = [reply for reply in replies if reply.rcode]
    facts: dict[str, float | str] = {
        f"lookup_seconds {reply.resolver}": reply.elapsed for reply in heard if reply.elapsed is not None
    }
    if not heard:
        return facts
    facts["rcode"] = next((reply.rcode for reply in heard if reply.rcode != "NOERROR"), "NOERROR")
    facts["answers"] = max(reply.answers for reply in heard)
    facts["lookup_seconds"] = max(reply.elapsed or 0.0 for reply in heard)
    if values := next((reply.values for reply in heard if reply.values), ()):
        facts["values"] = _listing(values)
    ttl, authoritative = _ttl(heard)
    if ttl is not None:
        facts |= {"ttl": ttl, "authoritative": float(authoritative)}
    return facts


def _listing(values: Sequence[str]) -> str:
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(plain(value, 100) for value in values[:_SHOWN]) + more
