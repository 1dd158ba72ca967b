"""Many incidents at once: the first are told on their own, the rest in one digest, until it is over."""

from __future__ import annotations

import json

from firstwatch.alerting import packed, unpacked
from firstwatch.alerting.storm import NAMED, Decision, Ledger, Way, ended, storm
from firstwatch.spec.alerts import Storm

POLICY = Storm(after=3, within=300.0)


def opened(ledger: Ledger, *at: float) -> tuple[Ledger, list[Way]]:
    ways = []
    for moment in at:
        ledger, decision = storm(ledger, POLICY, f"service {moment}", f"incident {moment}", moment)
        ways.append(decision.way)
    return ledger, ways


def test_the_first_are_told_alone_and_then_in_one_digest() -> None:
    ledger, ways = opened(Ledger(), 0, 10, 20, 30)
    assert ways == [Way.ALONE, Way.ALONE, Way.BEGINS, Way.JOINS]
    assert ledger.digest == "storm@incident 20"
    assert [member.service for member in ledger.stormy] == ["service 20", "service 30"]


def test_incidents_far_from_each_other_are_no_storm() -> None:
    assert opened(Ledger(), 0, 100, 301, 402, 700)[1] == [Way.ALONE] * 5


def test_asked_again_it_says_the_same_and_counts_once() -> None:
    ledger, _ = opened(Ledger(), 0, 10)
    again, ways = opened(ledger, 10, 0)
    assert (again, ways) == (ledger, [Way.ALONE, Way.ALONE])
    stormy, _ = opened(ledger, 20)
    again, decision = storm(stormy, POLICY, "service 20", "incident 20", 25)
    assert (again, decision.way, decision.digest) == (stormy, Way.JOINS, "storm@incident 20")


def test_a_storm_goes_on_while_any_of_it_is_open_or_new_ones_come() -> None:
    ledger, _ = opened(Ledger(), 0, 10, 20)
    ledger, decision = ended(ledger, POLICY, "incident 0", 30)
    assert decision.way is Way.ALONE, "it was told alone"
    late, ways = opened(ledger, 5000)
    assert ways == [Way.JOINS], "incident 20 is open yet"
    late, decision = ended(late, POLICY, "incident 20", 5010)
    assert decision.way is Way.JOINS and [m.closed_at for m in decision.members] == [5010, None]


def test_a_storm_is_over_when_all_are_closed_and_none_opened_for_the_time() -> None:
    ledger, _ = opened(Ledger(), 0, 10, 20)
    for incident in ("incident 0", "incident 10", "incident 20"):
        ledger, _ = ended(ledger, POLICY, incident, 30)
    assert ledger.digest and opened(ledger, 100)[1] == [Way.JOINS], "not yet for the time"
    calm, ways = opened(ledger, 321)
    assert ways == [Way.ALONE] and not calm.digest
    assert [member.incident for member in calm.members] == ["incident 321"]


def test_an_end_of_what_is_not_known_is_told_alone() -> None:
    assert ended(Ledger(), POLICY, "incident 0", 30) == (Ledger(), Decision(Way.ALONE))


def test_a_ledger_is_bounded_and_says_how_many_it_does_not_name() -> None:
    ledger, ways = opened(Ledger(), *(float(i) / 10 for i in range(NAMED + 50)))
    assert len(ledger.members) == NAMED and ways.count(Way.BEGINS) == 1
    assert len(ledger.stormy) + ledger.unnamed == NAMED + 50 - 2


def test_a_ledger_is_stored_and_read() -> None:
    ledger, _ = opened(Ledger(), 0, 10, 20)
    assert unpacked(Ledger, json.loads(json.dumps(packed(ledger)))) == ledger
