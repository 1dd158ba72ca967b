"""Canary configurations: what is read, what is refused and how it is said, and the PromQL that comes of it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from firstwatch.kayenta import CanaryConfig, ConfigError, Pair, parse, queries

PROMQL = (
    'PromQL:histogram_quantile(0.95, sum by (le) (rate(latency_bucket{app="$\\{scope}",region="${location}"}[1m])))'
)
CONFIG: dict[str, Any] = {
    "name": "shop",
    "configVersion": "1",
    "applications": ["shop"],
    "judge": {"name": "NetflixACAJudge-v1.0", "judgeConfigurations": {}},
    "metrics": [
        {
            "name": "latency",
            "query": {"type": "prometheus", "serviceType": "prometheus", "customInlineTemplate": PROMQL},
            "groups": ["latency"],
            "analysisConfigurations": {
                "canary": {
                    "direction": "increase",
                    "nanStrategy": "replace",
                    "critical": True,
                    "effectSize": {"allowedIncrease": 1.2, "criticalIncrease": 2},
                    "outliers": {"strategy": "remove", "outlierFactor": 3.0},
                }
            },
            "scopeName": "default",
        },
        {
            "name": "errors",
            "query": {
                "type": "prometheus",
                "metricName": "errors",
                "labelBindings": ['version="${scope}"', 'code=~"5.."'],
                "groupByFields": ["job"],
            },
            "groups": ["errors"],
        },
    ],
    "templates": {},
    "classifier": {"groupWeights": {"latency": 60, "errors": 40}, "scoreThresholds": {"pass": 95, "marginal": 75}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *parts, final = path.split(".")
    at: Any = config
    for part in parts:
        at = at[int(part)] if part.isdigit() else at.setdefault(part, {})
    at[int(final) if final.isdigit() else final] = value
    return config


def test_a_configuration_is_read_from_json_or_as_decoded() -> None:
    parsed = parse(json.dumps(CONFIG))
    assert isinstance(parsed, CanaryConfig)
    assert parsed == parse(CONFIG)
    latency, errors = (m.analysis for m in parsed.metrics)
    assert (latency.direction, latency.nan_strategy, latency.critical) == ("increase", "replace", True)
    assert (latency.effect_size.up, latency.effect_size.critical_up, latency.effect_size.down) == (1.2, 2, 1)
    assert (errors.direction, errors.critical, errors.effect_size.allowed_increase) == ("either", False, None)
    assert parsed.classifier.score_thresholds.passing == 95


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("metrics.0.analysisConfigurations.canary.direction", "up", "direction: Input should be 'increase'"),
        ("metrics.0.analysisConfigurations.canary.crtical", True, "canary.crtical: there is no such key"),
        ("metrics.0.analysisConfigurations.canary.outliers.outlierFactor", 0, "outlierFactor: Input should be greater"),
        ("metrics.1.query.type", "datadog", "metrics[1].query.type: metrics from datadog cannot be asked here"),
        ("metrics.1.query.resourceType", "gce_instance", "'errors': resourceType gce_instance cannot be translated"),
        ("metrics.1.query", {"type": "prometheus"}, "'errors': neither a metricName nor a customInlineTemplate"),
        ("metrics.1.query.customFilterTemplate", "mine", "'errors': there is no template 'mine'"),
        ("metrics.1.name", "latency", "'latency': there are two of this name"),
        ("metrics.1.groups", [], "'errors' is in no group and not critical: it is measured and never counts"),
        ("metrics", [], "metrics: Tuple should have at least 1 item"),
        ("classifier.groupWeights", {"latency": 80, "errors": 40}, "they add up to 120, more than 100"),
        ("classifier.groupWeights", {"latency": 60, "errors": 20}, "add up to 80; a perfect canary could not reach"),
        ("classifier.groupWeights", {"latency": 100}, "nothing is left of 100 for errors"),
        ("classifier.groupWeights", {"latency": 50, "typo": 50}, "no metric is in typo"),
        ("classifier.scoreThresholds", {"pass": 50, "marginal": 75}, "marginal (75) is above pass (50)"),
        ("judge.name", "RandomDummyJudge-v1.0", "judge.name: Input should be"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(path: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(changed(path, value))
    assert said in str(refused.value)


def test_no_metric_in_a_group_is_no_configuration() -> None:
    config = changed("classifier.groupWeights", {})
    for metric in config["metrics"]:
        metric["groups"] = []
    with pytest.raises(ConfigError, match="no metric is in a group"):
        parse(config)


def test_everything_is_said_at_once_and_what_is_no_json_too() -> None:
    config = changed("metrics.0.groups", "latency")
    config["metrcs"] = []
    config["classifier"]["groupWeights"]["errors"] = 400
    with pytest.raises(ConfigError) as refused:
        parse(config)
    assert len(refused.value.problems) == 3
    for text in ("{", "[]", "1"):
        with pytest.raises(ConfigError):
            parse(text)


# ── queries ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_queries_of_both_versions() -> None:
    found = queries(parse(CONFIG), "v2", "v1", "eu")
    quantile = 'histogram_quantile(0.95, sum by (le) (rate(latency_bucket{app="%s",region="eu"}[1m])))'
    assert found["latency"] == Pair(quantile % "v2", quantile % "v1")
    assert found["errors"].canary == 'avg(errors{version="v2",code=~"5.."}) by (job)'


def test_a_filter_template_comes_first() -> None:
    config = changed("templates", {"mine": 'version="${scope}",zone="a"'})
    config["metrics"][1]["query"] = {
        "type": "prometheus",
        "metricName": "errors",
        "customFilterTemplate": "mine",
        "labelBindings": ['code=~"5.."'],
    }
    found = queries(parse(config), "v2", "v1", "eu")
    assert found["errors"].stable == 'avg(errors{version="v1",zone="a",code=~"5.."})'


def test_queries_that_tell_nothing_apart_or_hold_unknown_variables_are_refused_all_at_once() -> None:
    config = changed("metrics.1.query.labelBindings", ['code=~"5.."'])
    with pytest.raises(ConfigError) as refused:
        queries(parse(config), "v2", "v1")
    unknown, same = refused.value.problems
    assert "'latency': the variable location is not known" in unknown
    assert "'errors': the query is the same for the canary and for the stable version" in same
