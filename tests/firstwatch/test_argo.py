"""Argo's templates taken over: what comes out, what is named, and that a service file takes it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from firstwatch.argo import limit_faults, validate_limits
from firstwatch.argo.direction import share_of, wrong_way
from firstwatch.argo.limits import is_go_duration, never_fails
from firstwatch.argo.metric import _PROMETHEUS
from firstwatch.argo.template import Imported, import_templates
from firstwatch.cli import main
from firstwatch.spec import load
from firstwatch.spec.canary import CanaryMetric, PrometheusProvider

GOOD = (
    'sum(rate(requests_total{app="{{args.app}}",code!~"5.."}[2m])) / sum(rate(requests_total{app="{{args.app}}"}[2m]))'
)
BAD = 'sum(rate(requests_total{code=~"5.."}[2m])) / sum(rate(requests_total[2m]))'


def template(metrics: str, spec: str = "", kind: str = "AnalysisTemplate") -> str:
    head = f"apiVersion: argoproj.io/v1alpha1\nkind: {kind}\nmetadata: {{name: checkout}}\nspec:\n"
    return (
        f"{head}  args: [{{name: app}}]\n"
        + indent(dedent(f"{spec}\n" if spec else ""), "  ")
        + "  metrics:\n"
        + indent(dedent(metrics).strip("\n"), "  ")
        + "\n"
    )


def metric(condition: str = "result[0] >= 0.95", query: str = GOOD, name: str = "success-rate", more: str = "") -> str:
    provider = f"  provider: {{prometheus: {{address: http://prom:9090, query: '{query}'}}}}\n"
    return f"- name: {name}\n  interval: 1m\n  count: 10\n  successCondition: '{condition}'\n{more}{provider}"


def taken(imported: Imported) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = YAML(typ="safe").load(imported.yaml)["canary"]["metrics"]
    return found


# ── what is taken over ───────────────────────────────────────────────────────────────────────────────────────

FULL = """
- name: success-rate
  initialDelay: 30s
  interval: 1m30s
  count: "10"
  failureLimit: 2
  inconclusiveLimit: 3
  consecutiveErrorLimit: 4
  successCondition: len(result) == 0 || result[0] >= {{args.limit}}
  failureCondition: any(result, {# < 0.9})
  provider:
    prometheus:
      address: http://prom:9090
      timeout: 40
      headers:
        - {key: X-Scope-OrgID, value: tenant}
      authentication:
        oauth2: {tokenUrl: "http://id", clientId: us, clientSecret: "{{ args.token }}", scopes: [read]}
      query: |
        sum(rate(requests_total{app="{{args.app}}",code!~"5..",zone="${zone}"}[2m]))
          / sum(rate(requests_total{app="{{args.app}}"}[2m]))
"""
FULL_SPEC = """
args:
- name: app
- name: limit
  value: "0.95"
- name: token
  valueFrom: {secretKeyRef: {name: prom.token, key: value}}
- name: hash
  valueFrom: {fieldRef: {fieldPath: metadata.labels}}
dryRun:
- metricName: rate
measurementRetention:
- metricName: .*
  limit: 20
"""


def full() -> Imported:
    return import_templates(template(FULL, FULL_SPEC).replace("  args: [{name: app}]\n", ""), "analysis.yaml")


def test_a_template_is_taken_over_field_by_field() -> None:
    imported = full()
    assert not imported.diagnostics
    assert imported.taken == 1
    assert taken(imported) == [
        {
            "name": "success-rate",
            "initialDelay": "30s",
            "interval": "1m30s",
            "count": 10,
            "successCondition": "size(result) == 0 || result[0] >= {{args.limit}}",
            "failureCondition": "result.exists(x, x < 0.9)",
            "failureLimit": 2,
            "inconclusiveLimit": 3,
            "consecutiveErrorLimit": 4,
            "provider": {
                "prometheus": {
                    "address": "http://prom:9090",
                    "query": 'sum(rate(requests_total{app="{{args.app}}",code!~"5..",zone="$${zone}"}[2m]))\n'
                    '  / sum(rate(requests_total{app="{{args.app}}"}[2m]))',
                    "timeout": 40,
                    "headers": [{"key": "X-Scope-OrgID", "value": "tenant"}],
                    "authentication": {
                        "oauth2": {
                            "tokenUrl": "http://id",
                            "clientId": "us",
                            "clientSecret": "secret:prom-token",
                            "scopes": ["read"],
                        }
                    },
                }
            },
            "dryRun": True,
        }
    ]
    args = YAML(typ="safe").load(imported.yaml)["canary"]["args"]
    assert args == [
        {"name": "app"},
        {"name": "limit", "value": "0.95"},
        {"name": "token", "value": "secret:prom-token"},
        {"name": "hash"},
    ]


def test_the_yaml_says_where_it_came_from_and_what_changed() -> None:
    text = full().yaml
    assert text.startswith("# From analysis.yaml: AnalysisTemplate checkout.\n")
    assert "# measurementRetention was left out" in text
    assert "# args.hash came from the cluster" in text
    assert "# successCondition was, in Argo's language: len(result) == 0 || result[0] >= {{args.limit}}" in text
    assert "# dryRun: Argo's rule rate matches only a part of this name" in text
    assert "query: |" in text


def test_a_service_file_takes_what_was_written() -> None:
    imported = import_templates(template(metric() + metric("result[0] <= 0.01", BAD, "errors")), "a.yaml")
    loaded = load(
        f"service: shop\nbase_url: http://shop\nmetrics: {{prometheus: http://prom}}\n{imported.yaml}", "shop.yaml", {}
    )
    assert not [d for d in loaded.diagnostics if d.path.startswith("canary")], loaded.diagnostics
    assert loaded.service is not None
    assert loaded.service.canary is not None
    assert [m.interval for m in loaded.service.canary.metrics] == [60.0, 60.0]


def test_several_templates_in_one_file_keep_their_metrics_apart() -> None:
    other = template(metric(), kind="ClusterAnalysisTemplate").replace("checkout", "search")
    imported = import_templates(f"{template(metric())}---\nkind: Service\n---\n{other}", "all.yaml")
    assert imported.templates == 2
    assert [m["name"] for m in taken(imported)] == ["checkout-success-rate", "search-success-rate"]


def test_two_keys_of_one_secret_are_two_secrets() -> None:
    keys = "".join(f"- name: {k}\n  valueFrom: {{secretKeyRef: {{name: prom, key: {k}}}}}\n" for k in ("user", "token"))
    text = template(metric(), f"args:\n- name: app\n{keys}").replace("  args: [{name: app}]\n", "")
    args = YAML(typ="safe").load(import_templates(text, "a.yaml").yaml)["canary"]["args"]
    assert [a.get("value") for a in args] == [None, "secret:prom-user", "secret:prom-token"]


def test_what_documentation_shows_in_part_is_taken_too() -> None:
    unending = metric().replace("  count: 10\n", "")
    imported = import_templates(f"metrics:\n{unending}{metric(query='...', name='b')}", "a.yaml")
    assert imported.taken == 2
    assert "no count" in imported.yaml
    assert "still to be written" in imported.yaml
    assert "- name: app" in imported.yaml


# ── what is named ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("metrics", "message", "place"),
    [
        (metric(query='sum(rate(x{code~"5.*"}[5m]))'), "not PromQL", "11:56"),
        (metric(query="rate(x[{{args.app}}])"), "", ""),
        (metric("result[0] <= 0.95", BAD), "accepts up to 95 % failed requests", "10:5"),
        (metric("result[0] >= 0.05"), "accepts a success rate of 5 %", "10:5"),
        (metric("result[0] <= 0.95"), "any share of good requests below 95 %", "10:5"),
        (metric("result[0] >= 95"), "never above", "10:5"),
        (metric("result[0] >= 95", f"100 * {GOOD}"), "", ""),
        (metric("result[0] <= 0.05", f"1 - {GOOD}"), "", ""),
        (metric("result[0] >= 0.90", more="  failureCondition: result[0] < 0.50\n"), "", ""),
        (
            metric("result[0] >= 0.90", more="  failureCondition: result[0] > 0.99\n"),
            "any share of good requests",
            "11:5",
        ),
        (metric("true"), "whatever the result is", "10:5"),
        (metric("results[0] > 1"), "unknown name results", "10:5"),
        (metric("findIndex(result, # > 1) == 0"), "findIndex() has no counterpart", "10:5"),
        (metric("result[0] > 1 && (now() > 1)"), "now() is not supported", "10:5"),
        (metric(more="  failureLimit: 10\n"), "can never fail: of 10 measurements no more than 10 fail", "9:5"),
        (metric(more="  failureLimit: 11\n"), "count (10) must not be below failureLimit (11)", "9:5"),
        (metric(more="  failureLimit: -1\n"), "can never fail", "9:5"),
        (metric(more="  failureLimit: some\n"), "no whole number", "11:5"),
        (metric().replace("1m", "60"), "60 is not a duration", "8:5"),
        (metric().replace("1m", "1d"), "'1d' is not a duration", "8:5"),
        (metric().replace("  interval: 1m\n", ""), "several measurements need an interval", "8:5"),
        (metric().replace("app}}", "other}}"), "{{args.other}} is used", "7:5"),
        (metric().replace("1m", "'{{args.app}}'"), "{{args.app}} is not known here", "8:5"),
        (metric(more="  failureLimt: 1\n"), "no `failureLimt` here", "11:5"),
        (metric() + metric(), "two metrics are named success-rate", "12:5"),
        ("- name: a\n  provider: {prometheus: {query: up}}\n", "it can never fail: it has no condition", "7:5"),
        ("- name: a\n  successCondition: result[0] > 1\n", "one provider is needed, here: none", "7:5"),
        (
            "- name: a\n  successCondition: result.ok\n  provider: {web: {url: x}}\n",
            "the provider web is not taken",
            "9:16",
        ),
        (
            "- name: a\n  successCondition: result[0] > 1\n  provider: {prometheus: {address: x}}\n",
            "has no query",
            "9:16",
        ),
        (
            "- name: a\n  successCondition: all(result, # > 1)\n  provider: {prometheus: {query: up}}\n",
            "` #` begins",
            "8:5",
        ),
        ("- successCondition: result[0] > 1\n  provider: {prometheus: {query: up}}\n", "it has no name", "7:5"),
    ],
)
def test_each_defect_is_named_where_it_stands_and_only_defects_are(metrics: str, message: str, place: str) -> None:
    imported = import_templates(template(metrics), "a.yaml")
    if not message:
        assert not imported.diagnostics
        return
    told = [str(d) for d in imported.diagnostics if message in str(d)]
    assert told, imported.diagnostics
    assert told[0].startswith(f"a.yaml:{place}:")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dryRun: [{metricName: other}]", "dryRun other matches no metric"),
        ("dryRun: [{metricName: '('}]", "not a regular expression"),
        ("measurementRetention: [{metricName: other, limit: 3}]", "measurementRetention other matches no metric"),
        ("templates: [{templateName: other}]", "refers to another template"),
    ],
)
def test_rules_that_match_nothing_are_named(spec: str, message: str) -> None:
    imported = import_templates(template(metric(), spec), "a.yaml")
    assert [d for d in imported.diagnostics if message in d.message]
    assert imported.taken == 1


def test_what_can_not_be_read_is_named() -> None:
    assert "not YAML" in str(import_templates("a: [", "a.yaml").diagnostics[0])
    for endless in ("a: &a [*a]", "[" * 3000):
        assert "nested too deeply" in str(import_templates(endless, "a.yaml").diagnostics[0])
    helm = import_templates("metadata:\n  name: x\n  {{- if .Values.x }}\nkind: AnalysisTemplate\n", "a.yaml")
    assert "helm template" in str(helm.diagnostics[0])
    assert import_templates("kind: Service\n", "a.yaml").templates == 0
    assert "has no metrics" in str(import_templates("kind: AnalysisTemplate\nspec:\n", "a.yaml").diagnostics[0])


# ── what a query measures ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("query", "name", "expected"),
    [
        (BAD, "", ("bad", 1)),
        (GOOD.replace("{{args.app}}", "x"), "", ("good", 1)),
        ('sum(a{status=~"[45].."}) / sum(a) * 100', "", ("bad", 100)),
        ('100 * (1 - sum(a{status=~"5.."}) / sum(a))', "", ("good", 100)),
        ('sum(a{status!="200"}) / sum(a)', "", ("bad", 1)),
        ('sum(a{code=~"2.."}) / clamp_min(sum(a), 1) or vector(1)', "", ("good", 1)),
        ("sum(rate(errors_total[5m])) / sum(rate(requests_total[5m]))", "", ("bad", 1)),
        ("rate(a_total[5m]) / rate(b_total[5m])", "success-rate", ("good", 1)),
        ('rate(a{x="1"}[5m]) / rate(a[5m])', "error-rate", None),  # what x is, nobody can know
        ("rate(errors_total[5m])", "error-rate", None),
        ('histogram_quantile(0.9, sum by (le) (rate(a_bucket{code="500"}[5m])))', "", None),
    ],
)
def test_shares_of_good_and_of_bad_requests_are_told_apart(
    query: str, name: str, expected: tuple[str, int] | None
) -> None:
    share = share_of(promql_parser.parse(query), name)
    assert (share and (share.kind, share.scale)) == expected


def test_a_failure_condition_looks_the_other_way() -> None:
    bad = share_of(promql_parser.parse(BAD), "")
    assert bad is not None
    assert not wrong_way(bad, ">", 0.05, success=False)
    assert "up to 95 %" in wrong_way(bad, ">", 0.95, success=False)
    assert "above 5 %" in wrong_way(bad, "<", 0.05, success=False)


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_that_argo_refuses_and_those_that_can_never_fail() -> None:
    assert not limit_faults(count=2, failure=2, interval=True)  # Argo lets it pass
    assert never_fails(2, 2)
    assert len(limit_faults(count=2, failure=3, inconclusive=3)) == 3  # all at once
    assert not never_fails(3, 2)
    assert not never_fails(0, 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"interval": 60, "count": 5}, ""),
        ({"interval": 60, "count": 5, "failureLimit": 5}, "can never fail"),
        ({"failureLimit": 1}, "of 1 measurement no more than 1 fail"),
        ({"interval": 60, "count": 15, "consecutiveFailureLimit": 3}, ""),
        ({"interval": 60, "count": 15, "failureLimit": -1, "consecutiveFailureLimit": 3}, ""),
        ({"interval": 60, "count": 15, "failureLimit": -1}, "can never fail"),
        ({"interval": 60, "count": 2, "consecutiveFailureLimit": 3}, "3 failures in a row do not fit"),
        ({"count": 5}, "several measurements need an interval"),
    ],
)
def test_a_canary_metrics_limits_are_held_to_the_same(given: dict[str, Any], message: str) -> None:
    faults = validate_limits(CanaryMetric.model_validate({"name": "m", **given}))
    assert message in " ".join(faults) if message else not faults


@pytest.mark.parametrize("text", ["60s", "1m30s", "1.5h", "500ms", "0", "-5s", ".5s"])
def test_go_durations(text: str) -> None:
    assert is_go_duration(text)
    assert not is_go_duration(f"{text} ")
    assert not is_go_duration("60")


def test_every_field_of_the_provider_is_taken_over() -> None:
    assert set(_PROMETHEUS) == {field.alias or name for name, field in PrometheusProvider.model_fields.items()}


def test_a_certificate_is_sent_to_where_it_stands_here() -> None:
    given = template(metric()).replace("{address:", "{caCert: PEM, address:")
    imported = import_templates(given, "analysis.yaml")
    assert any("caCert is not taken over" in str(d) and "metrics.ca_file" in str(d) for d in imported.diagnostics)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_names_and_exits_as_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, mixed, none = tmp_path / "good.yaml", tmp_path / "mixed.yaml", tmp_path / "none.yaml"
    good.write_text(template(metric()))
    mixed.write_text(template(metric() + metric("true", name="other")))
    none.write_text("kind: Service\n")
    assert main(["import-argo", str(good)]) == 0
    assert capsys.readouterr().out.startswith(f"# From {good}")
    assert main(["import-argo", str(mixed), "-o", str(tmp_path / "out.yaml")]) == 1
    out = capsys.readouterr()
    assert "1 metric taken over, 1 left out" in out.out
    assert f"{mixed}:15:5: other: successCondition true" in out.err
    assert "Left out, as something is wrong with them: other." in (tmp_path / "out.yaml").read_text()
    assert main(["import-argo", str(none)]) == 2
    assert main(["import-argo", str(tmp_path / "nowhere.yaml")]) == 2
