"""Is a service's certificate chain in order, and how long will it be?

Pure: what the server sent and what a verifying client made of it come in. Dates and names are judged here, by the time
that is given, so that all that is wrong is told at once; whether somebody trusted vouches for the chain is the
client's own finding.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from firstwatch.found import Found
from firstwatch.hosts import is_address, to_ascii
from firstwatch.model import Outcome
from firstwatch.report.text import plain
from firstwatch.spec.synthetic import Certificate as Policy
from firstwatch.units import show_duration

# OpenSSL's verify codes (x509_vfy.h) that have plain words here.
_SELF_SIGNED = frozenset({18})
_UNKNOWN_ROOT = frozenset({19})
_NO_ISSUER = frozenset({2, 20, 21, 27})
_OUT_OF_TIME = frozenset({9, 10})

_LONGEST_CHAIN = 20  # certificates that are looked at


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a chain. Times are Unix seconds; `fingerprint` is SHA-256 in hex; texts are the server's."""

    subject: str
    issuer: str
    common_name: str  # of the subject, or its first name, or all of it
    issuer_name: str
    hosts: tuple[str, ...]  # that it is for: DNS names, a wildcard as it stands, and addresses
    not_before: float
    not_after: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What one server showed. `sent` starts with the server's own certificate. `verified` leads from it to a trusted
    root, dates and host name aside; it is empty where none does, and `code` and `message` say what OpenSSL found."""

    sent: tuple[Certificate, ...]
    verified: tuple[Certificate, ...] = ()
    code: int = 0
    message: str = ""
    tls_version: str = ""


def read_certificate(der: bytes) -> Certificate:
    """A certificate from its DER bytes. Raises ValueError for what is none."""
    try:
        return _read(der)
    except Exception as odd:  # a version or an extension that must not be, a name in bits: cryptography has many ways
        raise ValueError(f"this is no certificate that can be read ({type(odd).__name__})") from odd


def _read(der: bytes) -> Certificate:
    found = x509.load_der_x509_certificate(der)
    subject, issuer = found.subject.rfc4514_string(), found.issuer.rfc4514_string()
    hosts = tuple(_hosts(found))
    return Certificate(
        subject=plain(subject, 200),
        issuer=plain(issuer, 200),
        common_name=plain(_common_name(found.subject) or next(iter(hosts), "") or subject or "a nameless one", 100),
        issuer_name=plain(_common_name(found.issuer) or issuer or "a nameless one", 100),
        hosts=hosts,
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def read_chain(ders: Iterable[bytes]) -> tuple[Certificate, ...]:
    """Raises ValueError for a certificate that cannot be read."""
    return tuple(read_certificate(der) for der in list(ders)[:_LONGEST_CHAIN])


def judge(host: str, policy: Policy, chain: Chain, now: float) -> Found:
    """Every fault of the chain for this host, or how long it is still good. `now` is Unix time."""
    if not chain.sent:
        return Found(Outcome.FAIL, "the server showed no certificate")
    leaf = chain.sent[0]
    faults = [*_wrong_dates(chain, now), *_wrong_host(leaf, host), *_untrusted(chain)]
    if chain.message and not faults:  # OpenSSL saw what we do not: its clock may be another one
        faults = [f"it does not verify: {plain(chain.message, 100)}"]
    if faults:
        return Found(Outcome.FAIL, "; ".join(faults), facts=_facts(chain))
    first = min(_needed(chain), key=lambda each: each.not_after)
    told = f"{_which(first, chain)}expires in {_span(first.not_after - now)} ({_day(first.not_after)})"
    if first.not_after - now < policy.fail:
        threshold = show_duration(policy.fail)
        return Found(Outcome.FAIL, f"{told}, less than {threshold}", facts=_facts(chain, threshold))
    warning, threshold = _warning(policy, chain, now)
    return Found(Outcome.PASS, told, warning=warning, facts=_facts(chain, threshold))


def _warning(policy: Policy, chain: Chain, now: float) -> tuple[str, str]:
    """What will fail soon, and the threshold that it is below. What the server sends and nobody needs may fail some
    clients only: it is a warning however old it is."""
    threshold = show_duration(policy.warn)
    told = []
    for each in dict.fromkeys((*_needed(chain), *chain.sent)):
        left, which, day = each.not_after - now, _which(each, chain), _day(each.not_after)
        if left < 0:
            told.append(f"{which}expired {_span(-left)} ago ({day})")
        elif left < policy.warn:
            told.append(f"{which}expires in {_span(left)} ({day}), less than {threshold}")
    return ("; ".join(told), threshold) if told else ("", "")


def joined(found: Mapping[str, Found]) -> Found:
    """What the addresses of one host show, by address: one that is bad is a failure, for some of the users come to it.

    `facts` are those of the worst: what fails, or else what expires first.
    """
    if len(found) == 1:
        return next(iter(found.values()))
    outcomes = {each.outcome for each in found.values()}
    worst = next((each for each in (Outcome.FAIL, Outcome.ERROR) if each in outcomes), Outcome.PASS)
    of_worst = {address: each for address, each in found.items() if each.outcome is worst}
    first = min(of_worst.values(), key=_expiry)
    why = first.why if worst is Outcome.PASS else _by_address({a: each.why for a, each in of_worst.items()}, len(found))
    warnings = {address: each.warning for address, each in found.items() if each.warning}
    return replace(first, why=why, warning=_by_address(warnings, len(found)))


def _expiry(found: Found) -> float:
    at = found.facts.get("last_chain_expires_at", found.facts.get("expires_at"))
    return float(at) if isinstance(at, int | float) else math.inf


def _by_address(told: Mapping[str, str], addresses: int) -> str:
    """Each sentence once, after the addresses that it is about, unless it is about all of them."""
    groups: dict[str, list[str]] = {}
    for address, sentence in told.items():
        groups.setdefault(sentence, []).append(address)
    return "; ".join(
        sentence if len(about) == addresses else f"{', '.join(about)}: {sentence}" for sentence, about in groups.items()
    )


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────


def _needed(chain: Chain) -> tuple[Certificate, ...]:
    """The certificates that a client relies on: what verified, or, where nothing did, all that was sent."""
    return chain.verified or chain.sent


def _wrong_dates(chain: Chain, now: float) -> Iterator[str]:
    for each in _needed(chain):
        if each.not_after < now:
            yield f"{_which(each, chain)}expired {_span(now - each.not_after)} ago ({_day(each.not_after)})"
        if each.not_before > now:
            wait = _span(each.not_before - now)
            yield f"{_which(each, chain)}is not valid yet: it begins in {wait} ({_day(each.not_before)})"


def _wrong_host(leaf: Certificate, host: str) -> Iterator[str]:
    if any(covers(name, host) for name in leaf.hosts):
        return
    if not leaf.hosts:
        yield f"names no host, so it is not for {host} (the common name {leaf.common_name} counts no more)"
        return
    more = f" and {len(leaf.hosts) - 3} more" if len(leaf.hosts) > 3 else ""
    yield f"is for {plain(', '.join(leaf.hosts[:3]), 200)}{more}, not for {host}"


def covers(name: str, host: str) -> bool:
    """Does a certificate's name stand for this host? `*.` stands for exactly one label in front (RFC 9525)."""
    if is_address(host) or is_address(name):
        return is_address(host) and is_address(name) and ipaddress.ip_address(name) == ipaddress.ip_address(host)
    name, host = _ascii(name), _ascii(host)
    if name.startswith("*."):
        label, _, rest = host.partition(".")
        return bool(label) and "." in rest and rest == name[2:]
    return name == host and bool(host)


