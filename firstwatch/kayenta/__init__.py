"""Kayenta's canary configurations: read, asked of a Prometheus, judged and scored.

`parse` reads one, `queries` gives its PromQL, `judge` rules on the values. `classify` and `score` are Kayenta's own
arithmetic, kept exactly; docs/canary-kayenta.md says where our judgement differs and why.
"""

from __future__ import annotations

from firstwatch.kayenta.classify import Classified, Label, classify, mean_inequality
from firstwatch.kayenta.config import CanaryConfig, ConfigError, parse
from firstwatch.kayenta.judging import KayentaResult, MetricResult, judge, judge_metric
from firstwatch.kayenta.queries import Pair, queries
from firstwatch.kayenta.scoring import score, windows

__all__ = [
    "CanaryConfig",
    "Classified",
    "ConfigError",
    "KayentaResult",
    "Label",
    "MetricResult",
    "Pair",
    "classify",
    "judge",
    "judge_metric",
    "mean_inequality",
    "parse",
    "queries",
    "score",
    "windows",
]
