"""The demo shop: a real HTTP service with a metrics page, and an operator's side door that breaks it on purpose.

    python -m demo.shop --port 0 --version v1          # prints the URL it listens on, on 127.0.0.1 only

People see GET /health, /version, /products and /metrics, POST /auth/token and /payments, and the cart (demo/cart.py).
The side door:

    POST /admin/deploy    {"version": "v2", "faults": {…}}   a new release: new metrics, the old version remembered
    POST /admin/faults    {…}                                replaces the faults of the release that runs
    POST /admin/rollback                                     the rollback hook: back to the version before, no faults
    POST /admin/promote                                      the promote hook: noted, once a key
    GET  /admin/state                                        what runs, and who called

The rollback hook wants `X-Firstwatch-Signature: sha256=HMAC(body)` if the environment has SHOP_ROLLBACK_SECRET, and
does nothing a second time for one `Idempotency-Key`. The test account's password is SHOP_ACCOUNT_PASSWORD.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import hashlib
import hmac
import json
import os
import random
import socket
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from demo.cart import TOKEN, Carts

ACCOUNT = "smoke@example.com"
PRODUCTS = [{"id": n, "name": f"Tea no. {n}", "cents": 350 + 10 * n} for n in range(1, 41)]
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BASE_BYTES = 20_000_000
MOST_LEAKED = 300_000_000  # bytes; the leak is real, so it must not eat the machine
BASE_CONNECTIONS = 4
HUGE = 10_000_000_000  # bytes
BUSINESS = ("/products", "/auth/token", "/payments", "/cart")
KNOWN_PATHS = (*BUSINESS, "/health", "/version")


def page_of(path: str) -> str:
    """What a path is counted as: each cart has one of its own."""
    return "/cart" if path.startswith("/cart/") else path


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a release. All of it starts `after` seconds from when it was set."""

    after: float = 0.0
    errors: float = 0.0  # share of requests answered with 500
    latency: float = 0.0  # seconds added …
    latency_share: float = 1.0  # … to this share of requests
    leak: float = 0.0  # bytes per second, really allocated
    pool_leak: float = 0.0  # connections per second never given back
    down: bool = False  # connections are cut without an answer
    hang: bool = False  # accepted, never answered
    slow_drip: bool = False  # a byte a second, without end
    huge: bool = False  # 10 GB
    old_version: bool = False  # /version still names the version before
    nan: bool = False  # /health answers NaN
    health_bad: bool = False  # /health answers 503
    redirect: str = ""  # /products and /auth/token send the client there (307), body and all
    paths: tuple[str, ...] = ()  # where the faults of requests strike; empty: see `strikes`

    @classmethod
    def parse(cls, data: Any) -> Faults:
        """A JSON object → faults. Raises ValueError for a fault that does not exist."""
        if not isinstance(data, dict):
            raise ValueError("faults are a JSON object")
        unknown = set(data) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        return cls(**{**data, "paths": tuple(data.get("paths", ()))})

    def strikes(self, path: str, default: tuple[str, ...] = ()) -> bool:
        """Whether a request to `path` is hit: by default any path for a dead server, the business for the rest."""
        wanted = self.paths or default
        return not wanted or page_of(path) in wanted


