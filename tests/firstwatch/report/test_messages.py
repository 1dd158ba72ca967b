"""The messages, held against Slack's limits twice: by the demo's Slack and by slack-sdk's own models."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from demo.block_kit import problems_with
from firstwatch.model import Judgement, Outcome, Verdict
from firstwatch.report import Answer, Decision, Question, ReleaseReport, RollbackState, messages
from firstwatch.report.messages import MAX_ITEMS, MAX_TEXT, Message, render
from firstwatch.report.model import GateRecord, MetricRecord, RollbackAttempt, RollbackRecord
from tests.support.reports import DEPLOYED, ERROR_RATE, HOSTILE, check, failed, healthy, hostile, rolled_back


def all_messages(report: ReleaseReport) -> list[Message]:
    return [
        messages.started(report),
        messages.smoke_failed(report),
        *(messages.checkpoint_failed(report, record) for record in report.checkpoints[:3]),
        messages.rollback(report),
        messages.verdict(report),
    ]


def assert_slack_takes_it(payload: dict[str, object]) -> None:
    blocks = payload["blocks"]
    assert problems_with(blocks) == []
    for block in Block.parse_all(blocks):  # type: ignore[arg-type]
        block.validate_json()
    text = payload["text"]
    assert isinstance(text, str) and 0 < len(text) <= MAX_TEXT


def words(message: Message) -> str:
    return str(render(message))


@pytest.mark.parametrize("report", [rolled_back(), healthy(), hostile()], ids=["rolled back", "healthy", "hostile"])
def test_slack_takes_every_message(report: ReleaseReport) -> None:
    told = all_messages(report) if report.rollback else [messages.started(report), messages.verdict(report)]
    for message in told:
        assert_slack_takes_it(render(message))


def test_a_failed_checkpoint_is_told_with_value_limit_sample_and_query() -> None:
    message = messages.checkpoint_failed(rolled_back(), ERROR_RATE)
    assert message.title == "❌ shop 1.4.3: error rate failed at T+7m45s"
    assert dict(message.facts) == {"Value": "4.7 %", "Limit": "1 %", "Sample": "1,203", "Over the last": "7m45s"}
    assert "4.7 % of 1,203 requests failed" in message.text and "http_requests_total" in message.code


def test_failed_checks_are_one_message_with_every_attempt() -> None:
    report = replace(rolled_back(), smoke=[check("health", failed("first"), failed("second")), check("fine")])
    message = messages.smoke_failed(report)
    assert message.title == "❌ shop 1.4.3: 1 of 3 checks failed"
    assert message.items == [("health (GET /health)", "attempt 1 (44 ms): first; attempt 2 (44 ms): second")]


def test_more_failures_than_anybody_reads_are_counted() -> None:
    report = replace(rolled_back(), smoke=[check(f"c{i}", failed()) for i in range(50)])
    assert f"and {50 - MAX_ITEMS} more" in words(messages.smoke_failed(report))


@pytest.mark.parametrize(
    ("verdict", "mark"), [(Verdict.HEALTHY, "✅"), (Verdict.UNHEALTHY, "❌"), (Verdict.INCONCLUSIVE, "⚠️")]
)
def test_the_verdict_goes_to_the_channel_too(verdict: Verdict, mark: str) -> None:
    message = messages.verdict(replace(rolled_back(), verdict=verdict, rollback=None))
    assert message.title.startswith(f"{mark} shop 1.4.3: ") and message.broadcast and message.kind == "verdict"
    assert ("decide" in words(message)) == (verdict is Verdict.INCONCLUSIVE)


def test_a_question_has_its_deadline_and_its_answer_ends_the_asking() -> None:
    report = replace(rolled_back(), verdict=Verdict.INCONCLUSIVE, rollback=None)
    asked = Question(2, [Decision.PROCEED, Decision.WATCH], DEPLOYED, DEPLOYED + 3600, Decision.STOP)
    message = messages.question(report, asked)
    assert (message.kind, message.broadcast) == ("question 2", True)
    assert "proceed or keep watching?" in message.title
    assert "2026-11-22T11:00:00Z" in words(message) and "Resume" in words(message)
    answered = replace(report, answers=[Answer(Decision.PROCEED, "it is the weekend", "ann", DEPLOYED + 60)])
    told = words(messages.verdict(answered))
    assert "ann: proceed. it is the weekend" in told and "Look at the report and decide" not in told


@pytest.mark.parametrize("state", list(RollbackState))
def test_a_rollback_that_needs_a_person_is_told_to_the_channel(state: RollbackState) -> None:
    report = rolled_back()
    assert report.rollback
    message = messages.rollback(replace(report, rollback=replace(report.rollback, state=state)))
    assert message.kind == f"rollback {state}"
    assert message.broadcast == (state in ("failed", "unknown"))
    assert "200 rolled back to 1.4.2" in words(message)


def test_without_a_rollback_there_is_none_to_tell_of() -> None:
    with pytest.raises(ValueError, match="no rollback"):
        messages.rollback(healthy())


def test_each_message_links_to_the_run_and_names_the_release() -> None:
    report = replace(rolled_back(), flow_run_url="http://127.0.0.1:4200/runs/1?a=1&b=<2>|3")
    for message in all_messages(report):
        footer = render(message)["blocks"][-1]["elements"][0]["text"]
        assert footer.startswith("<http://127.0.0.1:4200/runs/1?a=1&amp;b=%3C2%3E%7C3|Open in Prefect> · ")
        assert footer.endswith("shop@1.4.3@2026-11-22T10:00:00Z")


def test_a_link_that_is_none_is_left_out() -> None:
    for url in ("", "javascript:alert(1)", f"http://127.0.0.1/{'x' * 3000}"):
        assert "Open in Prefect" not in words(messages.started(replace(rolled_back(), flow_run_url=url)))


def test_a_dry_run_says_so_in_every_message() -> None:
    for message in all_messages(replace(rolled_back(), dry_run=True)):
        assert "Dry run: nothing is rolled back" in words(message)


def texts(payload: dict[str, object]) -> list[tuple[str, str]]:
    """Each text object's type and text."""

    def walk(value: object) -> list[tuple[str, str]]:
        if isinstance(value, list):
            return [t for item in value for t in walk(item)]
        if isinstance(value, dict):
            if value.get("type") in ("mrkdwn", "plain_text"):
                return [(value["type"], value["text"])]
            return [t for item in value.values() for t in walk(item)]
        return []

    return [("mrkdwn", str(payload["text"])), *walk(payload["blocks"])]


