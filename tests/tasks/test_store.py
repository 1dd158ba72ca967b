"""Documents on a real Prefect server: changed by several at once, killed writers, lost answers, long ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client

from tasks import store


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


def test_what_changes_nothing_writes_nothing(prefect_api: str) -> None:
    async def work(client: PrefectClient) -> None:
        await store.change(client, "still", lambda _: {"a": 1})
        before = await variables(client, "still")
        assert await store.change(client, "still", lambda document: document) == {"a": 1}
        assert await variables(client, "still") == before

    run(work)


@pytest.mark.parametrize("size", [10, 100_000])
def test_older_versions_are_cleared_away_long_ones_with_their_artifacts(prefect_api: str, size: int) -> None:
    async def work(client: PrefectClient) -> None:
        key, long = f"growing {size}", "é" * size
        for n in range(6):
            await store.change(client, key, lambda _, n=n: {"n": n, "text": long})
        assert await store.read(client, key) == {"n": 5, "text": long}
        versions = await store._versions(client, key)
        assert [v.number for v in versions] == [6, 5, 4]
        left = [a for a in await client.read_artifacts(limit=200) if a.description == f"firstwatch document {key}"]
        assert len(left) == (3 if size > 10 else 0)

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
                began -= 60
            return await create(client, key, number, document, began)

        monkeypatch.setattr(store, "_create", after_a_sleep)
        assert await store.change(client, "slept", slow) == [0, 0, 1, 2, 3, 4, "late"]
        assert await store.read(client, "slept") == [0, 0, 1, 2, 3, 4, "late"]

    run(work)


def test_it_gives_up_where_others_are_always_faster(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> bool:
        return False

    monkeypatch.setattr(store, "_create", never)
    with pytest.raises(store.Contended, match="contended 1"):
        run(lambda client: store.change(client, "contended 1", added(1)))
