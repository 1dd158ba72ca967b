"""How other systems' alerts open and close, as vectors: our state machine decides as they do, or as `DIFFERENCES` says.

Gatus (consecutive, reminders, maintenance, defaults), cloudprober (windows), Uptime Kuma (transitions, retry then
down), Checkly (escalation; its waits between retries are arithmetic of theirs), OpenStatus (quorum), OneUptime
(dependencies). `python -m tests.conformance` prints the agreement; FIRSTWATCH_VECTORS names another directory.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from firstwatch.alerting import NoticeKind
from firstwatch.alerting.standing import is_event, standing
from firstwatch.monitor import Health
from firstwatch.spec.alerts import Alerts, Maintenance, Streak
from tests.conformance.alert_cases import BROKEN, OTHERS, STATES, kuma
from tests.conformance.alert_rules import default, dependency, joined, maintenance, same_default
from tests.conformance.alerts import Play, kinds, policy

Vector = Mapping[str, Any]
VECTORS = Path(os.environ.get("FIRSTWATCH_VECTORS", Path(__file__).parent / "vectors")) / "alert_vectors.json"


def load() -> list[Vector]:
    """Every vector, with its family as `kind`."""
    families: dict[str, Any] = json.loads(VECTORS.read_text()) if VECTORS.is_file() else {}
    return [{"kind": kind, **v} for kind, found in families.items() if kind != "about" for v in found]


# ── what we choose to say instead ────────────────────────────────────────────────────────────────────────────


class Difference(NamedTuple):
    """`applies` to these vectors; `told` is what we decide, as far as it is theirs."""

    name: str
    applies: Callable[[Vector], Any]
    told: Callable[[Any], Any]
    reason: str


def _fails(vector: Vector) -> bool:
    """Whether something else than a reminder is not delivered."""
    sent = [word for step in vector.get("steps", ()) for word in step["sent"]]
    return any(word.endswith("!") and not word.startswith("reminder") for word in sent)


DIFFERENCES = (
    Difference(
        "even split",
        lambda v: v["kind"] == "quorum" and 2 * v["in_new_state"] == v["regions"],
        lambda decided: not decided,
        "Half of the locations are not more than half: by OpenStatus' rule a monitor is up and down at once.",
    ),
    Difference(
        "kept until delivered",
        lambda v: v["kind"] == "sequences" and _fails(v),
        lambda decided: [{**s, "sent": s["new"], "after": {**s["after"], "open": ...}} for s in decided],
        "A trigger or a resolve that did not arrive is sent again, also when the check's next result is another one. "
        "Gatus forgets a resolve, and a trigger whose check has become good.",
    ),
    Difference(
        "the end is told",
        lambda v: v["kind"] == "defaults" and re.search("notify_on_resolve|send_on_resolved", str(v["becomes"])),
        lambda decided: {**decided, "notify_on_resolve": False, "send_on_resolved": False},
        "Who was woken is told when it is over, unless the file says otherwise.",
    ),
    Difference(
        "no description",
        lambda v: v["kind"] == "defaults" and "description" in v["given"] and v["becomes"] == "accepted",
        lambda decided: {**decided, "loaded": "accepted"},
        "Alert rules have no description here: a message says which check found what.",
    ),
)


def difference(vector: Vector) -> Difference | None:
    """The difference that we chose, where one applies to the vector."""
    return next((d for d in DIFFERENCES if d.applies(vector)), None)


# ── sequences and windows ────────────────────────────────────────────────────────────────────────────────────

GATUS = {NoticeKind.OPENED: "trigger", NoticeKind.CLOSED: "resolve", NoticeKind.REMINDER: "reminder"}


def _gatus_policy(given: Vector) -> Alerts:
    remind = given.get("reminder_min_s") or None
    opens, closes = given["failure_threshold"], given["success_threshold"]
    return policy(opens, closes, remind=remind, tell=given.get("notify_on_resolve", True))


def _has_channel(given: Vector) -> bool:
    return given.get("provider") != "missing" and given.get("enabled", True)


def _sequence(v: Vector) -> list[dict[str, Any]]:
    play = Play(_gatus_policy(v["policy"]), channel=_has_channel(v["policy"]))
    first = v["initial"]
    play.begin(first["successes_in_a_row"] or -first["failures_in_a_row"], first["open"])
    late: set[str] = set()
    decided = []
    for step in v["steps"]:
        sent = play.round("S" if step["ok"] else "F", step["t_s"], step.get("delivery") != "error")
        late |= {s.notice.incident for s in sent if s.again and step["ok"] and s.notice.kind is NoticeKind.OPENED}
        new = [
            s for s in sent if s.notice.incident not in late and not (s.again and s.notice.kind is NoticeKind.CLOSED)
        ]
        row = play.check().row
        after = {"failures_in_a_row": max(-row, 0), "successes_in_a_row": max(row, 0), "open": play.told_open}
        decided.append({"after": after, "sent": kinds(sent, GATUS), "new": kinds(new, GATUS)})
    return decided


def _same_sequence(v: Vector, decided: Any) -> bool:
    for step, ours in zip(v["steps"], decided, strict=True):
        counters = all(ours["after"][key] in (x, ...) for key, x in step["after"].items())
        if not counters or ours["sent"] != step["sent"]:
            return False
    return True


def _window(v: Vector) -> dict[str, Any]:
    """A batch's failures stand behind its successes, and it counts as one round."""
    rule = v["policy"]
    fails, last = rule["failures"], rule["out_of"] or rule["failures"]
    gap = next((x[k] for x in (v, rule) for k in ("every_s", "wait_s", "interval_s", "batch_every_s") if k in x), 0.01)
    closes = f"{last - fails + 1} of {last}"  # so many good ones, and those that are left are too few bad ones
    play = Play(policy(f"{fails} of {last}", closes, remind=rule["repeat_s"] or 1e-6))
    notified = []
    for i, batch in enumerate(v["batches"], 1):
        letters = "S" * (batch["attempts"] - batch["failures"]) + "F" * batch["failures"]
        for sent in play.round(letters, i * gap):
            if sent.notice.kind in (NoticeKind.OPENED, NoticeKind.REMINDER):
                notified.append({"after_batch": i, "failures_counted": sent.notice.parts[0].results})
    return {"notifications": notified, "open_at_end": play.check().is_open}


