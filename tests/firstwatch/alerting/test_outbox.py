"""The outbox: nothing that opens or closes is lost, whoever dies, and an incident is told in order."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwatch.alerting import Delivery, Notice, NoticeKind, Outbox, Part, packed, unpacked
from firstwatch.alerting.outbox import CLAIM_LASTS, FIRST_WAIT, LINES, MOST, Entry, add, claim, overdue, settle
from firstwatch.monitor import Health

OPENED, CLOSED, REMINDER = NoticeKind.OPENED, NoticeKind.CLOSED, NoticeKind.REMINDER


def notice(kind: NoticeKind, incident: str = "i1", n: int = 0, tell: bool = True) -> Notice:
    part = Part("health", Health.DOWN, "status 500")
    last, first = kind is CLOSED, kind is OPENED
    return Notice(f"{incident}/{kind}/{n}", kind, "shop", incident, float(n), (part,), first, last, tell)


def names(entries: Sequence[Entry]) -> list[str]:
    return [f"{entry.notice.incident} {entry.notice.kind}" for entry in entries]


def box(*notices: Notice) -> Outbox:
    return add(Outbox(), notices)


def test_of_an_incident_one_at_a_time_in_order_of_several_side_by_side() -> None:
    outbox = box(notice(OPENED), notice(CLOSED), notice(OPENED, "i2"))
    outbox, mine = claim(outbox, "me", 0)
    assert names(mine) == ["i1 opened", "i2 opened"]
    assert claim(outbox, "you", 1)[1] == (), "somebody is at both"
    outbox = settle(outbox, mine[0].notice.id, "me", Delivery.OK, 2)
    outbox, mine = claim(outbox, "you", 3)
    assert names(mine) == ["i1 closed"]


def test_what_fails_is_tried_again_after_a_wait_and_what_follows_waits_too() -> None:
    outbox, mine = claim(box(notice(OPENED), notice(CLOSED)), "me", 0)
    outbox = settle(outbox, mine[0].notice.id, "me", Delivery.FAILED, 1)
    assert claim(outbox, "me", FIRST_WAIT)[1] == ()
    outbox, mine = claim(outbox, "you", 1 + FIRST_WAIT)
    assert names(mine) == ["i1 opened"] and (mine[0].tries, mine[0].doubt) == (2, False)


def test_a_worker_whose_clock_was_an_hour_ahead_holds_nothing_up() -> None:
    hour = 3600.0
    outbox, _ = claim(box(notice(OPENED)), "ahead, and dead since", hour)
    assert claim(outbox, "me", hour - CLAIM_LASTS + 1)[1] == (), "a little ahead is as good as now"
    outbox, mine = claim(outbox, "me", 0)
    assert names(mine) == ["i1 opened"] and mine[0].doubt
    outbox, mine = claim(box(notice(OPENED)), "ahead", hour)
    outbox = settle(outbox, mine[0].notice.id, "ahead", Delivery.FAILED, hour)
    assert names(claim(outbox, "me", 0)[1]) == ["i1 opened"]


def test_the_wait_grows_to_a_minute_however_often_it_fails() -> None:
    outbox, now, waits = box(notice(OPENED)), 0.0, []
    for _ in range(60):
        outbox, mine = claim(outbox, "me", now)
        outbox = settle(outbox, mine[0].notice.id, "me", Delivery.FAILED, now)
        waits.append(outbox.entries[0].next_at - now)
        now = outbox.entries[0].next_at
    assert waits[:4] == [15, 30, 60, 60] and set(waits[2:]) == {60}


@pytest.mark.parametrize("how", ["no answer", "died"])
def test_what_may_have_arrived_is_tried_again_with_a_doubt(how: str) -> None:
    outbox, mine = claim(box(notice(OPENED)), "me", 0)
    if how == "no answer":
        outbox = settle(outbox, mine[0].notice.id, "me", Delivery.UNKNOWN, 1)
    else:
        assert overdue(outbox, CLAIM_LASTS - 1) == () and claim(outbox, "you", CLAIM_LASTS - 1)[1] == ()
        assert names(overdue(outbox, CLAIM_LASTS)) == ["i1 opened"]
    outbox, mine = claim(outbox, "you", CLAIM_LASTS)
    assert mine[0].doubt and mine[0].by == "you"


def test_who_lost_a_claim_can_say_that_it_arrived_and_nothing_else() -> None:
    outbox, mine = claim(box(notice(OPENED)), "me", 0)
    outbox, _ = claim(outbox, "you", CLAIM_LASTS)
    assert settle(outbox, mine[0].notice.id, "me", Delivery.FAILED, CLAIM_LASTS) == outbox
    assert settle(outbox, mine[0].notice.id, "me", Delivery.OK, CLAIM_LASTS).entries == ()


def test_what_was_delivered_or_waits_already_is_not_added_again() -> None:
    outbox, mine = claim(box(notice(OPENED), notice(OPENED)), "me", 0)
    assert len(outbox.entries) == 1
    outbox = settle(outbox, mine[0].notice.id, "me", Delivery.OK, 1)
    assert add(outbox, [notice(OPENED)]).entries == ()


def test_what_is_for_the_record_is_not_delivered() -> None:
    assert box(notice(NoticeKind.HELD, tell=False), notice(CLOSED, tell=False)).entries == ()


def test_a_reminder_gives_way_to_the_next_and_to_the_close() -> None:
    outbox = box(notice(OPENED), notice(REMINDER, n=1), notice(REMINDER, n=2), notice(REMINDER, "i2", n=3))
    assert [entry.notice.id for entry in outbox.entries][1:] == ["i1/reminder/2", "i2/reminder/3"]
    assert names(add(outbox, [notice(CLOSED)]).entries) == ["i1 opened", "i2 reminder", "i1 closed"]


def test_a_reminder_that_is_being_told_as_the_close_comes_is_not_told_again() -> None:
    outbox, mine = claim(box(notice(REMINDER)), "me", 0)
    outbox = add(outbox, [notice(CLOSED)])
    assert names(outbox.entries) == ["i1 reminder", "i1 closed"]
    assert names(settle(outbox, mine[0].notice.id, "me", Delivery.FAILED, 1).entries) == ["i1 closed"]


def test_the_thread_of_an_incident_is_where_its_first_message_stands() -> None:
    outbox = box(notice(OPENED), notice(CLOSED))
    for thread in ("171.1", "171.9"):
        outbox, mine = claim(outbox, "me", 0)
        outbox = settle(outbox, mine[0].notice.id, "me", Delivery.OK, 1, thread)
    assert outbox.threads == {"i1": "171.1"}


def test_in_a_long_outage_of_the_channel_what_waits_is_joined_and_nothing_lost() -> None:
    waiting = [notice(kind, f"i{n}", n) for n in range(MOST * 3) for kind in (OPENED, CLOSED)]
    outbox = box(*waiting)
    assert len(outbox.entries) == MOST
    digest = outbox.entries[0].notice
    assert digest.kind is NoticeKind.DIGEST and len(digest.lines) == LINES
    told = int(digest.lines[0].split()[0]) + LINES - 1
    assert told + MOST - 1 == len(waiting), "each is told in a line, a number or a message of its own"
    assert digest.lines[-1].endswith("closed health: status 500") or "opened" in digest.lines[-1]
    assert names(outbox.entries[1:]) == [f"{n.incident} {n.kind}" for n in waiting[1 - MOST :]]


def test_a_digest_keeps_what_it_joins_in_order_with_what_follows() -> None:
    outbox = box(*(notice(OPENED, f"i{n}", n) for n in range(MOST)), notice(CLOSED, "i1", 99))
    assert outbox.entries[0].incidents == ("i0", "i1")
    outbox, mine = claim(outbox, "me", 0, most=MOST)
    assert "i1 closed" not in names(mine), "the digest speaks of i1 and comes first"
    outbox = settle(outbox, mine[0].notice.id, "me", Delivery.OK, 1)
    assert "i1 closed" in names(claim(outbox, "me", 2)[1])


def test_a_digest_waits_as_long_as_what_it_joins() -> None:
    outbox, mine = claim(box(notice(OPENED, "i0")), "me", 0)
    outbox = settle(outbox, mine[0].notice.id, "me", Delivery.UNKNOWN, 1)
    outbox = add(outbox, [notice(OPENED, f"i{n}", n) for n in range(1, MOST + 1)])
    digest = outbox.entries[0]
    assert (digest.notice.kind, digest.next_at, digest.doubt) == (NoticeKind.DIGEST, 1 + FIRST_WAIT, True)


def test_reminders_go_before_anything_is_joined() -> None:
    outbox = box(notice(REMINDER, "old"), *(notice(OPENED, f"i{n}", n) for n in range(MOST)))
    assert len(outbox.entries) == MOST and {entry.notice.kind for entry in outbox.entries} == {OPENED}


def test_what_somebody_is_at_is_neither_joined_nor_dropped() -> None:
    outbox, mine = claim(box(notice(OPENED, "i0")), "me", 0)
    outbox = add(outbox, [notice(OPENED, f"i{n}", n) for n in range(1, MOST + 3)])
    assert outbox.entries[0] == mine[0] and outbox.entries[1].notice.kind is NoticeKind.DIGEST


def test_what_was_joined_is_not_added_again() -> None:
    notices = [notice(OPENED, f"i{n}", n) for n in range(MOST + 3)]
    outbox = box(*notices)
    assert add(outbox, notices) == outbox


steps = st.lists(
    st.tuples(st.sampled_from(["open", "close", "remind", "ok", "failed", "unknown", "die"]), st.integers(0, 2)),
    max_size=80,
)


@given(steps)
def test_every_opening_and_closing_arrives_in_order_whatever_happens(course: list[tuple[str, int]]) -> None:
    outbox, now, given_in, arrived = Outbox(), 0.0, list[str](), list[str]()
    for n, (what, service) in enumerate([*course, *[("ok", 0)] * 200]):
        now += 70.0
        if what in ("open", "close", "remind"):
            kind = {"open": OPENED, "close": CLOSED, "remind": REMINDER}[what]
            new = notice(kind, f"s{service}", n)
            outbox = add(outbox, [new])
            given_in += [new.id] if kind is not REMINDER else []
            continue
        outbox, mine = claim(outbox, what, now, most=1)
        for entry in mine:
            if what != "die":
                outbox = settle(outbox, entry.notice.id, what, Delivery(what), now)
            if what == "ok":
                arrived += [entry.notice.id, *entry.notice.lines]
        assert unpacked(Outbox, json.loads(json.dumps(packed(outbox)))) == outbox
    assert outbox.entries == ()
    single = [one for one in arrived if one in given_in]
    if not any(line.startswith("digest") for line in arrived):
        for service in range(3):
            mine_ = [one for one in given_in if one.startswith(f"s{service}/")]
            assert [one for one in single if one.startswith(f"s{service}/")] == mine_
