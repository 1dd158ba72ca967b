"""What is written about an incident, notice by notice, and about a storm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from demo.block_kit import problems_with
from firstwatch.alerting.model import (
    AlertState,
    CheckState,
    Incident,
    Level,
    Notice,
    NoticeKind,
    Part,
    packed,
    unpacked,
)
from firstwatch.monitor import Health
from firstwatch.report.incident import (
    Context,
    IncidentReport,
    after,
    fingerprint,
    incident_markdown,
    lasted,
    reconciled,
    top,
)
from firstwatch.report.messages import render
from firstwatch.report.notices import label, reply
from firstwatch.report.storm import digest_message, service_line, storm_over
from tests.support.reports import HOSTILE

NOW = 1_795_643_400.0  # 2026-11-25 21:50:00 UTC
ID = "shop@2026-11-25T21:50:00Z"
CONTEXT = Context(9, {}, "http://127.0.0.1:4200/runs/flow-run/1", "http://127.0.0.1:4200/artifacts/1")
FACTS: dict[str, float | str] = {"threshold": "21d", "status": 503.0, "fingerprint": "ab"}
DOWN = Part("health", Health.DOWN, "status is 503", NOW - 120, 3, 3, FACTS)
SLOW = Part("search", Health.DEGRADED, "p95 is 1.2 s, usually 300 ms", NOW - 60, 3, 3)


def notice(kind: NoticeKind, *parts: Part, at: float = NOW, **more: Any) -> Notice:
    return Notice(f"{ID}/{kind}/r", kind, "shop", ID, at, parts, **more)


def told(*notices: Notice) -> IncidentReport:
    report = None
    for one in notices:
        report = after(report, one)
    assert report is not None
    return report


OPENED = notice(NoticeKind.OPENED, DOWN, first=True)


@pytest.mark.parametrize(
    ("notices", "title"),
    [
        ([OPENED], "🔴 shop: 1 of 9 checks down"),
        ([notice(NoticeKind.OPENED, SLOW, first=True)], "🟡 shop: 1 of 9 checks degraded"),
        ([notice(NoticeKind.OPENED, DOWN, SLOW, first=True)], "🔴 shop: 1 of 9 checks down, 1 degraded"),
        (
            [OPENED, notice(NoticeKind.IMPROVED, replace(DOWN, health=Health.DEGRADED))],
            "🟡 shop: 1 of 9 checks degraded",
        ),
        ([OPENED, notice(NoticeKind.FLAPPING, replace(DOWN, health=Health.UP))], "🔴 shop: 1 of 9 checks down"),
        (
            [OPENED, notice(NoticeKind.CLOSED, replace(DOWN, health=Health.UP), at=NOW + 725, last=True)],
            "🟢 shop: resolved after 12m",
        ),
    ],
)
def test_the_title_says_how_the_service_is(notices: list[Notice], title: str) -> None:
    assert top(told(*notices), CONTEXT).title == title


def test_the_top_says_what_since_when_why_with_which_values_and_where_to_read_on() -> None:
    context = replace(CONTEXT, held={"basket": "as it needs 'health', which is down"})
    message = top(told(OPENED, notice(NoticeKind.OPENED, SLOW)), context)
    assert message.text == "Since 2026-11-25 21:50:00 UTC: health, search."
    assert list(message.items) == [
        ("🔴 health", "status is 503 · since 2026-11-25 21:48:00 UTC · 3 of 3 results · threshold 21d"),
        ("🟡 search", "p95 is 1.2 s, usually 300 ms · since 2026-11-25 21:49:00 UTC · 3 of 3 results"),
        ("Held back", "basket, as it needs 'health', which is down"),
    ]
    assert message.url == CONTEXT.flow_run_url and CONTEXT.report_url in message.footer[1]


def test_a_closed_check_stays_in_sight_below_the_open_ones() -> None:
    report = told(
        OPENED,
        notice(NoticeKind.OPENED, SLOW),
        notice(NoticeKind.CLOSED, replace(DOWN, health=Health.UP, why=""), at=NOW + 60),
    )
    assert [item[0] for item in top(report, CONTEXT).items] == ["🟡 search", "🟢 health"]
    assert "up again at 2026-11-25 21:51:00 UTC" in top(report, CONTEXT).items[1][1]


@pytest.mark.parametrize(
    ("one", "title", "said"),
    [
        (notice(NoticeKind.OPENED, SLOW), "🟡 shop: search degraded too", "p95 is 1.2 s"),
        (notice(NoticeKind.REOPENED, DOWN), "🔴 shop: health down again", "status is 503"),
        (notice(NoticeKind.WORSENED, DOWN), "🔴 shop: health worse, now down", "status is 503"),
        (notice(NoticeKind.REMINDER, DOWN, at=NOW + 3600), "⏰ shop: health still down after 1h", "status is 503"),
        (notice(NoticeKind.FLAPPING, DOWN), "🔁 shop: health goes up and down", "until it is steady"),
        (notice(NoticeKind.CLOSED, replace(DOWN, health=Health.UP)), "🟢 shop: health up again", "status is 503"),
        (
            notice(NoticeKind.CLOSED, replace(DOWN, health=Health.UNKNOWN, why="no longer monitored")),
            "🟢 shop: health closed",
            "no longer monitored",
        ),
        (notice(NoticeKind.DIGEST, lines=("a", "b")), "🗂️ shop: 2 messages that had to wait", "meanwhile"),
    ],
)
def test_each_kind_of_notice_has_its_words(one: Notice, title: str, said: str) -> None:
    message = reply(one, told(OPENED, one), CONTEXT)
    assert message.title == title and said in message.text and not message.broadcast
    assert problems_with(render(message)["blocks"]) == []


def test_the_end_is_told_in_the_channel_too() -> None:
    end = notice(NoticeKind.CLOSED, replace(DOWN, health=Health.UP), at=NOW + 300, last=True)
    message = reply(end, told(OPENED, end), CONTEXT)
    assert message.broadcast and message.title == "🟢 shop: resolved after 5m"
    assert message.text == "health: 2026-11-25 21:50:00 UTC to 2026-11-25 21:55:00 UTC."


def test_a_certificate_and_a_check_without_results_belong_to_no_incident() -> None:
    facts = {"threshold": "21d", "expires_at": NOW + 86400, "fingerprint": "ab"}
    soon = Part("certificate", Health.UP, "expires in 20 days", facts=facts)
    message = reply(replace(notice(NoticeKind.WARNING, soon), incident=""), None, CONTEXT)
    assert message.title == "⚠️ shop: certificate needs attention"
    assert list(message.facts) == [("threshold", "21d"), ("expires_at", "2026-11-26 21:50:00 UTC")]
    blind = notice(NoticeKind.UNWATCHED, Part("health", Health.UNKNOWN, "no result 3 times in a row: no network"))
    assert "Whether it works is not known" in reply(replace(blind, incident=""), None, CONTEXT).text


def test_the_alerts_state_has_the_last_word_once_nothing_waits() -> None:
    report = told(OPENED, notice(NoticeKind.OPENED, SLOW))
    checks = {"health": CheckState(), "basket": CheckState(level=Level.DOWN, opened_at=NOW, since=NOW)}
    state = AlertState("shop", checks, Incident(ID, NOW, ("health", "search", "basket")))
    now = reconciled(report, state, NOW + 60)
    assert [line.check for line in now.open_lines] == ["basket"] and now.closed_at is None
    over = replace(state, incident=Incident(ID, NOW, (), closed_at=NOW + 90))
    assert reconciled(report, over, NOW + 200).closed_at == NOW + 90
    assert reconciled(report, over, NOW + 200).open_lines == ()
    other = replace(state, incident=Incident("shop@later", NOW + 500, ("basket",)))
    assert reconciled(report, other, NOW + 600).closed_at is not None


def test_a_message_that_reads_the_same_has_the_same_fingerprint() -> None:
    message = top(told(OPENED), CONTEXT)
    assert fingerprint(message) == fingerprint(top(told(OPENED), replace(CONTEXT, flow_run_url="http://other")))
    assert fingerprint(message) != fingerprint(top(told(OPENED), replace(CONTEXT, total=8)))


def test_an_incident_is_kept_as_json() -> None:
    report = told(OPENED, notice(NoticeKind.OPENED, SLOW), notice(NoticeKind.FLAPPING, DOWN))
    assert unpacked(IncidentReport, packed(report)) == report


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_hostile_texts_stay_texts(kind: NoticeKind) -> None:
    parts = tuple(Part(f"{HOSTILE}{n}", Health.DOWN, HOSTILE * 40, NOW, facts={HOSTILE: HOSTILE}) for n in range(3))
    one = replace(notice(kind, *parts, lines=(HOSTILE,)), service=HOSTILE)
    report, context = told(one), Context(3, {HOSTILE: HOSTILE}, f"http://x/{HOSTILE}", HOSTILE)
    for message in (top(report, context), reply(one, report, context), digest_message([service_line(report, 3)] * 60)):
        payload = render(message)
        assert problems_with(payload["blocks"]) == []
        for live in ("<!channel>", "<script>", "<@U123>", "\u202e", "\x1b", "\ud800"):
            assert live not in str([payload["text"], *payload["blocks"][1:]])  # the header takes no markup
    page = incident_markdown(report, context)
    assert "<script>" not in page and "](http://evil" not in page and "\n# heading" not in page
    assert "\n" not in label(one) and len(label(one)) <= 120


def test_a_page_for_the_run_says_the_same() -> None:
    page = incident_markdown(told(OPENED), CONTEXT)
    assert page.startswith("## 🔴 shop: 1 of 9 checks down\n") and "| 🔴 health | status is 503 · since" in page
    assert "[flow run](http://127.0.0.1:4200/runs/flow-run/1)" in page


def test_a_storm_is_one_line_a_service() -> None:
    lines = [replace(service_line(told(OPENED), 9), service=f"s{n}") for n in range(7)]
    message = digest_message(lines)
    assert message.title == "🔴 7 services: s0, s1, s2, s3, s4 and 2 more" and not message.broadcast
    assert list(message.items)[6] == ("s6", "🔴 1 of 9 checks down: health (status is 503)")
    some = [replace(line, closed_at=NOW + 60) for line in lines[:5]] + lines[5:]
    assert digest_message(some).title == "🔴 2 of 7 services: s5, s6"
    assert [what for what, _ in digest_message(some).items][:2] == ["s5", "s6"]
    over = storm_over([replace(line, closed_at=NOW + 1200) for line in lines])
    assert over.title == "🟢 7 services: all resolved after 20m" and over.broadcast


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0s"), (45, "45s"), (90, "1m30s"), (629, "10m"), (725, "12m"), (3900, "1h5m")]
)
def test_how_long_it_lasted(seconds: float, words: str) -> None:
    assert lasted(seconds) == words
