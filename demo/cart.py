"""The demo shop's cart: what a user who has logged in puts into it, and gives back.

    POST   /cart        {"product": 1} → 201 {"id": "…"}
    GET    /cart/{id}   → {"id": "…", "product": 1}
    DELETE /cart/{id}   → 204

All three want the token of POST /auth/token as `Authorization: Bearer …`. Carts live in memory: the oldest one goes
when there are too many, so that whoever forgets to give theirs back does no harm.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "demo-shop-token"
MOST_CARTS = 1000


class Carts:
    """The carts that are there, by id."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.all: OrderedDict[str, Any] = OrderedDict()

    def routes(self) -> list[Route]:
        """For the shop to serve."""
        return [
            Route("/cart", self._put, methods=["POST"]),
            Route("/cart/{id}", self._look, methods=["GET"]),
            Route("/cart/{id}", self._give_back, methods=["DELETE"]),
        ]

    async def _put(self, request: Request) -> Response:
        if (refused := _refusal(request)) is not None:
            return refused
        wanted = await request.json()
        cart = f"cart-{next(self._numbers)}"
        self.all[cart] = wanted["product"]
        while len(self.all) > MOST_CARTS:
            self.all.popitem(last=False)
        return JSONResponse({"id": cart}, 201)

    async def _look(self, request: Request) -> Response:
        cart = request.path_params["id"]
        if (refused := _refusal(request)) is not None:
            return refused
        if cart not in self.all:
            return JSONResponse({"error": "there is no such cart"}, 404)
        return JSONResponse({"id": cart, "product": self.all[cart]})

    async def _give_back(self, request: Request) -> Response:
        if (refused := _refusal(request)) is not None:
            return refused
        known = self.all.pop(request.path_params["id"], None) is not None
        return Response(status_code=204) if known else JSONResponse({"error": "there is no such cart"}, 404)


def _refusal(request: Request) -> Response | None:
    if request.headers.get("authorization") == f"Bearer {TOKEN}":
        return None
    return JSONResponse({"error": "log in first"}, 401)
