"""Certificates as real TLS servers show them, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from firstwatch.model import Outcome
from firstwatch.monitor import Kind, Probe
from firstwatch.spec.synthetic import Certificate
from tasks import certificate
from tasks.budget import BudgetExhausted
from tasks.certificate import probe_certificate
from tasks.wire import Resolver
from tests.support.tls_server import DAY, Signed, Talk, root, self_signed, server_context, tls_server, wait_for_the_end

HOST = "localhost"
ROOT = root()
ISSUER = ROOT.issue("Test Issuer", ends=60, ca=True)


def leaf(by: Signed = ISSUER, hosts: tuple[str, ...] = (HOST,), **given: Any) -> Signed:
    return by.issue(hosts[0], hosts=hosts, **given)


def probe(
    folder: Path,
    *chain: Signed,
    talk: Talk = wait_for_the_end,
    host: str = HOST,
    base: str = "127.0.0.1",
    context: ssl.SSLContext | None = None,
    policy: Certificate | None = None,
    timeout: float = 10.0,
    **given: Any,
) -> Probe:
    """Of a server that shows this chain, by a client that trusts ROOT; without a chain it does not speak TLS."""
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(ROOT.pem)
    context = context or (server_context(folder, *chain) if chain else None)

    async def go() -> Probe:
        async with tls_server(context, talk) as server:
            return await probe_certificate(
                host,
                server.port,
                policy or Certificate(),
                resolver=Resolver(base, 1),
                ca_file=str(ca_file),
                timeout=timeout,
                **given,
            )

    return asyncio.run(go())


def test_a_good_chain_passes_with_all_facts(tmp_path: Path) -> None:
    shown = leaf()
    found = probe(tmp_path, shown, ISSUER)
    assert found.outcome is Outcome.PASS and not found.warning, found.why
    assert found.why.startswith("the issuer Test Issuer expires in 59 days")
    assert found.kind is Kind.CERTIFICATE and found.check.startswith("certificate localhost:")
    assert found.facts == {
        "expires_at": ISSUER.not_after,
        "last_chain_expires_at": ISSUER.not_after,
        "fingerprint": shown.certificate.fingerprint(shown.certificate.signature_hash_algorithm).hex(),  # SHA-256
        "subject": "CN=localhost",
        "issuer": "CN=Test Issuer",
        "tls_version": "TLSv1.3",
    }
    parts = (found.phases.resolve, found.phases.connect, found.phases.tls)
    assert all(part is not None and part > 0 for part in parts) and found.elapsed == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ((leaf(ends=-3.5), ISSUER), "expired 3 days ago ("),
        ((leaf(ends=5.5), ISSUER), "expires in 5 days ("),
        ((leaf(begins=2.5), ISSUER), "is not valid yet: it begins in 2 days ("),
        ((leaf(hosts=("other.example",)), ISSUER), "is for other.example, not for localhost"),
        ((self_signed(HOST),), "is self-signed: nobody vouches for localhost"),
        ((leaf(),), "the chain is incomplete: nobody vouches for localhost (its issuer, Test Issuer, is neither"),
        ((leaf(other := root("Other Root")), other), "the chain ends at Other Root, which is not trusted here"),
        ((leaf(old := ROOT.issue("Old", ends=3.5, ca=True)), old), "the issuer Old expires in 3 days ("),
        ((leaf(dead := ROOT.issue("Dead", ends=-2.5, ca=True)), dead), "the issuer Dead expired 2 days ago ("),
        ((leaf(no_ca := ROOT.issue("No CA")), no_ca), "it does not verify: invalid CA certificate"),
    ],
)
def test_what_is_wrong_with_a_chain(tmp_path: Path, chain: tuple[Signed, ...], why: str) -> None:
    found = probe(tmp_path, *chain)
    assert found.outcome is Outcome.FAIL
    assert found.why.startswith(why) and ";" not in found.why, found.why
    assert found.facts["expires_at"] == min(each.not_after for each in chain)
    assert found.facts["tls_version"] == "TLSv1.3" and len(str(found.facts["fingerprint"])) == 64


def test_all_that_is_wrong_is_found_though_openssl_tells_one_thing(tmp_path: Path) -> None:
    found = probe(tmp_path, leaf(hosts=("other.example",), ends=-1.5))
    expired, host, chain = found.why.split("; ")
    assert expired.startswith("expired 1 day ago") and host == "is for other.example, not for localhost"
    assert chain.startswith("the chain is incomplete")
    assert "last_chain_expires_at" not in found.facts


def test_an_expired_certificate_is_not_blamed_for_its_chain_too(tmp_path: Path) -> None:
    shown = leaf(ends=-3.5)
    assert probe(tmp_path, shown, ISSUER).facts["last_chain_expires_at"] == shown.not_after


def test_a_reminder_before_it_fails(tmp_path: Path) -> None:
    found = probe(tmp_path, leaf(ends=12.5), ISSUER)
    assert found.outcome is Outcome.PASS and found.facts["threshold"] == "21d"
    assert found.warning.startswith("expires in 12 days (") and found.warning.endswith("), less than 21d")
    assert not probe(tmp_path, leaf(ends=12.5), ISSUER, policy=Certificate(warn=10 * DAY, fail=DAY)).warning


def test_the_time_is_the_clocks(tmp_path: Path) -> None:
    shown = leaf()
    found = probe(tmp_path, shown, ISSUER, clock=lambda: ISSUER.not_after + 3 * DAY)
    assert found.why.startswith("the issuer Test Issuer expired 3 days ago") and found.at == ISSUER.not_after + 3 * DAY


def test_what_openssl_refuses_does_not_pass_by_an_earlier_clock(tmp_path: Path) -> None:
    shown = leaf(ends=-3.5)
    found = probe(tmp_path, shown, ISSUER, clock=lambda: shown.not_after - 25 * DAY)
    assert (found.outcome, found.why) == (Outcome.FAIL, "it does not verify: certificate has expired")


def test_an_old_certificate_that_nobody_needs_is_a_warning(tmp_path: Path) -> None:
    found = probe(tmp_path, leaf(), ISSUER, ROOT.issue("Old Issuer", ends=-20.5, ca=True))
    assert found.outcome is Outcome.PASS
    assert found.warning.startswith("Old Issuer, sent without need, expired 20 days ago")


def test_addresses_have_certificates_too(tmp_path: Path) -> None:
    assert probe(tmp_path, leaf(hosts=("127.0.0.1",)), ISSUER, host="127.0.0.1").outcome is Outcome.PASS
    found = probe(tmp_path, leaf(), ISSUER, host="127.0.0.1")
    assert found.why == "is for localhost, not for 127.0.0.1"


def test_a_server_that_never_shakes_hands(tmp_path: Path) -> None:
    found = probe(tmp_path, timeout=0.4)
    assert found.outcome is Outcome.FAIL and found.elapsed is None
    assert found.why == "no TLS handshake within 400ms (connected, the TLS handshake did not end)"


async def _speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (_speak_http, "this port does not speak TLS"),
        (_hang_up, "the connection was closed during the TLS handshake"),
    ],
)
def test_a_port_without_tls(tmp_path: Path, talk: Talk, why: str) -> None:
    found = probe(tmp_path, talk=talk)
    assert (found.outcome, found.why) == (Outcome.FAIL, why)


async def _send_alert(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10_000)
    writer.write(bytes.fromhex("15 0303 0002 02 28"))  # a TLS record: a fatal alert, handshake_failure
    await writer.drain()


def test_a_server_that_wants_no_handshake(tmp_path: Path) -> None:
    found = probe(tmp_path, talk=_send_alert)
    assert found.outcome is Outcome.FAIL
    assert found.why.startswith("TLS: ") and found.why.endswith("alert handshake failure")


def test_a_refused_port(tmp_path: Path) -> None:
    async def go() -> Probe:
        async with tls_server(None) as server:
            port = server.port
        return await probe_certificate(HOST, port, Certificate(), resolver=Resolver("127.0.0.1", 1))

    assert asyncio.run(go()).why == "connection refused"


def test_an_inside_address_is_not_asked(tmp_path: Path) -> None:
    """The service lives outside, so its certificate's host must not lead in here."""

    async def go() -> tuple[Probe, int]:
        async with tls_server(server_context(tmp_path, leaf(), ISSUER)) as server:
            resolver = Resolver("1.1.1.1", 443)  # looked up, which needs no network for an address; not asked
            found = await probe_certificate("127.0.0.1", server.port, Certificate(), resolver=resolver)
            return found, server.connections

    found, connections = asyncio.run(go())
    assert found.outcome is Outcome.ERROR and connections == 0
    assert found.why == "refused: 127.0.0.1 leads to 127.0.0.1, an inside address that is not asked"


