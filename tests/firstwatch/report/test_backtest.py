"""What a backtest came to, as people read it."""

from __future__ import annotations

from firstwatch.backtest import Backtest, BacktestResult, Threshold, undecided
from firstwatch.model import Outcome, Release, Verdict
from firstwatch.past import PastRelease
from firstwatch.report.backtest import backtest_markdown, backtest_text, release_line, sentence
from firstwatch.timeline import Reason

AT = 1767225600.0


def result(version: str, verdict: Verdict, after: float, why: str = "41 of 2,300 requests failed") -> BacktestResult:
    outcome = {Verdict.HEALTHY: Outcome.PASS, Verdict.UNHEALTHY: Outcome.FAIL}.get(verdict, Outcome.NO_DATA)
    past = PastRelease(Release("shop", version, AT), AT)
    return BacktestResult(past, verdict, AT + after, (Reason("error rate", outcome, AT + after, why),))


DONE = Backtest(
    (
        result("v1", Verdict.UNHEALTHY, 135),
        result("v2", Verdict.HEALTHY, 1800),
        result("v3", Verdict.UNHEALTHY, 600, "| # <b>x</b>"),
        undecided(PastRelease(Release("shop", "v4", AT), "2026-01-01T00:00:00Z"), "connection refused"),
    ),
    (
        Threshold("error rate", "errors", "proportion", 3, gone=1, limit=0.01, needed=0.0413, words="requests failed"),
        Threshold("p95", "latency", "proportion", 1, 0, 0.05, 0.141, words="requests took longer than 500ms"),
        Threshold("memory", "memory", "trend", 1, 0, 0.25, 0.471, words="memory"),
        Threshold("pool", "db_pool", "trend", 0, 0, 0.5, 0.5, words="db pool"),
        Threshold("queue", "query", "condition", 2, seen=(3.0, 181.2), expect="value < 100"),
        Threshold(
            "queue",
            "query",
            "condition",
            2,
            1,
            0.99,
            0.938,
            expect="result[0] >= 0.99",
            words="successCondition",
            part="canary",
        ),
        Threshold("stable", "errors", "compare", 2, 1, 0.25, 1.2, words="requests failed", part="canary"),
        Threshold("score", "errors", "score", 1, seen=(41.0, 70.5), expect="a Kayenta configuration", part="canary"),
    ),
    wanted=6,
)


def test_the_sentence_counts_every_release() -> None:
    assert sentence(DONE) == (
        "2 of 4 releases would have been rolled back (half of them by T+6m8s), 1 is healthy, "
        "1 is inconclusive (1 because we could not measure or judge). 2 more are not done."
    )
    assert sentence(Backtest(())).startswith("0 of 0 releases would have been rolled back, 0 are healthy")


def test_the_text_names_each_release_that_is_not_healthy_and_each_limit_as_one_writes_it() -> None:
    text = backtest_text(DONE, 100)
    assert max(map(len, text.splitlines()[:-1])) <= 100
    assert "v2" not in text
    rows = {line.split("  ")[0]: line for line in backtest_text(DONE, 200).splitlines()}
    assert "4.13 % (availability: 95.8%); 1 fell silent, which no limit changes" in rows["error rate"]
    assert "14.1 % (p859: 500ms)" in rows["p95"]
    assert "limit: 48%" in rows["memory"] and "as it is" in rows["pool"]
    assert "value < 100" in rows["queue"] and "n/a: they showed 3 … 181" in rows["queue"]
    assert "successCondition: result[0] >= 0.938; 1 fails at any limit" in rows["canary queue"]
    assert "25 % worse than stable" in rows["canary stable"] and "120 %, more than a file" in rows["canary stable"]
    assert "a Kayenta configuration" in rows["canary score"] and "n/a: they showed 41 … 70.5" in rows["canary score"]


def test_the_page_holds_nothing_but_text() -> None:
    page = backtest_markdown(DONE)
    assert page.startswith("# 2 of 4 releases would have been rolled back")
    assert "<b>" not in page and "\\| \\# &lt;b&gt;" in page


def test_a_line_for_each_release() -> None:
    assert release_line(DONE.results[0]) == (
        "✗ shop v1: rolled back at T+2m15s, error rate: 41 of 2,300 requests failed"
    )
    assert release_line(DONE.results[1]) == "✓ shop v2: healthy at T+30m"
