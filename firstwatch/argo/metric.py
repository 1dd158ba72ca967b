"""One metric of a template → one of ours, or what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import promql_parser as promql
from pydantic import ValidationError

from firstwatch.argo.direction import share_of, wrong_way
from firstwatch.argo.limits import is_go_duration, limit_faults, never_fails
from firstwatch.conditions import ConditionError
from firstwatch.expr import compile_gate_condition, limit_of
from firstwatch.spec.canary import Authentication, CanaryMetric
from firstwatch.spec.canary_findings import PLACEHOLDER, moment
from firstwatch.spec.diagnostics import did_you_mean
from firstwatch.spec.source import Node

Say = Callable[[Node, str, str], None]
"""Tells a fault: where, what, and what to do."""

_KEYS = (
    "name", "interval", "initialDelay", "count", "successCondition", "failureCondition", "failureLimit",
    "inconclusiveLimit", "consecutiveErrorLimit", "consecutiveSuccessLimit", "provider",
)  # fmt: skip
_NUMBERS = ("count", "failureLimit", "inconclusiveLimit", "consecutiveErrorLimit", "consecutiveSuccessLimit")
_PROMETHEUS = ("address", "query", "rangeQuery", "timeout", "insecure", "headers", "authentication")
_HELM = "render the Helm chart first: helm template"


class Metric:
    """Takes a metric over. Afterwards `made` is ours (None if something is wrong), `notes` are for its reader."""

    def __init__(self, node: Node, values: Mapping[str, str | None], tell: Say) -> None:
        self._node = node
        self._values = values  # of the arguments; None: given with each run
        self._tell = tell
        self.notes: list[str] = []
        self._sound = True
        given = node.value if isinstance(node.value, dict) else {}
        self._given: dict[str, Node] = given
        self.name = str(given["name"].value) if "name" in given else ""
        self.made = self._made()

    def _say(self, node: Node, message: str, hint: str = "") -> None:
        self._sound = False
        self._tell(node, f"{self.name or 'a metric'}: {message}", hint)

    def _made(self) -> dict[str, Any] | None:
        if not self.name:
            self._say(self._node, "it has no name", "name: success-rate")
        for key, node in self._given.items():
            if key not in _KEYS:
                self._say(node, f"Argo has no `{key}` here", did_you_mean(key, _KEYS))
        made: dict[str, Any] = {"name": self.name}
        for key in ("initialDelay", "interval"):
            if key in self._given:
                made[key] = self._duration(self._given[key])
        numbers = {key: self._whole(self._given[key]) for key in _NUMBERS if key in self._given}
        self._check_limits(numbers, "interval" in made)
        query = self._query()
        conditions = self._conditions(query) if self._provider else {}
        made |= {key: number for key, number in numbers.items() if key == "count"}
        made |= conditions
        made |= {key: number for key, number in numbers.items() if key != "count"}
        made["provider"] = {"prometheus": self._provider}
        self._check_arguments(self._node)
        if "interval" in made and not numbers.get("count") and not numbers.get("consecutiveSuccessLimit"):
            self.notes.append("no count: Argo measured it for as long as the rollout ran; give it a count")
        if self._sound:
            self._check_shape(made)
        return made if self._sound else None

    def _check_shape(self, made: dict[str, Any]) -> None:
        """Whatever else does not fit, the fields themselves know."""
        try:
            CanaryMetric.model_validate(made)
        except ValidationError as e:
            for error in e.errors():
                place = self._node.at(error["loc"])
                self._say(place, f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}")

    # ── numbers ──────────────────────────────────────────────────────────────────────────────────────────────

    def _filled(self, node: Node) -> Any:
        """The value, with arguments that the template itself gives."""
        if not isinstance(node.value, str) or "{{" not in node.value:
            return node.value
        filled = PLACEHOLDER.sub(lambda m: self._values.get(m[1].removeprefix("args.")) or m[0], node.value)
        if "{{" in filled:
            self._say(
                node, f"{node.value} is not known here", "write the value: only queries and conditions take {{args.X}}"
            )
            return None
        self.notes.append(f"{node.path.rpartition('.')[2]} was {node.value}")
        return filled

    def _duration(self, node: Node) -> str:
        value = self._filled(node)
        if value is None:
            return ""
        if not isinstance(value, str) or not is_go_duration(value):
            self._say(node, f"{value!r} is not a duration for Argo", "write it with a unit: 30s, 5m, 1h30m")
        elif value.startswith("-") or value.endswith(("ns", "us", "µs", "μs")):
            self._say(node, f"{value} is no time between measurements", "write it as 30s or 5m")
        return str(value).removeprefix("+")

    def _whole(self, node: Node) -> int:
        value = self._filled(node)
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ValueError
            return int(value)
        except ValueError:
            if value is not None:
                self._say(node, f"{value!r} is no whole number", "")
            return 0

    def _check_limits(self, numbers: dict[str, int], interval: bool) -> None:
        count, failure = numbers.get("count", 0), numbers.get("failureLimit", 0)
        row = numbers.get("consecutiveSuccessLimit", 0)
        faults = limit_faults(
            count=count,
            failure=failure,
            inconclusive=numbers.get("inconclusiveLimit", 0),
            success_row=row,
            error_row=numbers.get("consecutiveErrorLimit"),
            interval=interval,
        )
        if not faults and (said := never_fails(count, failure, row)):
            faults.append(said)
        if row > 1 and not (count or interval):
            faults.append(f"it can never succeed: one measurement is never {row} successes in a row")
        if not (count or interval or row) and failure > 0:
            self.notes.append(
                f"one measurement can never fail with failureLimit {failure}: give it an interval and a count"
            )
        keys = ("count", "failureLimit", "consecutiveSuccessLimit")
        place = next((self._given[key] for key in keys if key in self._given), self._node)
        for fault in faults:
            self._say(place, fault, "failureLimit is how many may fail in total; one more fails the metric")
        inconclusive = numbers.get("inconclusiveLimit", 0)
        if count and inconclusive >= count:
            self.notes.append(
                f"with inconclusiveLimit {inconclusive}, {count} inconclusive measurements would still pass"
            )

    # ── the query ────────────────────────────────────────────────────────────────────────────────────────────

    def _query(self) -> Any:
        """The parsed query, None if there is none that can be used; the provider is taken over on the way."""
        self._provider: dict[str, Any] = {}
        provider = self._given.get("provider")
        kinds = provider.value if provider is not None and isinstance(provider.value, dict) else {}
        if len(kinds) != 1 or provider is None:
            told = " and ".join(sorted(kinds)) or "none"
            self._say(
                provider or self._node, f"one provider is needed, here: {told}", "provider: {prometheus: {query: …}}"
            )
        for kind, node in kinds.items():
            if kind != "prometheus":
                self._say(
                    node, f"the provider {kind} is not taken over", "only prometheus is; ask the same of Prometheus"
                )
        given = kinds.get("prometheus")
        if given is None:
            return None
        fields: dict[str, Node] = given.value if isinstance(given.value, dict) else {}
        for key, node in fields.items():
            if key == "caCert":
                self._say(node, "caCert is not taken over", "write it to a file, and its path under metrics.ca_file")
            elif key not in _PROMETHEUS:
                self._say(node, f"Argo's prometheus provider has no `{key}`", did_you_mean(key, _PROMETHEUS))
        self._take_over(fields)
        if "query" not in fields or not str(fields["query"].value or "").strip():
            self._say(fields.get("query") or given, "it has no query", "query: PromQL")
            return None
        return self._parsed(fields["query"])

    def _parsed(self, node: Node) -> Any:
        query = str(node.value)
        if query.strip() == "...":
            self.notes.append("its query is still to be written")
            return None
        if found := re.search(r"\{\{[^{}]*(?:\.Values|`|\binclude\b)[^{}]*\}\}", query):
            self._say(node, f"{found[0]} belongs to a Helm chart", _HELM)
            return None
        said = ""
        for stand_in in ("x", "1", "5m"):  # a name, a number or a duration: what {{args.X}} is for is not known
            try:
                return promql.parse(PLACEHOLDER.sub(stand_in, query))
            except ValueError as e:
                said = said or str(e).splitlines()[0]
        self._say(
            node, f"its query is not PromQL: {said}", 'try it in Prometheus first; a matcher is written label=~"…"'
        )
        return None

    def _take_over(self, fields: dict[str, Node]) -> None:
        made = self._provider
        for key in ("address", "query", "insecure"):
            if key in fields and fields[key].value not in (None, ""):
                made[key] = fields[key].data()
        if "timeout" in fields:
            made["timeout"] = self._whole(fields["timeout"])
        if "rangeQuery" in fields:
            made["rangeQuery"] = self._range(fields["rangeQuery"])
        if "headers" in fields:
            made["headers"] = fields["headers"].data()
        if "authentication" in fields:
            self._authentication(fields["authentication"])
        if not made.get("address"):
            self.notes.append("no address: Argo took its own; here it is metrics.prometheus")

    def _range(self, node: Node) -> dict[str, Any]:
        given: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        for key in ("start", "end", "step"):
            if key not in given:
                self._say(node, f"rangeQuery has no {key}", 'start: now() - duration("5m"), end: now(), step: 1m')
        for key in ("start", "end"):
            if key in given:
                try:
                    moment(str(given[key].value), 0.0)
                except ValueError as e:
                    self._say(given[key], str(e), 'now() - duration("5m"), or now()')
        made = {key: inner.data() for key, inner in given.items()}
        if "step" in given:
            made["step"] = self._duration(given["step"])
        return made

    def _authentication(self, node: Node) -> None:
        given: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        known = {field.alias or name for name, field in Authentication.model_fields.items()}
        for key, inner in given.items():
            if key not in known and _says_something(inner.data()):
                hint = "write user name and password under metrics.basic" if key == "basicAuth" else "use a proxy"
                self._say(inner, f"authentication.{key} is not taken over", hint)
            elif key in known:
                self._provider.setdefault("authentication", {})[key] = self._secrets_named(inner.data())

    def _secrets_named(self, data: Any) -> Any:
        """`{{args.token}}` is written as the secret that the argument stands for."""
        if isinstance(data, dict):
            return {key: self._secrets_named(value) for key, value in data.items()}
        if isinstance(data, str) and (found := PLACEHOLDER.fullmatch(data.strip())):
            value = self._values.get(found[1].removeprefix("args."))
            return value if value and value.startswith("secret:") else data
        return data

    # ── the conditions ───────────────────────────────────────────────────────────────────────────────────────

    def _conditions(self, query: Any) -> dict[str, str]:
        made: dict[str, str] = {}
        given = {key: self._given[key] for key in ("successCondition", "failureCondition") if key in self._given}
        given = {key: node for key, node in given.items() if str(node.value or "").strip()}
        if not given:
            hint = "successCondition: result[0] >= 0.99"
            self._say(self._node, "it can never fail: it has no condition", hint)
        for key, node in given.items():
            text = str(node.value).lower() if isinstance(node.value, bool) else str(node.value)
            try:
                made[key] = compile_gate_condition(text.strip()).cel
            except ConditionError as e:
                cut = text.count("(") > text.count(")")
                hint = "in YAML ` #` begins a comment: put the condition in quotes" if cut else e.hint
                self._say(node, f"{key} {text.strip()}: {e}", hint)
                continue
            self._check_direction(node, query, made[key], success=key == "successCondition", alone=len(given) == 1)
            if made[key] != text.strip():
                self.notes.append(f"{key} was, in Argo's language: {text.strip()}")
        return made

    def _check_direction(self, node: Node, query: Any, cel: str, *, success: bool, alone: bool) -> None:
        share, limit = share_of(query, self.name) if query is not None else None, limit_of(cel)
        if share is None or limit is None:
            return
        said = wrong_way(share, *limit, success=success)
        # With both conditions there is a span in between: how far out the failure begins is their author's choice.
        if said and (alone or success or "any share" in said):
            told = "failed" if share.kind == "bad" else "good"
            self._say(
                node, f"{cel}: {said}", f"its query gives the share of {told} requests: look at the sign and the limit"
            )

    def _check_arguments(self, node: Node) -> None:
        for name in dict.fromkeys(PLACEHOLDER.findall(str(node.data()))):
            if not name.startswith("args."):
                self._say(node, f"{{{{{name}}}}} is nothing that is filled in", "write {{args.NAME}}")
            elif name.removeprefix("args.") not in self._values:
                self._say(
                    node, f"{{{{{name}}}}} is used, and there is no such argument", f"args: [{{name: {name[5:]}}}]"
                )


def _says_something(value: Any) -> bool:
    """Is there a value in it that is not empty?"""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return bool(value) if inner is None else any(map(_says_something, inner))
