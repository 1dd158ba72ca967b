"""A Kayenta CanaryConfig (JSON), as far as it can be judged here; what cannot be is refused by name, all at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

Percent = Annotated[float, Field(ge=0, le=100)]


class ConfigError(ValueError):
    """The configuration cannot be used. `problems` are all that were found, one a line in the message."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class EffectSize(_Part):
    """By how much a metric may differ, as a ratio of means or as the share of pairs in which the canary is higher.
    What is left out is 1, or for `cles` a half: any difference counts."""

    measure: Literal["meanRatio", "cles"] = "meanRatio"
    allowed_increase: float | None = None
    allowed_decrease: float | None = None
    critical_increase: float | None = None
    critical_decrease: float | None = None

    @property
    def none(self) -> float:
        return 0.5 if self.measure == "cles" else 1.0

    @property
    def up(self) -> float:
        return self.none if self.allowed_increase is None else self.allowed_increase

    @property
    def down(self) -> float:
        return self.none if self.allowed_decrease is None else self.allowed_decrease

    @property
    def critical_up(self) -> float:
        return self.none if self.critical_increase is None else self.critical_increase

    @property
    def critical_down(self) -> float:
        return self.none if self.critical_decrease is None else self.critical_decrease


class Outliers(_Part):
    strategy: Literal["remove", "keep"] = "keep"
    outlier_factor: Annotated[float, Field(gt=0)] = 3.0


class Analysis(_Part):
    """How one metric is compared; Kayenta's `analysisConfigurations.canary`."""

    direction: Literal["increase", "decrease", "either"] = "either"
    nan_strategy: Literal["remove", "replace"] = "remove"
    critical: bool = False
    must_have_data: bool = False
    muted: bool = False
    outliers: Outliers = Outliers()
    effect_size: EffectSize = EffectSize()


class _Analyses(_Part):
    canary: Analysis = Analysis()


def _only_prometheus(kind: Any) -> Any:
    if isinstance(kind, str) and kind != "prometheus":
        raise ValueError(f"metrics from {kind} cannot be asked here, only those from prometheus")
    return kind


_Kind = Annotated[Literal["prometheus"], BeforeValidator(_only_prometheus)]


class Query(_Part):
    """A Prometheus query: a template (`PromQL: …`, or a filter), or a metric's name with label bindings."""

    type: _Kind = "prometheus"
    service_type: _Kind = "prometheus"
    metric_name: str | None = None
    label_bindings: tuple[str, ...] = ()
    group_by_fields: tuple[str, ...] = ()
    custom_inline_template: str | None = None
    custom_filter_template: str | None = None
    resource_type: str | None = None


class Metric(_Part):
    name: Annotated[str, Field(min_length=1)]
    query: Query
    groups: tuple[str, ...] = ()
    analysis_configurations: _Analyses = _Analyses()
    scope_name: str = "default"

    @property
    def analysis(self) -> Analysis:
        return self.analysis_configurations.canary


class Thresholds(_Part):
    passing: Percent = Field(default=95, validation_alias=AliasChoices("pass", "passing"))
    marginal: Percent = 75

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.marginal > self.passing:
            raise ValueError(f"marginal ({self.marginal:g}) is above pass ({self.passing:g})")
        return self


class Classifier(_Part):
    group_weights: Mapping[str, Percent] = {}
    score_thresholds: Thresholds = Thresholds()


class _Judge(_Part):
    name: Literal["NetflixACAJudge-v1.0", "NetflixACAJudge", "dredd-v1.0"] = "NetflixACAJudge-v1.0"
    judge_configurations: Mapping[str, Any] = {}


class CanaryConfig(_Part):
    """What is measured and how it is scored. The fields without an effect here are those that its editor keeps."""

    name: str
    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    classifier: Classifier = Classifier()
    templates: Mapping[str, str] = {}
    judge: _Judge = _Judge()
    id: str | None = None
    description: str | None = None
    config_version: str | None = None
    applications: tuple[str, ...] = ()
    created_timestamp: int | None = None
    updated_timestamp: int | None = None
    created_timestamp_iso: str | None = None
    updated_timestamp_iso: str | None = None


