"""The demo shop is what the other tests stand on, so it is tested itself: each fault does what it says."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.shop import PASSWORD, DemoShop, demo_shop


@pytest.fixture(scope="module")
def running() -> Iterator[DemoShop]:
    with demo_shop() as shop:
        yield shop


@pytest.fixture
def shop(running: DemoShop) -> Iterator[DemoShop]:
    running.deploy("v1")
    yield running
    running.faults()


def metric(shop: DemoShop, name: str, **labels: str) -> float:
    """The sum of the samples of that name which carry these labels."""
    families = text_string_to_metric_families(shop.http.get("/metrics").text)
    samples = (s for f in families for s in f.samples if s.name == name)
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def test_a_healthy_shop_answers_as_the_seed_suite_expects(shop: DemoShop) -> None:
    assert shop.http.get("/health").json() == {"status": "ok"}
    assert shop.http.get("/version").json() == {"version": "v1"}
    assert len(shop.http.get("/products?limit=1").json()) == 1
    login = {"username": "smoke@example.com", "password": "wrong"}
    assert shop.http.post("/auth/token", json=login).status_code == 401
    assert shop.http.post("/auth/token", json={**login, "password": PASSWORD}).status_code == 200
    assert shop.http.post("/auth/token", content=b"[").status_code == 400


def test_metrics_count_what_was_asked_and_begin_anew_with_a_release(shop: DemoShop) -> None:
    for _ in range(3):
        shop.http.get("/products")
    shop.http.get("/no/such/path")
    assert metric(shop, "http_requests_total", path="/products", status="200") == 3
    assert metric(shop, "http_requests_total", path="other", status="404") == 1
    assert metric(shop, "http_request_duration_seconds_bucket", path="/products", le="0.5") == 3
    shop.deploy("v2")
    assert metric(shop, "http_requests_total") == 0
    assert metric(shop, "shop_build_info", version="v2") == 1


def test_errors_and_latency_strike_the_business_only(shop: DemoShop) -> None:
    shop.faults(errors=1, latency=0.2)
    started = time.monotonic()
    assert shop.http.get("/products").status_code == 500
    assert time.monotonic() - started >= 0.2
    assert shop.http.get("/health").status_code == 200
    assert metric(shop, "http_requests_total", status="500") == 1
    assert metric(shop, "http_request_duration_seconds_bucket", path="/products", le="0.1") == 0


def test_leaks_grow_and_stay(shop: DemoShop) -> None:
    before = metric(shop, "process_resident_memory_bytes"), metric(shop, "db_pool_connections_in_use")
    shop.faults(leak=5_000_000, pool_leak=20)
    time.sleep(0.3)
    leaked = metric(shop, "process_resident_memory_bytes"), metric(shop, "db_pool_connections_in_use")
    assert leaked[0] - before[0] >= 1_400_000
    assert leaked[1] - before[1] >= 5
    shop.faults()
    assert metric(shop, "process_resident_memory_bytes") >= leaked[0]
    shop.deploy("v2")
    assert metric(shop, "process_resident_memory_bytes") == before[0]


def test_down_cuts_the_connection_and_hang_says_nothing_but_the_side_door_stays_open(shop: DemoShop) -> None:
    shop.faults(down=True)
    with pytest.raises(httpx.RemoteProtocolError):
        shop.http.get("/health")
    shop.faults(hang=True, paths=["/health"])
    with pytest.raises(httpx.ReadTimeout):
        shop.http.get("/health", timeout=0.3)
    assert shop.http.get("/products").status_code == 200
    assert shop.state()["faults"]["hang"] is True


def test_endless_answers_come_slowly_or_in_bulk(shop: DemoShop) -> None:
    shop.faults(huge=True)
    with httpx.stream("GET", f"{shop.url}/products") as answer:
        size = 0
        for block in answer.iter_bytes():
            size += len(block)
            if size > 5_000_000:
                break
    shop.faults(slow_drip=True)
    with httpx.stream("GET", f"{shop.url}/products", timeout=5) as answer:
        assert next(answer.iter_bytes()) == b" "


def test_answers_that_lie(shop: DemoShop) -> None:
    shop.deploy("v2", nan=True, old_version=True, redirect="/payments")
    assert "NaN" in shop.http.get("/health").text
    assert shop.http.get("/version").json() == {"version": "v1"}
    turned = shop.http.post("/auth/token", json={})
    assert (turned.status_code, turned.headers["location"]) == (307, "/payments")
    shop.faults(health_bad=True)
    assert shop.http.get("/health").status_code == 503


def test_faults_may_wait(shop: DemoShop) -> None:
    shop.faults(health_bad=True, after=0.5)
    assert shop.http.get("/health").status_code == 200
    time.sleep(0.6)
    assert shop.http.get("/health").status_code == 503


def test_faults_that_do_not_exist_are_refused(shop: DemoShop) -> None:
    answer = shop.http.post("/admin/faults", json={"eror": 1})
    assert answer.status_code == 400
    assert "eror" in answer.text


def test_payments_and_synthetic_requests_are_remembered(shop: DemoShop) -> None:
    before = shop.state()
    shop.http.get("/products", headers={"X-Synthetic-Test": "true"})
    shop.http.post("/payments", json={"amount": 1})
    after = shop.state()
    assert len(after["payments"]) == len(before["payments"]) + 1
    assert after["synthetic"][-1]["headers"]["x-synthetic-test"] == "true"
    assert len(after["synthetic"]) == len(before["synthetic"]) + 1


def test_who_has_logged_in_has_a_cart_and_gives_it_back(shop: DemoShop) -> None:
    assert shop.http.post("/cart", json={"product": 1}).status_code == 401
    login = {"username": "smoke@example.com", "password": PASSWORD}
    known = {"Authorization": f"Bearer {shop.http.post('/auth/token', json=login).json()['token']}"}
    made = shop.http.post("/cart", json={"product": 1}, headers=known)
    other = shop.http.post("/cart", json={"product": 2}, headers=known).json()["id"]
    cart = made.json()["id"]
    assert made.status_code == 201 and cart != other
    assert shop.http.get(f"/cart/{cart}", headers=known).json() == {"id": cart, "product": 1}
    assert shop.http.get(f"/cart/{cart}").status_code == shop.http.delete(f"/cart/{cart}").status_code == 401
    assert shop.http.delete(f"/cart/{cart}", headers=known).status_code == 204
    assert shop.http.get(f"/cart/{cart}", headers=known).status_code == 404
    assert shop.http.delete(f"/cart/{cart}", headers=known).status_code == 404
    assert shop.http.get(f"/cart/{other}", headers=known).status_code == 200
    assert shop.http.post("/cart", json={}, headers=known).status_code == 400
    assert metric(shop, "http_requests_total", path="/cart", status="201") == 2
    assert metric(shop, "http_requests_total", path="/cart", status="404") == 2


def test_errors_strike_each_cart_too(shop: DemoShop) -> None:
    shop.faults(errors=1, paths=["/cart"])
    assert shop.http.get("/cart/1").status_code == 500
    assert shop.http.get("/products").status_code == 200


def test_the_rollback_hook_checks_the_signature_and_acts_once_per_key(tmp_path: Path) -> None:
    state = tmp_path / "shop.json"
    body = json.dumps({"service": "shop"}).encode()
    signed = "sha256=" + hmac.new(b"quiet", body, hashlib.sha256).hexdigest()
    headers = {"X-Firstwatch-Signature": signed, "Idempotency-Key": "shop@v2"}
    with demo_shop(rollback_secret="quiet", state=state) as shop:
        shop.deploy("v2", errors=1)
        assert shop.http.post("/admin/rollback", content=body).status_code == 401
        assert shop.http.post("/admin/rollback", content=body, headers=headers).json() == {
            "version": "v1",
            "acted": True,
        }
        shop.deploy("v3")
        assert shop.http.post("/admin/rollback", content=body, headers=headers).json()["acted"] is False
        assert shop.http.get("/version").json() == {"version": "v3"}
        assert shop.http.get("/products").status_code == 200
        assert [call["key"] for call in shop.state()["rollbacks"]] == ["shop@v2", "shop@v2"]
    with demo_shop(state=state) as again:
        assert again.state()["version"] == "v3"
        assert len(again.state()["rollbacks"]) == 2


def test_traffic_keeps_its_rate_and_carries_no_mark(shop: DemoShop) -> None:
    seen = len(shop.state()["synthetic"])
    command = [sys.executable, "-m", "demo.traffic", shop.url, "--rps", "50", "--seconds", "1"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    answers = json.loads(told)
    assert 10 <= sum(answers.values()) <= 50  # fewer on a busy machine, never more
    assert metric(shop, "http_requests_total", status="200") == answers["200"]
    assert len(shop.state()["synthetic"]) == seen


def test_traffic_ends_with_its_parent(shop: DemoShop) -> None:
    start = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-m', 'demo.traffic', sys.argv[1], "
        "'--seconds', '60'], stdout=subprocess.DEVNULL).pid); import time; time.sleep(1.5)"
    )
    parent = subprocess.run([sys.executable, "-c", start, shop.url], check=True, capture_output=True, text=True)
    child, deadline = int(parent.stdout), time.monotonic() + 5
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
