"""What a run refuses before its first request, and which secrets it keeps out of all that is written."""

from __future__ import annotations

import pytest

from firstwatch.spec import Service, load_or_raise
from tasks.opening import _filled
from tasks.run import NotVerifiable
from tasks.secrets import _secret_names

FILE = """
service: shop
base_url: http://127.0.0.1:8000
metrics: {prometheus: http://127.0.0.1:9090, bearer: secret:in-metrics}
canary:
"""
METRIC = """
  metrics:
    - name: rate
      successCondition: result[0] >= 0.9
      provider:
        prometheus:
          address: http://127.0.0.1:9091
          query: sum(up)
          headers: [{key: Authorization, value: Bearer secret:in-header}]
          authentication: {oauth2: {tokenUrl: "http://127.0.0.1/t", clientId: a, clientSecret: secret:in-oauth}}
  steps: [5]
  promote: {webhook: {url: "http://127.0.0.1/p", secret: secret:in-hook, headers: {X-Key: "secret:in-hooks-header"}}}
"""
KAYENTA = "  kayenta: {config: lost.json, canary_scope: canary, stable_scope: stable}\n"


def service(canary: str) -> Service:
    return load_or_raise(FILE + canary, "shop.yaml", {})


def test_every_secret_of_a_canary_is_known_to_the_redactor() -> None:
    found = set(_secret_names(service(METRIC).model_dump()))
    assert found == {"in-metrics", "in-header", "in-oauth", "in-hook", "in-hooks-header"}


def test_a_kayenta_configuration_that_is_lost_is_told_at_once() -> None:
    with pytest.raises(NotVerifiable, match=r"lost\.json"):
        _filled(service(KAYENTA), "v2", {})