def parse(config: str | bytes | Mapping[str, Any]) -> CanaryConfig:
    """Reads a configuration, from JSON or as it is decoded. Raises ConfigError with everything that is wrong."""
    try:
        raw = json.loads(config) if isinstance(config, str | bytes) else config
    except ValueError as error:
        raise ConfigError([f"this is not JSON: {error}"]) from None
    if not isinstance(raw, Mapping):
        raise ConfigError(["a canary configuration is a JSON object"])
    try:
        parsed = CanaryConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError([_said(dict(e)) for e in error.errors()]) from None
    problems = [*_names(parsed), *_groups(parsed), *unusable_templates(parsed)]
    if problems:
        raise ConfigError(problems)
    return parsed


def _said(error: Mapping[str, Any]) -> str:
    where = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in error["loc"]).replace(".[", "[")
    if error["type"] == "extra_forbidden":
        return f"{where}: there is no such key"
    return f"{where}: {str(error['msg']).removeprefix('Value error, ')}"


def _names(config: CanaryConfig) -> list[str]:
    names = [m.name for m in config.metrics]
    return [f"metric {name!r}: there are two of this name" for name in dict.fromkeys(names) if names.count(name) > 1]


def _groups(config: CanaryConfig) -> list[str]:
    groups = {m.name: m.groups for m in config.metrics if not m.analysis.muted}
    critical = {m.name for m in config.metrics if m.analysis.critical}
    return weighting_problems(groups, config.classifier.group_weights, critical)


def weighting_problems(
    groups: Mapping[str, tuple[str, ...]], weights: Mapping[str, float], critical: set[str] | frozenset[str]
) -> list[str]:
    """Why these weights could not score these metrics (name → groups) fairly: a perfect canary must reach 100, and
    no metric may be measured and never count."""
    if not any(groups.values()):
        return ["no metric is in a group: the score would be 0, whatever is measured; add groups to the metrics"]
    problems = [
        f"metric {name!r} is in no group and not critical: it is measured and never counts"
        for name, of in groups.items()
        if not of and name not in critical
    ]
    present = {g for of in groups.values() for g in of}
    empty, unweighted, total = sorted(weights.keys() - present), present - weights.keys(), sum(weights.values())
    if empty:
        problems.append(f"classifier.groupWeights: no metric is in {', '.join(empty)}")
    if total > 100 + 1e-6:
        problems.append(f"classifier.groupWeights: they add up to {total:g}, more than 100")
    elif unweighted and total > 100 - 1e-6:
        problems.append(f"classifier.groupWeights: nothing is left of 100 for {', '.join(sorted(unweighted))}")
    elif not unweighted and not empty and total < 100 - 1e-6:
        problems.append(f"classifier.groupWeights: they add up to {total:g}; a perfect canary could not reach 100")
    return problems


def unusable_templates(config: CanaryConfig) -> list[str]:
    """Queries that cannot be written as PromQL, each with its reason."""
    problems = []
    for m in config.metrics:
        q = m.query
        name = q.custom_filter_template
        if name is not None and name not in config.templates:
            problems.append(f"metric {m.name!r}: there is no template {name!r} in templates")
        if q.resource_type:
            why = "write the query as customInlineTemplate, `PromQL: …`"
            problems.append(f"metric {m.name!r}: resourceType {q.resource_type} cannot be translated; {why}")
        if not (q.metric_name or _is_promql(config, q)):
            problems.append(f"metric {m.name!r}: neither a metricName nor a customInlineTemplate that begins `PromQL:`")
    return problems


def template_of(config: CanaryConfig, query: Query) -> str | None:
    """The query's template, as it was before its editor escaped the `${`."""
    text = query.custom_inline_template or config.templates.get(query.custom_filter_template or "")
    return text.replace("$\\{", "${") if text else None


def _is_promql(config: CanaryConfig, query: Query) -> bool:
    return (template_of(config, query) or "").startswith("PromQL:")
