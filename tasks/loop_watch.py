"""How late the runs' event loop is, and who blocks it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

EVERY = 0.5  # seconds between two looks
TOO_LONG = 1.0  # seconds without a turn, from which on the culprit is named
_FRAMES = 12  # of its stack, innermost last


class LoopWatch:
    """A thread that asks the loop for a sign of life, again and again, and logs the stack of what keeps it from one."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: threading.Thread,
        logger: logging.Logger | logging.LoggerAdapter[Any],
        seen: Callable[[float], None],
    ) -> None:
        """`seen` is told, for each look, how many seconds the loop needed to answer. Called in the watch's thread."""
        self._loop, self._watched, self._logger, self._seen = loop, thread, logger, seen
        self._stopped = threading.Event()
        self._answered_at = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def silent_for(self) -> float:
        """Seconds since the loop's last sign of life; about EVERY when all is well."""
        return time.monotonic() - self._answered_at

    def _watch(self) -> None:
        while not self._stopped.wait(EVERY):
            asked, answered = time.monotonic(), threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if not answered.wait(TOO_LONG):
                self._wait_out(answered, asked)
            self._answered_at = time.monotonic()
            self._seen(self._answered_at - asked)

    def _wait_out(self, answered: threading.Event, asked: float) -> None:
        self._logger.warning(
            "The event loop of all runs has been blocked for %g s by %s:\n%s", TOO_LONG, self._culprit(), self._stack()
        )
        while not answered.wait(EVERY):
            if self._stopped.is_set():
                return
        self._logger.warning("The event loop turns again, after %.1f s", time.monotonic() - asked)

    def _culprit(self) -> str:
        task = asyncio.current_task(self._loop)
        return f"flow run {task.get_name()}" if task is not None else "something between two tasks"

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._watched.ident or 0)
        return "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else "(its thread has ended)"
