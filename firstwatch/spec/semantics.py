"""What can be wrong with a service file although every single field is in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from firstwatch.conditions import QUERY_NAMES
from firstwatch.selector import SelectorError, is_plain, parse
from firstwatch.spec import alert_findings, canary_findings, plan, synthetic_findings
from firstwatch.spec.diagnostics import Finding, did_you_mean
from firstwatch.spec.findings import condition, expression, passes, url
from firstwatch.spec.hooks import HOOK_WAYS, Hook
from firstwatch.spec.models import JUDGES, Checkpoint, Service, Smoke
from firstwatch.spec.request import Check
from firstwatch.spec.signals import LEAST_LOOK, window_length
from firstwatch.units import show_duration

Loc = tuple[str | int, ...]


def findings(service: Service) -> Iterator[Finding]:
    """Every fault of meaning in the service, in the order of the file's sections."""
    base_url = list(url(("base_url",), service.base_url))
    yield from base_url
    yield from _metrics(service)
    yield from plan.findings(service, reachable=not base_url)
    if service.smoke is not None:
        yield from _smoke(service, service.smoke)
    yield from synthetic_findings.findings(service)
    yield from _objectives(service)
    yield from _signals(service)
    yield from _window(service)
    yield from canary_findings.findings(service)
    yield from _hooks(service)
    yield from _on_inconclusive(service)
    yield from alert_findings.findings(service)


# ── metrics and signals ──────────────────────────────────────────────────────────────────────────────────────


def _metrics(service: Service) -> Iterator[Finding]:
    metrics = service.metrics
    releases = service.synthetic is None or bool(service.model_fields_set & {"metrics", "window", "canary", "rollback"})
    if releases and not metrics.prometheus and not metrics.scrape:  # what is monitored only needs no window
        yield Finding(
            ("metrics",),
            "the window has nowhere to measure: metrics gives neither prometheus nor scrape",
            "give metrics.prometheus (a Prometheus server) or metrics.scrape (the service's own /metrics)",
            needs=("metrics",),
        )
    if metrics.prometheus:
        yield from url(("metrics", "prometheus"), metrics.prometheus)
    if metrics.scrape:
        yield from url(("metrics", "scrape"), metrics.scrape)
    if metrics.basic and metrics.bearer:
        yield Finding(("metrics", "bearer"), "`basic` and `bearer` exclude each other", "keep one of them")
    for key in ("timeout", "every"):
        yield from passes(("metrics", key), getattr(metrics, key))


def _signals(service: Service) -> Iterator[Finding]:
    signals = service.signals
    for key in ("requests", "errors", "latency"):
        if text := getattr(signals, key):
            yield from _plain_selector(("signals", key), text)
    if signals.latency.partition("{")[0].endswith("_bucket"):
        yield Finding(("signals", "latency"), "`latency` names a histogram's buckets", "leave _bucket out")
    if signals.errors and signals.errors == signals.requests:
        yield Finding(("signals", "errors"), "`errors` counts all requests", 'add a label, for example status=~"5.."')
    for key in ("memory", "db_pool"):
        if text := getattr(signals, key):
            yield from _needs_prometheus(("signals", key), text, service)


def _plain_selector(loc: Loc, text: str) -> Iterator[Finding]:
    try:
        parse(text)
    except SelectorError as e:
        yield Finding(
            loc, f"`{loc[-1]}`: {e}", 'write a counter\'s name and labels: name{label="value"}; we do the rate'
        )


def _needs_prometheus(loc: Loc, text: str, service: Service) -> Iterator[Finding]:
    if not is_plain(text) and not service.metrics.prometheus:
        yield Finding(
            loc,
            f"`{loc[-1]}` is a PromQL expression, which only a Prometheus can answer",
            'give metrics.prometheus, or write a plain name{label="value"}',
            needs=("metrics",),
        )


def _objectives(service: Service) -> Iterator[Finding]:
    if service.objectives.availability == 0:
        yield Finding(("objectives", "availability"), "an availability of 0% can never fail", "for example 99%")
    for quantile, limit in service.objectives.latency.items():
        if limit <= 0:
            yield Finding(
                ("objectives", "latency", quantile), f"{quantile} must be longer than 0s", "for example 500ms"
            )


# ── smoke ────────────────────────────────────────────────────────────────────────────────────────────────────


