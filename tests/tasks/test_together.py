"""Questions that are asked together: which ones, and that nobody's trouble or leaving is another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tasks.together import Together


class Server:
    """Answers each question with itself in capitals; `hold` keeps it from answering."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.broken = False

    async def __call__(self, questions: Sequence[str]) -> list[str]:
        self.asked.append(list(questions))
        await self.free.wait()
        if self.broken:
            raise LookupError("broken")
        return [question.upper() for question in questions]


async def answers(together: Together[str, str], questions: str) -> list[str]:
    return await asyncio.gather(*(together.ask(question) for question in questions))


def test_those_that_come_together_are_asked_together_and_each_has_its_answer() -> None:
    async def main() -> None:
        together = Together(server := Server())
        assert await answers(together, "abc") == ["A", "B", "C"]
        assert await answers(together, "d") == ["D"]
        assert server.asked == [["a", "b", "c"], ["d"]]

    asyncio.run(main())


def test_those_that_come_while_one_is_asked_are_the_next_and_who_left_is_not_asked_for() -> None:
    async def main() -> None:
        together = Together(server := Server())
        server.free.clear()
        first = asyncio.create_task(together.ask("a"))
        await asyncio.sleep(0.01)
        later = [asyncio.create_task(together.ask(question)) for question in "bcd"]
        await asyncio.sleep(0.01)
        later[1].cancel()
        first.cancel()  # its question is under way: that it left harms nobody
        server.free.set()
        assert [await later[0], await later[2]] == ["B", "D"]
        assert server.asked == [["a"], ["b", "d"]]

    asyncio.run(main())


def test_what_goes_wrong_is_told_to_those_who_asked_then_and_to_nobody_later() -> None:
    async def main() -> None:
        together = Together(server := Server())
        server.broken = True
        told = await asyncio.gather(together.ask("a"), together.ask("b"), return_exceptions=True)
        assert [str(problem) for problem in told] == ["broken", "broken"]
        server.broken = False
        assert await together.ask("c") == "C"

    asyncio.run(main())


def test_who_does_not_wait_for_ever_gets_away() -> None:
    async def main() -> None:
        together = Together(server := Server())
        server.free.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await together.ask("a")
        server.free.set()
        assert await together.ask("b") == "B"

    asyncio.run(main())
