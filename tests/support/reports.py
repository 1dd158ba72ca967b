"""Reports as the flow would build them, for tests and for looking at."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from firstwatch.model import Attempt, CheckResult, Judgement, Outcome, Release, RequestRecord, Verdict
from firstwatch.report import (
    Chart,
    CheckpointRecord,
    Delivery,
    ReleaseReport,
    RollbackAttempt,
    RollbackRecord,
    RollbackState,
)

DEPLOYED = 1_795_341_600.0  # 2026-11-22 10:00:00 UTC
RELEASE = Release("shop", "1.4.3", DEPLOYED)
MIB = 2.0**20

HOSTILE = (
    "<script>alert(1)</script> | `x` ``` **bold** [click](http://evil.example) ![i](http://evil.example/p.png)\n\n"
    "# heading\r\n| a | b |\n<!channel> <!here> @channel <@U123> & \\| \x00\x1b[31m \u202egnp.exe \ud800 | end"
)


def check(name: str, *attempts: Attempt, request: str = "GET /health") -> CheckResult:
    passed = Attempt(Outcome.PASS, "", DEPLOYED + 1, 0.031, 200)
    return CheckResult(name, request, ("status == 200",), attempts or (passed,))


def failed(why: str = "status == 200 did not hold: status is 503", at: float = DEPLOYED + 1) -> Attempt:
    return Attempt(Outcome.FAIL, why, at, 0.044, 503)


ERROR_RATE = CheckpointRecord(
    "error rate",
    0,
    "errors",
    "proportion",
    (
        Judgement(Outcome.NOT_YET, "12 requests, 50 are needed", DEPLOYED + 15, sample=12, limit=0.01, unit="ratio"),
        Judgement(Outcome.PASS, "0.2 % of 411 requests failed", DEPLOYED + 120, 0.002, 0.01, "ratio", 411, DEPLOYED),
        Judgement(
            Outcome.FAIL,
            "4.7 % of 1,203 requests failed, more than the 1 % that the objective allows",
            DEPLOYED + 465,
            0.047,
            0.01,
            "ratio",
            1203,
            DEPLOYED,
            'sum(increase(http_requests_total{service="shop",status=~"5.."}[30s]))',
        ),
        Judgement(Outcome.PASS, "recovered", DEPLOYED + 480, 0.001, 0.01, "ratio", 1300, DEPLOYED),
    ),
)
LATENCY = CheckpointRecord(
    "p95 latency",
    120,
    "latency",
    "proportion",
    (
        Judgement(
            Outcome.PASS,
            "97.9 % of 1,203 requests took under 500 ms",
            DEPLOYED + 465,
            0.212,
            0.5,
            "seconds",
            1203,
            DEPLOYED + 120,
            'sum(increase(http_request_duration_seconds_bucket{service="shop",le="0.5"}[30s]))',
        ),
    ),
)
MEMORY = CheckpointRecord(
    "memory trend",
    300,
    "memory",
    "trend",
    (Judgement(Outcome.NO_DATA, "Prometheus has no such series", DEPLOYED + 300, query="resident_memory_bytes"),),
)
CREEP = CheckpointRecord("memory creep", 1800, "memory", "creep")


def charts() -> list[Chart]:
    """A service that breaks at T+7m30s, with a gap and a spike on the way."""
    dice = random.Random(1)
    times = [DEPLOYED - 300 + 15 * i for i in range(54)]
    errors = [(t, abs(dice.gauss(0.002, 0.001)) if t < DEPLOYED + 450 else dice.gauss(0.05, 0.006)) for t in times]
    latency = [(t, math.nan if 8 < i < 14 else dice.gauss(0.21, 0.02)) for i, t in enumerate(times)]
    latency[40] = (times[40], 0.61)
    memory = [(t, (231 + dice.gauss(0, 1.5)) * MIB) for t in times]
    return [
        Chart("error rate", "ratio", errors, DEPLOYED, 0.01, DEPLOYED + 465),
        Chart("p95 latency", "seconds", latency, DEPLOYED, 0.5),
        Chart("memory", "bytes", memory, DEPLOYED),
    ]


def requests(n: int = 3) -> list[RequestRecord]:
    def one(i: int) -> RequestRecord:
        status = None if i == 1 else 200
        return RequestRecord(
            DEPLOYED + i, f"check {i}", 1, "GET", f"http://127.0.0.1/{i}", status, 20, 31.0 + i, "0af7" * 8
        )

    return [one(i) for i in range(n)]


def rolled_back() -> ReleaseReport:
    """Healthy at first, broken at T+7m30s, found at T+7m45s, and rolled back at the second attempt."""
    again = Attempt(Outcome.PASS, "", DEPLOYED + 3, 0.05, 401)
    return ReleaseReport(
        release=RELEASE,
        started=DEPLOYED + 1,
        verdict=Verdict.UNHEALTHY,
        state="RolledBack",
        reasons=("T+0s error rate: 4.7 % of 1,203 requests failed, limit 1 %.", "p95 latency held all the time."),
        version_check=check("version", request="GET /version"),
        smoke=(
            check("health"),
            check("auth endpoint reachable", failed(), again, request="POST /auth/token"),
            check("API returns JSON", request="GET /products?limit=1"),
        ),
        smoke_budget=120,
        smoke_took=2.4,
        checkpoints=(ERROR_RATE, LATENCY, MEMORY, CREEP),
        charts=charts(),
        rollback=RollbackRecord(
            "webhook",
            RollbackState.ACCEPTED,
            f"rollback-{RELEASE.slug}",
            (
                RollbackAttempt(DEPLOYED + 466, "no connection to the rollback hook"),
                RollbackAttempt(DEPLOYED + 468, "200 rolled back to 1.4.2"),
            ),
        ),
        requests=requests(),
        deliveries=(Delivery("started", True, 1), Delivery("verdict", False, 3, "Slack did not answer within 5 s")),
        notes=("A healthy release is rolled back by mistake in at most 1 of 1,000 windows.",),
        flow_run_url="http://127.0.0.1:4200/runs/flow-run/06a1",
        ended=DEPLOYED + 468,
    )


def healthy() -> ReleaseReport:
    return replace(
        rolled_back(),
        verdict=Verdict.HEALTHY,
        state="Healthy",
        reasons=(),
        rollback=None,
        checkpoints=(LATENCY,),
        charts=charts()[1:],
        deliveries=(),
    )


def hostile() -> ReleaseReport:
    """The same, where whoever answers wants to break the page."""
    bad = failed(HOSTILE)
    record = replace(ERROR_RATE, name=HOSTILE, history=(replace(ERROR_RATE.history[2], why=HOSTILE, query=HOSTILE),))
    return replace(
        rolled_back(),
        release=Release(HOSTILE, HOSTILE, DEPLOYED),
        reasons=(HOSTILE, HOSTILE),
        state=HOSTILE,
        version_check=check(HOSTILE, bad, bad, request=HOSTILE),
        smoke=[check(HOSTILE, bad, request=HOSTILE) for _ in range(100)],
        checkpoints=[record] * 100,
        charts=[replace(charts()[0], title=HOSTILE, unit=HOSTILE)] * 20,
        rollback=RollbackRecord(HOSTILE, RollbackState.FAILED, HOSTILE, [RollbackAttempt(DEPLOYED, HOSTILE)] * 100),
        requests=[replace(r, check=HOSTILE, url=HOSTILE, error=HOSTILE) for r in requests(100)],
        deliveries=[Delivery(HOSTILE, False, 3, HOSTILE)] * 100,
        notes=[HOSTILE] * 100,
        flow_run_url=f"http://127.0.0.1/{HOSTILE}",
    )
