"""prefect.yaml: what Prefect would leave out without a word, and monitors that nobody would start."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.cli.deploy import _models as prefects
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.server.schemas.schedules import CronSchedule

from firstwatch.schedule import cron, starts
from firstwatch.spec import Service, deployments, load_or_raise
from firstwatch.spec.deployments import Services, pasted, problems

PAGE = (Path(__file__).parents[3] / "docs/service-file.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| .+ \|$", PAGE.partition("## The schedules of monitors")[2].partition("\n## ")[0], re.M)
PATTERNS = {row: re.compile(".*".join(map(re.escape, row.split("…"))), re.DOTALL) for row in ROWS[1:]}

HEAD = "service: shop\nbase_url: http://127.0.0.1:8000\nmetrics: {scrape: http://127.0.0.1:8000/metrics}\n"
CHECKS = "  checks: [{name: a, get: /, expect: [status == 200]}]\n"
PLAIN = load_or_raise(HEAD, "f", {})
SHOP = load_or_raise(f"{HEAD}synthetic:\n  every: 1m\n{CHECKS}", "f", {})
LONG = load_or_raise(f"{HEAD}synthetic:\n  every: 1m\n  budget: 59s\n{CHECKS}", "f", {})
SELDOM = load_or_raise(f"{HEAD}synthetic:\n  every: 5m\n{CHECKS}", "f", {})
EVERYWHERE = load_or_raise(f"{HEAD}synthetic:\n  every: 5m\n  locations: [eu, us]\n{CHECKS}", "f", {})

SYNTHETIC = "  - {name: production, entrypoint: flows/synthetic.py:synthetic, schedules: ["
GOOD = pasted("shop", 60)
TOGETHER = GOOD.replace("service: shop", "service: [shop, tea]")
MANY = [f"s{n}" for n in range(25)]


def said(text: str, asked: Mapping[str, Service | None], **others: Service | None) -> list[str]:
    return [str(d) for d in problems(text, "prefect.yaml", Services({**others, **asked}, asked))]


def scheduled(*schedules: str) -> str:
    """A prefect.yaml; each schedule stands on a line of its own, from line 3 on."""
    return "deployments:\n" + SYNTHETIC + "\n" + ",\n".join(f"    {line}" for line in schedules) + "\n  ]}\n"


def test_the_keys_are_those_of_prefect() -> None:
    def keys(model: Any) -> set[str]:
        return {field.alias or name for name, field in model.model_fields.items()}

    assert keys(prefects.PrefectYamlModel) == deployments.TOP_KEYS
    assert keys(prefects.DeploymentConfig) == deployments.DEPLOYMENT_KEYS
    assert keys(prefects.WorkPoolConfig) == deployments.WORK_POOL_KEYS
    assert keys(prefects.ConcurrencyLimitSpec) == deployments.LIMIT_KEYS
    taken = keys(prefects.RawScheduleConfig) | keys(DeploymentScheduleCreate)
    assert taken == deployments.SCHEDULE_KEYS


@pytest.mark.parametrize("every", [60, 300, 1800, 3600])
def test_prefect_starts_the_runs_when_we_say(every: int) -> None:
    """Its server reads the sixth field as seconds; were that to change, monitors would run once a day or never."""
    line = cron("shop", every, "eu")
    begin = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)
    dates = asyncio.run(CronSchedule(cron=line, timezone="UTC").get_dates(n=len(starts(line)), start=begin))
    assert [int((date - begin).total_seconds()) for date in dates] == list(starts(line))


CASES: list[tuple[str, str, Mapping[str, Service | None], int, str, str]] = [
    ("no mapping", "- 1\n", {}, 1, "the file is not a mapping", "keys and values"),
    ("top", "deploymens: []\n", {}, 1, "unknown key `deploymens`", "did you mean deployments?"),
    (
        "key",
        "deployments:\n  - {name: a, entrypont: x}\n",
        {},
        2,
        "unknown key `entrypont`",
        "did you mean entrypoint?",
    ),
    (
        "pool",
        "deployments:\n  - work_pool:\n      name: a\n      job_variabels: {}\n",
        {},
        4,
        "unknown key `job_variabels`",
        "did you mean job_variables?",
    ),
    (
        "limit",
        "deployments:\n  - concurrency_limit: {limit: 1,\n      colision_strategy: CANCEL_NEW}\n",
        {},
        3,
        "unknown key `colision_strategy`",
        "did you mean collision_strategy?",
    ),
    (
        "schedule",
        scheduled(GOOD.replace("timezone", "timezon")),
        {"shop": SHOP},
        3,
        "unknown key `timezon`",
        "did you mean timezone?",
    ),
    (
        "a schedule by itself",
        "deployments:\n  - schedule:\n      crn: x\n",
        {},
        3,
        "unknown key `crn`",
        "did you mean cron?",
    ),
    ("not deployed", "name: x\ndeployments:\n  - {name: a}\n", {"shop": SHOP}, 2, "shop is to be monitored", GOOD),
    ("no deployments", "name: x\n", {"shop": SHOP}, 1, "shop is to be monitored", "add a deployment production of"),
    ("not scheduled", scheduled(), {"shop": SHOP}, 2, "shop is to be monitored, and has no schedule", GOOD),
    (
        "scheduled elsewhere only",
        scheduled(GOOD).replace("production", "staging"),
        {"shop": SHOP},
        2,
        "shop is to be monitored, and has no schedule",
        GOOD,
    ),
    (
        "a location",
        scheduled(pasted("shop", 300, "eu")),
        {"shop": EVERYWHERE},
        2,
        "shop at us is to be monitored, and has no schedule",
        "location: us}, slug: shop-us",
    ),
    (
        "no service",
        scheduled(GOOD, "{cron: x, parameters: {servce: shop}}"),
        {"shop": SHOP},
        4,
        "names no service",
        "{service: shop}",
    ),
    (
        "no file",
        scheduled(GOOD, GOOD.replace("service: shop", "service: shp")),
        {"shop": SHOP},
        4,
        "there is no services/shp.yaml",
        "did you mean shop?",
    ),
    ("no section", scheduled(GOOD), {"shop": PLAIN}, 3, "shop has no `synthetic:` section", "take the schedule out"),
    (
        "no such location",
        scheduled(*(pasted("shop", 300, place) for place in ("eu", "us", "ap"))),
        {"shop": EVERYWHERE},
        5,
        "shop has no location 'ap'",
        "known here: eu, us",
    ),
    (
        "no location",
        scheduled(*(pasted("shop", 300, place) for place in ("eu", "us", ""))),
        {"shop": EVERYWHERE},
        5,
        "the schedule of shop names no location",
        "one of eu, us",
    ),
    (
        "no cron",
        scheduled(GOOD.replace('cron: "* * * * * 38"', "interval: 60")),
        {"shop": SHOP},
        3,
        "the schedule of shop has no cron line",
        'cron: "* * * * * 38"',
    ),
    (
        "not in time",
        scheduled(GOOD.replace('"* *', '"*/5 *')),
        {"shop": SHOP},
        3,
        "'*/5 * * * * 38' is not every 1m, as shop says",
        'cron: "* * * * * 38"',
    ),
    (
        "once a day",
        scheduled(GOOD.replace('"* *', '"0 3')),
        {"shop": SHOP},
        3,
        "is not every 1m, as shop says",
        "",
    ),
    (
        "bunched",
        scheduled(GOOD.replace('"* * * * * 38"', "'* * * * *'")),
        {"shop": SHOP},
        3,
        "'* * * * *' is not the second of shop: monitors would bunch",
        'cron: "* * * * * 38"',
    ),
    (
        "twice",
        scheduled(GOOD, GOOD.replace("slug: shop", "slug: other")),
        {"shop": SHOP},
        4,
        "shop is scheduled twice, first on line 3",
        "keep one",
    ),
    (
        "not the second of the first",
        scheduled(TOGETHER.replace(" 38", " 39")),
        {"shop": SHOP, "tea": SHOP},
        3,
        "'* * * * * 39' is not the second of shop and 1 more: monitors would bunch",
        'cron: "* * * * * 38"',
    ),
    (
        "one of several without a file",
        scheduled(TOGETHER.replace("tea", "ta")),
        {"shop": SHOP},
        3,
        "there is no services/ta.yaml",
        "known here: shop",
    ),
    (
        "alone, and with others",
        scheduled(TOGETHER, pasted("tea", 60)),
        {"shop": SHOP, "tea": SHOP},
        4,
        "tea is scheduled twice, first on line 3",
        "keep one",
    ),
    (
        "of two intervals",
        scheduled(TOGETHER),
        {"shop": SHOP, "tea": SELDOM},
        3,
        "tea is looked at every 5m, shop every 1m",
        "make two",
    ),
    (
        "not in time in the second five",
        scheduled(GOOD.replace("service: shop", f"service: [shop, {', '.join(MANY[:4])}, long]")),
        {"shop": SHOP, **dict.fromkeys(MANY[:4], SHOP), "long": LONG},
        3,
        "the round of long begins 1s after the first, and may take 59s of 1m",
        "earlier in the list",
    ),
    (
        "too many in one schedule",
        scheduled(GOOD.replace("service: shop", f"service: [{', '.join(['shop', *MANY])}]")),
        {"shop": SHOP, **dict.fromkeys(MANY, SHOP)},
        3,
        "26 services in one schedule",
        "at most 25",
    ),
    (
        "too many for one deployment",
        scheduled(*(pasted(f"s{n}", 60) for n in range(11))),
        {f"s{n}": SHOP for n in range(11)},
        13,
        "11 schedules in one deployment",
        "production-2",
    ),
]


@pytest.mark.parametrize(("name", "text", "asked", "line", "message", "hint"), CASES, ids=[case[0] for case in CASES])
def test_each_fault_is_told_once_with_its_line_and_a_hint(
    name: str, text: str, asked: Mapping[str, Service | None], line: int, message: str, hint: str
) -> None:
    found = problems(text, "prefect.yaml", Services(asked, asked))
    assert [d.line for d in found] == [line], [str(d) for d in found]
    assert message in found[0].message and hint in found[0].hint


def test_the_page_has_every_message_and_no_other() -> None:
    told = {name: problems(text, "f", Services(asked, asked))[0].message for name, text, asked, *_ in CASES}
    fits = {
        name: [row for row, pattern in PATTERNS.items() if pattern.fullmatch(message)] for name, message in told.items()
    }
    assert [name for name, rows in fits.items() if not rows] == []
    assert [row for row in PATTERNS if row not in {row for rows in fits.values() for row in rows}] == []


def test_all_is_told_at_once_in_the_order_of_the_file() -> None:
    text = scheduled(GOOD.replace("active", "activ"), GOOD.replace("service: shop", "service: shp"), "{cron: x}")
    told = said(text, {"shop": SHOP, "tea": EVERYWHERE})
    assert [line.split(":")[1] for line in told] == ["2", "2", "3", "4", "5"]


def test_many_monitors_have_several_deployments() -> None:
    names = [f"s{n}" for n in range(20)]
    first, second = (scheduled(*(pasted(name, 60) for name in part)) for part in (names[:10], names[10:]))
    both = first + second.removeprefix("deployments:\n").replace("name: production", "name: production-2")
    assert said(both, dict.fromkeys(names, SHOP)) == []


def test_several_services_may_have_one_schedule() -> None:
    assert said(scheduled(TOGETHER), {"shop": SHOP, "tea": SHOP}) == []
    assert said(scheduled(GOOD.replace("service: shop", "service: [shop]")), {"shop": SHOP}) == []
    files = scheduled(GOOD.replace("service: shop", "service: [services/shop.yaml, ./services/tea.yaml]"))
    assert said(files, {"shop": SHOP, "tea": SHOP}) == []
    both = pasted("shop", 300, "eu").replace("service: shop", "service: [shop, tea]")
    there = scheduled(both, pasted("shop", 300, "us"), pasted("tea", 300, "us"))
    assert said(there, {"shop": EVERYWHERE, "tea": EVERYWHERE}) == []


def test_what_is_right_is_not_told() -> None:
    assert said(scheduled(GOOD), {"shop": SHOP}) == []
    assert said(scheduled(GOOD.replace('"* * * * * 38"', "'*/1 * * * * 38'")), {"shop": SHOP}) == []
    assert said(scheduled(GOOD.replace("active: true", "active: false")), {"shop": SHOP}) == []  # somebody's decision
    assert said(scheduled(GOOD.replace("* * * * * 38", "{{ $CRON }}")), {"shop": SHOP}) == []
    assert said("x-anchors: {pool: &pool {name: a}}\ndeployments:\n  - {work_pool: *pool}\n", {"a": PLAIN}) == []
    assert said("pull: [{x: {script: '${HOME} {{ $Y }}'}}]\n", {}) == []


def test_locations_may_have_a_deployment_each_and_say_there_what_all_their_schedules_share() -> None:
    parts = []
    for place in ("eu", "us"):
        line = f'{{cron: "{cron("shop", 300, place)}", parameters: {{service: services/shop.yaml}}}}'
        parts.append(
            f"  - {{name: {place}, entrypoint: ./flows/synthetic.py:synthetic, parameters: {{location: {place}}}, "
            f"schedules: [{line}]}}\n"
        )
    assert said("deployments:\n" + "".join(parts), {"shop": EVERYWHERE}) == []


def test_a_service_that_was_not_asked_for_needs_no_more_than_a_file() -> None:
    text = scheduled(GOOD.replace("38", "1"))
    assert said(text, {}, shop=None) == []
    assert len(said(text, {})) == 1
    assert said(text, {"shop": None}) == []  # its own faults are told already


def test_what_an_anchor_holds_is_told_where_it_stands_and_merged() -> None:
    text = f"common: &common\n  nam: production\n  entrypoint: {deployments.ENTRYPOINT}\n  name: production\n"
    text += f"deployments:\n  - <<: *common\n    schedules: [{GOOD}]\n"
    text += f"  - {{<<: *common, name: staging, schedules: [{GOOD.replace('shop', 'tea')}]}}\n"
    told = said(text, {"shop": SHOP}, tea=None)
    assert [line.partition(": Prefect")[0] for line in told] == ["prefect.yaml:2:3: unknown key `nam`"]
