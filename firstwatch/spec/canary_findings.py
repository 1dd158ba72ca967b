"""What can be wrong with a canary section although every single field is in order."""

from __future__ import annotations

import re
from collections.abc import Iterator

from firstwatch.conditions import ConditionError
from firstwatch.selector import is_plain
from firstwatch.spec.canary import (
    CANARY_JUDGES,
    KAYENTA,
    Canary,
    CanaryMetric,
    PrometheusProvider,
    RangeQuery,
    count_of,
    metrics_of,
)
from firstwatch.spec.diagnostics import Finding
from firstwatch.spec.models import Service
from firstwatch.units import parse_duration

Loc = tuple[str | int, ...]
KNOWN_ARGS = frozenset({"service", "version", "stable"})
"""What `{{args.NAME}}` stands for without being declared: the run's own parameters."""
PLACEHOLDER = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
_MOMENT = re.compile(r"""^now\(\)(?:\s*-\s*duration\(\s*["']([^"']+)["']\s*\))?$""")


def findings(service: Service) -> Iterator[Finding]:
    """Every fault of meaning in the service's canary section."""
    canary = service.canary
    if canary is None:
        return
    if not canary.metrics and canary.kayenta is None:
        yield Finding(("canary",), "a gate without metrics can never fail", "add metrics, or kayenta")
    for i, metric in enumerate(canary.metrics):
        yield from _metric(("canary", "metrics", i), metric, service)
    taken = [KAYENTA]
    for i, metric in enumerate(canary.metrics):
        taken.append(metric.name)
        if metric.name in taken[:-1]:
            told = f"two metrics are named {metric.name!r}"
            yield Finding(("canary", "metrics", i, "name"), told, "their results could not be told apart")
    yield from _ends(canary)
    yield from _steps(canary)
    yield from _kayenta(canary)
    yield from _arguments(canary)


def _metric(loc: Loc, metric: CanaryMetric, service: Service) -> Iterator[Finding]:
    if (metric.provider is None) == (metric.judge is None):
        found = "both" if metric.judge else "neither"
        hint = "give a provider with conditions, or a judge with a signal"
        yield Finding(loc, f"the metric {metric.name!r} has {found} of provider and judge", hint)
    elif metric.provider is not None:
        yield from _query(loc, metric, metric.provider.prometheus, service)
    else:
        yield from _judge(loc, metric, service)


def _query(loc: Loc, metric: CanaryMetric, provider: PrometheusProvider, service: Service) -> Iterator[Finding]:
    from firstwatch.argo import validate_limits
    from firstwatch.expr import compile_gate_condition

    place: Loc = (*loc, "provider", "prometheus")
    for key in ("signal", "canary", "stable"):
        if getattr(metric, key):
            yield Finding((*loc, key), f"`{key}` belongs to a judge", "a query is held against its conditions")
    if not metric.success_condition and not metric.failure_condition:
        yield Finding(
            loc, f"{metric.name!r} can never fail: it has no condition", "successCondition: result[0] >= 0.99"
        )
    for key, text in (("successCondition", metric.success_condition), ("failureCondition", metric.failure_condition)):
        if text:
            try:
                compile_gate_condition(text)
            except ConditionError as e:
                cut = "in YAML, what follows a # is a comment: put the condition in quotes"
                yield Finding((*loc, key), f"{text}: {e}", cut if text.endswith((",", "(", "{")) else e.hint)
    for fault in validate_limits(metric):
        yield Finding(loc, f"{metric.name!r}: {fault}", "see docs/canary.md")
    if not provider.address:
        yield from _no_prometheus((*place, "query"), service, "give metrics.prometheus, or an address here")
    if said := promql_fault(provider.query):
        yield Finding((*place, "query"), f"not PromQL: {said}", "try it in Prometheus first")
    if provider.range_query is not None:
        yield from _range((*place, "rangeQuery"), provider.range_query)


def _judge(loc: Loc, metric: CanaryMetric, service: Service) -> Iterator[Finding]:
    signal = metric.signal or "errors"
    if metric.judge not in CANARY_JUDGES[signal]:
        hint = f"{signal} is judged by {' or '.join(CANARY_JUDGES[signal])}"
        yield Finding((*loc, "judge"), f"the judge {metric.judge} does not fit {signal}", hint)
    for key in ("successCondition", "failureCondition"):
        if getattr(metric, {"successCondition": "success_condition", "failureCondition": "failure_condition"}[key]):
            yield Finding((*loc, key), f"`{key}` belongs to a query", "a judge needs no condition")
    for key in ("failure_limit", "consecutive_failure_limit", "consecutive_success_limit"):
        if getattr(metric, key):
            camel = re.sub(r"_(\w)", lambda m: m[1].upper(), key)
            yield Finding((*loc, camel), f"`{camel}` belongs to a query", "a judge's failure is proof, the first time")
    if metric.limit is not None and metric.judge != "compare":
        yield Finding((*loc, "limit"), "`limit` belongs to compare", "the others are held against objectives")
    if not metric.canary:
        hint = 'canary: {version: "{{args.version}}"}'
        yield Finding(loc, f"{metric.name!r} does not say which series are the canary's", hint)
    if metric.judge == "compare" and not metric.stable:
        hint = 'stable: {version: "{{args.stable}}"}'
        yield Finding(loc, f"{metric.name!r} compares with nothing", hint)
    if metric.canary and metric.canary == metric.stable:
        yield Finding((*loc, "stable"), "canary and stable are the same series", "give them different labels")
    text = getattr(service.signals, signal)
    if text and not is_plain(text):
        hint = 'write a plain name{label="value"} in signals'
        yield Finding((*loc, "signal"), f"labels cannot be added to {signal}, a PromQL expression", hint, ("signals",))
    yield from _no_prometheus((*loc, "judge"), service, "give metrics.prometheus")


