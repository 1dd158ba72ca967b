"""The canary's gate in the service file: the fields of an Argo Rollouts AnalysisTemplate metric as they are, and ours.

Argo's are written as Argo writes them (`successCondition`), so that a metric can be copied. What is ours beside them:
`consecutiveFailureLimit`, `onNoData`, `minSample`, and a `judge` instead of conditions.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from firstwatch.spec.base import Model, Ratio, Seconds, SecretName
from firstwatch.spec.hooks import Promote

OnNoData = Literal["inconclusive", "fail", "pass"]
CANARY_JUDGES: dict[str, tuple[str, ...]] = {
    "errors": ("compare", "proportion", "burn_rate"),
    "latency": ("compare", "distribution", "proportion", "burn_rate"),
    "memory": ("compare", "trend"),
    "db_pool": ("compare", "trend"),
}
"""Which judges of ours fit a signal of a canary."""


class ArgoModel(Model):
    """Keys as Argo writes them: `failureLimit` in the file, `failure_limit` in the code."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, populate_by_name=True)


def _weight(given: Any) -> Any:
    """`5%` or 5 → 5."""
    text = given.strip().removesuffix("%") if isinstance(given, str) else given
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ValueError(f"{given!r} is not a share of the traffic; write it as 5% or 5, whole percents") from None


Weight = Annotated[
    int,
    BeforeValidator(_weight),
    Field(ge=1, le=100),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": r"^\d+%$", "examples": ["25%"]}, {"type": "integer", "minimum": 1}]}
    ),
]
"""Percent of the traffic, 1..100."""


# ── where a metric is measured ───────────────────────────────────────────────────────────────────────────────


class RangeQuery(ArgoModel):
    """The query's values over a time instead of one value now."""

    start: str = Field(description='now() - duration("5m")')
    end: str = Field("now()", description='now(), or now() - duration("1m")')
    step: Seconds = Field(description="time between two values")


class Header(ArgoModel):
    key: str = Field(description="the header's name")
    value: str = Field(description="may hold secret:NAME")


class OAuth2(ArgoModel):
    """Client credentials (RFC 6749, section 4.4)."""

    token_url: str = Field(description="where a token is given")
    client_id: str = Field(description="who asks for it")
    client_secret: SecretName = Field(description="and how it is proven")
    scopes: list[str] = Field(default_factory=list, description="what the token is for")


class Authentication(ArgoModel):
    oauth2: OAuth2 | None = Field(None, description="a token by client credentials, for each query")


class PrometheusProvider(ArgoModel):
    address: str = Field("", description="base URL of the Prometheus; left out: metrics.prometheus")
    query: str = Field(description="PromQL; {{args.NAME}}, {{service}} and {{version}} are filled in")
    range_query: RangeQuery | None = Field(None, description="ask for values over a time")
    timeout: Seconds | None = Field(None, description="of one query; a plain number is seconds")
    insecure: bool = Field(False, description="do not verify the TLS certificate")
    headers: list[Header] = Field(default_factory=list, description="sent with each query")
    authentication: Authentication | None = Field(None, description="how the query is let in")


class Provider(ArgoModel):
    prometheus: PrometheusProvider = Field(description="the only provider that Firstwatch has")


# ── a metric ─────────────────────────────────────────────────────────────────────────────────────────────────


class CanaryMetric(ArgoModel):
    """One thing that is measured at an interval: a query with conditions, or a signal with a judge."""

    name: str = Field(min_length=1, description="as people read it in the report")
    interval: Seconds | None = Field(None, gt=0, description="time between two measurements; left out: one is taken")
    initial_delay: Seconds = Field(0.0, description="time before the first one")
    count: int = Field(0, ge=0, description="how many are taken; left out: 1, or with an interval as long as others")
    success_condition: str = Field("", description="over result, in CEL or in Argo's language: result[0] >= 0.99")
    failure_condition: str = Field("", description="with both, a result that meets neither is inconclusive")
    failure_limit: int | None = Field(
        None, ge=-1, description="so many may fail, in total; -1: any number; left out: 0, or -1 with one in a row"
    )
    consecutive_failure_limit: int | None = Field(None, ge=1, description="so many failures in a row end it")
    inconclusive_limit: int = Field(0, ge=0, description="so many may be inconclusive")
    consecutive_error_limit: int | None = Field(
        None, ge=0, description="so many errors in a row are borne; left out: it waits for the source"
    )
    consecutive_success_limit: int = Field(0, ge=0, description="so many successes in a row are enough; 0: not asked")
    on_no_data: OnNoData = Field("inconclusive", description="what a measurement without data counts as")
    min_sample: int = Field(0, ge=0, description="requests between two measurements without which there is no data")
    dry_run: bool = Field(False, description="measured and shown; decides nothing")
    provider: Provider | None = Field(None, description="where it is measured")

    judge: Literal["compare", "proportion", "distribution", "burn_rate", "trend"] | None = Field(
        None, description="a judge of ours instead of conditions; looks at all since the canary began"
    )
    signal: Literal["errors", "latency", "memory", "db_pool"] | None = Field(
        None, description="what the judge sees; left out: errors"
    )
    limit: Ratio | None = Field(
        None, description="compare: by how much worse, relative to the stable version, is all right; left out: 25%"
    )
    canary: dict[str, str] = Field(default_factory=dict, description="labels of the canary's series")
    stable: dict[str, str] = Field(default_factory=dict, description="labels of the stable version's, to compare with")

    @property
    def address(self) -> str:
        """The Prometheus that the metric names; empty: the service's."""
        return self.provider.prometheus.address if self.provider is not None else ""


