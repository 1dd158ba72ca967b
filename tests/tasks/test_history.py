"""A backtest against a real Prometheus: it agrees with live runs, finds releases, and says what went wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firstwatch.backtest import BacktestResult, Part
from firstwatch.cli import main
from firstwatch.gate import Gate, judged
from firstwatch.model import Outcome, Release, Verdict, rfc3339
from firstwatch.past import PastRelease
from firstwatch.spec import Service, load_or_raise
from firstwatch.spec.canary import metrics_of
from firstwatch.spec.fill import fill
from firstwatch.timeline import Ruling, Watch, looks
from tasks import past
from tasks.canary import Meter
from tasks.history import Replay
from tasks.measure import measure
from tasks.prometheus import PrometheusSource
from tests.support.prometheus import RunningPrometheus, openmetrics, prometheus_of
from tests.support.releases import DEPLOYED, FILE, KINDS, history

ROOT = Path(__file__).parents[2]
VERDICTS = dict(zip(KINDS, ("healthy", "unhealthy", "unhealthy", "unhealthy", "healthy"), strict=True))
SERVICES = {**{f"{kind}-0": kind for kind in KINDS}, "errors-1": "errors"}
DAY = 86400.0
CANARY = """
canary:
  metrics:
    - name: success-rate
      initialDelay: 1m
      interval: 30s
      count: 8
      successCondition: result[0] >= 0.99
      consecutiveFailureLimit: 3
      provider:
        prometheus:
          query: |
            sum(rate(http_requests_total{svc="{{service}}",status!~"5.."}[1m]))
            / sum(rate(http_requests_total{svc="{{service}}"}[1m]))
    - name: waiting
      interval: 30s
      count: 4
      minSample: 100
      dryRun: true
      successCondition: result[0] < 100
      provider: {prometheus: {query: 'sum(queue_depth{svc="{{service}}"})'}}
"""
"""The mission's gate, and a metric whose query and whose requests are fetched apart."""
NAMES = {"error rate", "p95 latency", "memory trend", "DB connections", "queue", "memory creep", "success-rate"}
GATES = {"healthy": "healthy", "errors": "unhealthy", "down": "inconclusive"}


def versions() -> dict[str, list[tuple[float, float]]]:
    """v1, then v2 beside it and instead of it, v1 again; an outage of all; and a version that was always there."""

    def scraped(*spans: tuple[float, float]) -> list[tuple[float, float]]:
        return [(DEPLOYED + t, t) for since, until in spans for t in range(int(since), int(until), 15)]

    return {
        'service="catalog",version="v1"': scraped((-DAY, 3600), (7200, 9000), (9900, 14400)),
        'service="catalog",version="v2"': scraped((3333, 7200)),
        'service="other",version="v9"': scraped((0, 600)),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrometheus]:
    text = history(SERVICES).removesuffix("# EOF\n") + openmetrics({"catalog_build_info": versions()})
    with prometheus_of(tmp_path_factory.mktemp("history"), text) as running:
        yield running


def fleet(url: str, more: str = "") -> Service:
    return load_or_raise(FILE % url + more, "fleet.yaml", {})


def release(service: str, at: float = DEPLOYED) -> PastRelease:
    return PastRelease(Release(service, "v2", at), at)


def replayed(service: Service, releases: list[PastRelease], only: Part | None = None) -> tuple[BacktestResult, ...]:
    return asyncio.run(Replay(service, releases, 1, only).run(lambda _: None)).results


# ── a live verdict and its replay agree ──────────────────────────────────────────────────────────────────────


def seldom(file: Service) -> Service:
    """A look every 30 s: each look of the live run asks all its questions anew."""
    return file.model_copy(update={"window": file.window.model_copy(update={"look_every": 30.0})})


async def lived(file: Service, service: str) -> Ruling:
    """The window as a live run takes it: a question at each look, which sees nothing of what comes later."""
    filled = fill(file, name=service, version="v2", args={})
    watch = Watch(filled.window, filled.objectives, DEPLOYED)
    async with PrometheusSource(file.metrics.prometheus) as source:
        for look in looks(filled.window, DEPLOYED):
            now = look.at + 0.4  # no look is taken on the dot
            begun = [c for c in filled.window.checkpoints if DEPLOYED + c.at <= now]
            measured = await measure(source, filled, begun, DEPLOYED, now, None)
            watch = watch.after(look, measured.until(look.at))
            if watch.ruling.final:
                break
    return watch.ruling


