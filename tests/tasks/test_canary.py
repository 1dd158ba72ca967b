"""A canary's metrics against a real Prometheus: what a live gate asks at each moment is what a replay has of it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from firstwatch.gate import Gate, Seen, judged, replay
from firstwatch.model import SourceError, Verdict
from firstwatch.spec import Service, load_or_raise
from firstwatch.spec.canary import metrics_of
from firstwatch.spec.fill import fill
from tasks.canary import Meter
from tests.support.answering import Said, answering
from tests.support.prometheus import PASSWORD, RunningPrometheus, prometheus_of
from tests.support.releases import DEPLOYED, FILE, history

SERVICES = {"good": "healthy", "bad": "errors", "away": "down"}
RATE = (
    'sum(rate(http_requests_total{svc="{{service}}",status!~"5.."}[1m]))'
    ' / sum(rate(http_requests_total{svc="{{service}}"}[1m]))'
)
MISSION = f"""
canary:
  metrics:
    - name: success-rate
      initialDelay: 1m
      interval: 30s
      count: 8
      successCondition: result[0] >= 0.99
      consecutiveFailureLimit: 3
      provider: {{prometheus: {{query: '{RATE}'}}}}
"""
EVERY_KIND = (
    MISSION
    + """
    - name: scalar
      interval: 30s
      count: 3
      successCondition: result > 0.5
      provider: {prometheus: {query: 'scalar(sum(up{svc="{{args.other}}"}))'}}
    - name: several
      interval: 20s
      count: 4
      successCondition: 'all(result, # == 1)'
      provider: {prometheus: {query: 'up{svc="{{service}}"}'}}
    - name: range
      interval: 30s
      count: 3
      successCondition: 'count(result, # >= 6) > 3'
      provider:
        prometheus:
          query: 'sum(db_pool_connections_in_use{svc="{{service}}"})'
          rangeQuery: {start: 'now() - duration("1m")', end: now(), step: 10s}
    - name: sampled
      interval: 30s
      count: 3
      minSample: 100
      successCondition: result[0] < 100
      provider: {prometheus: {query: 'sum(queue_depth{svc="{{service}}"})'}}
    - name: nothing
      interval: 30s
      count: 3
      dryRun: true
      successCondition: result[0] < 100
      provider: {prometheus: {query: 'no_such_series'}}
    - {name: judged, judge: proportion, interval: 30s, count: 10, canary: {instance: a}}
    - {name: compared, judge: compare, interval: 30s, count: 10, canary: {instance: a}, stable: {instance: b}}
    - name: slower
      judge: compare
      signal: latency
      interval: 30s
      count: 10
      canary: {instance: a}
      stable: {instance: b}
  args: [{name: other, value: "{{service}}"}]
"""
)
OWN = """
canary:
  metrics:
    - name: own
      successCondition: result[0] >= 0.5
      provider:
        prometheus:
          address: ADDRESS
          query: x
          headers: [{key: X-Scope, value: "secret:thanos-key"}]
          authentication: {oauth2: {tokenUrl: ADDRESS/token, clientId: us, clientSecret: "secret:thanos-key"}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPrometheus]:
    with prometheus_of(tmp_path_factory.mktemp("canaries"), history(SERVICES)) as running:
        yield running


def gated(url: str, canary: str, name: str) -> Service:
    return fill(load_or_raise(FILE % url + canary, "fleet.yaml", {}), name=name, version="v2", args={})


async def lived(service: Service) -> Gate:
    """The gate as a live run takes it: each metric asked when it is due."""
    assert service.canary is not None
    gate, by_name = Gate(service.canary, DEPLOYED), {m.name: m for m in metrics_of(service.canary)}
    async with Meter(service, DEPLOYED) as meter:
        while (due := gate.due) is not None:
            at = due.at
            answers = {n: await meter.answer(by_name[n], at) for n in due.numbers}
            gate = gate.after({n: judged(gate, service.objectives, by_name[n], a, at) for n, a in answers.items()})
    return gate


async def replayed(service: Service) -> Gate:
    assert service.canary is not None
    async with Meter(service, DEPLOYED) as meter:
        known = await meter.history(DEPLOYED + 900)
    return replay(Gate(service.canary, DEPLOYED), service.objectives, known.answer, math.inf)


