"""Documents on a real Prefect server: changed by several at once, killed writers, lost answers, long ones; and a server
that goes away and comes back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks import busy, store
from tasks.busy import patiently
from tests.support.counted import counted
from tests.support.door import Door, door


def added(item: Any) -> store.Change:
    return lambda document: [*(document or []), item]


async def variables(client: PrefectClient, key: str) -> list[str]:
    return [v.variable for v in await store._versions(client, key)]


def run(work: Any) -> Any:
    async def with_client() -> Any:
        async with get_client() as client:
            return await work(client)

    return asyncio.run(with_client())


def test_a_document_begins_is_changed_and_read(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        assert await store.read(client, "monitor shop.eu") is None
        assert await store.change(client, "monitor shop.eu", added(1)) == [1]
        assert await store.change(client, "monitor shop.eu", added({"two": None})) == [1, {"two": None}]
        assert await store.read(client, "monitor shop.eu") == [1, {"two": None}]
        assert await store.read(client, "monitor shop-eu") is None  # a key that looks alike

    run(work)


def test_of_many_changes_at_once_none_is_lost(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        await asyncio.gather(*(store.change(client, "crowded", added(n)) for n in range(8)))
        assert sorted(await store.read(client, "crowded")) == list(range(8))

    run(work)


def test_documents_that_are_known_are_read_together(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        keys = [f"known {n}" for n in range(70)]
        for key in keys:
            await store.change(client, key, added(key))
        with counted(prefect_api) as requests:
            found = await asyncio.gather(*(store.read(client, key) for key in keys))
        assert found == [[key] for key in keys]
        assert len(requests) == 2

    run(work)


def test_what_another_process_has_changed_is_seen(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        await store.change(client, "two processes", added("ours"))
        for later in range(1, 5):
            here = dict(store._remembered)
            for n in range(later):
                await store.change(client, "two processes", added(f"theirs {later}.{n}"))
            theirs = await store.read(client, "two processes")
            store._remembered.clear()
            store._remembered.update(here)
            assert await store.read(client, "two processes") == theirs
            store._remembered.update(here)
            assert await store.change(client, "two processes", added(later)) == [*theirs, later]

    run(work)


def test_a_known_document_that_a_person_has_deleted_is_none(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        await store.change(client, "deleted", added(1))
        [name] = await variables(client, "deleted")
        await client.delete_variable_by_name(name)
        assert await store.read(client, "deleted") is None
        assert await store.change(client, "deleted", added(2)) == [2]

    run(work)


def test_what_changes_nothing_writes_nothing(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        await store.change(client, "still", lambda _: {"a": 1})
        before = await variables(client, "still")
        assert await store.change(client, "still", lambda document: document) == {"a": 1}
        assert await variables(client, "still") == before

    run(work)


def noise(size: int) -> str:
    """Text that cannot be packed into less."""
    return random.Random(1).randbytes(size).hex()


@pytest.mark.parametrize("size", [10, 50_000])
def test_older_versions_are_cleared_away_long_ones_with_their_artifacts(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(store, "_STALE", 0.0)

    async def work(client: PrefectClient) -> None:
        key, long = f"growing {size}", noise(size)
        for n in range(6):
            await store.change(client, key, lambda _, n=n: {"n": n, "text": long})
        assert await store.read(client, key) == {"n": 5, "text": long}
        versions = await store._versions(client, key)
        assert [v.number for v in versions] == [6, 5, 4]
        left = [a for a in await client.read_artifacts(limit=200) if a.description == f"firstwatch document {key}"]
        assert len(left) == (3 if size > 10 else 0)

    run(work)


def test_a_long_one_is_packed_into_its_variable(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        long = {"text": "é\0\ud800 and so on " * 500, "deep": [[[1e400 > 0]]]}
        with counted(prefect_api) as asked:
            await store.change(client, "packed", lambda _: long)
            assert await store.read(client, "packed") == long
        assert not [question for question in asked if "artifacts" in question]
        [version] = await store._versions(client, "packed")
        for damage in ("!", "AAAA", 7):
            names, value = {"name": version.variable}, {"packed": damage}
            await client.request("PATCH", "/variables/name/{name}", path_params=names, json={"value": value})
            assert await store.read(client, "packed") is None

    run(work)


def test_one_that_was_just_seen_is_changed_with_one_question(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: PrefectClient) -> None:
        await store.change(client, "seen", lambda _: [0])
        seen = await store.see(client, "seen")
        with counted(prefect_api) as asked:
            assert await store.change(client, "seen", added(1), seen) == [0, 1]
        assert asked == ["POST /variables/"]
        assert await store.change(client, "seen", added(2), seen) == [0, 1, 2]  # somebody was faster: it is read anew
        seen = await store.see(client, "seen")
        monkeypatch.setattr(store, "_STALE", 0.0)  # too long ago
        with counted(prefect_api) as asked:
            assert await store.change(client, "seen", added(3), seen) == [0, 1, 2, 3]
        assert asked[0] == "POST /variables/filter"

    run(work)


def test_an_answer_that_was_lost_is_not_taken_for_somebody_elses_write(prefect_api: str) -> None:
    """Prefect's client repeats a request whose answer did not come; the server then says that the name exists."""

    async def work(client: PrefectClient) -> None:
        create = client.create_variable

        async def twice(variable: Any) -> Any:
            await create(variable)
            return await create(variable)

        client.create_variable = twice  # type: ignore[method-assign]
        assert await store.change(client, "lost answer", added(1)) == [1]
        assert await store.read(client, "lost answer") == [1]

    run(work)