@pytest.mark.parametrize("kind", KINDS)
def test_a_live_verdict_and_its_replay_agree(server: RunningPrometheus, kind: str) -> None:
    file = seldom(fleet(server.url))
    live = asyncio.run(lived(file, f"{kind}-0"))
    (replay,) = replayed(file, [release(f"{kind}-0")])
    assert (replay.verdict, replay.decided_at) == (live.verdict, live.decided_at)
    assert str(live.verdict) == VERDICTS[kind]
    # The text of a query names the time that was asked for, which is a look's there and the window's here.
    assert replay.reasons == tuple(
        dataclasses.replace(reason, query=again.query)
        for reason, again in zip(live.reasons, replay.reasons, strict=True)
    )
    assert replay.reasons[0].check == {"leak": "memory trend"}.get(kind, "error rate")


async def gated(file: Service, service: str, deployed: float) -> Ruling:
    """The gate as a live run takes it: each metric asked when it is due."""
    filled = fill(file, name=service, version="v2", args={})
    assert filled.canary is not None
    gate, by_name = Gate(filled.canary, deployed), {m.name: m for m in metrics_of(filled.canary)}
    async with Meter(filled, deployed) as meter:
        while (due := gate.due) is not None:
            answers = {n: await meter.answer(by_name[n], due.at) for n in due.numbers}
            gate = gate.after({n: judged(gate, filled.objectives, by_name[n], a, due.at) for n, a in answers.items()})
    return gate.ruling


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("deployed", [DEPLOYED, DEPLOYED + 0.0008])
def test_a_live_gate_and_its_replay_agree(server: RunningPrometheus, kind: str, deployed: float) -> None:
    file = fleet(server.url, CANARY)
    live = asyncio.run(gated(file, f"{kind}-0", deployed))
    (replay,) = replayed(file, [release(f"{kind}-0", deployed)], "canary")
    assert (replay.verdict, replay.decided_at, replay.reasons) == (live.verdict, live.decided_at, live.reasons)
    assert str(live.verdict) == GATES[kind]


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────

COMMAND = (
    sys.executable,
    "-c",
    "import sys, firstwatch.cli as c; e = c.main(); sys.exit(99 * ('prefect' in sys.modules) or e)",
)
"""`firstwatch`; it exits with 99 if it has imported Prefect, which takes seconds."""


def firstwatch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "backtest", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "240"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def written(folder: Path, url: str, releases: Any, more: str = "") -> tuple[str, ...]:
    (folder / "fleet.yaml").write_text(FILE % url + more)
    (folder / "releases.json").write_text(json.dumps(releases))
    return "fleet.yaml", "--releases", "releases.json"


