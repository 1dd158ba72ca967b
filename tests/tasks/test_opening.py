"""What a run refuses before its first request, and which secrets it keeps out of all that is written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from firstwatch.spec import Service, load_or_raise
from tasks import service_files
from tasks.opening import _filled, read_service
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
    found = set(_secret_names(service(METRIC)))
    assert found == {"in-metrics", "in-header", "in-oauth", "in-hook", "in-hooks-header"}


EVERYWHERE = """
service: shop
base_url: http://127.0.0.1:8000
metrics:
  prometheus: http://127.0.0.1:9090
  headers: {X-Tenant: secret:of-header}
  basic: {username: us, password: secret:of-basic}
rules:
  account: {username: smoke@example.com, password: secret:of-account}
  allow: [{request: POST /login, because: a wrong password creates nothing}]
smoke:
  checks:
    - {name: wrong, post: /login, json: {user: a, password: wrong, token: [no, secret]}, expect: [status == 401]}
    - {name: formed, post: /login, form: {secret: wrong-too, bearer: secret:of-form}, expect: [status == 401]}
    - {name: right, post: /login, json: {in: [{a: x secret:of-body}]}, expect: [status == 200]}
synthetic:
  journeys:
    - name: in
      steps: [{name: login, post: /login, json: {password: x}, expect: [status == 200], save: {token: json.token}}]
rollback: {webhook: {url: "http://127.0.0.1/r", secret: secret:of-hook}}
alerts: {slack: {webhook: secret:of-slack}, ping: secret:of-ping}
"""


def test_secrets_are_those_that_are_named_as_such_and_no_field_of_a_body() -> None:
    found = set(_secret_names(load_or_raise(EVERYWHERE, "shop.yaml", {})))
    meant = {"header", "basic", "account", "form", "body", "hook", "slack", "ping"}
    assert found == {f"of-{place}" for place in meant}


def test_a_kayenta_configuration_that_is_lost_is_told_at_once() -> None:
    with pytest.raises(NotVerifiable, match=r"lost\.json"):
        _filled(service(KAYENTA), "v2", {})


# ── a file is parsed once, as long as it stays the same ──────────────────────────────────────────────────────


def written(folder: Path, size: int, age: float = 60.0) -> Path:
    """`age`: seconds since it was written, as its time has it."""
    path = folder / "shop.yaml"
    metrics = "metrics: {prometheus: http://127.0.0.1:9090}"
    path.write_text(
        f"service: shop\nbase_url: ${{SHOP:-http://127.0.0.1:8000}}\n{metrics}\nrules: {{max_body: {size}}}\n"
    )
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_a_file_that_stays_the_same_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_files, "_SETTLED", 0)
    path = written(tmp_path, 100)
    first = read_service(str(path))
    assert read_service(str(path)) is first
    monkeypatch.setenv("SHOP", "http://127.0.0.1:9000")
    assert read_service(str(path)).base_url == "http://127.0.0.1:9000"
    monkeypatch.delenv("SHOP")
    assert read_service(str(path)).base_url == first.base_url


def test_a_file_that_is_changed_is_seen_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for settled in (0, 2_000_000_000):
        monkeypatch.setattr(service_files, "_SETTLED", settled)
        for number in range(100, 120):  # of the same length, one after another, all with the same age
            path = written(tmp_path, number, age=60 if settled else number)
            assert read_service(str(path)).rules.max_body == number
    path.write_text("service: [")
    with pytest.raises(NotVerifiable):
        read_service(str(path))
    path.unlink()
    with pytest.raises(NotVerifiable, match="cannot be read"):
        read_service(str(path))