class Running:
    """One release as it runs: its faults, and what a process of its own would have: metrics and memory."""

    def __init__(self, version: str, faults: Faults) -> None:
        self.version, self.deployed_at = version, time.time()
        self._faults, self._since = Faults(), time.monotonic()
        self._leaked: list[bytes] = []
        self._leaked_bytes = self._leaked_before = self._held_before = 0
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests_total", "Requests answered", ["method", "path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "Time to answer",
            ["method", "path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_flight = 0
        memory = Gauge("process_resident_memory_bytes", "Memory held", registry=self.registry)
        memory.set_function(lambda: BASE_BYTES + self._leak())
        pool = Gauge("db_pool_connections_in_use", "Connections lent out", registry=self.registry)
        pool.set_function(lambda: BASE_CONNECTIONS + self.in_flight + self._held())
        Info("shop_build", "What runs", registry=self.registry).info({"version": version})
        self.set_faults(faults)

    def set_faults(self, faults: Faults) -> None:
        """Replaces what is wrong from now on. What has leaked stays leaked."""
        self._leaked_before, self._held_before = self._leak(), self._held()
        self._faults, self._since = faults, time.monotonic()

    @property
    def faults(self) -> Faults:
        """The faults that strike now."""
        return self._faults if self._active_for() >= 0 else Faults()

    def _active_for(self) -> float:
        return time.monotonic() - self._since - self._faults.after

    def _leak(self) -> int:
        """Allocates what should have leaked by now; bytes held in all."""
        due = self._leaked_before + int(max(0.0, self._active_for()) * self._faults.leak)
        missing = min(due, MOST_LEAKED) - self._leaked_bytes
        if missing > 0:
            self._leaked.append(b"x" * missing)
            self._leaked_bytes += missing
        return self._leaked_bytes

    def _held(self) -> int:
        """Connections that were never given back, in all."""
        return self._held_before + int(max(0.0, self._active_for()) * self._faults.pool_leak)


@dataclass
class Shop:
    """What outlives a release: who called, and which version was before."""

    running: Running
    state_file: Path | None = None
    previous: str | None = None
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    promotions: list[dict[str, Any]] = field(default_factory=list)
    payments: list[dict[str, Any]] = field(default_factory=list)
    synthetic: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=5000))

    @classmethod
    def start(cls, version: str, state_file: Path | None) -> Shop:
        """A fresh shop, or the one that `state_file` remembers."""
        if state_file is None or not state_file.exists():
            return cls(Running(version, Faults()), state_file)
        kept = json.loads(state_file.read_text())
        running = Running(kept["version"], Faults.parse(kept["faults"]))
        return cls(running, state_file, kept["previous"], kept["rollbacks"], kept["promotions"], kept["payments"])

    def deploy(self, version: str, faults: Faults) -> None:
        self.previous, self.running = self.running.version, Running(version, faults)
        self.save()

    def roll_back(self, key: str, body: str) -> bool:
        """Notes the call; goes back if there is somewhere to go and the key is new. Whether it did something."""
        seen = bool(key) and any(call["key"] == key for call in self.rollbacks)
        acts = not seen and self.previous is not None
        call = {"at": time.time(), "key": key, "acted": acts, "from": self.running.version, "body": body}
        self.rollbacks.append(call)
        if acts and self.previous is not None:
            self.running, self.previous = Running(self.previous, Faults()), None
        self.save()
        return acts

    def promote(self, key: str, body: str) -> bool:
        """Notes the call. Whether the key is new, and so gives the running version more of the traffic."""
        acts = not any(call["key"] == key for call in self.promotions)
        self.promotions.append({"at": time.time(), "key": key, "acted": acts, "body": body})
        self.save()
        return acts

    def state(self) -> dict[str, Any]:
        return {
            "version": self.running.version,
            "previous": self.previous,
            "deployed_at": self.running.deployed_at,
            "faults": dataclasses.asdict(self.running._faults),
            "rollbacks": self.rollbacks,
            "promotions": self.promotions,
            "payments": self.payments,
            "synthetic": list(self.synthetic),
        }

    def save(self) -> None:
        if self.state_file:
            fresh = self.state_file.with_suffix(".new")
            fresh.write_text(json.dumps({**self.state(), "synthetic": []}))
            fresh.replace(self.state_file)


# ── what people see ──────────────────────────────────────────────────────────────────────────────────────────


def shop_of(request: Request) -> Shop:
    shop: Shop = request.app.state.shop
    return shop


async def health(request: Request) -> Response:
    faults = shop_of(request).running.faults
    if faults.nan:
        return Response('{"status": NaN}', media_type="application/json")
    if faults.health_bad:
        return JSONResponse({"status": "failing"}, 503)
    return JSONResponse({"status": "ok"})


async def version(request: Request) -> Response:
    shop = shop_of(request)
    old = shop.running.faults.old_version and shop.previous
    return JSONResponse({"version": old or shop.running.version})


async def products(request: Request) -> Response:
    try:
        limit = max(0, int(request.query_params.get("limit", len(PRODUCTS))))
    except ValueError:
        return JSONResponse({"error": "limit is a number"}, 400)
    return JSONResponse(PRODUCTS[:limit])


async def token(request: Request) -> Response:
    try:
        login = await request.json()
        password = os.environ.get("SHOP_ACCOUNT_PASSWORD", "tea-time")
        known = login["username"] == ACCOUNT and login["password"] == password
    except (ValueError, KeyError, TypeError):
        return JSONResponse({"error": "send a JSON object with username and password"}, 400)
    return JSONResponse({"token": TOKEN}) if known else JSONResponse({"error": "wrong user name or password"}, 401)


async def payments(request: Request) -> Response:
    shop = shop_of(request)
    shop.payments.append({"at": time.time(), "headers": dict(request.headers), "bytes": len(await request.body())})
    shop.save()
    return JSONResponse({"paid": True}, 201)


async def metrics(request: Request) -> Response:
    return Response(generate_latest(shop_of(request).running.registry), media_type=CONTENT_TYPE_LATEST)


# ── the side door ────────────────────────────────────────────────────────────────────────────────────────────


async def admin_deploy(request: Request) -> Response:
    wanted = await request.json()
    shop_of(request).deploy(str(wanted["version"]), Faults.parse(wanted.get("faults", {})))
    return await admin_state(request)


async def admin_faults(request: Request) -> Response:
    shop = shop_of(request)
    shop.running.set_faults(Faults.parse(await request.json()))
    shop.save()
    return await admin_state(request)


async def admin_state(request: Request) -> Response:
    return JSONResponse(shop_of(request).state())


