"""Every fault of a canary section that the loader knows; see cases.py."""

from __future__ import annotations

import json
from typing import Any

SERVICE = "service: shop\nbase_url: http://127.0.0.1:8000\nmetrics: {prometheus: http://127.0.0.1:9090}\n"
METRIC = {
    "name": "success-rate",
    "interval": "2m",
    "count": 15,
    "successCondition": "result[0] >= 0.99",
    "consecutiveFailureLimit": 3,
    "provider": {"prometheus": {"query": "sum(up)"}},
}
JUDGE = {"name": "errors", "judge": "compare", "canary": {"version": "v2"}, "stable": {"version": "v1"}}


def metric(base: dict[str, Any] = METRIC, head: str = SERVICE, **changed: Any) -> str:
    """A file whose one canary metric, or its key that is marked, is at fault."""
    fields = {key: value for key, value in {**base, **changed}.items() if value is not None}
    return f"{head}canary:\n  metrics:\n    - {json.dumps(fields)} # <<\n"


def canary(more: str, head: str = SERVICE, metrics: str = json.dumps([METRIC])) -> str:
    marked = "" if more else " # <<"
    return f"{head}canary:\n  metrics: {metrics}{marked}\n{more}"


def provider(**changed: Any) -> dict[str, Any]:
    return {"prometheus": {"query": "sum(up)", **changed}}


SCRAPED = SERVICE.replace("prometheus: http://127.0.0.1:9090", "scrape: http://127.0.0.1:8000/metrics")
KAYENTA = "  kayenta: {config: {name: a, metrics: []}, canary_scope: a, stable_scope: b} # <<\n"
TABLE: list[tuple[str, str, str, str]] = [
    ("a gate of nothing", f"{SERVICE}canary: {{}} # <<\n", "a gate without metrics can never fail", "add metrics"),
    ("metric: neither", metric(provider=None), "has neither of provider and judge", "give a provider"),
    ("metric: both", metric(judge="compare"), "has both of provider and judge", "give a provider"),
    ("metric: no condition", metric(successCondition=None), "it has no condition", "result[0] >= 0.99"),
    ("metric: no expr", metric(successCondition="result[0] >="), "was not expected here", ""),
    ("metric: cut", metric(successCondition="all(result,"), "was not expected here", "in YAML, what follows a #"),
    ("metric: unknown", metric(successCondition="value > 1"), "unknown name value", ""),
    (
        "metric: always",
        metric(successCondition="result[0] >= 0 || result[0] < 1"),
        "this is true whatever the result is",
        "a limit",
    ),
    ("metric: no unit", metric(interval="60"), "is not a duration", "30s"),
    (
        "metric: many, no interval",
        metric(interval=None),
        "'success-rate': several measurements need an interval",
        "docs/canary.md",
    ),
    ("metric: unfailing", metric(consecutiveFailureLimit=None, failureLimit=15), "'success-rate': ", "docs/canary.md"),
    ("metric: no PromQL", metric(provider=provider(query="sum(")), "not PromQL: ", "try it in Prometheus"),
    ("metric: nowhere", metric(head=SCRAPED), "there is no Prometheus to ask", "give metrics.prometheus"),
    (
        "metric: a moment",
        metric(provider=provider(rangeQuery={"start": "yesterday", "step": "1m"})),
        "'yesterday' is no moment",
        "now() - duration",
    ),
    (
        "metric: no step",
        metric(provider=provider(rangeQuery={"start": "now()", "step": "0s"})),
        "`step` must be longer than 0s",
        "1m",
    ),
    ("metric: signal", metric(signal="errors"), "`signal` belongs to a judge", "conditions"),
    (
        "metric: argument",
        metric(provider=provider(query="up{a='{{args.zone}}'}")),
        "{{args.zone}} is not among args",
        "",
    ),
    ("judge: unfit", metric(JUDGE, signal="memory", judge="burn_rate"), "the judge burn_rate does not fit memory", ""),
    ("judge: condition", metric(JUDGE, successCondition="result > 1"), "`successCondition` belongs to a query", ""),
    ("judge: limit", metric(JUDGE, failureLimit=3), "`failureLimit` belongs to a query", "proof"),
    ("judge: margin", metric(JUDGE, judge="proportion", limit="10%"), "`limit` belongs to compare", "objectives"),
    ("judge: whose", metric(JUDGE, canary=None), "does not say which series are the canary's", "args.version"),
    ("judge: alone", metric(JUDGE, stable=None), "'errors' compares with nothing", "args.stable"),
    ("judge: itself", metric(JUDGE, stable={"version": "v2"}), "canary and stable are the same series", "labels"),
    (
        "judge: expression",
        metric(JUDGE, head=SERVICE + "signals: {memory: sum(rss)}\n", signal="memory"),
        "labels cannot be added to memory",
        "plain name",
    ),
    ("two metrics", canary("", metrics=json.dumps([METRIC, METRIC])), "two metrics are named 'success-rate'", "apart"),
    (
        "Kayenta's own name",
        metric(name="Kayenta score"),
        "two metrics are named 'Kayenta score'",
        "apart",
    ),
    (
        "a row of one",
        metric(interval=None, count=None, consecutiveFailureLimit=None, consecutiveSuccessLimit=2),
        "it can never succeed: 2 successes in a row need an interval",
        "docs/canary.md",
    ),
    (
        "with itself",
        SERVICE + "canary:\n  kayenta: {config: c.json, canary_scope: a, stable_scope: a} # <<\n",
        "the canary is compared with itself",
        "different scopes",
    ),
    ("dry", canary("", metrics=json.dumps([{**METRIC, "dryRun": True}])), "every metric is a dry run", "let one"),
    ("endless", canary("", metrics=json.dumps([{**METRIC, "count": 0}])), "the gate would never end", "a count"),
    (
        "steps descend",
        canary("  promote: {command: {run: [x]}}\n  steps: [5, 50%, 25%] # <<\n"),
        "the steps do not ascend: 25 % comes after 50 %",
        "order",
    ),
    ("a step", canary("  steps: [half] # <<\n"), "'half' is not a share of the traffic", "whole percents"),
    ("steps alone", canary("  steps: [5, 50] # <<\n"), "no promote hook to go from one to the next", "add promote"),
    ("promote alone", canary("  promote: {command: {run: [x]}} # <<\n"), "a promote hook, and no steps", "add steps"),
    (
        "promote: no way",
        canary("  steps: [5]\n  promote: {retries: 1} # <<\n"),
        "promote names no way to give the canary",
        "exactly",
    ),
    ("Kayenta", SERVICE + "canary:\n" + KAYENTA, "metrics: ", "Kayenta's"),
]
