"""What is wrong with prefect.yaml: misspelt keys, which Prefect leaves out without a word, and the monitors' schedules.

A monitor that nobody starts finds nothing and says nothing, so each service with `synthetic:` must have its schedule,
at each of its locations, at the second that is its own (see firstwatch.schedule). Pure; knows Prefect's keys by heart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, NamedTuple

from firstwatch import schedule
from firstwatch.spec.diagnostics import Diagnostic, did_you_mean
from firstwatch.spec.models import Service
from firstwatch.spec.source import Node, read_plain
from firstwatch.units import show_duration

ENTRYPOINT, NAME = "flows/synthetic.py:synthetic", "production"
MOST = 10
"""Schedules in one deployment. Prefect's server reads and checks all of them several times for each run of any, half a
millisecond each at the best: with 500 in one, it starts hardly a run."""
MOST_TOGETHER = 25
"""Services in one schedule. Their rounds begin a few at a time, the last of so many after eight seconds."""

TOP_KEYS = frozenset({"name", "prefect-version", "build", "push", "pull", "deployments"})
DEPLOYMENT_KEYS = frozenset(
    {
        "name", "version", "version_type", "tags", "description", "schedule", "schedules", "paused",
        "concurrency_limit", "flow_name", "entrypoint", "parameters", "enforce_parameter_schema", "build", "push",
        "pull", "work_pool", "triggers", "sla",
    }
)  # fmt: skip
WORK_POOL_KEYS = frozenset({"name", "work_queue_name", "job_variables"})
LIMIT_KEYS = frozenset({"limit", "collision_strategy", "grace_period_seconds"})
SCHEDULE_KEYS = frozenset(
    {
        "cron", "interval", "rrule", "timezone", "anchor_date", "active", "parameters", "slug", "replaces", "day_or",
        "schedule", "max_scheduled_runs",
    }
)  # fmt: skip
"""What Prefect 3.8 knows; a test holds them against its own models."""

Found = Iterator[tuple[Node, str, str]]


class Planned(NamedTuple):
    """One schedule of the flow `synthetic`. `services` and `location` are its parameters, as far as it has them."""

    node: Node
    keys: Mapping[str, Node]
    services: tuple[str, ...]
    location: str
    deployment: str

    @property
    def who(self) -> str:
        more = f" and {len(self.services) - 1} more" if len(self.services) > 1 else ""
        return _at(self.services[0] + more, self.location)

    @property
    def place(self) -> Node:
        """Where its parameters stand, or itself."""
        return self.keys.get("parameters", self.node)

    @property
    def cron(self) -> Node | None:
        inner = self.keys.get("schedule")
        return self.keys.get("cron") or (_keys(inner).get("cron") if inner is not None else None)


@dataclass(frozen=True, slots=True)
class Services:
    """The service files beside prefect.yaml: `known` by the files' names, None for those that were not read or do not
    load. `asked` are those whose schedules are wanted."""

    known: Mapping[str, Service | None]
    asked: Collection[str]


def problems(text: str, file: str, services: Services) -> list[Diagnostic]:
    """All that is wrong with a prefect.yaml, in the order of the file. `file` is its name in the diagnostics."""
    tree, said = read_plain(text, file)
    if tree is None:
        return said
    for node, message, hint in [*_keys_of_file(tree), *_schedules(tree, services)]:
        said.append(Diagnostic(file, node.line, node.column, node.path, message, hint))
    once = {(d.line, d.column, d.message): d for d in reversed(said)}  # what an anchor holds is read at each alias
    return sorted(once.values(), key=lambda d: (d.line, d.column, d.path))


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _keys_of_file(tree: Node) -> Found:
    """Misspelt keys. At the top any others may stand too: anchors have to live somewhere."""
    for key, node in _keys(tree).items():
        if key not in TOP_KEYS and (close := get_close_matches(key, sorted(TOP_KEYS), n=1, cutoff=0.8)):
            yield node, f"unknown key `{key}`: Prefect leaves it out", f"did you mean {close[0]}?"
    for deployment in _deployments(tree):
        yield from _unknown(deployment, DEPLOYMENT_KEYS)
        keys = _keys(deployment)
        for key, known in (("work_pool", WORK_POOL_KEYS), ("concurrency_limit", LIMIT_KEYS)):
            if key in keys:
                yield from _unknown(keys[key], known)
        for planned in _schedules_of(deployment):
            yield from _unknown(planned, SCHEDULE_KEYS)


def _unknown(node: Node, known: frozenset[str]) -> Found:
    for key, inner in _keys(node).items():
        if key not in known:
            yield inner, f"unknown key `{key}`: Prefect leaves it out", did_you_mean(key, known)


def _keys(node: Node) -> dict[str, Node]:
    """The keys of a mapping, those that `<<` takes over from an anchor included; empty for anything else."""
    if not isinstance(node.value, dict):
        return {}
    own = dict(node.value)
    taken = own.pop("<<", None)
    sources = [] if taken is None else taken.value if isinstance(taken.value, list) else [taken]
    merged = {key: inner for source in reversed(sources) for key, inner in _keys(source).items()}
    return {**merged, **own}


def _deployments(tree: Node) -> list[Node]:
    given = _keys(tree).get("deployments")
    return given.value if given is not None and isinstance(given.value, list) else []


def _schedules_of(deployment: Node) -> list[Node]:
    keys = _keys(deployment)
    many, one = keys.get("schedules"), keys.get("schedule")
    items = list(many.value) if many is not None and isinstance(many.value, list) else []
    return [*items, one] if one is not None else items


# ── schedules ────────────────────────────────────────────────────────────────────────────────────────────────


def _schedules(tree: Node, services: Services) -> Found:
    monitors = [node for node in _deployments(tree) if _text(_keys(node).get("entrypoint")) == ENTRYPOINT]
    planned = [item for node in monitors for item in _planned(node)]
    for node in monitors:
        yield from _too_many(_schedules_of(node))
    for item in planned:
        yield from _one(item, services)
    yield from _twice(planned)
    yield from _missing(tree, monitors, planned, services)


def _too_many(schedules: list[Node]) -> Found:
    if len(schedules) > MOST:
        told = f"{len(schedules)} schedules in one deployment: the server reads all of them for each run"
        hint = f"name several services in one schedule, or put those after {MOST} into deployments {NAME}-2, …"
        yield schedules[MOST], told, hint


def _planned(deployment: Node) -> Iterator[Planned]:
    keys = _keys(deployment)
    usual = _keys(keys["parameters"]) if "parameters" in keys else {}
    for node in _schedules_of(deployment):
        own = _keys(node)
        given = {**usual, **(_keys(own["parameters"]) if "parameters" in own else {})}
        service = given.get("service")
        several = service.value if service is not None and isinstance(service.value, list) else [service]
        names = tuple(_named(_text(each)) for each in several if _text(each))
        yield Planned(node, own, names, _text(given.get("location")), _text(keys.get("name")))


def _at(name: str, location: str) -> str:
    return f"{name} at {location}" if location else name


def _named(service: str) -> str:
    """The name of a service file, which may be given as a path."""
    return PurePath(service).stem if service.endswith((".yaml", ".yml")) else service


def _one(item: Planned, services: Services) -> Found:
    """What is wrong with one schedule by itself."""
    if not item.services:
        yield item.node, "a schedule of synthetic names no service", "parameters: {service: shop}"
    if len(item.services) > MOST_TOGETHER:
        told = f"{len(item.services)} services in one schedule: the last of them would begin late"
        yield item.place, told, f"at most {MOST_TOGETHER} in one"
    fitting: dict[str, float] = {}  # by name: how often it is looked at, in seconds
    for n, name in enumerate(dict.fromkeys(item.services)):
        if name not in services.known:
            yield item.place, f"there is no services/{name}.yaml", did_you_mean(name, services.known)
        elif (service := services.known[name]) is not None:
            wrong = list(_fits(item, name, service, schedule.begins_after(n)))
            yield from wrong
            if service.synthetic is not None and not wrong:
                fitting[name] = service.synthetic.every
    if fitting:
        yield from _in_time(item, fitting)


def _fits(item: Planned, name: str, service: Service, after: float) -> Found:
    """`after`: seconds from the start of the run to the service's round."""
    if service.synthetic is None:
        yield item.place, f"{name} has no `synthetic:` section", "add it, or take the schedule out"
        return
    places = service.synthetic.locations.names if service.synthetic.locations else []
    if item.location and item.location not in places:
        hint = did_you_mean(item.location, places) if places else "take the location out, or add synthetic.locations"
        yield item.place, f"{name} has no location {item.location!r}", hint
    elif places and not item.location:
        yield item.place, f"the schedule of {name} names no location", f"one of {', '.join(places)}, a schedule each"
    elif after and service.synthetic.time + after >= service.synthetic.every:
        takes, every = show_duration(service.synthetic.time), show_duration(service.synthetic.every)
        told = f"the round of {name} begins {show_duration(after)} after the first, and may take {takes} of {every}"
        yield item.place, told, "name it earlier in the list, or lower its synthetic.budget"


