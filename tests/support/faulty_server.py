"""A real HTTP server with every fault that a service under test may have; the path says which one.

It records each request as it came over the wire: method, path, header lines in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

JSON = {
    "/ok": b'{"status": "ok"}',
    "/nan": b'{"value": NaN}',
    "/infinity": b'{"value": 1e999}',
    "/twice": b'{"status": "bad", "status": "ok"}',
    "/latin": '{"name": "Köln"}'.encode("latin-1"),
    "/html": b"<html>Service unavailable</html>",
    "/empty": b"",
}


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float
    connection: int

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class FaultyServer:
    url: str = ""
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    sent: int = 0
    connections: int = 0
    dropped: int = 0  # connections that the client closed in mid-answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while (seen := await _read_request(reader, number)) is not None:
                self.seen.append(seen)
                if not await self._answer(seen, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.dropped += 1
        finally:
            writer.close()

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        """Answers as the path says. False: the connection ends here."""
        parts = urlsplit(seen.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/slow":
                await asyncio.sleep(float(asked["s"]))
                await self._full(writer, JSON["/ok"])
            case "/slow-body":
                await self._head(writer, 200, {"Content-Length": "20"})
                await self._send(writer, b"x" * 10)
                await asyncio.sleep(float(asked["s"]))
                await self._send(writer, b"x" * 10)
            case "/says":
                await self._full(writer, asked["body"].encode(), status=int(asked.get("status", "200")))
            case "/echo-body":
                await self._full(writer, seen.body)
            case "/unsteady":
                came = sum(1 for each in self.seen if each.path == seen.path)
                await self._full(writer, JSON["/ok"], status=503 if came <= int(asked["failures"]) else 200)
            case "/hang":
                await asyncio.sleep(60)
            case "/drip-headers":
                await self._drip(writer, b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000)
            case "/drip":
                await self._head(writer, 200, {"Content-Length": "100000"})
                await self._drip(writer, b"x" * 100_000)
            case "/half":
                await self._head(writer, 200, {"Content-Length": "100"})
                await self._send(writer, b"x" * 50)
                await asyncio.sleep(60)
            case "/short":
                await self._head(writer, 200, {"Content-Length": "100"})
                await self._send(writer, b"x" * 50)
                return False
            case "/endless":
                await self._head(writer, 200, {"Content-Length": str(10 * 10**9)})
                for _ in range(10 * 10**9 // 65_536):
                    await self._send(writer, b"x" * 65_536)
            case "/bomb":
                await self._full(writer, gzip.compress(bytes(200_000_000), 1), {"Content-Encoding": "gzip"})
            case "/gzip":
                await self._full(writer, gzip.compress(JSON["/ok"]), {"Content-Encoding": "gzip"})
            case "/torn-gzip":
                await self._full(writer, gzip.compress(JSON["/ok"])[:-9], {"Content-Encoding": "gzip"})
            case "/brotli":
                await self._full(writer, b"whatever", {"Content-Encoding": "br"})
            case "/big-head":
                await self._head(writer, 200, {"Content-Length": "5000000000"})
            case "/redirect":
                await self._head(writer, int(asked["status"]), {"Location": asked["to"], "Content-Length": "0"})
            case "/cached":
                await self._full(writer, JSON["/ok"], {"Age": "30"})
            case "/limited":
                await self._full(writer, b"", {"Retry-After": asked["s"]}, status=429)
            case "/garbage":
                await self._send(writer, b"220 mail.example.com ESMTP\r\n")
                return False
            case "/close":
                return False
            case "/cookie":
                await self._full(writer, JSON["/ok"], {"Set-Cookie": "session=1; Path=/"})
            case "/echo-authorization":
                told = ", ".join(seen.all("authorization"))
                await self._full(writer, told.encode(), {"X-Told": told})
            case "/echo-garbage":
                await self._send(writer, f"{'x' * 130} {seen.all('authorization')[0]}\r\n\r\n".encode())
                return False
            case path:
                await self._full(writer, JSON.get(path, b'{"status": "ok"}'))
        return True

    async def _full(
        self, writer: asyncio.StreamWriter, body: bytes, headers: dict[str, str] | None = None, status: int = 200
    ) -> None:
        await self._head(writer, status, {"Content-Length": str(len(body)), **(headers or {})})
        await self._send(writer, body)

    async def _head(self, writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await self._send(writer, f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode())

    async def _drip(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for i in range(len(data)):
            await self._send(writer, data[i : i + 1])
            await asyncio.sleep(0.05)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = await reader.readexactly(length)
    return Seen(method, path, headers, body, asyncio.get_running_loop().time(), connection)


@contextlib.asynccontextmanager
async def faulty_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[FaultyServer]:
    """The server on a free port of 127.0.0.1, in the running loop."""
    server = FaultyServer()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{server.port}"
    try:
        yield server
    finally:
        listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def dawdling_door(port: int, seconds: float) -> AsyncIterator[int]:
    """A port that takes connections at once, and passes on what comes only `seconds` later: to `port`, and back."""
    passing: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, back), copy(there, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        passing.add(task)
        task.add_done_callback(passing.discard)

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in list(passing):
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


def certificate(folder: Path, *, host: str = "localhost", days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """A server context with a self-signed certificate for `host` that ends in `days`, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(days=10))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{host}.pem", folder / f"{host}.key"
    cert_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)
    return context, cert_file
