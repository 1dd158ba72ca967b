"""What the vectors say of rules, not of a course of events: locations, parents, maintenance windows, defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from firstwatch.alerting.maintenance import DAYS, problems, under
from firstwatch.alerting.quorum import join
from firstwatch.monitor import Health, Seen
from firstwatch.spec import load as load_service
from firstwatch.spec.alerts import Maintenance, Streak
from tests.conformance.alerts import Play, policy
from tests.firstwatch.spec.cases import HEALTH

Vector = Mapping[str, Any]


def joined(regions: int, down: int, needed: Streak | None = None) -> Health:
    votes = {f"region {i}": Seen("check", Health.DOWN if i < down else Health.UP, "", 0.0) for i in range(regions)}
    return join(votes, needed).health


def dependency(v: Vector) -> dict[str, Any]:
    parent = {"down": "F", "up": "S", "degraded": "L"}.get(v["parent"], "?")
    play = Play(policy(), needs={"parent": (), "child": ("parent",)})
    play.round({"parent": "S", "child": "F" if v["child_alert_open_before"] else "S"}, 0.0)
    play.round({"parent": parent, "child": "F" if v["child_alert_open_before"] else "S"}, 60.0)
    before = play.check("child").is_open
    play.round({"parent": parent, "child": v["child_result"]}, 120.0)
    after = play.check("child")
    closes = before and not after.is_open
    return {
        "child_opens_alert": after.is_open and not before,
        "child_closes_alert": closes,
        "child_resolves_alert": closes,
        "child_alert_resolves": closes,
        "child_alert_resolved": closes,
        "child_alert_open_after": after.is_open,
        "child_state_recorded": str(after.health),
        "child_measured": after.at == 120.0,
    }


def maintenance(v: Vector) -> bool:
    """Whether the window is in order or, where a time is given, whether that lies in it. The day is a Wednesday."""
    if v.get("enabled") is False:
        return "now" not in v
    day = datetime(2026, 7, 15, tzinfo=UTC)
    days = [DAYS[(day + timedelta(days=_offset(d))).weekday()] if _is_relative(d) else d for d in v.get("days", ())]
    given = {key: v[key] for key in ("start", "timezone") if key in v} | {"days": days}
    given |= {"duration": 3600.0 * v["duration_h"]} if "duration_h" in v else {}
    try:
        window = Maintenance.model_validate(given)
    except ValidationError:
        return False
    if "now" not in v:
        return not list(problems(window))
    clock = re.match(r"(\d+):(\d+)", v["now"])
    assert clock is not None and not list(problems(window))
    now = day + timedelta(days=_offset(v["now"]), hours=int(clock[1]), minutes=int(clock[2]))
    return under([window], "check", now.timestamp()) is not None


RELATIVE = {"two days later": 2, "next day": 1, "tomorrow": 1, "today": 0, "yesterday": -1, "two days earlier": -2}


def _is_relative(text: str) -> bool:
    return any(words in text for words in RELATIVE)


def _offset(text: str) -> int:
    return next((days for words, days in RELATIVE.items() if words in text), 0)


def default(v: Vector) -> dict[str, Any]:
    """What a service file with these alert rules comes to."""
    given, rules = v["given"], {}
    rules |= {"remind": given["reminder_min_s"]} if "reminder_min_s" in given else {}
    rules |= {"open": {"after": given["failure_threshold"]}} if given.get("failure_threshold") else {}
    rules |= {"close": {"after": given["success_threshold"]}} if given.get("success_threshold") else {}
    rules |= {"description": given["description"]} if "description" in given else {}
    text = f"{HEALTH}      expect: [status == 200]\nalerts: {json.dumps(rules)}\n"
    loaded = load_service(text, "f.yaml", {}).service
    if loaded is None:
        return {"loaded": "rejected"}
    alerts = loaded.alerts
    return {
        "loaded": "accepted",
        "failure_threshold": alerts.open.after.count,
        "success_threshold": alerts.close.after.count,
        "notify_on_resolve": alerts.close.tell,
        "send_on_resolved": alerts.close.tell,
        "reminder_min_s": alerts.remind or 0,
        "enabled": True,
    }


def same_default(v: Vector, decided: Any) -> bool:
    becomes = v["becomes"]
    if isinstance(becomes, Mapping):
        return all(decided.get(key) == value for key, value in becomes.items())
    if numbers := re.findall(r"\d+", becomes):
        return [str(decided.get(key)) for key in ("failure_threshold", "success_threshold")][: len(numbers)] == numbers
    return bool(decided["loaded"] == becomes)