def _in_time(item: Planned, everies: Mapping[str, float]) -> Found:
    """Whether the schedule starts when its services want it; the first one's name gives the second."""
    name, every = next(iter(everies.items()))
    for other, its in everies.items():
        if its != every:
            told = f"{other} is looked at every {show_duration(its)}, {name} every {show_duration(every)}"
            yield item.place, told, "a schedule has services of one interval: make two"
            return
    right = schedule.cron(item.services[0], every, item.location)
    hint = f'cron: "{right}"'
    if item.cron is None:
        yield item.node, f"the schedule of {item.who} has no cron line", hint
        return
    line = _text(item.cron)
    if "{{" in line or schedule.starts(line) == schedule.starts(right):
        return
    if schedule.interval(line) != every:
        yield item.cron, f"{line!r} is not every {show_duration(every)}, as {name} says", hint
    else:
        yield item.cron, f"{line!r} is not the second of {item.who}: monitors would bunch", hint


def _twice(planned: list[Planned]) -> Found:
    seen: dict[tuple[str, str], Node] = {}
    for item in planned:
        for name in item.services:
            if (first := seen.get((name, item.location))) is not None:
                who = _at(name, item.location)
                yield item.node, f"{who} is scheduled twice, first on line {first.line}", "keep one of them"
            else:
                seen[name, item.location] = item.node


