"""The synthetic section: what loads, what its checks are called, and under which rules each is asked."""

from __future__ import annotations

import pytest

from firstwatch.monitor import Kind
from firstwatch.rules import Allowed, Refused, judge_request
from firstwatch.spec import load, load_or_raise
from firstwatch.spec.dns_findings import is_value
from firstwatch.spec.findings import is_domain_name, is_host
from firstwatch.spec.monitored import certificate_hosts, needs_of, rules_for, watched_of
from firstwatch.spec.synthetic import check_names
from tests.firstwatch.spec.synthetic_cases import ALLOW, CHECK, HEAD, SAVES, SMOKE, journey

ALL_KINDS = (
    HEAD
    + SMOKE
    + "synthetic:\n  checks:\n"
    + CHECK
    + "  journeys:\n    - name: buy tea\n      needs: [health]\n      steps:\n"
    + SAVES
    + "  certificate: {hosts: [a.example, 'b.example:8443'], needs: [a]}\n"
    "  dns: {records: [{name: a.example}, {name: a.example, type: MX}]}\n"
    "  dependencies: [{name: address book, get: https://a.example/x?y=1, expect: [status == 200]}]\n"
    "  drift: [{name: headers, get: /, needs: [buy tea]}]\n"
    "  heartbeats: [{name: backup, every: 1d}]\n"
)


def test_every_kind_of_check_has_a_name_and_its_needs() -> None:
    service = load_or_raise(ALL_KINDS, "f", {})
    assert [(check.name, check.kind) for check in watched_of(service)] == [
        ("health", Kind.HTTP),
        ("a", Kind.HTTP),
        ("buy tea", Kind.JOURNEY),
        ("certificate a.example", Kind.CERTIFICATE),
        ("certificate b.example:8443", Kind.CERTIFICATE),
        ("dns a.example A", Kind.DNS),
        ("dns a.example MX", Kind.DNS),
        ("address book", Kind.DEPENDENCY),
        ("headers", Kind.DRIFT),
        ("backup", Kind.HEARTBEAT),
    ]
    needs = needs_of(service)
    assert {name: of for name, of in needs.items() if of} == {
        "buy tea": ("health",),
        "certificate a.example": ("a",),
        "certificate b.example:8443": ("a",),
        "headers": ("buy tea",),
    }
    assert service.synthetic is not None
    assert list(check_names(service.synthetic, ["health"], certificate_hosts(service))) == list(needs)


def test_the_smoke_suite_is_monitored_only_where_there_is_one_and_it_is_wanted() -> None:
    for text in (
        ALL_KINDS.replace("synthetic:\n", "synthetic:\n  smoke: false\n").replace("[health]", "[]"),
        ALL_KINDS.replace(SMOKE, "").replace("synthetic:\n", "synthetic:\n  smoke: true\n").replace("[health]", "[]"),
    ):
        assert next(watched_of(load_or_raise(text, "f", {}))).name == "a"
    assert list(watched_of(load_or_raise(HEAD + SMOKE, "f", {}))) == []


@pytest.mark.parametrize(
    ("base_url", "hosts"),
    [
        ("https://shop.example.com/api", ["shop.example.com"]),
        ("https://shop.example.com:443", ["shop.example.com"]),
        ("https://shop.example.com:8443", ["shop.example.com:8443"]),
        ("https://[::1]:8443/", ["[::1]:8443"]),
        ("https://[::1]", ["[::1]"]),
    ],
)
def test_the_certificate_is_that_of_base_url_where_none_is_named(base_url: str, hosts: list[str]) -> None:
    text = HEAD.replace("base_url: http://127.0.0.1:8000", f"base_url: {base_url}")
    assert certificate_hosts(load_or_raise(text + "synthetic: {certificate: {}}\n", "f", {})) == hosts


def test_a_host_with_the_usual_port_is_the_same_certificate() -> None:
    text = HEAD + "synthetic: {certificate: {hosts: [a.example, 'a.example:443']}}\n"
    assert [d.message for d in load(text, "f", {}).diagnostics] == ["two checks are named 'certificate a.example'"]


def test_a_dependency_is_read_at_its_own_host_and_at_no_other() -> None:
    text = ALL_KINDS + ALLOW + "  hosts: [cdn.example]\n  redirects: 1\n"
    service = load_or_raise(text, "f", {})
    assert service.synthetic is not None
    rules = rules_for(service, service.synthetic.dependencies[0])

    def asked(method: str, url: str) -> type:
        return type(judge_request(method, url, {}, None, rules=rules, base_url=service.base_url))

    assert asked("GET", "https://a.example/x?y=1") is asked("HEAD", "http://a.example/") is Allowed
    assert asked("GET", "https://a.example:8443/") is asked("GET", "https://cdn.example/") is Refused
    assert asked("POST", "https://a.example/cart") is asked("POST", f"{service.base_url}/cart") is Refused
    assert (rules.requests_per_second, rules.redirects) == (service.rules.requests_per_second, 1)
    assert service.rules.hosts == ["cdn.example"]  # a check of the service cannot ask the dependency
    told = load(text.replace("get: /a,", "get: https://a.example/x,"), "f", {}).diagnostics
    assert len(told) == 1 and "neither that of base_url nor listed" in told[0].message


# ── saved values ─────────────────────────────────────────────────────────────────────────────────────────────