@pytest.mark.parametrize(
    ("name", "canary", "verdict"),
    [
        ("good", MISSION, Verdict.HEALTHY),
        ("bad", MISSION, Verdict.UNHEALTHY),
        ("away", MISSION, Verdict.INCONCLUSIVE),
        ("good", EVERY_KIND, Verdict.HEALTHY),
        ("bad", EVERY_KIND, Verdict.UNHEALTHY),
    ],
)
def test_a_live_gate_and_its_replay_agree(server: RunningPrometheus, name: str, canary: str, verdict: Verdict) -> None:
    service = gated(server.url, canary, name)
    live, again = asyncio.run(lived(service)), asyncio.run(replayed(service))
    assert live.ruling.verdict is verdict, live.ruling
    assert (again.ruling.verdict, again.ruling.decided_at) == (verdict, live.ruling.decided_at)
    for metric, taken in live.judgements.items():
        told = [(j.outcome, j.at, j.value, j.why) for j in taken]
        assert [(j.outcome, j.at, j.value, j.why) for j in again.judgements[metric]] == told, metric


def test_each_kind_of_answer(server: RunningPrometheus) -> None:
    service = gated(server.url, EVERY_KIND, "good")
    assert service.canary is not None
    metrics = metrics_of(service.canary)

    async def ask() -> dict[str, Any]:
        async with Meter(service, DEPLOYED) as meter:
            return {m.name: await meter.answer(m, DEPLOYED + 300) for m in metrics}

    found = asyncio.run(ask())
    assert 0.98 < found["success-rate"].result[0] <= 1
    assert found["scalar"].result == 2.0
    assert found["several"].result == (1.0, 1.0)
    assert len(found["range"].result) == 7
    assert found["sampled"].sample == pytest.approx(2 * 30 * 40, rel=0.1)
    assert found["nothing"].result == ()
    assert isinstance(found["compared"], Seen) and found["compared"].stable is not None


def test_a_prometheus_of_its_own_with_a_login(server: RunningPrometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric's address, headers and token are its own: nothing of the service's source goes there."""
    monkeypatch.setenv("THANOS_KEY", PASSWORD)
    vector = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "0.5"]}]}
    answers = {"access_token": "t0ken", "expires_in": 60}, {"status": "success", "data": vector}
    with answering(*(Said(json.dumps(answer)) for answer in answers)) as thanos:
        canary = OWN.replace("ADDRESS", thanos.url)
        gate = asyncio.run(lived(gated(server.url, canary, "good")))
    assert gate.ruling.verdict is Verdict.HEALTHY, gate.ruling
    (_, token), (_, query) = thanos.seen
    assert token["authorization"].startswith("Basic ")
    assert query["authorization"] == "Bearer t0ken" and query["x-scope"] == PASSWORD


def test_a_token_is_used_for_the_services_own_prometheus_too_and_stands_in_no_error(
    server: RunningPrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THANOS_KEY", PASSWORD)
    refused = json.dumps({"status": "error", "error": f"not for t0ken, nor {PASSWORD}"})
    with answering(Said('{"access_token": "t0ken"}')) as login, answering(Said(refused, 401)) as thanos:
        canary = OWN.replace("ADDRESS/", f"{login.url}/").replace("address: ADDRESS", 'address: ""')
        canary = canary.replace("value: secret:", "value: Bearer secret:")
        service = gated(thanos.url, canary, "good")
        [metric] = metrics_of(service.canary) if service.canary else []

        async def ask() -> Any:
            async with Meter(service, DEPLOYED) as meter:
                return await meter.answer(metric, DEPLOYED, time.time() + 5)

        found = asyncio.run(ask())
    [(_, query)] = thanos.seen
    assert query["authorization"] == "Bearer t0ken", "not what metrics gives"
    assert isinstance(found, SourceError) and "not for ***, nor ***" in found.why


def test_a_source_that_is_away_is_an_error() -> None:
    service = gated("http://127.0.0.1:9", MISSION, "good")
    assert service.canary is not None
    [metric] = service.canary.metrics

    async def ask() -> Any:
        async with Meter(service, DEPLOYED) as meter:
            return await meter.answer(metric, DEPLOYED, time.time() + 0.3)

    found = asyncio.run(ask())
    assert isinstance(found, SourceError) and "cannot be reached" in found.why
