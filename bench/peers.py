"""What people would use instead of our judges, deciding the same releases from the same Prometheus.

Each rule reads only what its system would read, when it would read it, with that system's documented defaults; where
those leave a choice (what is measured, how often), it is the one that serves the rule best. Sources, by rule:

* success rate: the mission of this project, "below 99 % three times in a row".
* Argo Rollouts, https://argo-rollouts.readthedocs.io/en/stable/features/analysis/: `failureLimit` counts failures in
  total and is exceeded by the fourth; no data is an error, asked again after 10 s, and the fifth in a row
  (`consecutiveErrorLimit: 4`) aborts; NaN is a failure, since no comparison with it holds.
* Flagger, https://docs.flagger.app/usage/how-it-works: a check a minute over one minute, rolled back when `threshold`
  checks have failed in total; no values is a failed check. Its p99 is a p95 here, since that is the objective. (Flagger
  rolls back one interval after the fifth failure; we count from the failure itself.)
* Kayenta, https://github.com/spinnaker/kayenta: the Mann-Whitney classifier (98 % confidence, tolerance 0.25, direction
  increase), the half hour before the deploy as the baseline, all four metrics in one group: one "High" of four gives a
  score of 75, which is the usual marginal threshold, and fails.
* point checks: each checkpoint of the window looked at once, at its time, against a threshold that people would write.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx
import numpy as np

from bench.labelled import DEPLOYED_AT
from bench.releases import BOUND, Floats

END = 1800
AVAILABILITY = 0.99
ARGO_INTERVAL, ARGO_RETRY, ARGO_ERRORS = 120, 10, 4
FLAGGER_INTERVAL, FLAGGER_THRESHOLD = 60, 5
KAYENTA_INTERVAL, KAYENTA_BASELINE, KAYENTA_TOLERANCE, KAYENTA_Z = 300, 1800, 0.25, 2.3263  # 98 %, two-sided
STEP = 15

MEMORY, POOL = "process_resident_memory_bytes", "db_pool_connections_in_use"

Decided = Mapping[str, float | None]
"""By release: seconds after the deploy at which it is rolled back, or None."""


def success_rate(over: str) -> str:
    good, all_ = 'http_requests_total{status!~"5.."}', "http_requests_total"
    return f"sum by (svc) (rate({good}[{over}])) / sum by (svc) (rate({all_}[{over}]))"


def p95(over: str) -> str:
    return f"histogram_quantile(0.95, sum by (svc, le) (rate(http_request_duration_seconds_bucket[{over}])))"


@dataclass(frozen=True)
class Curve:
    """An expression's values for one release on a grid of times; NaN where it is NaN or `there` is nothing."""

    since: int
    step: int
    value: Floats
    there: Sequence[bool]

    def at(self, t: int) -> float:
        return float(self.value[(t - self.since) // self.step])

    def is_there(self, t: int) -> bool:
        return self.there[(t - self.since) // self.step]

    def between(self, since: int, until: int) -> Floats:
        """The numbers in [since, until]."""
        found = self.value[(since - self.since) // self.step : (until - self.since) // self.step + 1]
        return found[np.isfinite(found)]


class History:
    """What a Prometheus holds of all releases; each expression is asked once, for all of them."""

    def __init__(self, url: str, services: Sequence[str]) -> None:
        self.url, self.services = url, services

    def curves(self, promql: str, *, since: int = 0, step: int = STEP) -> dict[str, Curve]:
        """By release: the expression from `since` (seconds after the deploy) to T+30m."""
        span = {"start": DEPLOYED_AT + since, "end": DEPLOYED_AT + END, "step": step}
        answer = httpx.post(f"{self.url}/api/v1/query_range", data={"query": promql, **span}, timeout=120)
        answer.raise_for_status()
        n = (END - since) // step + 1
        values = {service: np.full(n, np.nan) for service in self.services}
        there = {service: [False] * n for service in self.services}
        for series in answer.json()["data"]["result"]:
            service = series["metric"]["svc"]
            if service not in values:
                continue
            for at, value in series["values"]:
                i = round(at - DEPLOYED_AT - since) // step
                values[service][i], there[service][i] = float(value), True
        return {service: Curve(since, step, values[service], there[service]) for service in self.services}


# ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────


def argo(rate: Curve, enough: Callable[[int, int], bool]) -> float | None:
    """Measured every two minutes; failed when `enough` says so of the failures in a row and in total."""
    t, in_a_row, in_total, errors = ARGO_INTERVAL, 0, 0, 0
    while t <= END:
        if not rate.is_there(t):
            errors += 1
            if errors > ARGO_ERRORS:
                return t
            t += ARGO_RETRY
            continue
        errors = 0
        failed = not rate.at(t) >= AVAILABILITY
        in_a_row, in_total = (in_a_row + 1 if failed else 0), in_total + failed
        if enough(in_a_row, in_total):
            return t
        t += ARGO_INTERVAL
    return None


def flagger(rate: Curve, slow: Curve) -> float | None:
    failed = 0
    for t in range(FLAGGER_INTERVAL, END + 1, FLAGGER_INTERVAL):
        failed += not (rate.at(t) >= AVAILABILITY and slow.at(t) <= BOUND)
        if failed == FLAGGER_THRESHOLD:
            return t
    return None


def kayenta(curves: Sequence[Curve]) -> float | None:
    """Every five minutes all that has been measured since the deploy, against the half hour before it."""
    for t in range(KAYENTA_INTERVAL, END + 1, KAYENTA_INTERVAL):
        if any(is_high(c.between(-KAYENTA_BASELINE, -c.step), c.between(0, t)) for c in curves):
            return t
    return None


def is_high(before: Floats, now: Floats) -> bool:
    """Is all of the confidence interval of the shift above a quarter of the estimated shift, and the mean larger?

    The interval is that of Mann and Whitney: order statistics of all differences, by the normal approximation.
    """
    n, m = len(before), len(now)
    if n < 4 or m < 4 or np.array_equal(np.unique(before), np.unique(now)):
        return False
    shifts = np.sort(np.subtract.outer(now, before), axis=None)
    estimate = float(np.median(shifts))
    cut = math.floor(n * m / 2 - KAYENTA_Z * math.sqrt(n * m * (n + m + 1) / 12))
    lower = float(shifts[max(cut, 0)])
    return estimate > 0 and lower > KAYENTA_TOLERANCE * estimate and float(now.mean()) > float(before.mean())


def point_checks(rate: Curve, slow: Curve, memory: Curve, memory_slope: Curve, pool_slope: Curve) -> float | None:
    checks = (
        (0, rate.at(STEP) < AVAILABILITY),  # the first scrape of the new release
        (120, slow.at(120) > BOUND),
        (300, memory_slope.at(300) > 0.01 / 60 * memory.at(300)),  # 1 % a minute
        (600, pool_slope.at(600) > 0.2 / 60),  # 0.2 connections a minute
        (1800, memory.at(1800) > 1.1 * memory.at(300)),
    )
    return next((float(at) for at, broken in checks if broken), None)


def decide(url: str, services: Sequence[str]) -> dict[str, Decided]:
    """What each rule would have done with each release, from the Prometheus at `url`."""
    history = History(url, services)
    every_10_s = history.curves(success_rate("2m"), step=ARGO_RETRY)
    rate_2m, slow_2m = history.curves(success_rate("2m")), history.curves(p95("2m"))
    before = -KAYENTA_BASELINE
    errors = history.curves(f"1 - ({success_rate('1m')})", since=before)
    rate, slow = history.curves(success_rate("1m")), history.curves(p95("1m"), since=before)
    memory, pool = history.curves(MEMORY, since=before), history.curves(POOL, since=before)
    memory_slope, pool_slope = history.curves(f"deriv({MEMORY}[5m])"), history.curves(f"deriv({POOL}[10m])")
    rules: dict[str, Callable[[str], float | None]] = {
        "success rate ≥ 99 %, 3 in a row": lambda s: argo(every_10_s[s], lambda in_a_row, _: in_a_row == 3),
        "Argo Rollouts, failureLimit 3": lambda s: argo(every_10_s[s], lambda _, in_total: in_total > 3),
        "point checks at T+0, 2, 5, 10, 30": lambda s: point_checks(
            rate_2m[s], slow_2m[s], memory[s], memory_slope[s], pool_slope[s]
        ),
        "Flagger, threshold 5": lambda s: flagger(rate[s], slow[s]),
        "Kayenta, every 5 min": lambda s: kayenta([errors[s], slow[s], memory[s], pool[s]]),
    }
    return {name: {service: rule(service) for service in services} for name, rule in rules.items()}
