"""`{{service}}`, `{{version}}` and `{{args.NAME}}` in a service file."""

from __future__ import annotations

import pytest

from firstwatch.spec import Service, load_or_raise, signals_of
from firstwatch.spec.fill import fill

FILE = """
service: shop
base_url: http://127.0.0.1:1
metrics: {prometheus: "http://127.0.0.1:1", bearer: "secret:token"}
signals:
  requests: http_requests_total{svc="{{service}}"}
  memory: max(process_resident_memory_bytes{svc="{{service}}",version="{{ version }}"})
window:
  - {at: 0m, name: error rate, signal: errors}
  - {at: 3m, name: queue, query: 'sum(queue{svc="{{args.service}}",zone="{{args.zone}}"})', expect: value < 100}
"""


def service() -> Service:
    return load_or_raise(FILE, "shop.yaml", {})


def test_every_placeholder_is_replaced_and_all_else_stays() -> None:
    filled = fill(service(), name="s001", version="v2", args={"zone": "a"})
    assert filled.service == "s001"
    assert filled.signals.requests == 'http_requests_total{svc="s001"}'
    assert filled.signals.memory == 'max(process_resident_memory_bytes{svc="s001",version="v2"})'
    assert filled.window.checkpoints[1].query == 'sum(queue{svc="s001",zone="a"})'
    assert signals_of(filled).errors == 'http_requests_total{svc="s001",status=~"5.."}'
    assert signals_of(filled).db_pool == 'db_pool_connections_in_use{service="s001"}'
    assert filled.metrics == service().metrics and filled.objectives == service().objectives


def test_all_that_is_missing_is_named_with_its_place() -> None:
    with pytest.raises(ValueError) as refused:
        fill(service(), name="s001", version='v2"} or up{a="', args={})
    assert str(refused.value).split("; ") == [
        "signals.memory: {{ version }} is 'v2\"} or up{a=\"', which cannot stand in a quoted text",
        "window.checkpoints[1].query: {{args.zone}} has no value",
    ]


def test_a_service_has_a_services_name() -> None:
    with pytest.raises(ValueError, match="no name of a service"):
        fill(service(), name='a"b', version="v2", args={"zone": "a"})


def test_an_argument_that_breaks_a_selector_is_refused() -> None:
    broken = load_or_raise(FILE.replace('svc="{{service}}"}', 'svc="{{args.zone}}"}', 1), "shop.yaml", {})
    with pytest.raises(ValueError, match=r"signals\.requests: .*plain selector"):
        fill(broken, name="s001", version="v2", args={"zone": 'a"} / x{b="'})


CANARY = """
canary:
  args: [{name: zone, value: "z-{{service}}"}, {name: stable}]
  metrics:
    - name: errors against stable
      judge: compare
      interval: 1m
      count: 5
      canary: {version: "{{args.version}}"}
      stable: {version: "{{args.stable}}", zone: "{{args.zone}}"}
"""


def test_the_canary_section_with_its_declared_arguments() -> None:
    file = load_or_raise(FILE + CANARY, "shop.yaml", {})
    filled = fill(file, name="s001", version="v2", args={"stable": "v1"})
    assert filled.canary is not None
    assert filled.canary.metrics[0].stable == {"version": "v1", "zone": "z-s001"}
    assert filled.canary.metrics[0].canary == {"version": "v2"}
    with pytest.raises(ValueError, match=r"^canary\.metrics\[0\]\.stable\.version: \{\{args\.stable\}\} has no value$"):
        fill(file, name="s001", version="v2", args={})
    without = fill(file, name="s001", version="v2", args={"zone": "a"}, canary=False)
    assert without.canary is None


def test_a_canary_is_not_compared_with_itself() -> None:
    file = load_or_raise(FILE + CANARY.replace(', zone: "{{args.zone}}"', ""), "shop.yaml", {})
    with pytest.raises(ValueError, match=r"^canary\.metrics\.0\.stable: canary and stable are the same series$"):
        fill(file, name="s001", version="v2", args={"stable": "v2", "zone": "a"})


QUERY = """
canary:
  args: [{name: least}]
  metrics:
    - name: rate
      successCondition: result[0] >= {{args.least}}
      provider: {prometheus: {query: 'sum(rate(ok{version="{{args.version}}"}[1m]))'}}
"""


@pytest.mark.parametrize(
    ("version", "least", "why"),
    [
        ('v2"} or vector(1) #', "0.9", "cannot stand in a quoted text"),
        ("v2", "0.9 || true", "true whatever the result is"),
        ("v2", "ninety", "successCondition"),
    ],
)
def test_what_arguments_make_of_a_gate_is_looked_at(version: str, least: str, why: str) -> None:
    file = load_or_raise(FILE.replace("{{ version }}", "v2") + QUERY, "shop.yaml", {})
    with pytest.raises(ValueError, match=why):
        fill(file, name="s001", version=version, args={"least": least, "zone": "a"})
