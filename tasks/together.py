"""Questions of one kind to one server, asked as one: those that come together, and those that come while one is asked.

Nobody waits for others to come: who comes alone is asked for at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Together(Generic[Question, Answer]):
    """`ask_all` asks for several and gives an answer to each, in their order. Belongs to one event loop."""

    def __init__(self, ask_all: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]) -> None:
        self._ask_all = ask_all
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer to this one. Raises what `ask_all` raises, as all do who were asked for with it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        await asyncio.sleep(0)  # those who come together go together
        while asked := self._who_waits():
            try:
                answers = await self._ask_all([question for question, _ in asked])
            except Exception as problem:
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(problem)
                continue
            for (_, answer), given in zip(asked, answers, strict=True):
                if not answer.done():
                    answer.set_result(given)

    def _who_waits(self) -> list[tuple[Question, asyncio.Future[Answer]]]:
        """All who have not left since."""
        waiting, self._waiting = self._waiting, []
        return [(question, answer) for question, answer in waiting if not answer.done()]


_meetings: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Together[Any, Any]]] = WeakKeyDictionary()


def together(
    kind: Hashable, ask_all: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]
) -> Together[Question, Answer]:
    """Where all in this event loop ask questions of this kind; `ask_all` is that of whoever comes first."""
    meetings = _meetings.setdefault(asyncio.get_running_loop(), {})
    return meetings.setdefault(kind, Together(ask_all))
