"""Finalizers run in the sweeper's thread alone; without it, in whichever thread allocates."""

from __future__ import annotations

import subprocess
import sys

import pytest

GARBAGE = """
import sys, threading, time
from tasks.sweeper import serves, sweep_elsewhere
threads = set()
class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        threads.add(threading.current_thread().name)
if sys.argv[1] == "swept":
    sweep_elsewhere()
    sweep_elsewhere()
until = time.monotonic() + 10
while not threads and time.monotonic() < until:
    for _ in range(2000):
        Cycle()
    time.sleep(0.05)
print(serves(), *threads)
"""


@pytest.mark.parametrize(("how", "where"), [("swept", "sweeper"), ("not", "MainThread")])
def test_where_finalizers_run(how: str, where: str) -> None:
    ran = subprocess.run([sys.executable, "-c", GARBAGE, how], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["False", where]