def test_a_writer_that_slept_does_not_bring_an_old_version_back(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_STALE", 0.0)  # the others have cleared away by then

    async def work(client: PrefectClient) -> None:
        await store.change(client, "slept", lambda _: [0])
        rounds = iter(range(100))

        def slow(document: Any) -> Any:
            return [*document, "late"]

        create, first = store._create, [True]

        async def after_a_sleep(client: PrefectClient, key: str, number: int, document: Any, began: float) -> bool:
            if first:
                first.clear()
                for _ in range(store.KEPT + 2):  # meanwhile the others go on, and clear away what we had read
                    await store.change(client, "slept", added(next(rounds)))
            return await create(client, key, number, document, began)

        monkeypatch.setattr(store, "_create", after_a_sleep)
        assert await store.change(client, "slept", slow) == [0, 0, 1, 2, 3, 4, "late"]
        assert await store.read(client, "slept") == [0, 0, 1, 2, 3, 4, "late"]

    run(work)


def test_a_writer_that_was_slow_while_others_were_fast_does_not_lose_its_change(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have had time for many versions, but none to clear away the one that is in the way."""

    async def work(client: PrefectClient) -> None:
        await store.change(client, "fast", lambda _: [0])
        create, first = store._create, [True]

        async def after_others(client: PrefectClient, key: str, number: int, document: Any, began: float) -> bool:
            if first:
                first.clear()
                for n in range(store.KEPT + 2):
                    await store.change(client, "fast", added(n))
            return await create(client, key, number, document, began)

        monkeypatch.setattr(store, "_create", after_others)
        await store.change(client, "fast", added("slow"))
        assert await store.read(client, "fast") == [0, 0, 1, 2, 3, 4, "slow"]

    run(work)


DEEP: Any = []
for _ in range(400):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("name", "value"), [("half", "a\ud800b"), ("nul", "a\x00b"), ("deep", DEEP), ("huge", 10**400), ("emoji", "🔴é")]
)
def test_whatever_a_service_answers_can_be_kept(prefect_api: str, name: str, value: Any) -> None:
    async def work(client: PrefectClient) -> None:
        for n in range(2):
            await store.change(client, f"odd {name}", lambda _, n=n: {"n": n, "x": value})
        assert await store.read(client, f"odd {name}") == {"n": 1, "x": value}

    run(work)


def test_a_document_that_is_damaged_or_gone_is_none(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        for key, damage in (("gone", None), ("edited", "oops"), ("emptied", {}), ("cut", {"artifact": 7})):
            await store.change(client, key, lambda _: noise(8000))
            [version] = await store._versions(client, key)
            if damage is None:
                names = {"id": version.value["artifact"]}
                await client.request("DELETE", "/artifacts/{id}", path_params=names)
            else:
                names = {"name": version.variable}
                await client.request("PATCH", "/variables/name/{name}", path_params=names, json={"value": damage})
            assert await asyncio.wait_for(store.read(client, key), 10) is None
            assert await store.change(client, key, added(1)) == [1]
            assert await store.read(client, key) == [1]

    run(work)


def test_it_gives_up_where_others_are_always_faster(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> None:
        pass

    monkeypatch.setattr(store, "_create", never)
    with pytest.raises(store.Contended, match="contended 1"):
        run(lambda client: store.change(client, "contended 1", added(1)))


# ── the server is away ───────────────────────────────────────────────────────────────────────────────────────


async def _opened_after(seconds: float, through: Door) -> None:
    await asyncio.sleep(seconds)
    await through.open()


def behind_a_door(prefect_api: str, work: Callable[[PrefectClient, Door], Awaitable[Any]]) -> Any:
    async def with_door() -> Any:
        async with (
            door(urlsplit(prefect_api).port or 0) as through,
            PrefectClient(f"http://127.0.0.1:{through.port}/api") as client,
        ):
            return await work(client, through)

    return asyncio.run(with_door())


def test_a_server_that_is_not_there_yet_is_waited_for(prefect_api: str) -> None:
    async def work(client: PrefectClient, through: Door) -> None:
        opening = asyncio.create_task(_opened_after(1.0, through))
        assert await store.change(client, "early", added(1)) == [1]
        await opening
        assert await store.read(client, "early") == [1]

    behind_a_door(prefect_api, work)


def test_a_server_that_goes_away_with_the_answer_has_the_change_once(prefect_api: str) -> None:
    async def work(client: PrefectClient, through: Door) -> None:
        await through.open()
        await store.change(client, "restarted", added(1))
        lost: list[bytes] = []

        def loses(question: bytes) -> bool:
            created = question.startswith(b"POST /api/variables/ ") and not lost
            lost.extend([question] if created else [])
            return created

        through.loses = loses
        opening = asyncio.create_task(_opened_after(1.5, through))
        assert await store.change(client, "restarted", added(2)) == [1, 2]
        await opening
        assert len(lost) == 1 and await store.read(client, "restarted") == [1, 2]
        assert len(await variables(client, "restarted")) == 2

    behind_a_door(prefect_api, work)


def test_a_server_that_is_busy_is_asked_again_soon(prefect_api: str) -> None:
    """Prefect's client would take six seconds and more for it, and still does for others."""

    async def work(client: PrefectClient, through: Door) -> None:
        await through.open()
        through.busy = 2
        began = time.monotonic()
        assert await store.change(client, "busy", added(1)) == [1]
        assert through.busy == 0 and time.monotonic() - began < 1.5
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            through.shut()
            await through.open()
            through.busy = 1
            with pytest.raises(httpx.HTTPStatusError, match="503"):
                await client.request("GET", "/health")

    behind_a_door(prefect_api, work)


def test_a_server_that_stays_busy_is_given_up_on(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "PATIENCE", 0.5)

    async def work(client: PrefectClient, through: Door) -> None:
        await through.open()
        through.busy = 1000
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            await store.read(client, "always busy")

    behind_a_door(prefect_api, work)


def test_many_writers_at_once_wait_for_each_other_briefly(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> float:
        began = time.monotonic()
        for n in range(3):
            await asyncio.gather(*(store.change(client, f"writer {w}", lambda _, n=n: n) for w in range(8)))
        return time.monotonic() - began

    assert run(work) < 8


def test_it_gives_up_on_a_server_that_stays_away(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "PATIENCE", 0.5)

    async def work(client: PrefectClient, through: Door) -> float:
        began = time.monotonic()
        with pytest.raises(httpx.ConnectError):
            await store.read(client, "away")
        return time.monotonic() - began

    assert 0.2 < behind_a_door(prefect_api, work) < 2


def test_what_the_server_refuses_is_not_asked_again(prefect_api: str) -> None:
    async def work(client: PrefectClient, through: Door) -> None:
        await through.open()
        await store.read(client, "refused")
        before = through.questions
        with pytest.raises(httpx.HTTPStatusError, match="422"):
            await patiently(client, lambda: client.request("POST", "/variables/filter", json={"limit": -1}))
        assert through.questions == before + 1

    behind_a_door(prefect_api, work)