@pytest.mark.parametrize("host", [f"{'ü' * 70}.example", ".localhost"])
def test_a_host_that_is_none(tmp_path: Path, host: str) -> None:
    found = probe(tmp_path, leaf(), ISSUER, host=host)
    assert found.outcome is Outcome.ERROR and found.why.endswith("is no host name")


def test_the_private_ca_is_not_trusted_by_default(tmp_path: Path) -> None:
    async def go() -> Probe:
        async with tls_server(server_context(tmp_path, leaf(), ISSUER)) as server:
            return await probe_certificate(HOST, server.port, Certificate(), resolver=Resolver("127.0.0.1", 1))

    assert "nobody vouches for Test Issuer (its issuer, Test Root," in asyncio.run(go()).why


def test_a_good_chain_takes_one_handshake(tmp_path: Path) -> None:
    async def go() -> tuple[int, Probe]:
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(ROOT.pem)
        async with tls_server(server_context(tmp_path, leaf(), ISSUER)) as server:
            found = await probe_certificate(
                HOST, server.port, Certificate(), resolver=Resolver("127.0.0.1", 1), ca_file=str(ca_file)
            )
            return server.connections, found

    connections, found = asyncio.run(go())
    assert connections == 1 and found.outcome is Outcome.PASS


def test_the_chain_is_read_by_pythons_public_call_where_there_is_one() -> None:
    """Python 3.13's SSLObject gives DER bytes; what it has below gives certificates, and None before a handshake."""

    class Public:
        def get_verified_chain(self) -> list[bytes]:
            return [ssl.PEM_cert_to_DER_cert(ROOT.pem.decode())]

    (read,) = certificate._certificates(Public(), "verified")
    assert read.common_name == "Test Root"
    plain = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=HOST)
    assert certificate._certificates(plain, "unverified") == ()


