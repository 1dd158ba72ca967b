"""Answers that change, with and without a release."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from firstwatch.answer import Answer, read_answer
from firstwatch.drift import Baseline, Compared, Sight, accept, compare, watched
from firstwatch.model import Outcome, as_json
from firstwatch.redaction import Redactor
from firstwatch.spec.synthetic import Drift

NOW = 1_795_000_000.0
THEN = "2026-11-18T11:06:40Z"
CONFIG = {"version": "1.4.0", "flags": {"beta": False, "pay": True}, "regions": ["eu", "us"]}
WHOLE = Drift(name="config", get="/config")


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, named, raw, charset="utf-8", elapsed=0.1, wire_bytes=len(raw))


def drift(*watch: str, version: str | None = None) -> Drift:
    return Drift(name="config", get="/config", watch=list(watch), version=version)


def sight(of: Answer, by: Drift = WHOLE, secrets: tuple[str, ...] = ()) -> Sight:
    return watched(by, of, Redactor(secrets))


def after(first: Answer, second: Answer, by: Drift = WHOLE, secrets: tuple[str, ...] = ()) -> Compared:
    """The second answer, where the first one is the baseline, by way of JSON, as it is stored."""
    taken = compare(None, sight(first, by, secrets), NOW).baseline
    assert taken is not None
    stored = json.dumps(as_json(taken))
    baseline = TypeAdapter(Baseline).validate_json(stored)
    assert baseline == taken and not any(secret in stored for secret in secrets)
    return compare(baseline, sight(second, by, secrets), NOW + 60)


def test_the_first_sight_is_the_baseline() -> None:
    first = compare(None, sight(answer(CONFIG)), NOW)
    assert first.found.outcome is Outcome.PASS and first.found.why == "seen for the first time: taken as the baseline"
    assert first.baseline is not None and first.baseline.values == {"status": 200, "body": CONFIG}


def test_the_same_answer_is_no_change_however_it_is_written() -> None:
    again = after(answer(CONFIG), answer(json.dumps(CONFIG, indent=2, sort_keys=True)))
    assert (again.found.outcome, again.found.why, again.baseline) == (Outcome.PASS, f"as it was on {THEN}", None)


def test_a_change_without_a_release_is_told_key_by_key() -> None:
    changed = {**CONFIG, "flags": {"beta": True, "new": 1}, "regions": ["eu", "us", "ap"]}
    found = after(answer(CONFIG), answer(changed))
    assert found.found.outcome is Outcome.FAIL and found.baseline is None
    assert found.diff == (
        "body.flags.beta: false → true",
        "body.flags.pay: true → nothing",
        "body.flags.new: nothing → 1",
        'body.regions: + "ap"',
    )
    assert found.found.why == (
        f"changed without a release since {THEN}: body.flags.beta: false → true; body.flags.pay: true → nothing; "
        "body.flags.new: nothing → 1; and 1 further line"
    )


def test_the_status_belongs_to_it() -> None:
    assert after(answer("x", 200), answer("x", 403)).diff == ("status: 200 → 403",)


def test_texts_are_told_line_by_line() -> None:
    found = after(answer("a\n-- b\nc\n"), answer("a\n++ b\nc\nd\n"))
    assert found.diff == ("body: - -- b", "body: + ++ b", "body: + d")


def test_what_lies_beyond_what_is_kept_does_not_change_unseen() -> None:
    found = after(answer("x" * 5000 + "a"), answer("x" * 5000 + "b"))
    assert found.found.outcome is Outcome.FAIL
    assert found.diff == ("what differs is secret, or lies beyond what is kept",)
    big = {"items": ["x" * 100] * 200}
    assert after(answer(big), answer({**big, "z": 1})).found.outcome is Outcome.FAIL
    kept = compare(None, sight(answer(big)), NOW).baseline
    assert kept is not None and len(json.dumps(as_json(kept))) < 3000


def test_a_secret_is_not_shown_and_does_not_change_unseen() -> None:
    by = drift('headers["set-cookie"]', "json.user")
    first, second = answer({"user": "hunter2-hunter2"}, set_cookie="a=1"), answer({"user": "x"}, set_cookie="a=2")
    found = after(first, second, by, secrets=("hunter2-hunter2",))
    assert found.diff == ('json.user: "***" → "x"',)
    cookie = after(first, answer({"user": "hunter2-hunter2"}, set_cookie="a=2"), by, secrets=("hunter2-hunter2",))
    assert cookie.diff == ("what differs is secret, or lies beyond what is kept",)


def test_many_changes_are_cut_short() -> None:
    found = after(answer({f"k{i}": 1 for i in range(100)}), answer({f"k{i}": 2 for i in range(100)}))
    assert len(found.diff) == 41 and found.diff[-1] == "… and 60 more lines"


# ── what is watched ──────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_is_watched_counts() -> None:
    by = drift("json.flags", 'headers["x-frame-options"]')
    same = after(answer(CONFIG, x_frame_options="DENY"), answer({**CONFIG, "at": 5}, x_frame_options="DENY"), by)
    assert same.found.outcome is Outcome.PASS
    found = after(answer(CONFIG, x_frame_options="DENY"), answer(CONFIG, x_frame_options="SAMEORIGIN"), by)
    assert found.diff == ('headers["x-frame-options"]: "DENY" → "SAMEORIGIN"',)


def test_what_is_gone_is_a_change() -> None:
    found = after(answer(CONFIG, x_frame_options="DENY"), answer(CONFIG), drift('headers["x-frame-options"]'))
    assert found.found.outcome is Outcome.FAIL and found.diff == ('headers["x-frame-options"]: "DENY" → gone',)


def test_what_was_never_there_is_no_baseline() -> None:
    first = compare(None, sight(answer(CONFIG), drift("json.flag.beta", "json.flags")), NOW)
    assert (first.found.outcome, first.baseline) == (Outcome.NO_DATA, None)
    assert first.found.why == 'no baseline can be taken: json.flag.beta: json has no key "flag"'


def test_a_server_error_is_a_failure_and_never_the_baseline() -> None:
    by = drift("json.flags", version="json.version")
    for baseline in (None, accept(sight(answer(CONFIG), by), NOW)):
        broken = compare(baseline, sight(answer({**CONFIG, "version": "1.5.0"}, 503), by), NOW)
        assert (broken.found.outcome, broken.baseline) == (Outcome.FAIL, None)
        assert broken.found.why == "answered 503, so what is watched cannot be seen"


def test_another_selection_in_the_file_is_no_change_of_the_answer() -> None:
    baseline = accept(sight(answer(CONFIG), drift("json.flags")), NOW)
    more = compare(baseline, sight(answer(CONFIG), drift("json.flags", "json.regions")), NOW)
    assert more.found.outcome is Outcome.PASS and more.baseline is not None
    changed = sight(answer({**CONFIG, "flags": {}}), drift("json.flags", "json.regions"))
    assert compare(baseline, changed, NOW).found.outcome is Outcome.FAIL
    misspelt = compare(baseline, sight(answer(CONFIG), drift("json.flags", "json.region")), NOW)
    assert (misspelt.found.outcome, misspelt.baseline) == (Outcome.NO_DATA, None)
    fewer = compare(accept(sight(answer(CONFIG)), NOW), sight(answer(CONFIG), drift("json.flags")), NOW)
    assert fewer.found.why == "what the file watches now is seen for the first time: taken as the baseline"


# ── releases ─────────────────────────────────────────────────────────────────────────────────────────────────

BY_VERSION = drift("json.flags", version="json.version")


def test_a_change_with_a_release_is_the_new_baseline() -> None:
    released = {**CONFIG, "version": "1.5.0", "flags": {"beta": True, "pay": True}}
    found = after(answer(CONFIG), answer(released), BY_VERSION)
    assert found.found.outcome is Outcome.PASS
    assert found.found.why == (
        "changed with a release: version 1.4.0 became 1.5.0; taken as the baseline (1 line of difference)"
    )
    assert found.diff == ("json.flags.beta: false → true",)
    assert found.baseline is not None
    assert (found.baseline.version, found.baseline.values) == ("1.5.0", {"json.flags": released["flags"]})


def test_a_release_without_a_change_is_kept_so_that_the_next_change_is_not_its_own() -> None:
    quiet = after(answer(CONFIG), answer({**CONFIG, "version": "1.5.0"}), BY_VERSION)
    assert quiet.found.outcome is Outcome.PASS and quiet.baseline is not None
    assert quiet.baseline.version == "1.5.0"
    late = compare(quiet.baseline, sight(answer({**CONFIG, "version": "1.5.0", "flags": {}}), BY_VERSION), NOW)
    assert late.found.outcome is Outcome.FAIL and "(still version 1.5.0)" in late.found.why


def test_an_answer_that_names_no_version_any_more_is_no_release() -> None:
    found = after(answer(CONFIG), answer({"flags": {}}), BY_VERSION)
    assert found.found.outcome is Outcome.FAIL and "(it names no version any more)" in found.found.why


def test_a_release_that_takes_away_what_is_watched_is_a_failure() -> None:
    found = after(answer(CONFIG), answer({"version": "1.5.0"}), BY_VERSION)
    assert (found.found.outcome, found.baseline) == (Outcome.FAIL, None)
    assert found.found.why == (
        'version 1.4.0 became 1.5.0, and what is watched is gone: json.flags: json has no key "flags"'
    )


def test_what_is_accepted_is_the_baseline() -> None:
    changed = sight(answer({**CONFIG, "flags": {}}))
    baseline = accept(changed, NOW)
    assert compare(baseline, changed, NOW + 1).found.outcome is Outcome.PASS
    assert baseline.taken_at == NOW


def test_that_something_is_gone_can_be_accepted_too() -> None:
    by = drift('headers["x-old"]', "json.flags", version="json.version")
    gone = sight(answer(CONFIG), by)
    baseline = TypeAdapter(Baseline).validate_python(as_json(accept(gone, NOW)))
    assert compare(baseline, gone, NOW).found.outcome is Outcome.PASS
    back = compare(baseline, sight(answer(CONFIG, x_old="1"), by), NOW)
    assert (back.found.outcome, back.diff) == (Outcome.FAIL, ('headers["x-old"]: nothing → "1"',))
    released = compare(baseline, sight(answer({"version": "1.5.0", "flags": {}}), by), NOW)
    assert released.found.outcome is Outcome.PASS and released.baseline is not None
    assert released.baseline.absent == ('headers["x-old"]',)


@pytest.mark.parametrize("depth", [100, 300, 900])
def test_deep_json_does_not_take_the_round_down(depth: int) -> None:
    found = compare(None, sight(answer("[" * depth + "]" * depth)), NOW)
    assert found.found.outcome in (Outcome.PASS, Outcome.FAIL) and found.found.why


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    max_leaves=8,
)


@given(values, values)
def test_any_difference_is_found_and_shown(one: Any, other: Any) -> None:
    first = accept(sight(answer(one)), NOW)
    found = compare(first, sight(answer(other)), NOW)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert found.found.outcome is (Outcome.PASS if same else Outcome.FAIL)
    assert bool(found.diff) is not same