def _ascii(name: str) -> str:
    try:
        return to_ascii(name)
    except ValueError:
        return name


def _untrusted(chain: Chain) -> Iterator[str]:
    """Why nobody who is trusted vouches for the chain, as OpenSSL has found."""
    code = chain.code
    if chain.verified or not chain.message or code in _OUT_OF_TIME:
        return
    leaf, last = chain.sent[0], _last_of_path(chain.sent)
    if code in _SELF_SIGNED:
        yield f"is self-signed: nobody vouches for {leaf.common_name}"
    elif code in _UNKNOWN_ROOT:
        yield f"the chain ends at {last.common_name}, which is not trusted here"
    elif code in _NO_ISSUER:
        yield (
            f"the chain is incomplete: nobody vouches for {last.common_name} "
            f"(its issuer, {last.issuer_name}, is neither sent nor trusted here)"
        )
    else:
        yield f"it does not verify: {plain(chain.message, 100)}"


def _last_of_path(sent: Sequence[Certificate]) -> Certificate:
    """The last certificate on the way from the server's own from issuer to issuer, as far as they were sent."""
    last, left = sent[0], list(sent[1:])
    while issuer := next((each for each in left if each.subject == last.issuer), None):
        left.remove(issuer)
        last = issuer
    return last


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────


def _facts(chain: Chain, threshold: str = "") -> dict[str, float | str]:
    """`expires_at` is that of the first to expire of all that were sent, `last_chain_expires_at` that of the chain that
    verified: the two differ where the server sends certificates that nobody needs."""
    leaf = chain.sent[0]
    facts: dict[str, float | str] = {
        "expires_at": min(each.not_after for each in chain.sent),
        "fingerprint": leaf.fingerprint,
        "subject": leaf.subject,
        "issuer": leaf.issuer,
    }
    if chain.verified:
        facts["last_chain_expires_at"] = min(each.not_after for each in chain.verified)
    if chain.tls_version:
        facts["tls_version"] = chain.tls_version
    if threshold:
        facts["threshold"] = threshold
    return facts


def _which(certificate: Certificate, chain: Chain) -> str:
    """The certificate in a sentence; the server's own is what is spoken of anyway."""
    if certificate == chain.sent[0]:
        return ""
    if certificate not in chain.sent:
        what = "root" if certificate.subject == certificate.issuer else "issuer"
        return f"the {what} {certificate.common_name} "
    needed = not chain.verified or certificate in chain.verified
    return f"the issuer {certificate.common_name} " if needed else f"{certificate.common_name}, sent without need, "


def _span(seconds: float) -> str:
    """A time that people plan with: 3 days, 5 hours, 20 minutes."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _hosts(certificate: x509.Certificate) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    yield from names.get_values_for_type(x509.DNSName)
    yield from (str(address) for address in names.get_values_for_type(x509.IPAddress))


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""