def test_saved_values_stay_as_they_are_where_a_step_sends_them() -> None:
    listed = ALLOW + "    - {request: 'DELETE /cart/${cart}', because: is ours}\n"
    put = "        - {name: put, post: '/cart', headers: {Authorization: 'Bearer ${token} ${KEY}'}, "
    put += "json: {a: ['${token}', {b: 'x${token}'}]}, expect: [status == 201], save: {cart: json.id}}\n"
    tidy = "      cleanup: {name: tidy, delete: '/cart/${cart}', expect: [status == 204]}\n"
    service = load_or_raise(journey(SAVES + put, tidy, listed), "f", {"KEY": "k", "token": "no"})
    assert service.synthetic is not None
    taken = service.synthetic.journeys[0]
    assert taken.steps[1].headers == {"Authorization": "Bearer ${token} k"}
    assert taken.steps[1].json_body == {"a": ["${token}", {"b": "x${token}"}]}
    assert taken.cleanup[0].delete == "/cart/${cart}"
    assert service.rules.allow[1].request == "DELETE /cart/${cart}"


def test_what_is_allowed_need_not_name_the_value_as_the_step_does() -> None:
    listed = "rules:\n  allow: [{request: 'DELETE /cart/${id}', because: is ours}]\n"
    tidy = "      cleanup: {{name: tidy, delete: '/cart/{}', expect: [status == 204]}}\n"
    load_or_raise(journey(SAVES, tidy.format("${token}"), listed), "f", {})
    for more in ("${token}/all", ""):
        told = load(journey(SAVES, tidy.format(more), listed), "f", {}).diagnostics
        assert len(told) == 1 and "is not listed" in told[0].message


def test_one_clean_up_step_or_a_list_of_them() -> None:
    one = "{name: tidy, get: '/x/${token}', expect: [status == 200]}"
    single, listed = (
        load_or_raise(journey(SAVES, f"      cleanup: {text}\n"), "f", {}).synthetic for text in (one, f"[{one}]")
    )
    assert single == listed


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "smoke:\n  checks: [{name: a, get: '/${token}', expect: [status == 200]}]\n",
        HEAD + "synthetic:\n  checks: [{name: a, get: '/${token}', expect: [status == 200]}]\n",
        journey(SAVES).replace("buy tea", "buy ${token}"),
        journey(SAVES.replace("status == 200", '"text == ${token}"')),
        journey(SAVES.replace("/login", "/${Token}")),
        journey(SAVES.replace("/login", "'/${token:-x}'")),
        HEAD + "rules:\n  allow: [{request: GET /, because: 'is ${token}'}]\n",
    ],
)
def test_elsewhere_they_are_no_names_of_the_environment(text: str) -> None:
    told = [d.message for d in load(text, "f", {"token": "x"}).diagnostics]
    assert len(told) == 1 and "is not the name of an environment variable" in told[0]


def test_a_name_may_be_anything_even_if_the_path_then_reads_like_a_payment() -> None:
    load_or_raise(journey(SAVES.replace("token", "payment") + SAVES.replace("/login", "'/x/${payment}'").replace(
        "token:", "other:")), "f", {})  # fmt: skip


def test_a_value_is_used_by_any_later_step_and_by_the_clean_up() -> None:
    use = "        - {name: use, get: '/x/${token}/${token}', expect: [status == 200]}\n"
    tidy = use.replace("        - ", "").strip()
    load_or_raise(journey(SAVES + use, f"      cleanup: [{tidy}]\n"), "f", {})
    told = load(journey(use + SAVES, f"      cleanup: [{tidy}]\n"), "f", {}).diagnostics
    assert [d.line for d in told] == [8]  # once, and not again for the clean-up


# ── hosts, names, values ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text", ["a", "a.example", "a.example:8443", "192.0.2.1:1", "[::1]:8443", "::1", "_x.a.example."]
)
def test_hosts(text: str) -> None:
    assert is_host(text)


@pytest.mark.parametrize("text", ["", "a b", "a:0", "a:70000", "a:", "a/b", "u@a", "https://a", "[::1", "-a", "a..b"])
def test_no_hosts(text: str) -> None:
    assert not is_host(text)


def test_domain_names() -> None:
    assert all(map(is_domain_name, ("a", "_dmarc.a.example", "xn--bcher-kva.example", "bücher.example", "a.example.")))
    assert not any(map(is_domain_name, ("", ".", "*.a.example", "a.-c", "a..b", "a" * 64, ".".join(["a" * 60] * 5))))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("A", "192.0.2.1", "192.0.2.256"),
        ("AAAA", "2001:DB8::1", "2001:db8"),
        ("CNAME", "a.example.", "a.example b"),
        ("MX", "10 mail.example.", "ten mail.example"),
        ("MX", "0 .", "0"),
        ("SRV", "10 60 5060 sip.example", "10 60 sip.example"),
        ("CAA", '0 issue "letsencrypt.org"', "issue letsencrypt.org"),
        ("CAA", "0 issue letsencrypt.org", "0 issue"),
        ("SOA", "ns.example host.example 1 2 3 4 5", "ns.example host.example 1 2 3 4"),
    ],
)
def test_values_of_records(kind: str, good: str, bad: str) -> None:
    assert is_value(good, kind) and not is_value(bad, kind)
    assert is_value("any text at all", "TXT")


def test_one_that_can_be_dead_slow_is_fine_when_its_rounds_are_rare_enough() -> None:
    slow = HEAD + "synthetic:\n  every: 1m\n  checks: [{name: a, get: /, expect: [status == 200], timeout: 30s}]\n"
    assert len(load(slow, "f", {}).diagnostics) == 1  # 61 s of 40
    assert load(slow.replace("1m", "2m"), "f", {}).diagnostics == ()
    many = "".join(f"    - {{name: c{i}, get: /, expect: [status == 200], timeout: 1s}}\n" for i in range(100))
    told = load(f"{HEAD}synthetic:\n  every: 1m\n  checks:\n{many}", "f", {}).diagnostics
    assert len(told) == 1 and "200 requests at 5 a second 40s" in told[0].message