def _several(v: Vector) -> list[list[str]]:
    plays = {name: Play(_gatus_policy(given), _has_channel(given)) for name, given in v["policies"].items()}
    return [
        [f"{name}:{word}" for name, play in plays.items() for word in kinds(play.round(letter, at), GATUS)]
        for at, letter in v["results_at_s"]
    ]


# ── transitions, retries, escalation ─────────────────────────────────────────────────────────────────────────

ALWAYS = Maintenance.model_validate({"name": "always", "from": "1960-01-01", "until": "2100-01-01"})
KUMA = {NoticeKind.OPENED: "down", NoticeKind.CLOSED: "up", NoticeKind.REMINDER: "again"}


def _transition(v: Vector) -> dict[str, bool]:
    """The two beats, under a policy that retries as often as the states need."""
    pending = (v["previous"] == "PENDING") + (v["now"] == "PENDING")
    retries = 0 if v["previous"] == "DOWN" else pending
    play = Play(policy(retries + 1))
    if v["previous"] is not None:
        _beat(play, v["previous"], 0.0)
    before = standing(play.check())
    sent = _beat(play, v["now"], 60.0)
    return {"recorded_as_event": is_event(before, standing(play.check())), "notifies": bool(sent)}


def _beat(play: Play, state: str, at: float) -> list[str]:
    windows = [ALWAYS] if state == "MAINTENANCE" else []
    play.policy = play.policy.model_copy(update={"maintenance": windows})
    letter = {"UP": "S", "MAINTENANCE": "?"}.get(state, "F")  # in a maintenance, Uptime Kuma does not look
    return kinds(play.round(letter, at), KUMA)


def _retries(v: Vector) -> dict[str, Any]:
    rule = v["policy"]
    play = Play(policy(rule["max_retries"] + 1, remind=60.0 * rule.get("resend_every", 0) or None))
    beats = [(kinds(play.round(x, 60.0 * i), KUMA), standing(play.check())) for i, x in enumerate(v["results"])]
    return {"states": [state.upper() for _, state in beats], "sent": [sent for sent, _ in beats]}


def _same_retries(v: Vector, decided: Any) -> bool:
    def plain(sent: list[list[str]]) -> list[list[str]]:
        return [["up" if word == "up" else "down" for word in beat] for beat in sent]

    return bool(decided["states"] == v["states"]) and plain(decided["sent"]) == plain(v["sent"])


def _waits(v: Vector) -> list[float]:
    """Checkly's arithmetic; here a retry confirms after a delay that stays the same."""
    base, retries = v.get("base_s", 0), range(1, v.get("max_retries", 1) + 1)
    growth: dict[str, Callable[[int], float]] = {
        "linear": lambda n: base * n,
        "exponential": lambda n: base**n,
    }
    if v["strategy"] == "none":
        return []
    waits = [growth.get(v["strategy"], lambda n: base)(n) for n in retries]
    return [min(wait, v.get("max_wait_s", math.inf)) for wait in waits]


