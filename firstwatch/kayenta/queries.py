"""Kayenta's Prometheus metrics as PromQL, for the canary and for the stable version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from firstwatch.kayenta.config import CanaryConfig, ConfigError, Metric, template_of

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Pair:
    """One metric's queries."""

    canary: str
    stable: str


def queries(config: CanaryConfig, canary_scope: str, stable_scope: str, location: str = "") -> dict[str, Pair]:
    """The PromQL of each metric by its name. Raises ConfigError, naming all that cannot be written: a variable that is
    not known, and a query that does not tell the canary from the stable version."""
    found, problems = {}, []
    for metric in config.metrics:
        scopes = ({"scope": scope, "location": location} for scope in (canary_scope, stable_scope))
        try:
            pair = Pair(*(_promql(config, metric, known) for known in scopes))
        except KeyError as error:
            known = "scope and location are, where they are given"
            problems.append(f"metric {metric.name!r}: the variable {error.args[0]} is not known; {known}")
            continue
        if pair.canary == pair.stable:
            why = "the query is the same for the canary and for the stable version; put ${scope} into it"
            problems.append(f"metric {metric.name!r}: {why}")
        found[metric.name] = pair
    if problems:
        raise ConfigError(problems)
    return found


def _promql(config: CanaryConfig, metric: Metric, known: Mapping[str, str]) -> str:
    query = metric.query
    template = template_of(config, query)
    text = _filled(template, known) if template else ""
    if text.startswith("PromQL:"):
        return text.removeprefix("PromQL:").strip()
    filters = [*filter(None, [text]), *(_filled(binding, known) for binding in query.label_bindings)]
    matchers = f"{{{','.join(filters)}}}" if filters else ""
    by = f" by ({','.join(query.group_by_fields)})" if query.group_by_fields else ""
    return f"avg({query.metric_name}{matchers}){by}"


def _filled(text: str, known: Mapping[str, str]) -> str:
    """With the variables replaced. Raises KeyError for one that is not known, or is empty."""

    def value(variable: re.Match[str]) -> str:
        if not known.get(variable[1]):
            raise KeyError(variable[1])
        return known[variable[1]]

    return _VARIABLE.sub(value, text.replace("$\\{", "${"))
