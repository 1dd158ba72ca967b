"""Keeps a Prefect server on SQLite from waiting for itself, a minute each time: finalizers run beside its event loop.

Python collects garbage in whichever thread happens to allocate: in the server, mostly the event loop's. Finalizing an
SQLite cursor needs the lock of its connection, and that is held by a thread that waits for another connection to finish
writing, for which the event loop would have to turn. Nothing moves until SQLite gives up, after 60 s. Ten runs that
start at once bring it about every hundred runs or so.

A Prefect server that has this package beside it loads this module as one of its collections; every other process does
so in vain.
"""

from __future__ import annotations

import gc
import sys
import threading
import time

EVERY = 1.0  # seconds between two collections of what is young
FULL = 15  # every so many of them, all of it
THREAD = "sweeper"

_SERVER = "prefect.server.api.server"


def serves() -> bool:
    """Whether this process is a Prefect server."""
    words = sys.orig_argv
    return _SERVER in sys.modules and ({"server", "start"} <= set(words) or any(_SERVER in word for word in words))


def sweep_elsewhere() -> None:
    """From now on, garbage is collected in a thread of its own, and nowhere else in this process."""
    if not any(thread.name == THREAD for thread in threading.enumerate()):
        gc.disable()
        threading.Thread(target=_sweep, name=THREAD, daemon=True).start()


def _sweep() -> None:
    turn = 0
    while True:
        time.sleep(EVERY)
        turn += 1
        gc.collect(1 if turn % FULL else 2)


if serves():
    sweep_elsewhere()
