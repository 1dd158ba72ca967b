"""The page, read back with a Markdown parser: what stands where, and that nobody else's text is more than text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from firstwatch.model import Attempt, Judgement, Outcome, Verdict
from firstwatch.report import Answer, Decision, Question, ReleaseReport, RollbackState
from firstwatch.report.markdown import MAX_CHARTS, MAX_ROWS, question_markdown, release_markdown
from firstwatch.report.model import GateRecord, MetricRecord, RollbackAttempt, RollbackRecord
from tests.support.reports import DEPLOYED, HOSTILE, RELEASE, check, failed, healthy, hostile, rolled_back

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PARSER.validateLink = lambda _: True  # type: ignore[method-assign]  # every link there is, javascript: too
PROCEED = Answer(Decision.PROCEED, "it is the weekend", "ann", DEPLOYED + 2000)


def tokens(page: str) -> list[Token]:
    return [t for token in PARSER.parse(page) for t in (token, *(token.children or []))]


def texts(page: str, kind: str) -> list[str]:
    """The visible text of each heading, table cell or code block."""
    parsed = PARSER.parse(page)
    if kind == "fence":
        return [t.content for t in parsed if t.type == "fence"]
    opening = [i for i, token in enumerate(parsed) if token.type == f"{kind}_open"]
    return ["".join(child.content for child in parsed[i + 1].children or []) for i in opening]


def rows(page: str) -> list[list[str]]:
    found: list[list[str]] = []
    parsed = PARSER.parse(page)
    for i, token in enumerate(parsed):
        if token.type == "tr_open":
            found.append([])
        elif token.type in ("td_open", "th_open"):
            cell = "".join(c.content for c in parsed[i + 1].children or [])
            found[-1].append(cell.replace("\u00a0", " "))
    return found


def test_the_verdict_comes_first_and_says_why_in_a_sentence() -> None:
    lines = release_markdown(rolled_back()).split("\n\n")
    assert lines[0].replace("\\", "") == "# ✗ Rolled back: shop 1.4.3"
    assert lines[1].replace("\\", "") == "**T+0s error rate: 4.7 % of 1,203 requests failed, limit 1 %.**"
    assert "ended at T+7m48s" in lines[2] and "final state RolledBack" in lines[2]


def test_the_sections_come_in_the_order_in_which_people_ask() -> None:
    headings = texts(release_markdown(rolled_back()), "heading")
    assert headings[1:] == ["Rollback", "Smoke", "Window", "Signals", "Queries", "Requests", "Slack", "Notes"]


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"verdict": None, "state": ""}, "… Under observation"),
        ({"verdict": Verdict.HEALTHY}, "✓ Healthy"),
        ({"verdict": Verdict.INCONCLUSIVE, "rollback": None, "state": "Inconclusive"}, "? Inconclusive"),
        ({"verdict": Verdict.INCONCLUSIVE}, "? Inconclusive, rolled back"),
        ({"verdict": Verdict.INCONCLUSIVE, "state": "RollbackFailed"}, "? Inconclusive, and the rollback failed"),
        (
            {"verdict": Verdict.INCONCLUSIVE, "rollback": None, "state": "Proceeded", "answers": [PROCEED]},
            "? Inconclusive, and let through",
        ),
        ({"rollback": None}, "✗ Unhealthy, not rolled back"),
        ({"rollback": None, "dry_run": True}, "✗ Unhealthy (dry run: not rolled back)"),
    ],
)
def test_each_verdict_has_its_headline(change: dict[str, object], title: str) -> None:
    page = release_markdown(replace(rolled_back(), **change))  # type: ignore[arg-type]
    assert texts(page, "heading")[0] == f"{title}: shop 1.4.3"


def test_who_decided_what_and_why_is_in_the_report() -> None:
    watch = Answer(Decision.WATCH, "traffic comes back at ten", "ann", DEPLOYED + 2000, DEPLOYED + 2600)
    hostile = Answer(Decision.PROCEED, HOSTILE, HOSTILE, DEPLOYED + 2700)
    page = release_markdown(replace(rolled_back(), verdict=Verdict.INCONCLUSIVE, answers=[watch, hostile]))
    assert ["T+33m20s (10:33:20)", "ann", "keep watching until T+43m20s", "traffic comes back at ten"] in rows(page)
    assert not [t for t in tokens(page) if t.type in ("html_inline", "html_block")] and "[click](" not in page


def test_the_form_says_why_it_is_asked_and_what_follows() -> None:
    asked = Question(1, [Decision.PROCEED, Decision.STOP], DEPLOYED, DEPLOYED + 3600, Decision.STOP, HOSTILE)
    page = question_markdown(rolled_back(), asked, "http://127.0.0.1:4200/artifacts/key/release-shop")
    assert "4.7 % of 1,203 requests failed" in page and "2026-11-22T11:00:00Z" in page
    assert "**proceed**" in page and "roll back" not in page, "only what may be chosen"
    assert "(http://127.0.0.1:4200/artifacts/key/release-shop)" in page and "<script" not in page


def test_a_canary_that_is_watched_on_is_measured_again_however_many_minutes_were_given() -> None:
    watch = Answer(Decision.WATCH, "traffic comes back", "ann", DEPLOYED + 2000, DEPLOYED + 2600)
    canary = replace(rolled_back(), answers=[watch], gates=[GateRecord(None, DEPLOYED, ())])
    asked = Question(1, [Decision.WATCH, Decision.STOP], DEPLOYED, DEPLOYED + 3600, Decision.STOP)
    form = question_markdown(canary, asked, "")
    assert "minutes" not in form and "gate again" in form
    assert ["T+33m20s (10:33:20)", "ann", "keep watching", "traffic comes back"] in rows(release_markdown(canary))


@pytest.mark.parametrize("state", list(RollbackState))
def test_a_rollback_that_did_not_work_is_in_the_headline(state: RollbackState) -> None:
    report = rolled_back()
    assert report.rollback
    page = release_markdown(replace(report, state="", rollback=replace(report.rollback, state=state)))
    title = texts(page, "heading")[0]
    assert ("Rolled back" in title) == (state is RollbackState.ACCEPTED)
    assert ("✗ Unhealthy" in title) == (state is not RollbackState.ACCEPTED)


def test_the_final_state_knows_better_than_the_hook() -> None:
    accepted = replace(rolled_back(), state="RollbackFailed")  # but the bad version still answers
    assert texts(release_markdown(accepted), "heading")[0] == "✗ Unhealthy, and the rollback failed: shop 1.4.3"


def test_a_pass_on_retry_shows_its_first_failure() -> None:
    found = rows(release_markdown(rolled_back()))
    i = next(i for i, row in enumerate(found) if row[0] == "auth endpoint reachable")
    assert found[i][2] == "✓ pass on retry"
    why = "status == 200 did not hold: status is 503"
    assert found[i + 1][2:] == ["attempt 1: ✗ fail", "503", "44 ms", "T+1s", why]
    assert found[i + 2][2:] == ["attempt 2: ✓ pass", "401", "50 ms", "T+3s", "as expected"]


def test_a_checkpoint_is_shown_with_its_evidence_and_its_first_failure() -> None:
    page = release_markdown(rolled_back())
    found = {row[0]: row[1:] for row in rows(page)}
    assert found["T+0s error rate"] == [
        "✗ fail",
        "4.7 %",
        "1 %",
        "1,203",
        "T+7m45s (10:07:45)",
        "4.7 % of 1,203 requests failed, more than the 1 % that the objective allows",
    ]
    assert found["T+2m p95 latency"][:4] == ["✓ pass", "212 ms", "500 ms", "1,203"]
    assert found["T+5m memory trend"][0] == "? no data"
    assert found["T+30m memory creep"][0] == "not reached"
    assert 'sum(increase(http_requests_total{service="shop",status=~"5.."}[30s]))\n' in texts(page, "fence")


def test_failures_are_never_cut_off_by_passes() -> None:
    smoke = [check(f"fine {i}") for i in range(200)] + [check("broken", failed())]
    found = rows(release_markdown(replace(rolled_back(), smoke=smoke, version_check=None, rollback=None)))
    assert found[1][0] == "broken"
    assert [f"and {201 - MAX_ROWS} more"] == [row[0] for row in found if row[0].startswith("and ")]


def test_a_check_that_was_never_sent_is_no_pass() -> None:
    report = replace(rolled_back(), smoke=[replace(check("late"), attempts=())])
    row = next(r for r in rows(release_markdown(report)) if r[0] == "late")
    assert row[2] == "! error" and row[6] == "was never sent"


def test_undelivered_messages_are_told() -> None:
    assert ["verdict", "3", "Slack did not answer within 5 s"] in rows(release_markdown(rolled_back()))


def test_a_report_with_nothing_in_it_yet() -> None:
    page = release_markdown(ReleaseReport(RELEASE, DEPLOYED))
    assert texts(page, "heading") == ["… Under observation: shop 1.4.3"]
    assert "No verdict yet" in page


def test_a_verdict_without_a_reason_says_so() -> None:
    assert "No reason was recorded" in release_markdown(replace(rolled_back(), reasons=()))
    assert "4 checks and 1 checkpoint passed" in release_markdown(healthy())


def assert_only_text(page: str) -> None:
    kinds = {t.type for t in tokens(page)}
    assert not kinds & {"html_inline", "html_block", "code_inline", "code_block", "lheading_open", "blockquote_open"}
    links = [str(t.attrs["href"]) for t in tokens(page) if t.type == "link_open"]
    images = [str(t.attrs["src"]) for t in tokens(page) if t.type == "image"]
    assert len(links) <= 1 and all(link.startswith("http://127.0.0.1") for link in links)
    assert all(image.startswith("data:image/svg+xml;base64,") for image in images)
    widths = {3, 7}
    assert all(len(row) in widths for row in rows(page))


def test_hostile_answers_stay_text_and_the_page_stays_small() -> None:
    page = release_markdown(hostile())
    assert_only_text(page)
    titles = texts(page, "heading")
    assert titles[1:] == ["Rollback", "Smoke", "Window", "Signals", "Queries", "Requests", "Slack", "Notes"]
    assert len([t for t in tokens(page) if t.type == "image"]) == MAX_CHARTS
    assert "and 8 more" in page and "and 80 more" in page
    assert "(http://evil" not in page.split("## Queries")[0]  # an address that the UI would make a link of
    assert not {"\x00", "\x1b", "\u202e", "\ud800"} & set(page)
    assert len(page.encode()) < 300_000


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_stays_text(text: str) -> None:
    attempt = Attempt(Outcome.FAIL, text, DEPLOYED)
    smoke = [check(text, attempt, request=text)]
    report = replace(rolled_back(), charts=(), reasons=(text,), notes=(text,), version_check=None, smoke=smoke)
    page = release_markdown(report)
    assert_only_text(page)
    assert texts(page, "heading")[1:] == ["Rollback", "Smoke", "Window", "Queries", "Requests", "Slack", "Notes"]


def test_a_gate_shows_the_run_of_values_against_what_they_are_held_against() -> None:
    said = [(Outcome.PASS, 0.9991), (Outcome.NO_DATA, None), (Outcome.FAIL, 0.9899), (Outcome.NOT_YET, 0.5)]
    taken = tuple(Judgement(o, f"said {v}", DEPLOYED + 60 * i, value=v, query="up") for i, (o, v) in enumerate(said))
    metrics = (
        MetricRecord("success-rate", "result[0] >= 0.99", "Failed", False, taken),
        MetricRecord("latency | p95", "compare latency", "Running", True, ()),
    )
    promoted = RollbackRecord("webhook", RollbackState.ACCEPTED, "promote-x-25", (RollbackAttempt(DEPLOYED, "200 ok"),))
    page = release_markdown(replace(healthy(), gates=[GateRecord(5, DEPLOYED, metrics, promoted)]))
    assert "## Canary at 5 %" in page
    row = next(line for line in page.splitlines() if "success-rate" in line and "result" in line)
    shown = [page_cell.strip() for page_cell in row.split("|")][4].replace("\u00a0", " ").replace("\\.", ".")
    assert shown == "0.9991 · **? no data** · **0.9899 ✗** · **0.5 ?**"
    assert "latency" in page and "(dry run)" in page and "**accepted**" in page and "200 ok" in page


def test_measurements_that_come_to_the_same_are_told_once() -> None:
    said = [(Outcome.PASS, 1.0)] * 10 + [(Outcome.FAIL, 0.95), (Outcome.NO_DATA, None), (Outcome.NO_DATA, None)]
    taken = tuple(Judgement(o, "said", DEPLOYED + 60 * i, value=v) for i, (o, v) in enumerate(said))
    metric = MetricRecord("success-rate", "needs result[0] >= 0.99", "Running", False, taken)
    page = release_markdown(replace(healthy(), gates=[GateRecord(None, DEPLOYED, (metric,))]))
    shown = next(row for row in rows(page) if row[0] == "success-rate")[3]
    assert shown.replace("\u00a0", " ") == "1 (10 times) · 0.95 ✗ · ? no data (2 times)"


def test_a_long_gate_shows_its_newest_measurements() -> None:
    taken = tuple(Judgement(Outcome.PASS, "", DEPLOYED + i, value=float(i)) for i in range(200))
    gate = GateRecord(None, DEPLOYED, (MetricRecord("rate", "result > 0", "Running", False, taken),))
    page = release_markdown(replace(healthy(), gates=[gate])).replace("\u00a0", " ")
    assert "170 earlier · 170 · 171" in page and "· 199 |" in page
