"""The document of a service's alerts: read as far as it can be."""

from __future__ import annotations

from typing import Any

import pytest

from firstwatch.alerting import AlertState, Notice, NoticeKind, Outbox
from firstwatch.alerting import outbox as outboxes
from firstwatch.report.incident import IncidentReport
from firstwatch.report.told import Book, Told, read_book, written

NOTICE = Notice("shop@1/opened/1", NoticeKind.OPENED, "shop", "shop@1", 1.0, first=True)
BOOK = Book(
    AlertState("shop", rounds=("slot 1",)),
    outboxes.add(Outbox(), [NOTICE]),
    {"shop@0": Told(IncidentReport("shop", "shop@0", 0.0))},
)


def test_what_is_written_is_read_again_and_leaves_the_rest() -> None:
    document = written({"slot": 7}, BOOK)
    assert document["slot"] == 7 and read_book(document, "shop") == BOOK


@pytest.mark.parametrize(
    ("damage", "unread", "left"),
    [
        ({"outbox": {"entries": [3]}}, ("outbox",), ("state", "told")),
        ({"told": [1]}, ("told",), ("state", "outbox")),
        ({"state": {"checks": 7}}, ("state",), ("outbox",)),  # what was told would be shown as over
        ({"state": None}, ("state",), ("outbox",)),
    ],
)
def test_a_part_that_cannot_be_read_begins_anew(
    damage: dict[str, Any], unread: tuple[str, ...], left: tuple[str, ...]
) -> None:
    book = read_book({**written(None, BOOK), **damage}, "shop")
    assert book.unread == unread
    anew = Book(AlertState("shop"))
    for part in ("state", "outbox", "told"):
        assert getattr(book, part) == getattr(BOOK if part in left else anew, part)


@pytest.mark.parametrize("document", ["nonsense", [1], 7])
def test_a_document_that_is_none_begins_anew(document: Any) -> None:
    book = read_book(document, "shop")
    assert (book.state, book.unread) == (AlertState("shop"), ("state",))
    assert read_book(written(document, book), "shop") == Book(AlertState("shop"))


def test_no_document_is_no_damage() -> None:
    assert read_book(None, "shop") == Book(AlertState("shop"))
