"""A real worker process on a real Prefect server: what its runs do to it, and what is done to them.

All runs are started at once, and each test waits for its own.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from demo.postgres import postgres
from demo.stack import Stack
from tasks.setup import MONITORS_QUEUE
from tasks.silence import RELEASE, VOUCHED_FOR
from tasks.worker import FirstwatchWorker
from tests.support.pool import Pool, Worker

MANY = 20
WORKER = "the-worker"
NARROW = ("--work-queue", "narrow", "--limit", "2")

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """On PostgreSQL: forty runs that start at once are more than SQLite takes."""
    with postgres() as database, Stack(tmp_path_factory.mktemp("worker")) as stack:
        stack.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url
        stack.prefect_server()
        yield Pool(stack, "in-process")


@pytest.fixture(scope="module")
def starting(pool: Pool) -> Iterator[tuple[Worker, Worker]]:
    """The worker of most tests, and one for another queue that ends in the course of its test."""
    pool.post(f"work_pools/{pool.name}/queues", name="narrow")
    worker = Worker(pool, WORKER, "--work-queue", "default")
    leaving = Worker(pool, "leaving", *NARROW, FIRSTWATCH_WORKER_DRAIN_SECONDS="4")
    try:
        yield worker, leaving
    finally:
        worker.process.stop(30)
        leaving.process.stop()


@pytest.fixture(scope="module")
def runs(pool: Pool, starting: tuple[Worker, Worker]) -> dict[str, str]:
    """The runs that the tests look at, by what they are to show."""
    ours = pool.deploy("waits", name="ours", tags=[RELEASE])
    elsewhere = pool.deploy("waits", name="elsewhere", path="/somewhere/else")
    return {
        "ours": pool.start_of(ours, number=77, seconds=33),
        **{f"many {n}": pool.start("waits", number=n, seconds=6) for n in range(MANY)},
        **{how: pool.start("fails", how=how) for how in ("exit", "interrupt", "exit of its own task", "an error")},
        "hangs": pool.start("hangs"),
        "stubborn": pool.start("hangs", stubborn=True),
        "steps": pool.start("steps"),
        "superseded": pool.start("hangs"),
        "parks": pool.start("parks"),
        "flaky": pool.start("flaky"),
        "too slow": pool.start("too_slow"),
        "synchronous": pool.start("synchronous"),
        "forgotten": _left_as(pool, "CRASHED", "Crashed"),
        "nobody's": _left_as(pool, "PENDING", "Pending"),
        "elsewhere": pool.start_of(elsewhere),
    }


@pytest.fixture(scope="module")
def worker(runs: dict[str, str], starting: tuple[Worker, Worker]) -> Worker:
    return starting[0].ready()


def test_many_runs_at_once_each_in_a_context_of_its_own(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    many = [pool.wait(runs[f"many {n}"]) for n in range(MANY)]
    assert [run["state"]["name"] for run in many] == ["Completed"] * MANY
    assert [run["name"] for run in many] == [f"waits {n}" for n in range(MANY)]
    together = min(run["end_time"] for run in many)
    assert sum(run["start_time"] < together for run in many) > MANY / 2, "they ran one after the other"


def test_logs_are_the_runs_own_and_the_code_is_loaded_once(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    loads = set()
    for n in (0, 1, 2):
        pool.wait(runs[f"many {n}"])
        said = re.findall(r"number (\d+), code (\d+)", "\n".join(pool.logs(runs[f"many {n}"], seconds=5)))
        assert {number for number, _ in said} == {str(n)}
        loads |= {code for _, code in said}
    assert len(loads) == 1


@pytest.mark.parametrize("how", ["exit", "interrupt", "exit of its own task"])
def test_a_run_that_would_end_its_process_ends_alone(
    how: str, pool: Pool, runs: dict[str, str], worker: Worker
) -> None:
    assert pool.wait(runs[how])["state"]["type"] == "CRASHED"
    assert pool.wait(runs["many 3"])["state"]["type"] == "COMPLETED"
    assert worker.process.alive()


def test_an_error_fails_its_run(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    assert pool.wait(runs["an error"])["state"]["type"] == "FAILED"


def test_who_blocks_the_loop_is_named_with_the_place(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    lag = worker.metric("firstwatch_worker_loop_lag_seconds_sum")
    blocking = pool.start("blocks", seconds=2.5)
    assert pool.wait(blocking)["state"]["name"] == "Completed"
    assert pool.wait(pool.start("waits", number=5))["state"]["name"] == "Completed"
    assert f"blocked for 1 s by flow run blocks ({blocking})" in re.sub(r"\s+", " ", worker.log)
    assert "_hold_everybody_up" in worker.log
    assert worker.metric("firstwatch_worker_loop_lag_seconds_sum") > lag + 2


def test_a_cancelled_run_ends_within_seconds(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    pool.wait(runs["hangs"], "RUNNING")
    pool.set_state(runs["hangs"], "CANCELLING", "Cancelling")
    asked = time.monotonic()
    run = pool.wait(runs["hangs"])
    assert run["state"]["name"] == "Cancelled"
    assert time.monotonic() - asked < 6
    assert pool.states(runs["hangs"]) == ["Scheduled", "Pending", "Running", "Cancelling", "Cancelled"]
    assert "its cancellation hook ran" in worker.log


def test_a_run_that_takes_no_for_an_answer_is_asked_again(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    pool.wait(runs["stubborn"], "RUNNING")
    pool.set_state(runs["stubborn"], "CANCELLING", "Cancelling")
    assert pool.wait(runs["stubborn"])["state"]["name"] == "Cancelled"


def test_a_run_that_parks_itself_is_entered_again(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    run = pool.wait(runs["parks"])
    assert (run["state"]["name"], run["run_count"]) == ("Completed", 2)
    assert "Waiting T+2s" in pool.states(runs["parks"])


def test_a_run_that_is_suspended_leaves_and_comes_back(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    pool.wait(runs["steps"], "RUNNING")
    pool.set_state(runs["steps"], "PAUSED", "Suspended", pause_reschedule=True, pause_timeout="2100-01-01T00:00:00Z")
    until = time.monotonic() + 15
    while not worker.metric("firstwatch_worker_runs_ended_total", flow="steps", state="Suspended"):
        assert time.monotonic() < until, "it goes on, suspended or not"
        time.sleep(0.2)
    pool.post(f"flow_runs/{runs['steps']}/resume")
    assert pool.wait(runs["steps"])["state"]["name"] == "Completed"
    assert pool.states(runs["steps"]).count("Running") == 2


def test_a_run_that_was_taken_for_dead_makes_room(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    """As an automation schedules it when its heartbeats got lost: the old attempt leaves, and says nothing more."""
    pool.wait(runs["superseded"], "RUNNING")
    pool.set_state(runs["superseded"], "SCHEDULED", "Restarting", force=True, scheduled_time=_now())
    run = pool.wait(runs["superseded"])
    assert (run["state"]["name"], run["run_count"]) == ("Completed", 2)
    assert not {"Crashed", "Cancelled"} & set(pool.states(runs["superseded"]))


def test_retries_are_kept(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    run = pool.wait(runs["flaky"])
    assert (run["state"]["name"], run["run_count"]) == ("Completed", 3)


def test_a_time_limit_is_kept(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    assert pool.wait(runs["too slow"])["state"]["name"] == "TimedOut"


@pytest.mark.parametrize(
    ("which", "why"), [("synchronous", "is not `async def`"), ("elsewhere", "its code lies in /somewhere/else")]
)
def test_what_needs_a_process_of_its_own_says_so(
    which: str, why: str, pool: Pool, runs: dict[str, str], worker: Worker
) -> None:
    state = pool.wait(runs[which])["state"]
    assert state["type"] == "CRASHED" and why in state["message"], state


def test_the_worker_says_how_it_is(pool: Pool, runs: dict[str, str], worker: Worker) -> None:
    pool.wait(runs["many 0"])
    assert httpx.get(f"{worker.url}/healthz", trust_env=False).text == "ok\n"
    assert httpx.get(f"{worker.url}/elsewhere", trust_env=False).status_code == 404
    assert worker.metric("firstwatch_worker_runs_started_total", flow="waits") >= MANY
    assert worker.metric("firstwatch_worker_runs_ended_total", flow="waits", state="Completed") >= 1
    assert worker.metric("firstwatch_worker_run_late_seconds_count") >= MANY
    assert worker.metric("firstwatch_worker_loop_lag_seconds_count") > 5


def test_a_worker_keeps_its_limit_and_leaves_what_does_not_end_to_the_next(
    pool: Pool, starting: tuple[Worker, Worker]
) -> None:
    waits = pool.deploy("waits", name="narrow", work_queue_name="narrow")
    hangs = pool.deploy("hangs", name="narrow", work_queue_name="narrow")
    leaving = starting[1].ready()
    few = [pool.start_of(waits, number=n, seconds=1) for n in range(5)]
    pool.wait(few[0], "RUNNING")
    until = time.monotonic() + 15
    while not (waiting := leaving.metric("firstwatch_worker_runs_waiting")) and time.monotonic() < until:
        time.sleep(0.1)
    assert waiting > 0
    over = [pool.wait(run) for run in few]
    for run in over:
        assert sum(o["start_time"] <= run["start_time"] < o["end_time"] for o in over) <= 2

    lasting, short = pool.start_of(hangs), pool.start_of(waits, number=9, seconds=2)
    for run in (lasting, short):
        pool.wait(run, "RUNNING")
    leaving.process.popen.send_signal(signal.SIGTERM)
    successor = Worker(pool, "successor", *NARROW)
    try:
        late = pool.start_of(waits, number=10)
        assert leaving.process.popen.wait(60) == 0  # it drains for four seconds; the rest is a busy machine
        assert pool.wait(lasting)["run_count"] == 2
        assert pool.wait(late)["state"]["name"] == "Completed"
    finally:
        successor.process.stop()
    assert pool.states(short).count("Running") == 1, "it had the time to end"
    assert pool.states(lasting)[:4] == ["Scheduled", "Pending", "Running", "Restarting"]


def test_where_there_is_not_room_for_all_releases_go_before_monitors(pool: Pool) -> None:
    """With the queue that `firstwatch setup` makes, though the monitors have waited for longer."""
    narrow = Pool(pool.stack, "production")
    setup = "import asyncio; from tasks.setup import ensure_monitors_queue; asyncio.run(ensure_monitors_queue())"
    pool.stack.run(sys.executable, "-c", setup).check_returncode()
    monitors = narrow.deploy("waits", name="monitors", work_queue_name=MONITORS_QUEUE)
    releases = narrow.deploy("waits", name="releases")
    rounds = [narrow.start_of(monitors, number=n, seconds=0.5) for n in range(4)]
    release = narrow.start_of(releases, number=9, seconds=0.5)
    worker = Worker(narrow, "one-room", "--limit", "1")
    try:
        began = {run: str(narrow.wait(run)["start_time"]) for run in (*rounds, release)}
    finally:
        worker.process.stop()
    assert began[release] == min(began.values()), began


def test_runs_of_a_worker_that_was_killed_go_on_in_another_within_a_minute(
    pool: Pool, runs: dict[str, str], worker: Worker
) -> None:
    """The one that lives longest finds them; whoever serves their queue takes them up."""
    for run in (runs["forgotten"], runs["nobody's"]):  # they are adopted too, by whichever worker
        pool.wait(run, "COMPLETED", seconds=180)
    before = worker.metric("firstwatch_worker_runs_adopted")
    pool.post(f"work_pools/{pool.name}/queues", name="deadly")
    hangs = pool.deploy("hangs", name="deadly", work_queue_name="deadly")
    victim = Worker(pool, "victim", "--work-queue", "deadly").ready()
    left = [pool.start_of(hangs) for _ in range(3)]
    for run in left:
        pool.wait(run, "RUNNING")
    assert {pool.run(run)["infrastructure_pid"].rpartition("/")[0] for run in left} == {"victim"}
    victim.process.kill()
    killed = time.monotonic()
    heir = Worker(pool, "heir", "--work-queue", "deadly").ready()
    try:
        for run in left:
            found = pool.wait(run, "COMPLETED")
            assert (found["run_count"], found["infrastructure_pid"].rpartition("/")[0]) == (2, "heir")
        assert time.monotonic() - killed < 60
        adopted = [other.metric("firstwatch_worker_runs_adopted") for other in (worker, heir)]
        assert adopted[0] - before == 3 or adopted[1] == 3, (before, adopted)
        assert [pool.states(run).count("Restarting") for run in left] == [1, 1, 1]
    finally:
        heir.process.kill()


def test_a_worker_that_comes_back_under_its_name_goes_on_at_once(pool: Pool) -> None:
    pool.post(f"work_pools/{pool.name}/queues", name="again")
    hangs = pool.deploy("hangs", name="again", work_queue_name="again")
    phoenix = Worker(pool, "phoenix", "--work-queue", "again").ready()
    run = pool.start_of(hangs)
    pool.wait(run, "RUNNING")
    phoenix.process.kill()
    again = Worker(pool, "phoenix", "--work-queue", "again").ready()
    back = time.monotonic()
    try:
        assert pool.wait(run, "COMPLETED")["run_count"] == 2
        assert time.monotonic() - back < 15
    finally:
        again.process.stop()


@pytest.mark.parametrize("run", ["forgotten", "nobody's"])
def test_a_run_of_which_the_server_told_nobody_goes_on(
    pool: Pool, runs: dict[str, str], worker: Worker, run: str
) -> None:
    """One that crashed, and one that was taken and that nobody has. No automation is set up here."""
    pool.wait(runs[run], "COMPLETED", seconds=180)
    assert "Restarting" in pool.states(runs[run])
    assert pool.run(runs["synchronous"])["state"]["type"] == "CRASHED", "it is not one of ours"


def test_the_worker_vouches_for_a_run_of_ours_which_does_not_beat(
    pool: Pool, runs: dict[str, str], worker: Worker
) -> None:
    def events(run: str) -> dict[str, list[dict[str, Any]]]:
        resource, by_name = {"id": [f"prefect.flow-run.{runs[run]}"]}, defaultdict(list)
        for event in pool.post("events/filter", filter={"resource": resource})["events"]:
            by_name[event["event"]].append(event)
        return by_name

    pool.wait(runs["ours"], seconds=60)
    pool.wait(runs["many 1"])
    until = time.monotonic() + 10
    while len((ours := events("ours"))[VOUCHED_FOR]) < 2:
        assert time.monotonic() < until, list(ours)
        time.sleep(0.5)
    assert "prefect.flow-run.heartbeat" not in ours
    (began,) = ours["prefect.flow-run.Running"]
    assert [vouched["follows"] for vouched in sorted(ours[VOUCHED_FOR], key=itemgetter("occurred"))] == [
        None,  # heard at once, whatever else the server waits for
        began["id"],  # heard after the beginning, which is what starts the counting
    ]
    assert VOUCHED_FOR not in events("many 1"), "no automation of ours looks after it"


def _left_as(pool: Pool, state: str, name: str) -> str:
    """A run of a deployment of ours that is left in that state, and that no worker has had."""
    waits = pool.deploy("waits", name="forgotten", tags=["firstwatch"])
    run = pool.start_of(waits, datetime.now(UTC) + timedelta(hours=1), number=8)  # no worker asks for it until then
    pool.set_state(run, state, name, force=True)
    return run


def _now() -> str:
    return datetime.now(UTC).isoformat()


def test_a_worker_whose_runs_are_blocked_is_not_heard_until_they_go_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heartbeat would vouch for all of them; without it, others take them up."""
    monkeypatch.setattr("tasks.worker.DEAF", 1.0)
    monkeypatch.setattr("tasks.worker._collect_seldom", lambda: None)  # this process is pytest's

    def heard() -> str:
        (worker,) = [each for each in pool.post(f"work_pools/{pool.name}/workers/filter") if each["name"] == "blocked"]
        return str(worker["last_heartbeat_time"])

    async def beats() -> list[str]:
        async with FirstwatchWorker(work_pool_name=pool.name, name="blocked", create_pool_if_not_found=False) as worker:
            times = []
            await worker.sync_with_backend()
            times.append(heard())
            worker._runs.loop.call_soon_threadsafe(time.sleep, 6)
            await asyncio.sleep(3)
            await worker.sync_with_backend()
            times.append(heard())
            await asyncio.sleep(5)
            await worker.sync_with_backend()
            return [*times, heard()]

    with temporary_settings({PREFECT_API_URL: pool.stack.api_url}):
        before, blocked, after = asyncio.run(beats())
    assert before == blocked < after