def test_the_command_line_from_end_to_end(server: RunningPrometheus, tmp_path: Path) -> None:
    releases = [
        {"service": name, "version": "v2", "deployed_at": DEPLOYED, "kind": kind} for name, kind in SERVICES.items()
    ]
    releases[0]["deployed_at"] = rfc3339(DEPLOYED)
    releases.append({"service": "nobody", "version": "v1", "deployed_at": "2026-01-01T01:00:00+01:00"})
    releases.append({"service": "healthy-0", "version": "v3", "deployed_at": DEPLOYED - 30 * DAY})
    file = written(tmp_path, server.url, releases, CANARY)
    done = firstwatch(*file, "--json", "out.json", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = json.loads((tmp_path / "out.json").read_text())
    assert [(o["service"], o["version"], o["deployed_at"]) for o in out] == [
        (r["service"], r["version"], r["deployed_at"]) for r in releases
    ]
    assert [o["verdict"] for o in out] == [VERDICTS[k] for k in SERVICES.values()] + ["inconclusive"] * 2
    assert all(
        set(reason) == {"check", "at", "value", "limit", "sample", "why"} for o in out for reason in o["reasons"]
    )
    bad = next(o for o in out if o["service"] == "errors-0")
    assert bad["reasons"][0]["at"] == bad["decided_at"] == rfc3339(DEPLOYED + bad["after_s"])
    assert out[-1]["reasons"] and "objective 1 %" in bad["reasons"][0]["why"]
    assert [(r["check"], r["at"]) for r in bad["reasons"] if r["check"] in ("error rate", "success-rate")] == [
        ("error rate", bad["decided_at"]),
        ("success-rate", rfc3339(DEPLOYED + 120)),
    ]
    good = next(o for o in out if o["service"] == "gap-0")
    assert {"error rate", "success-rate"} <= {r["check"] for r in good["reasons"]}
    last = done.stdout.splitlines()[-1]
    assert last.startswith("4 of 8 releases would have been rolled back (half of them by T+")
    assert last.endswith("2 are healthy, 2 are inconclusive.")
    (rate,) = [line for line in done.stdout.splitlines() if line.startswith("error rate")]
    assert "(availability: 9" in rate and "1 fell silent, which no limit changes" in rate
    (rate,) = [line for line in done.stdout.splitlines() if line.startswith("canary success-rate")]
    assert rate.split()[2:4] == ["0", "2"] and "successCondition: result[0] >= 0.9" in rate.split("  ")[-1]


def commanded(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The same in this process: exit code, what is printed, and what is told."""
    code = main(["backtest", *arguments])
    return code, *capsys.readouterr()


def test_the_gate_or_the_window_alone(
    server: RunningPrometheus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    releases = [{"service": f"{kind}-0", "version": "v2", "deployed_at": DEPLOYED} for kind in GATES]
    file = written(tmp_path, server.url, releases, CANARY)
    code, said, told = commanded(capsys, *file, "--only", "canary", "--json", "-")
    assert code == 0, told
    out = json.loads(said)
    assert [o["verdict"] for o in out] == list(GATES.values())
    assert {r["check"] for o in out for r in o["reasons"]} == {"success-rate"}
    assert "canary success-rate" in told and "memory trend" not in told
    code, said, _ = commanded(capsys, *file, "--only", "window", "--json", "-")
    assert [o["verdict"] for o in json.loads(said)] == [VERDICTS[kind] for kind in GATES]
    assert "success-rate" not in said


def test_the_limit_for_none_is_one_at_which_none_fails_and_hardly_less_is_not(server: RunningPrometheus) -> None:
    file = fleet(server.url)
    rate, *_, queue, _ = file.window.checkpoints  # a window of the one that fails and of one that is quick to judge
    window = {"checkpoints": [rate, queue.model_copy(update={"at": 600.0})]}
    file = file.model_copy(update={"window": file.window.model_copy(update=window)})
    names = ["errors-0", "errors-1", "healthy-0"]
    replay = Replay(file, [release(name) for name in names], 1)
    found = asyncio.run(replay.run(lambda _: None)).thresholds[0]
    assert (found.check, found.failed, found.gone) == ("error rate", 2, 0)
    assert found.needed is not None and 0.03 < found.needed < 0.08

    def with_availability(limit: float) -> Service:
        return file.model_copy(update={"objectives": file.objectives.model_copy(update={"availability": 1 - limit})})

    verdicts = {
        share: [r.verdict for r in replayed(with_availability(share), [release(name) for name in names])]
        for share in (found.needed, 0.97 * found.needed)
    }
    assert Verdict.UNHEALTHY not in verdicts[found.needed]
    assert Verdict.UNHEALTHY in verdicts[0.97 * found.needed]


def test_without_an_answer_nothing_is_healthy_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    releases = [{"service": f"s{i}", "version": "v2", "deployed_at": DEPLOYED} for i in range(20)]
    file = written(tmp_path, "http://127.0.0.1:9", releases, CANARY)
    text = (tmp_path / "fleet.yaml").read_text()
    (tmp_path / "fleet.yaml").write_text(text.replace('"}', '", timeout: 0.5s}', 1))
    began = time.monotonic()
    code, said, told = commanded(capsys, *file, "--json", "-")
    assert time.monotonic() - began < 15
    assert code == 1
    out = json.loads(said)
    assert [o["verdict"] for o in out] == ["inconclusive"] * 20
    assert all("cannot be reached: connection refused" in o["reasons"][0]["why"] for o in out)
    assert "20 are inconclusive (20 because we could not measure or judge)" in told


def test_all_that_is_wrong_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [{"service": "a b"}, {"service": "s", "version": "1", "deployed_at": "?"}]
    file = written(tmp_path, "http://127.0.0.1:9", wrong)
    more = ("--last", "soon", "--jobs", "0", "--json", "no/where.json", "--only", "canary")
    code, printed, told = commanded(capsys, *file, *more)
    assert (code, printed) == (2, "")
    for said in (
        "releases[0] has no version",
        "releases[0] has no deployed_at",
        "releases[0].service: 'a b'",
        "releases[1].deployed_at: '?' is no time",
        "--last: 'soon'",
        "--jobs: 0",
        "--json: no/where.json",
        "--releases names",
        "--only canary: fleet.yaml has no canary section",
    ):
        assert said in told


def test_what_a_canary_misses_is_said_with_the_way_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    releases = [{"service": "a", "version": "2", "deployed_at": DEPLOYED}]
    file = written(
        tmp_path,
        "http://127.0.0.1:9",
        releases,
        CANARY.replace("< 100", "< {{args.most}}") + "  args: [{name: most}]\n",
    )
    code, _, told = commanded(capsys, *file)
    assert code == 2
    assert "{{args.most}} has no value (hint: give it under args, or --only window)" in told


def test_ctrl_c_leaves_what_is_done_in_other_processes(server: RunningPrometheus, tmp_path: Path) -> None:
    releases = [{"service": n, "version": f"v{i}", "deployed_at": DEPLOYED + i} for i in range(40) for n in SERVICES]
    file = written(tmp_path, server.url, releases, CANARY)
    with subprocess.Popen(
        [*COMMAND, "backtest", *file, "--jobs", "2", "--json", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # a job in the background ignores it
    ) as process:
        assert process.stderr is not None
        while "releases replayed" not in (line := process.stderr.readline()):
            assert line, "it ended before a word of progress"
        os.killpg(process.pid, signal.SIGINT)
        said, more = process.communicate(timeout=30)
    assert process.returncode == 130, more
    out = json.loads((tmp_path / "out").read_text())
    assert 0 < len(out) < len(releases)
    assert {r["check"] for o in out for r in o["reasons"]} <= NAMES, "each was measured, sent over and judged"
    assert said.rstrip().endswith(f"{len(releases) - len(out)} more are not done.")


# ── finding past releases ────────────────────────────────────────────────────────────────────────────────────


def test_releases_are_found_by_the_version_label(server: RunningPrometheus) -> None:
    file = fleet(server.url)
    requests = 'nothing_total{service="{{service}}",version="{{version}}"}'
    signals = file.signals.model_copy(update={"requests": requests})
    file = file.model_copy(update={"service": "catalog", "signals": signals})
    found, how = asyncio.run(past.find(file, [], "prometheus", 0.9 * DAY, DEPLOYED + 14400))
    assert [(p.release.service, p.release.version) for p in found] == [("catalog", "v2"), ("catalog", "v1")]
    assert [p.release.deployed_at - DEPLOYED for p in found] == pytest.approx([3333, 7200], abs=0.01)
    assert how.startswith("2 found in the last 21h36m by the label version of ")


def test_nothing_found_says_where_it_was_looked_for(server: RunningPrometheus) -> None:
    with pytest.raises(past.NotFound, match="no change of a version label in the last 1h"):
        asyncio.run(past.find(fleet(server.url), [], "prometheus", 3600, DEPLOYED))
    unreachable = fleet("http://127.0.0.1:9").metrics.model_copy(update={"timeout": 0.1})
    with pytest.raises(past.NotFound, match="cannot be reached") as problem:
        away = fleet("http://127.0.0.1:9").model_copy(update={"metrics": unreachable})
        asyncio.run(past.find(away, [], "prometheus", 3600, DEPLOYED))
    assert problem.value.ours


def test_a_release_whose_window_is_not_over_is_not_healthy_yet(server: RunningPrometheus) -> None:
    (result,) = replayed(fleet(server.url), [release("healthy-0", time.time() - 60)])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reasons[-1].check == "window" and result.reasons[-1].outcome is Outcome.NOT_YET