def _missing(tree: Node, monitors: list[Node], planned: list[Planned], services: Services) -> Found:
    """A location's schedule may stand in any deployment of the flow, a service's own in one of production's."""
    there = {(s, p.location) for p in planned for s in p.services if p.location or _is_production(p.deployment)}
    production = [node for node in monitors if _is_production(_text(_keys(node).get("name")))]
    for name in sorted(services.asked):
        service = services.known.get(name)
        if service is None or service.synthetic is None:
            continue
        for location in service.synthetic.locations.names if service.synthetic.locations else [""]:
            if (name, location) not in there:
                node = _keys(tree).get("deployments", tree) if not monitors else (production or monitors)[0]
                node = _keys(node).get("schedules", node)
                line = pasted(name, service.synthetic.every, location)
                where = "add to schedules" if monitors else f"add a deployment {NAME} of {ENTRYPOINT} with schedules"
                who = _at(name, location)
                yield node, f"{who} is to be monitored, and has no schedule", f"{where}: - {line}"


def _is_production(deployment: str) -> bool:
    return deployment == NAME or deployment.startswith(f"{NAME}-")


def pasted(name: str, every: float, location: str = "") -> str:
    """The schedule of a service's monitor, as prefect.yaml takes it."""
    where, slug = (f", location: {location}", f"{name}-{location}") if location else ("", name)
    line = schedule.cron(name, every, location)
    return f'{{cron: "{line}", timezone: UTC, parameters: {{service: {name}{where}}}, slug: {slug}, active: true}}'


def _text(node: Any) -> str:
    """The value as text, without a leading `./`; empty for what is not there or no plain value."""
    value = node.value if isinstance(node, Node) else None
    return "" if value is None or isinstance(value, dict | list) else str(value).strip().removeprefix("./")
