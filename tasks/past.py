"""Finding a service's past releases: by the version label of its series, or by Prefect's own runs of the past."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from firstwatch.model import SourceError
from firstwatch.past import PastRelease, deploys, past_releases
from firstwatch.selector import Selector, SelectorError, parse
from firstwatch.spec import Service, signals_of
from firstwatch.spec.fill import PLACEHOLDER
from firstwatch.units import show_duration
from tasks.access import access_to
from tasks.prometheus import MOST_POINTS, PrometheusSource

Origin = Literal["prometheus", "prefect"]
Found = tuple[list[PastRelease], str]  # oldest first, and where they were found

_LABEL = "version"
_STEP = 60.0  # seconds between two looks for a version
_SEEN = 2.5  # steps for which a sample counts: a service scraped once a minute is never out of sight
_AT_ONCE = 6  # questions
_FLOWS = ("verify-release", "observe")
_PAGE = 200  # flow runs


class NotFound(Exception):
    """No past release was found; the message says where they were looked for. `ours`: it could not be looked for."""

    def __init__(self, why: str, *, ours: bool = False) -> None:
        super().__init__(why)
        self.ours = ours


async def find(service: Service, names: Iterable[str], origin: Origin | None, last: float, now: float) -> Found:
    """The releases of the `last` so many seconds, oldest first, and a sentence on where they were found.

    `names` is what Prefect's flow runs may call the service. Without an `origin` Prometheus is asked, and then
    Prefect, if there is an API. Raises NotFound.
    """
    span, ours, said = show_duration(last), False, []
    if origin != "prefect":
        try:
            found, how = await from_prometheus(service, now - last, now)
            if found:
                return found, f"{len(found)} found in the last {span} by {how}"
            said.append(f"no change of a version label in the last {span}")
        except _Unanswered as problem:
            ours = True
            said.append(str(problem))
    if origin == "prefect" or (origin is None and _prefect_is_configured()):
        try:
            found = await from_prefect(service.service, {*names, service.service}, now - last, now)
        except Exception as problem:
            raise NotFound("; ".join([*said, f"Prefect: {type(problem).__name__}: {problem}"]), ours=True) from problem
        if found:
            return found, f"{len(found)} found in the last {span} among Prefect's runs of {' and '.join(_FLOWS)}"
        said.append(f"no run of {' or '.join(_FLOWS)} for {service.service} in the last {span}")
    raise NotFound("; ".join(said), ours=ours)


class _Unanswered(Exception):
    pass


# ── Prometheus ───────────────────────────────────────────────────────────────────────────────────────────────


async def from_prometheus(service: Service, since: float, until: float) -> Found:
    """Deploys as the label `version` shows them, on the requests or else on a `…_build_info` of the same labels.

    A release's time is that of its version's first sample. Raises _Unanswered where Prometheus has no answer.
    """
    requests = _selector(service)
    matchers = [str(matcher) for matcher in requests.matchers]
    info = ",".join(['__name__=~".+_build_info"', '__name__!="go_build_info"', *matchers])
    async with PrometheusSource(service.metrics.prometheus, await access_to(service.metrics)) as source:
        for selector in (str(requests), f"{{{info}}}"):
            found = await _deploys(source, selector, since, until)
            if found:
                exact = await _first_samples(source, selector, found, _step(since, until))
                return past_releases(service.service, exact), f"the label {_LABEL} of {selector}"
    return [], ""


async def _deploys(source: PrometheusSource, selector: str, since: float, until: float) -> list[tuple[str, float]]:
    step = _step(since, until)
    there = f"count by ({_LABEL}) (present_over_time({selector}[{math.ceil(_SEEN * step)}s]))"
    seen = await source.all_series(there, since, until, every=step)
    if isinstance(seen, SourceError):
        raise _Unanswered(seen.why)
    return deploys(seen, _LABEL)


async def _first_samples(
    source: PrometheusSource, selector: str, found: list[tuple[str, float]], step: float
) -> list[tuple[str, float]]:
    """The same with the times of the first samples: the looks for a version are a step apart."""
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def first(version: str, at: float) -> tuple[str, float]:
        matcher = Selector("x").with_matcher(_LABEL, "=", version).matchers[0]
        inside = selector.rstrip("}") + ("," if selector.endswith("}") else "{") + f"{matcher}}}"
        async with at_once:
            seen = await source.all_series(inside, at - step, at)
        if isinstance(seen, SourceError):
            raise _Unanswered(seen.why)
        return version, min((one.at[0] for one in seen), default=at)

    return list(await asyncio.gather(*(first(version, at) for version, at in found)))


def _selector(service: Service) -> Selector:
    """The requests of all versions: `{{service}}` is the file's own, other matchers with a placeholder are left out."""
    try:
        requests = parse(signals_of(service).requests.replace("{{service}}", service.service))
    except SelectorError as problem:
        raise _Unanswered(str(problem)) from problem
    kept = tuple(m for m in requests.matchers if m.label != _LABEL and not PLACEHOLDER.search(m.value))
    return Selector(requests.name, kept)


def _step(since: float, until: float) -> float:
    return float(max(_STEP, math.ceil((until - since) / MOST_POINTS)))


# ── Prefect ──────────────────────────────────────────────────────────────────────────────────────────────────


def _prefect_is_configured() -> bool:
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


async def from_prefect(service: str, names: Iterable[str], since: float, until: float) -> list[PastRelease]:
    """The releases that runs of verify-release and observe were for. Raises what the client raises."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterExpectedStartTime,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    flows = FlowFilter(name=FlowFilterName(any_=list(_FLOWS)))
    after = FlowRunFilterExpectedStartTime(after_=datetime.fromtimestamp(since, UTC))
    wanted, found, offset = set(names), [], 0
    async with get_client() as client:
        while True:
            runs = await client.read_flow_runs(
                flow_filter=flows,
                flow_run_filter=FlowRunFilter(expected_start_time=after),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=_PAGE,
                offset=offset,
            )
            found += [release for run in runs if (release := _release_of(run, wanted, since, until))]
            offset += _PAGE
            if len(runs) < _PAGE:
                return past_releases(service, found)


def _release_of(run: Any, names: set[str], since: float, until: float) -> tuple[str, float] | None:
    """(version, deployed at) of a flow run, if it was for the service and its release lies in that time."""
    given = run.parameters
    if given.get("service") not in names or not isinstance(given.get("version"), str):
        return None
    deployed = given.get("deployed_at") or (run.start_time if run.auto_scheduled else run.created)
    try:
        moment = datetime.fromisoformat(deployed) if isinstance(deployed, str) else deployed
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (AttributeError, TypeError, ValueError):
        return None
    return (given["version"], at) if since <= at <= until else None
