"""People using the demo shop: `python -m demo.traffic URL --rps 40 --seconds 120`.

Bounded in rate, in time and in requests under way; ends with its parent. It carries no synthetic mark: to the shop
and its metrics these are real users. Prints how many requests it sent and how they were answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter

import httpx

MOST_UNDER_WAY = 200


async def use(client: httpx.AsyncClient, n: int, answers: Counter[str]) -> None:
    """One visit: mostly a look at the products, now and then a login."""
    try:
        if n % 10 == 9:
            login = {"username": "someone@example.com", "password": "forgotten"}
            answer = await client.post("/auth/token", json=login)
        else:
            answer = await client.get("/products", params={"limit": n % 5 + 1})
        answers[str(answer.status_code)] += 1
    except httpx.HTTPError as error:
        answers[type(error).__name__] += 1


async def run(url: str, rps: float, seconds: float) -> Counter[str]:
    """Sends `rps` requests a second to `url` for `seconds`; how often each status (or error) was the answer."""
    answers: Counter[str] = Counter()
    visits: set[asyncio.Task[None]] = set()
    parent, started = os.getppid(), time.monotonic()
    limits = httpx.Limits(max_connections=MOST_UNDER_WAY)
    async with httpx.AsyncClient(base_url=url, timeout=10, limits=limits) as client:
        for n in range(int(rps * seconds)):
            await asyncio.sleep(started + n / rps - time.monotonic())
            if os.getppid() != parent or time.monotonic() - started > seconds:
                break
            if len(visits) < MOST_UNDER_WAY:
                visit = asyncio.create_task(use(client, n, answers))
                visits.add(visit)
                visit.add_done_callback(visits.discard)
        await asyncio.gather(*visits)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo.traffic")
    parser.add_argument("url")
    parser.add_argument("--rps", type=float, default=40)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(run(options.url, options.rps, options.seconds))))


if __name__ == "__main__":
    main()
