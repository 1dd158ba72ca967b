"""docs/service-file.md: its example loads, and its table has every diagnostic and no other."""

from __future__ import annotations

import re
from pathlib import Path

from firstwatch.spec import load, load_or_raise
from firstwatch.spec.schema import schema
from tests.firstwatch.spec.cases import CASES

PAGE = (Path(__file__).parents[3] / "docs/service-file.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| .+ \|$", PAGE.partition("## What the loader says")[2], re.MULTILINE)[1:]
PATTERNS = {row: re.compile(".*".join(map(re.escape, row.split("…"))), re.DOTALL) for row in ROWS}
SAID_BY_THE_COMMAND_LINE = {"not UTF-8 text"}


def test_the_example_loads() -> None:
    example = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    service = load_or_raise(example[1], "docs/service-file.md", {})
    assert len(service.window.checkpoints) == 6


def test_the_example_has_every_key_of_monitors_and_alert_rules() -> None:
    example = PAGE.partition("```yaml")[2].partition("```")[0]
    parts = schema()["$defs"]
    sections = ["Synthetic", "Monitored", "Step", "Journey", "Certificate", "Dns", "Record", "Dependency", "Drift"]
    sections += ["Heartbeat", "Degraded", "Locations", "Pushed"]
    sections += ["Alerts", "Opening", "Closing", "Flapping", "Storm", "Maintenance"]
    keys = {f"{name}.{key}": key for name in sections for key in parts[name]["properties"]}
    assert len(keys) > 80
    missing = [place for place, key in keys.items() if not re.search(rf"(?<![\w.]){key}(: |:$|,| )", example, re.M)]
    assert missing == []


def test_the_table_has_every_diagnostic_and_no_other() -> None:
    messages = {case.name: d.message for case in CASES for d in load(case.text, "f.yaml", {}).diagnostics}
    rows = {
        name: [row for row, pattern in PATTERNS.items() if pattern.fullmatch(said)] for name, said in messages.items()
    }
    assert [f"{name}: {messages[name]}" for name, found in rows.items() if not found] == []
    used = {row for found in rows.values() for row in found}
    assert [row for row in ROWS if row not in used | SAID_BY_THE_COMMAND_LINE] == []
