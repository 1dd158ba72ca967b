"""What several locations come to."""

from __future__ import annotations

import itertools

import pytest

from firstwatch.alerting.quorum import join
from firstwatch.monitor import Health, Seen
from firstwatch.spec.alerts import Streak
from tests.firstwatch.alerting.rounds import HEALTHS

PLACES = ("eu", "us", "ap", "sa")


def votes(letters: str) -> dict[str, Seen | None]:
    """`-` is a location from which nothing came."""
    return {
        place: None if letter == "-" else Seen("a", HEALTHS[letter], f"{letter} in {place}", float(i))
        for i, (place, letter) in enumerate(zip(PLACES, letters, strict=False))
    }


@pytest.mark.parametrize(
    ("letters", "needed", "health"),
    [
        ("d", None, "d"),
        ("ddu", None, "d"),
        ("duu", None, "u"),
        ("dduu", None, "?"),  # half is not more than half, of either
        ("ddd?", None, "d"),
        ("du?-", None, "?"),
        ("d?--", None, "d"),  # of those that vote
        ("dsu", None, "s"),  # two of three find it bad, one of them down
        ("dssu", None, "s"),
        ("ddsu", None, "s"),
        ("ssdd", None, "s"),
        ("?--?", None, "?"),
        ("ddu", "2 of 3", "d"),
        ("duu", "2 of 3", "u"),
        ("du-", "2 of 3", "?"),  # the third could settle it
        ("d--", "2 of 3", "?"),
        ("uu-", "2 of 3", "u"),  # the third could not
        ("dsu", "2 of 3", "s"),
        ("duu", "1 of 3", "d"),
        ("uu-", "1 of 3", "?"),
        ("ddu", "3 of 3", "u"),  # not all three
        ("dd-", "3 of 3", "?"),
    ],
)
def test_join(letters: str, needed: str | None, health: str) -> None:
    count, out_of = (int(n) for n in needed.split(" of ")) if needed else (1, 1)
    assert join(votes(letters), Streak(count=count, out_of=out_of) if needed else None).health is HEALTHS[health]


def test_it_says_where_it_was_found_and_when() -> None:
    found = join(votes("udd"))
    assert (found.check, found.why, found.at) == ("a", "from us, ap (2 of 3): d in us", 2.0)
    assert join(votes("sdu")).why == "from eu, us (2 of 3): s in eu", "one whose health it is speaks"


def test_what_is_not_settled_names_the_locations() -> None:
    assert join(votes("du?-")).why == (
        "the locations do not settle it: bad from eu; good from us; no vote from ap (? in ap), sa"
    )
    nobody = join({}, None, "a", 7.0)
    assert (nobody.check, nobody.health, nobody.why, nobody.at) == ("a", Health.UNKNOWN, "no location has looked", 7.0)


def test_a_warning_of_one_location_is_kept_with_its_facts() -> None:
    warned = Seen("a", Health.UP, "ok", 1.0, "expires soon", {"threshold": 7.0, "fingerprint": "aa"})
    found = join({"eu": Seen("a", Health.UP, "fine", 0.0), "us": warned})
    assert (found.why, found.warning, found.facts["fingerprint"]) == ("fine", "expires soon", "aa")


@pytest.mark.parametrize("needed", [Streak(count=m, out_of=3) for m in (1, 2, 3)])
def test_a_silent_location_never_makes_it_look_better_than_it_might_be(needed: Streak) -> None:
    order = [Health.UP, Health.DEGRADED, Health.DOWN]
    for letters in itertools.product("usd", repeat=2):
        found = join(votes("".join(letters) + "-"), needed).health
        could = {join(votes("".join(letters) + last), needed).health for last in "ud"} - {Health.UNKNOWN}
        if found is not Health.UNKNOWN and could:
            assert min(map(order.index, could)) >= order.index(found), (letters, could)