def _no_prometheus(loc: Loc, service: Service, hint: str) -> Iterator[Finding]:
    """One that the environment names, `${PROMETHEUS_URL:-}`, may be missing here and be there in production."""
    if "prometheus" not in service.metrics.model_fields_set:
        yield Finding(loc, "there is no Prometheus to ask", hint, needs=("metrics",))


def _range(loc: Loc, given: RangeQuery) -> Iterator[Finding]:
    for key in ("start", "end"):
        try:
            moment(getattr(given, key), 0.0)
        except ValueError as e:
            yield Finding((*loc, key), str(e), 'now() - duration("5m"), or now()')
    if given.step <= 0:
        yield Finding((*loc, "step"), "`step` must be longer than 0s", "for example 1m")


def _ends(canary: Canary) -> Iterator[Finding]:
    """A gate must decide, and come to an end."""
    metrics = [m for m in metrics_of(canary) if not m.dry_run]
    if canary.metrics and not metrics:
        yield Finding(("canary", "metrics"), "every metric is a dry run: the gate can never fail", "let one decide")
    elif metrics and not any(count_of(m) or m.consecutive_success_limit for m in metrics):
        hint = "give one of the metrics a count"
        yield Finding(("canary", "metrics"), "no metric has a count: the gate would never end", hint)


def _steps(canary: Canary) -> Iterator[Finding]:
    for i, (before, after) in enumerate(zip(canary.steps, canary.steps[1:], strict=False)):
        if after <= before:
            told = f"the steps do not ascend: {after} % comes after {before} %"
            yield Finding(("canary", "steps", i + 1), told, "order them from little traffic to all")
    if canary.steps and canary.promote is None:
        hint = "add promote: {webhook: {url: …}}, or leave steps out and act on the exit code"
        yield Finding(("canary", "steps"), "there are steps, and no promote hook to go from one to the next", hint)
    if canary.promote is not None and not canary.steps:
        yield Finding(("canary", "promote"), "there is a promote hook, and no steps", "add steps: [5%, 25%, 50%, 100%]")


def _kayenta(canary: Canary) -> Iterator[Finding]:
    if canary.kayenta is None:
        return
    if canary.kayenta.canary_scope == canary.kayenta.stable_scope:
        told = "the canary is compared with itself: both scopes are the same"
        yield Finding(("canary", "kayenta", "stable_scope"), told, "give them different scopes")
    if isinstance(canary.kayenta.config, str):
        return  # a file's faults are told when it is read
    from firstwatch.kayenta import ConfigError, parse, queries

    try:
        given = canary.kayenta
        queries(parse(given.config), given.canary_scope, given.stable_scope, given.location)
    except ConfigError as e:
        for fault in e.problems:
            yield Finding(("canary", "kayenta", "config"), fault, "see Kayenta's docs/canary-config.md")


def _arguments(canary: Canary) -> Iterator[Finding]:
    declared = {argument.name for argument in canary.args} | KNOWN_ARGS
    for i, metric in enumerate(canary.metrics):
        for name in dict.fromkeys(PLACEHOLDER.findall(str(metric.model_dump()))):
            if name.startswith("args.") and name.removeprefix("args.") not in declared:
                told = f"{{{{{name}}}}} is not among args"
                hint = f"add args: [{{name: {name.removeprefix('args.')}}}], with a value or to be given with each run"
                yield Finding(("canary", "metrics", i), told, hint)


def moment(text: str, now: float) -> float:
    """`now() - duration("5m")` → Unix seconds. Raises ValueError for what is neither that nor `now()`."""
    found = _MOMENT.match(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no moment")
    return now - (parse_duration(found[1]) if found[1] and not PLACEHOLDER.search(found[1]) else 0.0)


def promql_fault(query: str) -> str:
    """What is wrong with a PromQL query whose placeholders are not filled in yet; empty if nothing is."""
    import promql_parser

    try:
        promql_parser.parse(PLACEHOLDER.sub("x", re.sub(r"\[\s*\{\{[^}]*\}\}\s*\]", "[5m]", query)))
    except ValueError as e:
        return str(e).splitlines()[0]
    return ""
