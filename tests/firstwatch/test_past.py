"""A list of past releases, with everything that can be wrong with one; deploys as versions come and go."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from firstwatch.past import ReleasesError, deploys, parse_releases
from firstwatch.series import RawSeries

NOW = 1_800_000_000.0
GOOD = {"service": "shop", "version": "v2", "deployed_at": "2026-01-01T01:00:00+01:00"}


def problems(data: Any) -> list[str]:
    with pytest.raises(ReleasesError) as refused:
        parse_releases(data, NOW)
    return list(refused.value.problems)


def test_times_in_both_forms_arguments_as_text_and_further_keys_are_no_harm() -> None:
    listed = [
        GOOD,
        {"service": "s-1", "version": "2", "deployed_at": 1767225600.5, "args": {"a": 1, "b": True}, "kind": "x"},
        {**GOOD, "deployed_at": "2026-01-01t00:00:01z", "args": None},
    ]
    first, second, third = parse_releases(json.loads(json.dumps(listed)), NOW)
    assert (first.release.deployed_at, first.given, first.args) == (1767225600.0, GOOD["deployed_at"], {})
    assert (second.release.deployed_at, second.given, second.args) == (
        1767225600.5,
        1767225600.5,
        {"a": "1", "b": "true"},
    )
    assert third.release.deployed_at == 1767225601.0


def test_everything_that_is_wrong_is_said_at_once_with_its_index() -> None:
    said = problems(
        [
            {**GOOD, "deployed_at": math.nan},
            {"service": 'a"b', "version": 2, "deployed_at": "yesterday"},
            GOOD,
            "v2",
            {**GOOD, "deployed_at": "2026-01-01T00:00:00"},
            {**GOOD, "deployed_at": 1767225600000},
            {**GOOD, "deployed_at": True, "args": {"x": []}},
            {**GOOD, "deployed_at": NOW + 1, "version": " "},
            {},
        ]
    )
    expected = [
        "releases[0].deployed_at: nan is not a finite number",
        "releases[1].service: 'a\"b' is no service's name",
        "releases[1].version: 2 is no version (hint: a text, in quotes)",
        "releases[1].deployed_at: 'yesterday' is no time",
        "releases[3] is 'v2'",
        "releases[4].deployed_at: '2026-01-01T00:00:00' has no time zone",
        "releases[5].deployed_at: 1767225600000 lies in the future (hint: seconds, not milliseconds)",
        "releases[6].deployed_at: True is no time",
        "releases[6].args: x is neither text nor number",
        "releases[7].version: ' ' is no version",
        "releases[7].deployed_at: 1800000001.0 lies in the future (hint: only what has happened can be replayed)",
        "releases[8] has no service",
        "releases[8] has no version",
        "releases[8] has no deployed_at",
    ]
    assert len(said) == len(expected)
    assert [line[: len(start)] for line, start in zip(said, expected, strict=True)] == expected
    assert all("(hint: " in line for line in said)


@pytest.mark.parametrize(
    ("data", "start"), [({}, "the releases are not a list"), ([], "the list of releases is empty")]
)
def test_what_is_no_list_of_releases(data: Any, start: str) -> None:
    assert problems(data)[0].startswith(start)


def test_the_same_release_twice_in_two_forms() -> None:
    (said,) = problems([GOOD, {**GOOD, "version": "v3"}, {**GOOD, "deployed_at": 1767225600}])
    assert said.startswith("releases[2] is releases[0] again: shop@v2@2026-01-01T00:00:00Z")


def seen(version: str, *at: int) -> RawSeries:
    return RawSeries({"version": version} if version else {}, [float(t) for t in at], [1.0] * len(at))


def test_deploys_as_versions_come_and_go() -> None:
    assert deploys([seen("v1", 0, 1, 2, 3), seen("v2", 2, 3, 4, 5), seen("v1", 5, 6)], "version") == [
        ("v2", 2),
        ("v1", 5),
    ]
    # An outage of everything is no deploy, and what has no label is no version.
    assert deploys([seen("v1", 0, 1, 5, 6), seen("", 1, 2, 3, 4)], "version") == []
    assert deploys([], "version") == []