def _smoke(service: Service, smoke: Smoke) -> Iterator[Finding]:
    if smoke.version is not None:
        yield from expression(("smoke", "version", "equals"), smoke.version.equals)
    for i, check in enumerate(smoke.checks):
        for j, text in enumerate(check.expect):
            yield from condition(("smoke", "checks", i, "expect", j), text)
        yield from passes(("smoke", "checks", i, "timeout"), check.timeout, "for example 5s")
    yield from _twice(("smoke", "checks"), [check.name for check in smoke.checks], "checks")
    yield from _budget(service, smoke)


def _twice(loc: Loc, names: Sequence[str], what: str) -> Iterator[Finding]:
    counted = Counter(names)
    for i, name in enumerate(names):
        if counted[name] > 1 and name in names[:i]:
            yield Finding((*loc, i, "name"), f"two {what} are named {name!r}", "their results could not be told apart")


def _budget(service: Service, smoke: Smoke) -> Iterator[Finding]:
    """The worst case that the file itself allows must fit: version check, then the slowest check, then the queue."""
    slowest = max(smoke.checks, key=lambda check: _longest(check, service))
    longest = _longest(slowest, service)
    sent = sum(1 + check.retries for check in smoke.checks)
    queue = sent / service.rules.requests_per_second
    version = smoke.version.within if smoke.version else 0.0
    if version + longest + queue <= smoke.budget:
        return
    timeout = _timeout(slowest, service)
    parts = [f"version check {show_duration(version)}"] if version else []
    tries = f"{1 + slowest.retries} × {show_duration(timeout)}"
    pauses = f" + {slowest.retries} × {show_duration(slowest.retry_delay)}" if slowest.retries else ""
    parts.append(f"slowest check {slowest.name!r} {tries}{pauses} = {show_duration(longest)}")
    parts.append(f"{sent} requests at {service.rules.requests_per_second:g} a second {show_duration(queue)}")
    yield Finding(
        ("smoke", "budget"),
        f"the budget of {show_duration(smoke.budget)} cannot hold what the checks may take: "
        f"{' + '.join(parts)}, together {show_duration(version + longest + queue)}",
        "raise the budget, or lower timeouts and retries",
        needs=("rules",),
    )


def _timeout(check: Check, service: Service) -> float:
    return service.rules.timeout if check.timeout is None else check.timeout


def _longest(check: Check, service: Service) -> float:
    """Seconds until a check that never gets an answer has failed for good."""
    return (1 + check.retries) * _timeout(check, service) + check.retries * check.retry_delay


# ── window ───────────────────────────────────────────────────────────────────────────────────────────────────


def _window(service: Service) -> Iterator[Finding]:
    checkpoints = service.window.checkpoints
    for i, checkpoint in enumerate(checkpoints):
        loc: Loc = ("window", "checkpoints", i)
        if i and checkpoint.at < checkpoints[i - 1].at:
            before = checkpoints[i - 1]
            yield Finding(
                (*loc, "at"),
                f"the window does not ascend: T+{show_duration(checkpoint.at)} {checkpoint.name!r} "
                f"comes after T+{show_duration(before.at)} {before.name!r}",
                "order the checkpoints by time",
            )
        yield from _checkpoint(loc, checkpoint, service)
    yield from _twice(("window", "checkpoints"), [checkpoint.name for checkpoint in checkpoints], "checkpoints")
    if window_length(service.window) == 0:
        place: Loc = ("window", "checkpoints", len(checkpoints) - 1, "at")
        yield Finding(
            place,
            "the window ends when it begins: its last checkpoint is at 0s",
            "it ends at the last one",
            ("window",),
        )
    if service.window.look_every is not None and service.window.look_every < LEAST_LOOK:
        yield Finding(
            ("window", "look_every"), "`look_every` must be 500ms or longer", "leave it out for the usual one"
        )


def _checkpoint(loc: Loc, checkpoint: Checkpoint, service: Service) -> Iterator[Finding]:
    if (checkpoint.signal is None) == (checkpoint.query is None):
        found = "both" if checkpoint.signal else "neither"
        yield Finding(
            loc,
            f"the checkpoint {checkpoint.name!r} has {found} of signal and query",
            "give a signal (errors, latency, memory, db_pool), or a query with its expect",
        )
    elif checkpoint.signal is not None:
        yield from _watched_signal(loc, checkpoint, checkpoint.signal, service)
    else:
        yield from _watched_query(loc, checkpoint, service)