class Argument(ArgoModel):
    """What `{{args.NAME}}` stands for. Without a value it must be given with each run."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="as in {{args.NAME}}")
    value: str | None = Field(None, description="used where the run gives none; may be secret:NAME in headers")


class DryRun(ArgoModel):
    metric_name: str = Field(description="a regular expression of the whole name")


class Kayenta(ArgoModel):
    """A Kayenta canary configuration, judged as Kayenta does, with our guards (docs/canary.md)."""

    config: dict[str, Any] | str = Field(description="the configuration itself, or the path of its JSON file")
    canary_scope: str = Field(description="what ${scope} stands for in the canary's queries")
    stable_scope: str = Field(description="what ${scope} stands for in the stable version's")
    location: str = Field("", description="what ${location} stands for")
    interval: Seconds = Field(300.0, gt=0, description="time between two judgements")
    count: int = Field(6, ge=1, description="how many are made")
    step: Seconds = Field(60.0, gt=0, description="time between two values of a metric")
    lookback: Seconds = Field(0.0, description="how far each judgement looks back; 0: to the canary's beginning")
    marginal: float | None = Field(None, ge=0, le=100, description="a lower score fails; left out: as configured")
    pass_: float | None = Field(
        None, alias="pass", ge=0, le=100, description="a lower score does not pass; left out: as configured"
    )


class Canary(ArgoModel):
    metrics: list[CanaryMetric] = Field(default_factory=list, description="what must hold")
    kayenta: Kayenta | None = Field(None, description="a Kayenta canary configuration")
    args: list[Argument] = Field(default_factory=list, description="what {{args.NAME}} may stand for")
    dry_run: list[DryRun] = Field(default_factory=list, description="metrics that decide nothing")
    steps: list[Weight] = Field(default_factory=list, description="the canary's shares of traffic, each gated")
    promote: Promote | None = Field(None, description="how the canary gets its next share; called when a gate holds")
    alpha: float = Field(
        0.001, gt=0, lt=0.5, description="chance that a healthy canary fails, over all judges of ours and all looks"
    )


# ── what a file leaves open, filled in ───────────────────────────────────────────────────────────────────────

ALL = 100  # percent of the traffic
KAYENTA = "Kayenta score"  # the name of the metric that a Kayenta configuration stands for
RETRY = 10.0  # seconds between two tries of a metric that has no interval
USUAL_JUDGE_INTERVAL, USUAL_JUDGE_COUNT = 60.0, 15  # of a metric with a judge of ours
USUAL_MARGIN = 0.25  # by how much worse than the stable version is all right


def failures_allowed(metric: CanaryMetric) -> int | None:
    """How many measurements may fail in total; None: any number."""
    if metric.failure_limit is None:
        return None if metric.consecutive_failure_limit else 0
    return None if metric.failure_limit < 0 else metric.failure_limit


def count_of(metric: CanaryMetric) -> int:
    """How many measurements are taken; 0: as many as it takes."""
    if metric.count:
        return metric.count
    if metric.judge is not None:
        return USUAL_JUDGE_COUNT
    return 1 if metric.interval is None else 0


def interval_of(metric: CanaryMetric) -> float:
    """Seconds between two measurements."""
    usual = USUAL_JUDGE_INTERVAL if metric.judge is not None else RETRY
    return metric.interval if metric.interval is not None else usual


def metrics_of(canary: Canary) -> list[CanaryMetric]:
    """All that the gate measures; a Kayenta configuration is one more metric."""
    dry = [rule.metric_name for rule in canary.dry_run]
    metrics = [m.model_copy(update={"dry_run": m.dry_run or _matches(dry, m.name)}) for m in canary.metrics]
    if canary.kayenta is not None:
        metrics.append(CanaryMetric(name=KAYENTA, interval=canary.kayenta.interval, count=canary.kayenta.count))
    return metrics


def _matches(patterns: list[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
