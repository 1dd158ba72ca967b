"""The service file, as types: field by field what a user may write. `loading.py` says what is wrong with it.

Durations are given as `2m`, `500ms`, `1h30m` and held as seconds; percentages as `99%` and held as ratios (0..1).
Secrets are given as `secret:NAME` and held as that name only: the value is looked up where it is used.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from firstwatch.spec.alerts import Alerts
from firstwatch.spec.base import Model, Ratio, Seconds, SecretName
from firstwatch.spec.canary import Canary
from firstwatch.spec.hooks import Rollback
from firstwatch.spec.inconclusive import InconclusivePolicy
from firstwatch.spec.request import Check
from firstwatch.spec.synthetic import Synthetic

# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────


class BasicAuth(Model):
    username: str
    password: SecretName


class Metrics(Model):
    """Where measurements come from: a Prometheus, or (without one) the service's own /metrics, scraped by us."""

    prometheus: str = Field("", description="base URL of a Prometheus server; empty: use `scrape`")
    scrape: str = Field("", description="URL of the service's own metrics page, for the embedded source")
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each query; values may be secret:NAME")
    basic: BasicAuth | None = Field(None, description="user name and password for the Prometheus")
    bearer: SecretName | None = Field(None, description="token for the Prometheus")
    ca_file: str | None = Field(None, description="certificate authorities to trust, a PEM file")
    insecure: bool = Field(False, description="do not verify the TLS certificate")
    timeout: Seconds = Field(10.0, description="of one query or scrape")
    every: Seconds = Field(15.0, description="how often the embedded source scrapes")


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────


class Account(Model):
    """The dedicated test account."""

    username: str
    password: SecretName


class Allowed(Model):
    """A request that is not a plain read, allowed by name and with its reason."""

    request: str = Field(description='method and path, e.g. "POST /auth/token"')
    because: str = Field(min_length=3, description="why it does no harm in production")


class Sandbox(Model):
    """How the service is told that a payment is not real. Payment paths are refused without it."""

    header: str = Field(description="sent on these paths, and nowhere else")
    value: str
    paths: list[str] = Field(min_length=1, description="paths (and all below them) that the service sandboxes")


class Rules(Model):
    requests_per_second: float = Field(
        5.0, gt=0, le=10_000, description="one budget for all our traffic to the service, retries included"
    )
    account: Account | None = Field(None, description="the dedicated test account")
    allow: list[Allowed] = Field(
        default_factory=list, description="GET, HEAD and OPTIONS are free; anything else is listed here"
    )
    sandbox: Sandbox | None = Field(None, description="without it, payment paths are refused")
    hosts: list[str] = Field(default_factory=list, description="hosts that may be asked besides that of base_url")
    redirects: int = Field(0, ge=0, le=10, description="how many redirects are followed; each hop is judged again")
    max_body: int = Field(1_000_000, gt=0, description="bytes of an answer that are read; a longer one is a failure")
    timeout: Seconds = Field(10.0, description="total time of one request, connect to last byte")
    ca_file: str | None = Field(None, description="certificate authorities to trust, a PEM file")
    insecure: bool = Field(False, description="do not verify the service's TLS certificate")


# ── smoke ────────────────────────────────────────────────────────────────────────────────────────────────────


class VersionCheck(Model):
    """The new release is the one that answers: `equals` gives the version under test on each of several connections."""

    get: str = Field(description="where the service names its version")
    equals: str = Field("json.version", description="CEL expression of the version that the answer names")
    connections: int = Field(3, ge=1, le=10, description="distinct connections on which it must answer")
    within: Seconds = Field(20.0, description="how long the rollout may take until the new version answers")


class Smoke(Model):
    budget: Seconds = Field(120.0, description="hard: what has not answered by then has failed")
    version: VersionCheck | None = Field(None, description="passes before any check is sent")
    checks: list[Check] = Field(min_length=1, description="sent side by side")


# ── objectives, signals, window ──────────────────────────────────────────────────────────────────────────────


class Objectives(Model):
    availability: Ratio = Field(0.99, description="share of requests that must not be errors")
    latency: dict[Annotated[str, Field(pattern=r"^p\d{2,3}$")], Seconds] = Field(
        default_factory=lambda: {"p95": 0.5}, description="quantile: time, for example p95: 500ms"
    )