def _watched_signal(loc: Loc, checkpoint: Checkpoint, signal: str, service: Service) -> Iterator[Finding]:
    if checkpoint.expect is not None:
        yield Finding((*loc, "expect"), "`expect` belongs to a query", "a signal is judged against its objective")
    if checkpoint.judge not in JUDGES[signal]:
        hint = f"{signal} is judged by {' or '.join(JUDGES[signal])}"
        yield Finding((*loc, "judge"), f"the judge {checkpoint.judge} does not fit {signal}", hint)
    if checkpoint.limit is not None and checkpoint.judge not in ("trend", "creep"):
        yield Finding((*loc, "limit"), "`limit` belongs to trend and creep", "set objectives instead")
    if signal == "latency":
        yield from _latency_objective((*loc, "signal"), checkpoint, service)
    elif checkpoint.quantile is not None:
        yield Finding((*loc, "quantile"), "`quantile` belongs to latency", "take it out")


def _latency_objective(loc: Loc, checkpoint: Checkpoint, service: Service) -> Iterator[Finding]:
    quantiles = service.objectives.latency
    if not quantiles:
        yield Finding(loc, "there is no latency objective", "add objectives.latency", ("objectives",))
    elif checkpoint.quantile is not None and checkpoint.quantile not in quantiles:
        hint, told = (
            did_you_mean(checkpoint.quantile, quantiles),
            f"{checkpoint.quantile} is not among objectives.latency",
        )
        yield Finding((*loc[:3], "quantile"), told, hint, ("objectives",))


def _watched_query(loc: Loc, checkpoint: Checkpoint, service: Service) -> Iterator[Finding]:
    a_quantile = checkpoint.judge == "distribution" and checkpoint.expect is None
    for key in ("limit",) if a_quantile else ("judge", "quantile", "limit"):
        if getattr(checkpoint, key) is not None:
            yield Finding((*loc, key), f"`{key}` belongs to a signal", "a query is held against its expect")
    if a_quantile:
        yield from _latency_objective(loc, checkpoint, service)
    elif checkpoint.expect is None:
        yield Finding((*loc, "query"), "a query without an expectation can never fail", "add expect: value < 100")
    else:
        yield from condition((*loc, "expect"), checkpoint.expect, QUERY_NAMES)
    yield from _needs_prometheus((*loc, "query"), str(checkpoint.query), service)


# ── rollback ─────────────────────────────────────────────────────────────────────────────────────────────────


def _hooks(service: Service) -> Iterator[Finding]:
    if service.rollback is not None:
        yield from _hook(("rollback",), service.rollback, "to bring the old version back")
        if service.rollback.idempotent and service.rollback.github_workflow is not None:
            hint = "take `idempotent` out, or use a webhook or a command that heeds the key"
            yield Finding(("rollback", "idempotent"), "GitHub starts a workflow as often as it is asked to", hint)
    if service.canary is not None and service.canary.promote is not None:
        yield from _hook(("canary", "promote"), service.canary.promote, "to give the canary its next share")


def _hook(loc: Loc, hook: Hook, purpose: str) -> Iterator[Finding]:
    given = [way for way in HOOK_WAYS if getattr(hook, way) is not None]
    if len(given) != 1:
        told = f"{len(given)} ways ({', '.join(given)})" if given else "no way"
        hint = f"give exactly one of {', '.join(HOOK_WAYS)}"
        yield Finding((*loc, *given[1:2]), f"{loc[-1]} names {told} {purpose}", hint, needs=(str(loc[0]),))
    if hook.webhook is not None:
        yield from url((*loc, "webhook", "url"), hook.webhook.url)
    if hook.github_workflow is not None:
        yield from url((*loc, "github_workflow", "api_url"), hook.github_workflow.api_url)


def _on_inconclusive(service: Service) -> Iterator[Finding]:
    policy = service.on_inconclusive
    if policy is None:
        return
    for key, wanted in (("do", policy.do), ("otherwise", policy.otherwise)):
        if wanted == "rollback" and service.rollback is None:
            yield Finding(
                ("on_inconclusive", key),
                "on_inconclusive rolls back, and the file names no way to",
                "add rollback, or choose another answer",
                needs=("on_inconclusive", "rollback"),
            )
    if policy.do != "ask" and (policy.model_fields_set & {"within", "otherwise"}):
        yield Finding(("on_inconclusive",), "`within` and `otherwise` belong to ask", "take them out, or write do: ask")
    if policy.within < 1:
        yield Finding(("on_inconclusive", "within"), "`within` must be 1s or longer", "for example 1h")