def _escalation(v: Vector) -> float | None:
    """After how many minutes of failure, or failed runs one a minute, the alert opens; for reminders, after how many
    minutes each is told; for a share of the locations, in percent, from which on they count."""
    rule = v["policy"]
    kind, number = rule["kind"], next(x for k, x in rule.items() if k != "kind")
    if "parallel" in kind or "percent" in str(list(rule)):
        needed = Streak(count=math.ceil(number / 10), out_of=10)
        return next((10.0 * n for n in range(1, 11) if joined(10, n, needed) is Health.DOWN), None)
    if "remind" in kind:
        interval = rule.get("interval_min", rule.get("interval", number))
        play, opened, said = Play(policy(remind=60.0 * interval)), 1, 1
    else:
        by_time = {"after": 1, "for": 60 * number}
        play, opened, said = Play(policy(number, **({"open": by_time} if kind == "time" else {}))), 0, 0
    for minute in range(opened - said, 200):
        sent = play.round("F", 60.0 * minute)
        if sent and (minute or not said):
            return float(minute + (kind != "time" and "remind" not in kind))
    return None


def _same_escalation(v: Vector, decided: Any) -> bool:
    rule = v["policy"]
    wanted = rule.get("interval_min", rule.get("interval", next(x for k, x in rule.items() if k != "kind")))
    return bool(decided == wanted)


# ── the suite ────────────────────────────────────────────────────────────────────────────────────────────────

DECIDE: dict[str, Callable[[Vector], Any]] = {
    "sequences": _sequence,
    "windows": _window,
    "several_alerts": _several,
    "defaults": default,
    "transitions": _transition,
    "retry_then_down": _retries,
    "retry_waits": _waits,
    "escalation": _escalation,
    "quorum": lambda v: joined(v["regions"], v["in_new_state"]) is Health.DOWN,
    "dependencies": dependency,
    "maintenance": maintenance,
}
SAME: dict[str, Callable[[Vector, Any], bool]] = {
    "sequences": _same_sequence,
    "windows": lambda v, d: all(d[key] == v[key] for key in d),
    "several_alerts": lambda v, d: bool(d == v["sent"]),
    "defaults": same_default,
    "transitions": lambda v, d: all(d[key] == v[key] for key in d),
    "retry_then_down": _same_retries,
    "retry_waits": lambda v, d: bool(d == v["waits_s"]),
    "escalation": _same_escalation,
    "quorum": lambda v, d: bool(d == v["monitor_changes"]),
    "dependencies": lambda v, d: all(d[key] == x for key, x in v.items() if key in d),
    "maintenance": lambda v, d: bool(d == v.get("better_under", v.get("under", v.get("valid")))),
}


def decide(vector: Vector) -> Any:
    """Our answer to one vector, in the shape of what it expects."""
    return DECIDE[vector["kind"]](vector)


def agrees(vector: Vector, decided: Any) -> bool:
    """As they do, or as a difference that applies."""
    if SAME[vector["kind"]](vector, decided):
        return True
    chosen = difference(vector)
    return chosen is not None and SAME[vector["kind"]](vector, chosen.told(decided))


@pytest.mark.parametrize("vector", load(), ids=lambda v: v["id"])
def test_each_vector_is_decided_as_expected(vector: Vector) -> None:
    decided = decide(vector)
    assert agrees(vector, decided), decided


# ── what else those systems do, by their own tests and code ──────────────────────────────────────────────────


@pytest.mark.parametrize("now", STATES)
@pytest.mark.parametrize("previous", [None, *STATES])
def test_all_of_uptime_kumas_transitions(previous: str | None, now: str) -> None:
    vector = kuma(previous, now)
    assert agrees(vector, decide(vector)), decide(vector)


@pytest.mark.parametrize("name", BROKEN)
def test_what_did_not_arrive_is_sent_as_gatus_does_or_again(name: str) -> None:
    assert agrees(BROKEN[name], decide(BROKEN[name])), decide(BROKEN[name])


@pytest.mark.parametrize("vector", OTHERS, ids=lambda v: v["kind"])
def test_more_of_each_family(vector: Vector) -> None:
    assert agrees(vector, decide(vector)), decide(vector)


@pytest.mark.parametrize("chosen", DIFFERENCES, ids=lambda d: d.name)
def test_each_chosen_difference_is_one(chosen: Difference) -> None:
    vectors = [v for v in (*load(), *OTHERS, *BROKEN.values()) if difference(v) is chosen]
    differing = [v for v in vectors if not SAME[v["kind"]](v, decide(v))]
    assert differing and all(agrees(v, decide(v)) for v in differing)
