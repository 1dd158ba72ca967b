"""An event loop in a thread of its own, for flow runs: what they do to it does not reach the worker's loop.

A thread of its own also keeps Prefect's engine from taking over SIGTERM: only the main thread can.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Work = Generator[Any, None, Any] | Coroutine[Any, Any, Any]

THREADS = 64
"""For blocking work that flows hand to threads. asyncio's default is six on two cores: six slow webhooks would hold
up all runs. An idle thread costs some 50 kB."""

run_name: contextvars.ContextVar[str] = contextvars.ContextVar("run_name")  # in the context of each run: its name


class RunLoop:
    """`start`, then `spawn`; `stop` when nothing is needed any more."""

    def __init__(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self.loop = asyncio.new_event_loop()
        self.context = contextvars.copy_context()  # what all runs see; each gets a copy of it
        self.thread = threading.Thread(target=self._turn, name="flow runs", daemon=True)
        self._logger = logger

    def start(self) -> None:
        self.loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="flow runs"))
        self.loop.set_task_factory(_named)
        self.thread.start()

    def spawn(self, work: Coroutine[Any, Any, T], context: contextvars.Context) -> Spawned[T]:
        """Begin the work on this loop, as a task in this context. Safe from any thread."""
        return Spawned(self.loop, work, context)

    def stop(self, patience: float = 2.0) -> None:
        """End the loop and wait for its thread, `patience` seconds at most: it may be blocked."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(patience)

    def _turn(self) -> None:
        """Turn the loop until it is stopped. What a flow's own tasks raise to end a process ends nothing here: asyncio
        lets SystemExit and KeyboardInterrupt out of the loop, which goes on where it was."""
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
                return
            except (SystemExit, KeyboardInterrupt) as problem:
                self._logger.error("A task of a flow run wanted to end the process: %r", problem)


def _named(
    loop: asyncio.AbstractEventLoop, work: Work, *, context: contextvars.Context | None = None
) -> asyncio.Task[Any]:
    """A task with the name of the run that it belongs to, so that the watchdog can say who blocks the loop."""
    name = context.get(run_name) if context is not None else run_name.get(None)
    return asyncio.Task(work, loop=loop, name=name, context=context)


class Spawned(Generic[T]):
    """A task in another thread's loop. `ended` has its result once it is over; after `cancel`, that takes a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], context: contextvars.Context):
        self.ended: Future[T] = Future()
        self._loop = loop
        self._task: asyncio.Task[T] | None = None  # the loop itself keeps only a weak hold of it
        loop.call_soon_threadsafe(self._begin, work, context)

    def cancel(self) -> None:
        """Ask the task to end. Safe from any thread."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self, work: Coroutine[Any, Any, T], context: contextvars.Context) -> None:
        self._task = self._loop.create_task(work, context=context)
        self._task.add_done_callback(self._hand_over)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _hand_over(self, task: asyncio.Task[T]) -> None:
        """The task's end to whoever waits for it, unless they have left."""
        if not self.ended.set_running_or_notify_cancel():
            return
        if task.cancelled():
            self.ended.set_exception(CancelledError())
        elif (problem := task.exception()) is not None:
            self.ended.set_exception(problem)
        else:
            self.ended.set_result(task.result())
