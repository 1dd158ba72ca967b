"""Service files with faults: each is named with its place and a way out, all at once, and none gets through."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.spec import DEFAULT_CHECKPOINTS, SpecError, load, load_or_raise
from tests.firstwatch.spec.cases import CASES, EXPECT, HEAD, HEALTH, WINDOW, Case

ROOT = Path(__file__).parents[3]
SHOP = (ROOT / "services/shop.yaml").read_text()


def said(text: str, **environ: str) -> list[str]:
    return [str(diagnostic) for diagnostic in load(text, "f.yaml", environ).diagnostics]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_fault_is_told_once_with_its_line_and_a_hint(case: Case) -> None:
    loaded = load(case.text, "f.yaml", {})
    lines = [i for i, line in enumerate(case.text.splitlines(), 1) if "# <<" in line]
    assert loaded.service is None
    assert [(d.line, d.file) for d in loaded.diagnostics] == [(line, "f.yaml") for line in lines], said(case.text)
    assert case.message in loaded.diagnostics[0].message
    assert case.hint in loaded.diagnostics[0].hint


def test_columns_point_at_the_key_or_at_the_item_of_a_list() -> None:
    text = HEALTH + "      expect: [status == 200, statsu == 1]\n      retires: 1\n"
    assert [d.partition(": ")[0] for d in said(text)] == ["f.yaml:8:31", "f.yaml:9:7"]


def test_all_faults_are_told_at_once_whatever_their_kind() -> None:
    text = (
        "service: my shop\nbase_url: ${NOPE}\nmetrics: {scrape: http://x/m}\nrules: {acount: 1}\nsmoke:\n  checks:\n"
        "    - {name: a, get: 5, expect: [status == 200]}\n    - {name: b, get: /, expect: [statsu == 200]}\n"
        "    - {name: b, get: /, expect: []}\nwindow: [{at: 1m, name: x, signal: errors, judge: creep}]\n"
        "rollback: {}\nalerts: {slack: {}}\ncanary: 1\n"
    )
    told = said(text)
    assert [int(d.split(":")[1]) for d in told] == [1, 2, 4, 7, 8, 9, 10, 11, 12, 13], told
    assert "unknown name statsu" in told[4] and "creep does not fit errors" in told[6]


def test_a_broken_section_does_not_make_others_look_broken() -> None:
    """A misspelt list of what is allowed must not be told as a request that is not listed."""
    rules = "rules: {alow: [{request: POST /x, because: is fine}]}\n"
    told = said(HEAD + rules + "smoke:\n  checks:\n    - {name: a, post: /x, expect: [status == 200]}\n")
    assert len(told) == 1 and "did you mean allow?" in told[0]


def test_secrets_that_stand_in_a_file_are_never_shown() -> None:
    text = (
        "service: s\nbase_url: http://u:SeCrEt@x\nmetrics: {prometheus: 'http://u:SeCrEt@p', bearer: SeCrEt}\n"
        "rules: {account: SeCrEt}\nrollback: {webhook: {url: 'SeCrEt', secret: SeCrEt}}\n"
        "alerts: {slack: 'https://hooks.example.com/SeCrEt'}\n"
    )
    told = said(text)
    assert len(told) == 7
    assert "SeCrEt" not in "\n".join(told)


def test_the_error_lists_every_diagnostic() -> None:
    with pytest.raises(SpecError) as e:
        load_or_raise(HEAD + "a: 1\nb: 2\n", "f.yaml", {})
    assert len(str(e.value).splitlines()) == len(e.value.diagnostics) == 2


# ── what loads ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shop_of_this_repository_loads() -> None:
    service = load_or_raise(SHOP, "services/shop.yaml", {})
    assert service.base_url == "http://127.0.0.1:8000"
    assert service.metrics.scrape == "http://127.0.0.1:8000/metrics"  # a default given once holds for the whole file
    assert service.metrics.prometheus == ""
    assert service.smoke is not None
    assert [check.name for check in service.smoke.checks] == ["health", "auth endpoint reachable", "API returns JSON"]
    assert service.smoke.checks[2].expect == ["status == 200", "type(json) in [list, map]"]
    assert tuple(service.window.checkpoints) == DEFAULT_CHECKPOINTS
    assert service.rollback is not None and service.rollback.webhook is not None
    assert service.rollback.webhook.url == "http://127.0.0.1:8000/admin/rollback"


def test_conditions_and_references_may_have_brackets_in_a_flow_list() -> None:
    """YAML wants them quoted; people, and the first page of our documentation, do not write them so."""
    quoted, url = (
        '"type(json) in [list, map]"',
        "  webhook:\n    url: ${SHOP_URL}/admin/rollback\n    secret: secret:rollback-hmac\n",
    )
    assert quoted in SHOP and url in SHOP
    plain = SHOP.replace(quoted, "type(json) in [list, map]").replace(
        url, "  webhook: {url: ${SHOP_URL}/admin/rollback, secret: secret:rollback-hmac}\n"
    )
    assert load_or_raise(plain, "f", {}) == load_or_raise(SHOP, "f", {})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (
            "[status == 200, json.a[0].b == 1 && json.c[1] == 2]",
            ["status == 200", "json.a[0].b == 1 && json.c[1] == 2"],
        ),
        ('[headers["x,y"] == "z", status == 200]', ['headers["x,y"] == "z"', "status == 200"]),
        ('["text == \\"a\\"", status == 200]', ['text == "a"', "status == 200"]),
        ("[status in [200, 204]]", ["status in [200, 204]"]),
        ("[status in  [200, 204] ]", ["status in  [200, 204]"]),
    ],
)
def test_flow_lists_of_conditions(written: str, meant: list[str]) -> None:
    service = load_or_raise(HEALTH + f"      expect: {written}\n", "f", {})
    assert service.smoke is not None and service.smoke.checks[0].expect == meant


def test_a_condition_that_its_own_comma_cut_is_told_to_be_quoted() -> None:
    told = said(HEALTH + '      expect: [text == "a, b"]\n')
    assert len(told) == 2 and all("put this condition in quotes" in line for line in told)


def test_the_environment_is_read_from_what_is_given() -> None:
    text = HEAD.replace("127.0.0.1:8000\n", "${HOST:-a}:${PORT:-80}/$${x}\n", 1)
    assert load_or_raise(text, "f", {"HOST": "b", "PORT": ""}).base_url == "http://b:80/${x}"
    assert (
        load_or_raise(text.replace("metrics: {", "metrics: {prometheus: '${P}', "), "f", {"P": ""}).metrics.prometheus
        == ""
    )


def test_numbers_from_the_environment_are_numbers() -> None:
    assert load_or_raise(HEAD + "rules: {requests_per_second: '${RPS:-7}'}\n", "f", {}).rules.requests_per_second == 7


def test_a_window_is_a_list_or_a_mapping_or_left_out() -> None:
    line = "- {at: 1m, name: a, signal: memory}\n"
    plain = load_or_raise(WINDOW + f"  {line}", "f", {}).window
    full = load_or_raise(WINDOW + f"  look_every: 2s\n  min_sample: 10\n  checkpoints:\n    {line}", "f", {}).window
    assert plain.checkpoints == full.checkpoints and plain.checkpoints[0].judge == "trend"
    assert (full.look_every, full.min_sample) == (2.0, 10)
    assert tuple(load_or_raise(WINDOW + "  alpha: 0.01\n", "f", {}).window.checkpoints) == DEFAULT_CHECKPOINTS


def test_checkpoints_of_the_same_time_stand_in_any_order() -> None:
    load_or_raise(WINDOW + "  - {at: 1m, name: b, signal: memory}\n  - {at: 1m, name: a, signal: errors}\n", "f", {})


def test_a_plain_query_needs_no_prometheus() -> None:
    load_or_raise(WINDOW + "  - {at: 1m, name: q, query: queue_depth, expect: value < 100}\n", "f", {})


def test_what_is_sandboxed_may_be_a_payment_with_a_test_card() -> None:
    rules = (
        "rules:\n  allow: [{request: POST /payments, because: is sandboxed}]\n"
        "  sandbox: {header: X-Sandbox, value: 'true', paths: [/payments]}\n"
    )
    check = (
        "smoke:\n  checks:\n    - name: pay\n      post: /payments\n      json: {card: '4111111111111111'}\n" + EXPECT
    )
    load_or_raise(HEAD + rules + check, "f", {})
    assert "is a payment path" in said(HEAD + rules.replace("paths: [/payments]", "paths: [/other]") + check)[0]


def test_an_absolute_url_of_a_listed_host_may_be_asked() -> None:
    text = HEALTH.replace("/health", "https://cdn.example.com/x") + EXPECT
    load_or_raise(text + "rules: {hosts: [cdn.example.com]}\n", "f", {})


def test_null_in_a_body_is_a_value() -> None:
    rules = "rules: {allow: [{request: POST /x, because: is fine}]}\n"
    text = HEAD + rules + "smoke:\n  checks:\n    - name: a\n      post: /x\n      json: {a: null}\n" + EXPECT
    service = load_or_raise(text, "f", {})
    assert service.smoke is not None and service.smoke.checks[0].json_body == {"a": None}


def test_many_checks_load_in_a_moment() -> None:
    checks = "".join(f"    - {{name: c{i}, get: /{i}, expect: [status == 200, elapsed < 1]}}\n" for i in range(50))
    start = time.process_time()
    load_or_raise(HEAD + "smoke:\n  checks:\n" + checks, "f", {})
    assert time.process_time() - start < 1.5


def test_a_wrong_base_url_is_told_once_and_not_again_for_each_request() -> None:
    for base_url in ("ftp://x", "${NOPE}", "http://u:p@x"):
        text = (
            HEALTH.replace("http://127.0.0.1:8000\n", f"{base_url}\n", 1)
            + EXPECT
            + "    - {name: b, get: /, expect: [statsu == 1]}\n"
        )
        told = said(text)
        assert [line.split(":")[1] for line in told] == ["2", "9"], told


def test_several_items_of_a_list_that_do_not_fit_are_taken_out_by_themselves() -> None:
    """Places shift while they are taken out; the good ones between them must stay, with their own faults."""
    bad = "    - {name: 5, get: /, expect: [status == 200]}\n    - {name: a%d, get: /, expect: [nope == 1]}\n"
    told = said(HEAD + "smoke:\n  checks:\n" + "".join(bad % i for i in range(4)))
    assert [int(line.split(":")[1]) for line in told] == list(range(6, 14)), told


LINES = [line for line in SHOP.splitlines() if line.strip() and not line.strip().startswith("#")]
ODD = st.sampled_from(
    ["", "x", "5", "null", "[]", "{}", "[1, 2]", "{a: b}", "${X}", "${", "*a", "!t", "'", "-1", "1e999"]
)


@given(
    st.lists(st.tuples(st.sampled_from(["drop", "twice", "change"]), st.integers(0, len(LINES) - 1), ODD), max_size=6)
)
def test_no_file_breaks_the_loader(edits: list[tuple[str, int, str]]) -> None:
    lines: list[str] = list(LINES)
    for edit, i, odd in edits:
        key, colon, _ = lines[i].partition(":")
        lines[i] = {"drop": "", "twice": f"{lines[i]}\n{lines[i]}", "change": f"{key}{colon} {odd}"}[edit]
    loaded = load("\n".join(lines), "f.yaml", {})
    assert (loaded.service is None) == bool(loaded.diagnostics)
    assert all(d.line >= 1 and d.column >= 1 and d.message for d in loaded.diagnostics)


def test_what_is_monitored_only_needs_no_metrics() -> None:
    """No release of it is verified; whoever tries all the same is told so when the window is opened."""
    monitored = "service: shop\nbase_url: http://x\nsynthetic: {checks: [{name: a, get: /, expect: [status == 200]}]}\n"
    assert not load(monitored, "shop.yaml", {}).diagnostics
    released = load(monitored + "rollback: {command: {run: [undo]}}\n", "shop.yaml", {})
    assert "the window has nowhere to measure" in str(released.diagnostics[0])