def test_nobody_is_called_by_what_a_service_answered() -> None:
    for message in all_messages(hostile()):
        for kind, text in texts(render(message)):
            assert "@channel" not in text and "@here" not in text
            if kind == "mrkdwn":
                assert "<" not in text.replace("<http://127.0.0.1", "") and "&amp;amp;" not in text


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.sampled_from([1, 2, 29, 100]), st.sampled_from(["", "<", "&", "𝔘", "@here ", " "]))
def test_any_text_fits(text: str, times: int, filler: str) -> None:
    long = (text + filler) * times
    message = Message("kind", long, long, [(long, long)] * 12, [(long, long)] * 60, long, [long] * 3, "http://x/")
    payload = render(message)
    assert_slack_takes_it(payload)
    for _, shown in texts(payload):
        assert not shown.rstrip("…").endswith(("&a", "&am", "&amp", "&l", "&lt", "&g", "&gt"))


def test_what_is_cut_is_shown_as_cut() -> None:
    payload = render(Message("kind", "t" * 500, HOSTILE * 500))
    assert payload["blocks"][0]["text"]["text"] == "t" * 149 + "…"
    assert payload["blocks"][1]["text"]["text"].endswith("…") and payload["text"].endswith("…")


def test_a_promotion_is_told_with_its_evidence() -> None:
    taken = (Judgement(Outcome.PASS, "needs result[0] >= 0.99: result[0] is 0.999", 60.0, value=0.999, limit=0.99),)
    metric = MetricRecord("success-rate", "needs result[0] >= 0.99", "Successful", False, taken)
    record = RollbackRecord("webhook", RollbackState.ACCEPTED, "promote-x-25", (RollbackAttempt(61.0, "200"),))
    gate = GateRecord(5, 0.0, (metric,), record)
    report = healthy()
    because = "Its gate at 5 % holds."
    told = messages.promoted(report, gate, 25, because)
    assert "promotion to 25 % accepted" in told.title and not told.broadcast
    assert told.items == [("success-rate", "needs result[0] >= 0.99: result[0] is 0.999")]
    lost = messages.promoted(report, replace(gate, promoted=replace(record, state=RollbackState.UNKNOWN)), 25, because)
    assert lost.broadcast and lost.kind != told.kind
    with pytest.raises(ValueError, match="has not been promoted from 5 %"):
        messages.promoted(report, replace(gate, promoted=None), 25, because)


def test_a_canary_is_said_to_be_gated() -> None:
    gate = GateRecord(5, 0.0, (MetricRecord("success-rate", "needs result[0] >= 0.99", "Running", False, ()),))
    text = messages.started(replace(healthy(), gates=[gate])).text
    assert text == "The canary is gated at 5 % of the traffic: success-rate."
