"""The main job, shown: a good release is watched and found healthy, a bad one is found out and rolled back.

    firstwatch demo            under three minutes, then everything is stopped
    firstwatch demo --keep     the Prefect UI stays up until Ctrl-C

Everything runs on 127.0.0.1, in processes of its own, and keeps what it writes under .demo/.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx

from demo.stack import ROOT, Shop, Stack

HOME = ROOT / ".demo"
VERIFY = "verify-release/production"
TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Demo:
    """The stack, and a voice that says with the seconds what happens."""

    def __init__(self, stack: Stack):
        self.stack, self.began = stack, time.monotonic()

    def say(self, text: str = "") -> None:
        print(f"{time.monotonic() - self.began:5.0f} s  {text}" if text else "", flush=True)

    def set_up(self) -> Shop:
        stack = self.stack
        shop = stack.shop("v1")
        self.say(f"demo shop v1 serves at {shop.url}")
        stack.traffic(shop.url, rps=40, seconds=600)
        stack.slack()
        if prometheus := stack.prometheus({"shop": shop.url}):
            self.say(f"a real Prometheus scrapes it: {prometheus.announced}")
        else:
            self.say("no Prometheus on the PATH: Firstwatch scrapes the shop's /metrics itself")
        self.say("starting a Prefect server, the deployments and a worker …")
        stack.prefect_server()
        stack.worker()
        stack.setup()
        self.say(f"Prefect UI: {stack.ui_url}")
        return shop

    def verify(self, version: str) -> tuple[str, str]:
        """What CI does after a deploy: run the deployment and watch it. Returns the flow run's state and its URL."""
        command = f"prefect deployment run {VERIFY} -p service=demo/shop.yaml -p version={version} --watch"
        self.say(f"$ {command}")
        watching = subprocess.Popen(
            command.split(), cwd=ROOT, env=self.stack.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            run = self._follow(version, watching)
            code = watching.wait(60)
        finally:
            if watching.poll() is None:
                watching.send_signal(signal.SIGINT)
        self.say(f"{run['state']['type'].capitalize()}({run['state']['name']}), exit code {code}")
        self.say(f"  {run['state']['message']}")
        return run["state"]["name"], f"{self.stack.ui_url}/runs/flow-run/{run['id']}"

    def _follow(self, version: str, watching: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Print each task run as it ends, until the flow run does."""
        shown: set[str] = set()
        while True:
            runs = self._ask("flow_runs/filter", flow_runs={"name": {"any_": [f"demo/shop.yaml {version}"]}})
            if runs:
                over = runs[0]["state"]["type"] in TERMINAL
                if over:
                    time.sleep(2)  # Prefect records task runs a moment after the fact
                query = {"flow_runs": {"id": {"any_": [runs[0]["id"]]}}, "sort": "END_TIME_DESC"}
                for task in reversed(self._ask("task_runs/filter", **query)):
                    if task["id"] not in shown and (task["state"] or {}).get("type") in TERMINAL:
                        shown.add(task["id"])
                        self._show(task)
                if over:
                    return runs[0]
            if watching.poll() is not None and not runs:
                raise RuntimeError(f"the deployment did not start; look into {HOME}")
            time.sleep(0.5)

    def _show(self, task: dict[str, Any]) -> None:
        state = task["state"]
        mark = "✓" if state["name"] in ("Completed", "Pass", "PassedOnRetry") else "✗"
        mark = "…" if state["name"] in ("NotYet", "NoData") else mark
        message = (state["message"] or "").splitlines() or [""]
        self.say(f"  {mark} {task['name']:34} {message[0][:110]}")

    def _ask(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = (
            httpx.post(f"{self.stack.api_url}/{path}", json=query, timeout=30, trust_env=False)
            .raise_for_status()
            .json()
        )
        return answer

    def slack_messages(self) -> None:
        """What people were told, as the local Slack printed it."""
        for line in (self.stack.home / "slack.log").read_text().splitlines():
            print(f"         {line}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="firstwatch demo", description=__doc__.split("\n")[0])
    parser.add_argument("--keep", action="store_true", help="leave the Prefect UI up until Ctrl-C")
    options = parser.parse_args(argv)
    shutil.rmtree(HOME, ignore_errors=True)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _interrupt)
    try:
        with Stack(HOME) as stack:
            return _run(Demo(stack), options.keep)
    except KeyboardInterrupt:
        print("\nstopped; everything it started has ended")
        return 130


def _interrupt(*_: object) -> None:
    """The first signal ends the demo; while it tidies up, further ones do not stop that."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(demo: Demo, keep: bool) -> int:
    shop = demo.set_up()

    demo.say()
    demo.say("A good release: v2 is deployed")
    shop.deploy("v2")
    good, good_url = demo.verify("v2")

    demo.say()
    demo.say("A bad release: v3 is deployed; after 8 s, one request in twelve fails")
    shop.deploy("v3", errors=0.08, after=8)
    bad, bad_url = demo.verify("v3")
    state = shop.state()
    demo.say(f"the shop answers with {state['version']} again, after {len(state['rollbacks'])} rollback")

    demo.say()
    demo.say("What Slack was told:")
    demo.slack_messages()
    demo.say()
    demo.say(f"healthy:     {good_url}")
    demo.say(f"rolled back: {bad_url}")
    as_shown = (good, bad, state["version"], len(state["rollbacks"])) == ("Healthy", "RolledBack", "v2", 1)
    if not as_shown:
        demo.say(f"this is not how the demo should end: {json.dumps({'good': good, 'bad': bad, **state})[:500]}")
    if keep:
        demo.say(f"The UI stays up at {demo.stack.ui_url}; Ctrl-C ends it")
        signal.pause()
    demo.say("stopping everything")
    return 0 if as_shown else 1


if __name__ == "__main__":
    sys.exit(main())
