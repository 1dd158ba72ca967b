"""What may be sent, and what may not, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from firstwatch.request_text import is_graphql_mutation, is_payment_path
from firstwatch.rules import (
    READS,
    RESERVED_HEADERS,
    Allowed,
    Refused,
    headers_for_hop,
    is_listed,
    judge_redirect,
    judge_request,
    same_host,
    target_url,
)
from firstwatch.spec.models import Rules

BASE = "https://shop.example.com/api"
SANDBOX = {"header": "X-Sandbox", "value": "true", "paths": ["/payments", "/checkout/test"]}


def rules(**given: Any) -> Rules:
    allow = [{"request": "POST /auth/token", "because": "a wrong password creates nothing"}]
    return Rules(**{"allow": allow, "hosts": ["cdn.example.com", "img.example.com:8443"], **given})


def judge(method: str, path: str, headers: Any = None, body: Any = None, **given: Any) -> Allowed | Refused:
    return judge_request(method, target_url(BASE, path), headers or {}, body, rules=rules(**given), base_url=BASE)


def why(verdict: Allowed | Refused) -> str:
    assert isinstance(verdict, Refused)
    return verdict.why


# ── methods and hosts ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", sorted(READS))
def test_reads_are_free(method: str) -> None:
    assert judge(method, "/products?limit=1") == Allowed()


def test_a_listed_write_is_allowed_as_written_and_nothing_else() -> None:
    assert judge("POST", "/auth/token") == Allowed()
    assert judge("post", "/auth/token?x=1") == Allowed()
    for method, path in [
        ("PUT", "/auth/token"),
        ("POST", "/auth/token/"),
        ("POST", "/auth/tokens"),
        ("POST", "/auth/../auth/token"),
        ("POST", "/AUTH/token"),
        ("POST", "/auth%2Ftoken"),
        ("DELETE", "/orders/1"),
        ("TRACE", "/products"),
    ]:
        assert "not a plain read and not listed" in why(judge(method, path)), (method, path)


def test_a_listed_query_counts() -> None:
    listed = Rules(allow=[{"request": "POST /search?kind=read", "because": "it only looks"}])
    assert is_listed("POST", "/search", listed, query="kind=read")
    assert not is_listed("POST", "/search", listed, query="kind=write")
    assert not is_listed("POST", "/search", listed)


CARTS = [
    {"request": "DELETE /cart/${cart}", "because": "the journey's own cart"},
    {"request": "POST /cart/${cart}/items?kind=${kind}", "because": "the journey's own cart"},
    {"request": "PUT /${shelf}/books/${book}", "because": "the journey's own shelf"},
]


@pytest.mark.parametrize(
    "segment", ["5", "c-5", "a1b2_c3.d4~", "f%C3%BCnf", "me@example.com", "QUJD+w==", "a,b", "..a"]
)
def test_a_placeholder_is_one_segment(segment: str) -> None:
    assert judge("DELETE", f"/cart/{segment}", allow=CARTS) == Allowed()
    assert judge("DELETE", f"/cart/{segment}?force=1", allow=CARTS) == Allowed()
    assert judge("PUT", f"/{segment}/books/{segment}", allow=CARTS) == Allowed()


@pytest.mark.parametrize(
    "path",
    [
        "/cart", "/cart/", "/cart//", "/cart/5/", "/cart/5/items", "/cart//5", "/carts/5", "/x/cart/5", "/Cart/5",
        "/cart/..", "/cart/.", "/cart/...", "/cart/%2e%2e", "/cart/%252e%252e", "/cart/..%2Fadmin",
        "/cart/..%252fadmin",
        "/cart/%2Fevil.example", "/cart/a%5Cb", "/cart/5%3Fall=1", "/cart/5%23x", "/cart/..;x", "/cart/5;all=1",
        "/cart/5%3Apurge", "/cart/5:purge", "/cart/5%00", "/cart/5%0d%0aX", "/cart/%20", "/cart/5%25", "/cart/*",
        "/cart/%EF%BC%8E%EF%BC%8E%EF%BC%8Fadmin", "/cart/%EF%BC%8E%EF%BC%8E", "/cart/%FF", "/cart/$%7Bother%7D",
    ],
)  # fmt: skip
def test_a_placeholder_is_nothing_but_one_segment(path: str) -> None:
    assert "not listed" in why(judge("DELETE", path, allow=CARTS))


def test_a_placeholder_widens_nothing_else() -> None:
    for method, path in [
        ("POST", "/cart/5"),
        ("PUT", "/cart/5"),
        ("POST", "/cart/5/items"),  # an entry's query is no place for a placeholder, and it must be there
        ("POST", "/cart/5/items?kind=a"),
        ("PUT", "/a/books"),
        ("PUT", "/a/b/books/c"),
        ("PUT", "/books/c"),
        ("DELETE", "/api/cart/5"),  # below base_url's own path that is another one
    ]:
        assert "not listed" in why(judge(method, path, allow=CARTS)), (method, path)
    assert "payment" in why(judge("DELETE", "/cart/payments", allow=CARTS))
    other = [{"request": "DELETE /cart/x-${cart}", "because": "no whole segment, so no placeholder"}]
    assert "not listed" in why(judge("DELETE", "/cart/x-5", allow=other))


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example.com/",
        "http://shop.example.com/api/x",  # another port
        "https://shop.example.com:444/",
        "https://shop.example.com.evil.org/",
        "https://cdn.example.com:8443/x",
        "https://img.example.com/x",
        "https://shop.example.com@evil.org/",
        "https://user:pw@shop.example.com/",
        "https://shop.example.com\\@evil.org/",
        "https://shop.example.com/\r\nX: y",
        "https:///nowhere",
        "https://[::1/",
    ],
)
def test_other_hosts_are_refused(path: str) -> None:
    assert isinstance(judge("GET", path), Refused)


def test_a_listed_host_is_read_as_its_url_is() -> None:
    """httpx sends `straße.example` as xn--strae-oqa.example: IDNA 2008."""
    assert judge("GET", "https://xn--strae-oqa.example/", hosts=["straße.example"]) == Allowed()
    assert isinstance(judge("GET", "https://strasse.example/", hosts=["straße.example"]), Refused)


def test_listed_hosts_are_asked_at_their_port() -> None:
    assert judge("GET", "https://cdn.example.com/x") == Allowed()
    assert judge("GET", "https://CDN.example.com./x") == Allowed()
    assert judge("GET", "https://img.example.com:8443/x") == Allowed()
    assert judge("GET", "https://shop.example.com:443/api/x") == Allowed()


@pytest.mark.parametrize("host", ["api.stripe.com", "paypal.com", "pay.example.com", "my-payments.example.com"])
def test_a_payment_host_is_refused_even_when_listed(host: str) -> None:
    assert "takes payments" in why(judge("GET", f"https://{host}/v1/x", hosts=[host]))


def test_a_path_stays_below_base_url() -> None:
    assert target_url("http://shop/api/", "//evil.org/x") == "http://shop/api//evil.org/x"
    for path in ("x", "@evil.org", ":80/x", "", "ftp://shop/x"):
        with pytest.raises(ValueError, match="neither a path"):
            target_url("http://shop", path)


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS))
def test_reserved_headers_are_refused(name: str) -> None:
    assert "set by the transport" in why(judge("GET", "/x", {name.title(): "x"}))


# ── payments ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    [
        "/payments", "/PAYMENTS/1", "/PAYments", "/v1/payment-methods", "/v1/payment_intents", "/createPayment",
        "/paymentIntents", "//payments", "/x/../payments", "/x/%2e%2e/payments", "/%70ayments", "/%2570ayments",
        "/pay%6Dents;v=1", "/a%2Fpayments", "/a\\payments", "/pay%00ments", "/ｐａｙments", "/checkout",
        "/orders/1/refund", "/payouts.json", "/v2/Transfer:batch", "/billing/", "/pay", "/charge",
    ],
)  # fmt: skip
def test_payment_paths_are_recognised(path: str) -> None:
    assert is_payment_path(path)
    assert isinstance(judge("GET", path), Refused)
    assert isinstance(judge("POST", path, allow=[{"request": f"POST {path}", "because": "listed"}]), Refused)


@pytest.mark.parametrize(
    "path", ["/", "/health", "/displays", "/payload", "/products?sort=pay", "/discharged", "/paypers"]
)
def test_other_paths_are_not(path: str) -> None:
    assert not is_payment_path(path.partition("?")[0])
    assert judge("GET", path) == Allowed()


def test_the_sandbox_lifts_the_payment_rules_and_adds_its_mark() -> None:
    card = '{"number": "4111111111111111"}'
    allow = [{"request": "POST /payments/new", "because": "the sandbox takes no money"}]
    assert judge("GET", "/payments", sandbox=SANDBOX) == Allowed({"X-Sandbox": "true"})
    assert judge("POST", "/payments/new", {}, card, sandbox=SANDBOX, allow=allow) == Allowed({"X-Sandbox": "true"})
    assert judge("GET", "/payments", {"x-sandbox": "true"}, sandbox=SANDBOX) == Allowed({"X-Sandbox": "true"})
    assert "not listed" in why(judge("POST", "/payments/other", sandbox=SANDBOX, allow=allow))
    assert "X-Sandbox: true" in why(judge("GET", "/payments", {"x-sandbox": "false"}, sandbox=SANDBOX))
    assert judge("GET", "/products", sandbox=SANDBOX) == Allowed()


@pytest.mark.parametrize(
    "path",
    ["/paymentsx", "/payments/../checkout", "/payments/%2e%2e/charge", "/payments//pay", "/checkout", "/PAYMENTS",
     "https://cdn.example.com/payments", "/payments/%252e%252e/pay", "/payments\\..\\pay"],
)  # fmt: skip
def test_nothing_slips_out_of_the_sandbox(path: str) -> None:
    if path == "/paymentsx":
        assert judge("GET", path, sandbox=SANDBOX) == Allowed()  # no payment, no mark
    else:
        assert isinstance(judge("GET", path, sandbox=SANDBOX), Refused)


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/auth/token?pan=4111+1111+1111+1111", {}, None),
        ("/auth/token?pan=4111%201111%201111%201111", {}, None),
        ("/auth/token", {"X-Card": "4111111111111111"}, None),
        ("/auth/token", {}, '{"a": [{"pan": 4111111111111111}]}'),
        ("/auth/token", {}, '{"a": "\\u0034111111111111111"}'),
        ("/auth/token", {}, b"pan=4111%201111%201111%201111&x=1"),
        ("/auth/token", {}, "the card is 4111-1111-1111-1111."),
    ],
)
def test_card_numbers_are_refused_wherever_they_stand(path: str, headers: Any, body: Any) -> None:
    assert "card number" in why(judge("POST", path, headers, body))


@pytest.mark.parametrize(
    "body",
    [
        "mutation { pay }",
        '{"query": "mutation Pay($a: In = {x: 1}) { pay(a: $a) }"}',
        '[{"query": "{ a }"}, {"query": "\\n mutation{ pay }"}]',
        '{"query": "query A { a } # }\\n mutation B { b }", "operationName": "B"}',
        '{"query": "fragment F on T { a },mutation B { ...F }"}',
        '{"query": "muta\\u0074ion { pay }"}',
        "query=mutation+%7B+pay+%7D",
        b'{"query": "mutation { pay }"}',
        '{"query": "query A { a(s: \\"}\\") } mutation @d { b }"}',
    ],
)
def test_graphql_mutations_are_found(body: str | bytes) -> None:
    assert is_graphql_mutation(body)
    assert "GraphQL" in why(judge("POST", "/auth/token", {}, body))


@pytest.mark.parametrize(
    "body",
    [None, "", "{ a { mutation } }", '{"query": "mutation rates"}', '{"note": "mutation", "x": {"a": 1}}',
     '{"query": "{ a(s: \\"} mutation { b }\\") }"}', '{"query": "query Mutation { a }"}', "a=1&b=2"],
)  # fmt: skip
def test_other_bodies_are_not(body: str | None) -> None:
    assert not is_graphql_mutation(body)


def test_a_mutation_in_the_query_string_is_refused_too() -> None:
    assert "GraphQL" in why(judge("GET", "/graphql?query=mutation%7Ba%7D"))
    assert judge("GET", "/graphql?query=%7Ba%7D") == Allowed()


# ── redirects ────────────────────────────────────────────────────────────────────────────────────────────────


def redirect(method: str, target: str, **given: Any) -> Allowed | Refused:
    return judge_redirect(method, f"{BASE}/a", target, {}, rules=rules(**given), base_url=BASE)


def test_a_redirect_is_judged_like_a_request() -> None:
    assert redirect("GET", "https://shop.example.com/b") == Allowed()
    assert redirect("HEAD", "https://cdn.example.com/b") == Allowed()
    assert "neither" in why(redirect("GET", "https://evil.org/b"))
    assert "payment" in why(redirect("GET", "https://shop.example.com/payments"))
    assert "down to http" in why(redirect("GET", "http://shop.example.com/b", hosts=["shop.example.com"]))
    assert "only http and https" in why(redirect("GET", "file:///etc/passwd"))


def test_what_lies_outside_does_not_choose_what_the_service_is_asked() -> None:
    def led(url: str, target: str, began: str = "") -> Allowed | Refused:
        return judge_redirect("GET", url, target, {}, rules=rules(), base_url=BASE, began=began)

    cdn = "https://cdn.example.com/a"
    assert "from elsewhere into the service" in why(led(cdn, f"{BASE}/unsubscribe?user=1"))
    assert "from elsewhere into the service" in why(led(f"{BASE}/b", f"{BASE}/c", began=cdn))
    assert led(cdn, "https://cdn.example.com/b") == Allowed()
    assert led(cdn, f"{BASE}/welcome", began=f"{BASE}/login") == Allowed()  # the service has sent us there and back


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_write_is_never_redirected(method: str) -> None:
    assert "not followed" in why(redirect(method, "https://shop.example.com/auth/token"))


def test_credentials_stay_with_their_host() -> None:
    headers = {"Authorization": "x", "cookie": "y", "X-Key": "z", "Accept": "text/html"}
    assert headers_for_hop(headers, f"{BASE}/a", "https://shop.example.com:443/b") == headers
    assert headers_for_hop(headers, f"{BASE}/a", "https://cdn.example.com/b") == {"Accept": "text/html"}
    assert headers_for_hop(headers, "http://shop/a", "https://shop/a") == {"Accept": "text/html"}
    assert not same_host("https://shop/", "https://shop:444/")