# ── hosts with several addresses ─────────────────────────────────────────────────────────────────────────────


class Leading(Resolver):
    """One that finds these addresses, whatever the host."""

    def __init__(self, *addresses: str) -> None:
        super().__init__("127.0.0.1", 1)
        self.found = list(addresses)

    async def addresses(self, host: str, port: int) -> list[str]:
        return self.found


def probe_all(folder: Path, shown: dict[str, Signed | None], **given: Any) -> tuple[Probe, list[int]]:
    """Of a host whose addresses show these certificates, or nothing; and how many handshakes ended at each."""
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(ROOT.pem)

    async def go() -> tuple[Probe, list[int]]:
        async with contextlib.AsyncExitStack() as stack:
            port, servers = 0, []
            for address, certificate in shown.items():
                if certificate is not None:
                    context = server_context(folder, certificate, ISSUER)
                    servers.append(await stack.enter_async_context(tls_server(context, address=address, port=port)))
                    port = servers[0].port
            given.setdefault("resolver", Leading(*shown))
            found = await probe_certificate(HOST, port, Certificate(), ca_file=str(ca_file), **given)
            return found, [server.connections for server in servers]

    return asyncio.run(go())


def test_one_bad_address_is_a_failure_that_names_it(tmp_path: Path) -> None:
    old = leaf(ends=-3.5)
    found, handshakes = probe_all(tmp_path, {"127.0.0.1": leaf(), "127.0.0.2": old, "127.0.0.3": leaf()})
    assert found.outcome is Outcome.FAIL
    assert found.why.startswith("127.0.0.2: expired 3 days ago ("), found.why
    assert found.facts["expires_at"] == old.not_after
    assert handshakes == [1, 1, 1]  # of the bad one, the handshake that ignores its date


def test_what_all_addresses_show_is_told_once(tmp_path: Path) -> None:
    found, _ = probe_all(tmp_path, {"127.0.0.1": leaf(ends=12.5), "127.0.0.2": leaf(ends=12.5)})
    assert found.outcome is Outcome.PASS and found.warning.startswith("expires in 12 days"), found.warning
    assert ";" not in found.warning


def test_an_address_where_nobody_listens_says_nothing_of_certificates(tmp_path: Path) -> None:
    found, _ = probe_all(tmp_path, {"127.0.0.4": None, "127.0.0.1": leaf()})
    assert found.outcome is Outcome.PASS, found.why
    assert found.phases.tls is not None


def test_not_more_than_eight_addresses_are_looked_at(tmp_path: Path) -> None:
    many = {f"127.0.0.{n}": leaf() for n in range(1, 11)}
    found, handshakes = probe_all(tmp_path, dict(many))
    assert found.outcome is Outcome.PASS, found.why
    assert handshakes == [1] * 8 + [0] * 2


# ── the request budget ───────────────────────────────────────────────────────────────────────────────────────


def test_each_handshake_waits_for_its_turn_which_is_none_of_the_servers_time(tmp_path: Path) -> None:
    turns = []

    async def turn() -> None:
        await asyncio.sleep(0.3)
        turns.append(time.monotonic())

    found, _ = probe_all(tmp_path, {"127.0.0.1": leaf(ends=-1.5), "127.0.0.2": leaf()}, turn=turn, timeout=0.25)
    assert found.why.startswith("127.0.0.1: expired 1 day ago"), found.why
    assert len(turns) == 3  # a good chain takes one handshake, one that is out of date two
    assert found.elapsed is not None and found.elapsed < 0.3


def test_a_turn_that_does_not_come_is_no_failure_of_the_service(tmp_path: Path) -> None:
    async def turn() -> None:
        raise BudgetExhausted("its turn did not come")

    found, handshakes = probe_all(tmp_path, {"127.0.0.1": leaf()}, turn=turn)
    assert (found.outcome, found.why) == (Outcome.ERROR, "not asked: its turn did not come")
    assert handshakes == [0]