class Signals(Model):
    """PromQL selectors (or, for memory and db_pool, any PromQL that gives one series). Empty means the default name."""

    requests: str = Field("", description="a counter of all requests")
    errors: str = Field("", description="a counter of the requests that failed")
    latency: str = Field("", description="a histogram's name and labels, without _bucket")
    memory: str = Field("", description="a gauge in bytes")
    db_pool: str = Field("", description="a gauge of connections in use")


JUDGES: dict[str, tuple[str, ...]] = {
    "errors": ("proportion", "burn_rate"),
    "latency": ("proportion", "distribution", "burn_rate"),
    "memory": ("trend", "creep"),
    "db_pool": ("trend", "creep"),
}
"""Which judges fit a signal; the first one is meant where none is named."""


class Checkpoint(Model):
    """A judge that starts at `at` after the deploy and keeps watching until the window ends."""

    at: Seconds = Field(description="how long after the deploy it starts")
    name: str = Field(min_length=1, description="as people read it in the report")
    signal: Literal["errors", "latency", "memory", "db_pool"] | None = Field(None, description="what is judged")
    judge: Literal["proportion", "distribution", "burn_rate", "trend", "creep"] | None = Field(
        None, description="left out: proportion for errors and latency, trend for memory and db_pool"
    )
    query: str | None = Field(
        None,
        description="PromQL that gives one value; needs `expect`, or for a quantile of the latency judge: distribution",
    )
    expect: str | None = Field(None, description="CEL condition over value")
    quantile: str | None = Field(None, description="which latency objective is held; the first one if left out")
    limit: Ratio | None = Field(
        None, description="for trend and creep: growth over the whole window that is still all right"
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_judge(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("judge") is None and given.get("signal") in JUDGES:
            return {**given, "judge": JUDGES[given["signal"]][0]}
        return given


DEFAULT_CHECKPOINTS: tuple[Checkpoint, ...] = (
    Checkpoint(at=0, name="error rate", signal="errors", judge="proportion"),
    Checkpoint(at=120, name="p95 latency", signal="latency", judge="proportion"),
    Checkpoint(at=300, name="memory trend", signal="memory", judge="trend"),
    Checkpoint(at=600, name="DB connections", signal="db_pool", judge="trend"),
    Checkpoint(at=1800, name="memory creep", signal="memory", judge="creep"),
)


class Window(Model):
    """May be written as a plain list of checkpoints too."""

    checkpoints: list[Checkpoint] = Field(
        default_factory=lambda: list(DEFAULT_CHECKPOINTS), min_length=1, description="left out: the five usual ones"
    )
    look_every: Seconds | None = Field(
        None, description="how often what is reached is judged again; left out: 15s, or 1/120 of a short window"
    )
    min_sample: int = Field(50, ge=1, description="requests without which no proportion is judged")
    alpha: float = Field(
        0.001, gt=0, lt=0.5, description="chance that a healthy release is rolled back, over all checkpoints and looks"
    )


def _window_of_list(given: Any) -> Any:
    return {"checkpoints": given} if isinstance(given, list) else given


# ── the whole file ───────────────────────────────────────────────────────────────────────────────────────────


class Service(Model):
    service: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the service's name")
    base_url: str = Field(description="http or https; every path is below it")
    metrics: Metrics = Field(default_factory=Metrics, description="where measurements come from")
    rules: Rules = Field(default_factory=Rules, description="what our requests may do in production")
    smoke: Smoke | None = Field(None, description="the critical path, tried right after the deploy")
    synthetic: Synthetic | None = Field(None, description="what is monitored day and night, on a schedule")
    objectives: Objectives = Field(default_factory=Objectives, description="what the service is held against")
    signals: Signals = Field(default_factory=Signals, description="the series that say how the service is")
    window: Annotated[Window, BeforeValidator(_window_of_list)] = Field(
        default_factory=Window, description="what is watched after the deploy; left out: the five usual ones"
    )
    canary: Canary | None = Field(None, description="the gate that a canary must pass before it gets more traffic")
    rollback: Rollback | None = Field(None, description="how the old version is brought back")
    on_inconclusive: InconclusivePolicy = Field(
        None, description="what is done where nothing is proven; left out: the run ends as Failed(Inconclusive)"
    )
    alerts: Alerts = Field(default_factory=Alerts, description="who is told")
