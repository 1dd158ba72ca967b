"""The service file: its models, and `load`, which says everything that is wrong with one at once."""

from firstwatch.spec.alerts import Alerts, Slack
from firstwatch.spec.base import Model, Ratio, Seconds, SecretName
from firstwatch.spec.canary import Canary, CanaryMetric
from firstwatch.spec.diagnostics import Diagnostic, SpecError
from firstwatch.spec.hooks import Command, GithubWorkflow, Hook, PrefectDeployment, Promote, Rollback, Webhook
from firstwatch.spec.loading import Loaded, load, load_or_raise
from firstwatch.spec.models import (
    DEFAULT_CHECKPOINTS,
    JUDGES,
    Account,
    Allowed,
    BasicAuth,
    Checkpoint,
    Metrics,
    Objectives,
    Rules,
    Sandbox,
    Service,
    Signals,
    Smoke,
    VersionCheck,
    Window,
)
from firstwatch.spec.request import METHODS, Check, Method, Request
from firstwatch.spec.signals import look_every, signals_of, window_length
from firstwatch.spec.synthetic import Synthetic

__all__ = [
    "DEFAULT_CHECKPOINTS",
    "JUDGES",
    "METHODS",
    "Account",
    "Alerts",
    "Allowed",
    "BasicAuth",
    "Canary",
    "CanaryMetric",
    "Check",
    "Checkpoint",
    "Command",
    "Diagnostic",
    "GithubWorkflow",
    "Hook",
    "Loaded",
    "Method",
    "Metrics",
    "Model",
    "Objectives",
    "PrefectDeployment",
    "Promote",
    "Ratio",
    "Request",
    "Rollback",
    "Rules",
    "Sandbox",
    "Seconds",
    "SecretName",
    "Service",
    "Signals",
    "Slack",
    "Smoke",
    "SpecError",
    "Synthetic",
    "VersionCheck",
    "Webhook",
    "Window",
    "load",
    "load_or_raise",
    "look_every",
    "signals_of",
    "window_length",
]