async def admin_rollback(request: Request) -> Response:
    shop, body = shop_of(request), await request.body()
    if not is_signed(request, body):
        return JSONResponse({"error": "the signature does not fit the body"}, 401)
    acted = shop.roll_back(request.headers.get("idempotency-key", ""), body.decode(errors="replace"))
    return JSONResponse({"version": shop.running.version, "acted": acted})


async def admin_promote(request: Request) -> Response:
    shop, body = shop_of(request), await request.body()
    if not is_signed(request, body):
        return JSONResponse({"error": "the signature does not fit the body"}, 401)
    acted = shop.promote(request.headers.get("idempotency-key", ""), body.decode(errors="replace"))
    return JSONResponse({"version": shop.running.version, "acted": acted})


def is_signed(request: Request, body: bytes) -> bool:
    """Whether who calls knows the hooks' secret; anybody may, where there is none."""
    secret = os.environ.get("SHOP_ROLLBACK_SECRET", "")
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return not secret or hmac.compare_digest(signature, request.headers.get("x-firstwatch-signature", ""))


async def refuse(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────


class Breakable:
    """Measures every request of people, and breaks it as the running release's faults say."""

    def __init__(self, app: ASGIApp, shop: Shop) -> None:
        self.app, self.shop, self.dice = app, shop, random.Random(7)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/admin/"):
            return await self.app(scope, receive, send)
        self._note_synthetic(scope)
        running, path = self.shop.running, scope["path"]
        faults = running.faults
        whole = faults.strikes(path)
        if faults.down and whole:
            scope["state"]["transport"].abort()
            return await _gone(receive)
        if faults.hang and whole:
            return await _gone(receive)
        if (faults.huge or faults.slow_drip) and whole:
            return await _until_gone(receive, _endless(send, slow=faults.slow_drip))
        if path == "/metrics":
            return await self.app(scope, receive, send)
        return await self._measured(running, faults, scope, receive, send)

    async def _measured(self, running: Running, faults: Faults, scope: Scope, receive: Receive, send: Send) -> None:
        page = page_of(scope["path"])
        path = page if page in KNOWN_PATHS else "other"
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        started = time.perf_counter()
        running.in_flight += 1
        try:
            await (await self._answer(faults, scope["path"]))(scope, receive, counted)
        finally:
            running.in_flight -= 1
            running.seconds.labels(scope["method"], path).observe(time.perf_counter() - started)
            running.requests.labels(scope["method"], path, str(status)).inc()

    async def _answer(self, faults: Faults, path: str) -> ASGIApp:
        """What answers a request: the shop itself, or what its faults put in its place."""
        if not faults.strikes(path, BUSINESS):
            return self.app
        if faults.latency and self.dice.random() < faults.latency_share:
            await asyncio.sleep(faults.latency)
        if self.dice.random() < faults.errors:
            return JSONResponse({"error": "out of tea"}, 500)
        if faults.redirect and path != "/payments":
            return Response(status_code=307, headers={"location": faults.redirect})
        return self.app

    def _note_synthetic(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if any("synthetic" in name for name in headers):
            self.shop.synthetic.append(
                {"at": time.time(), "method": scope["method"], "path": scope["path"], "headers": headers}
            )


async def _gone(receive: Receive) -> None:
    """Says nothing until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_gone(receive: Receive, answer: Coroutine[Any, Any, None]) -> None:
    """Answers for as long as there is a client to answer."""
    answering, gone = asyncio.create_task(answer), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        answering.cancel()
        gone.cancel()


async def _endless(send: Send, *, slow: bool) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    block = b" " if slow else b" " * 65536
    for _ in range(HUGE // len(block)):
        await send({"type": "http.response.body", "body": block, "more_body": True})
        await asyncio.sleep(1.0 if slow else 0)


class Cuttable(H11Protocol):
    """uvicorn's HTTP protocol, with the transport handed to the app, so that it can cut the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


# ── starting it ──────────────────────────────────────────────────────────────────────────────────────────────


def build(shop: Shop) -> ASGIApp:
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/version", version),
            Route("/products", products),
            Route("/metrics", metrics),
            Route("/auth/token", token, methods=["POST"]),
            Route("/payments", payments, methods=["POST"]),
            *Carts().routes(),
            Route("/admin/deploy", admin_deploy, methods=["POST"]),
            Route("/admin/faults", admin_faults, methods=["POST"]),
            Route("/admin/rollback", admin_rollback, methods=["POST"]),
            Route("/admin/promote", admin_promote, methods=["POST"]),
            Route("/admin/state", admin_state),
        ],
        exception_handlers={ValueError: refuse, KeyError: refuse, TypeError: refuse},
    )
    app.state.shop = shop
    return Breakable(app, shop)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.shop")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    parser.add_argument("--version", default="v1")
    parser.add_argument("--state", type=Path, help="file that remembers version, faults and calls over a restart")
    options = parser.parse_args()
    listening = socket.create_server(("127.0.0.1", options.port))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    app = build(Shop.start(options.version, options.state))
    config = uvicorn.Config(
        app, http=Cuttable, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
