"""What editors complete a file with agrees with what the loader takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from firstwatch.spec.schema import schema
from tests.firstwatch.spec.cases import CASES, HEAD

ROOT = Path(__file__).parents[3]
VALIDATOR = Draft202012Validator(schema())


def data(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(data(text))]


def test_the_committed_schema_is_up_to_date() -> None:
    committed = json.loads((ROOT / "docs/service-file.schema.json").read_text())
    assert committed == schema(), "run: firstwatch check --schema > docs/service-file.schema.json"


def test_the_shop_is_plain_yaml_that_fits_and_names_the_schema() -> None:
    text = (ROOT / "services/shop.yaml").read_text()
    Draft202012Validator.check_schema(schema())
    assert faults(text) == []
    assert (ROOT / "services" / text.splitlines()[0].partition("$schema=")[2]).samefile(
        ROOT / "docs/service-file.schema.json"
    )


@pytest.mark.parametrize(
    "part",
    [
        "window: [{at: 1m, name: a, signal: memory}]",
        "window: {look_every: 2s, checkpoints: [{at: '${AT:-1m}', name: a, signal: memory}]}",
        "window: {alpha: 0.01}",
        "objectives: {availability: 99.9%, latency: {p95: 500ms, p999: '${SLOW:-2s}'}}",
        "objectives: {availability: 0.99}",
        "rules: {requests_per_second: '${RPS:-5}', timeout: 5, insecure: '${INSECURE:-false}'}",
        "alerts: {slack: {token: secret:a, channel: '#releases'}}",
    ],
)
def test_all_forms_are_taken(part: str) -> None:
    assert faults(HEAD + part + "\n") == []


@pytest.mark.parametrize("case", ["unknown key", "unknown inner key", "missing", "not a mapping inside", "no duration"])
def test_an_editor_sees_the_plain_faults_too(case: str) -> None:
    assert faults(next(known.text for known in CASES if known.name == case))


def test_every_key_is_explained() -> None:
    models = {"the file": schema(), **schema()["$defs"]}
    unexplained = [
        f"{name}.{key}"
        for name, model in models.items()
        for key, part in model.get("properties", {}).items()
        if "description" not in part and name not in _SELF_EXPLAINING
    ]
    assert unexplained == []


_SELF_EXPLAINING = {
    "Account",
    "BasicAuth",
    "GithubWorkflow",
    "PrefectDeployment",
    "Webhook",
    "Command",
    "Sandbox",
    "Metrics",
}
