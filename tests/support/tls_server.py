"""A real TLS server, and a small authority whose certificates it shows: root, issuer and leaf, as wrong as wanted."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = 86_400.0


@dataclass(frozen=True)
class Signed:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def not_after(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    def issue(
        self, name: str, *, hosts: tuple[str, ...] = (), begins: float = -30.0, ends: float = 90.0, ca: bool = False
    ) -> Signed:
        """A certificate that this one vouches for; it begins and ends so many days from now."""
        return _sign(name, self, hosts, begins, ends, ca)


def root(name: str = "Test Root", *, ends: float = 3650.0) -> Signed:
    return _sign(name, None, (), -30.0, ends, True)


def self_signed(host: str) -> Signed:
    return _sign(host, None, (host,), -30.0, 90.0, False)


def _sign(name: str, by: Signed | None, hosts: tuple[str, ...], begins: float, ends: float, ca: bool) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
    if ca:
        builder = builder.add_extension(x509.KeyUsage(**_MAY_SIGN), critical=True)
    return Signed(builder.sign(signer, hashes.SHA256()), key)


_MAY_SIGN = {
    "digital_signature": True, "key_cert_sign": True, "crl_sign": True, "content_commitment": False,
    "key_encipherment": False, "data_encipherment": False, "key_agreement": False, "encipher_only": False,
    "decipher_only": False,
}  # fmt: skip


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_context(folder: Path, leaf: Signed, *further: Signed) -> ssl.SSLContext:
    """A server that shows the leaf and sends the further certificates along, whatever they are."""
    chain, key = folder / "chain.pem", folder / "leaf.key"
    chain.write_bytes(b"".join(each.pem for each in (leaf, *further)))
    key.write_bytes(
        leaf.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing, and hears the other side out."""
    await reader.read()


@dataclass
class TlsServer:
    port: int = 0
    connections: int = 0


@contextlib.asynccontextmanager
async def tls_server(
    tls: ssl.SSLContext | None, talk: Talk = wait_for_the_end, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[TlsServer]:
    """A server on a free port of 127.0.0.1, unless others are given; without a context it does not speak TLS. It counts
    TCP connections, or with a context handshakes that ended."""
    server = TlsServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await talk(reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accept, address, port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
