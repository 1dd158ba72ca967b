"""`firstwatch import-argo`: AnalysisTemplates as the canary section of a service file, with everything wrong named."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import LiteralScalarString

from firstwatch.argo.metric import Metric
from firstwatch.argo.read import documents
from firstwatch.spec.diagnostics import Diagnostic
from firstwatch.spec.source import Node

KINDS = ("AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun")
_ARGUMENT = re.compile(r"\{\{\s*args\.([\w.-]+)\s*\}\}")
_LONG = 90  # characters of a text that is written as a block, so that it is not folded


@dataclass
class Imported:
    """`yaml` is empty if there is nothing to take over; `diagnostics` name what was left out, and why."""

    yaml: str = ""
    diagnostics: list[Diagnostic] = field(default_factory=list)
    taken: int = 0
    left_out: int = 0
    templates: int = 0


def import_templates(text: str, file: str) -> Imported:
    """Every template in the text (YAML, several documents). Pure: `file` is only its name."""
    roots, diagnostics = documents(text, file)
    imported = Imported(diagnostics=diagnostics)
    templates = [_Template(root, file, imported) for root in roots if _is_template(root)]
    imported.templates = len(templates)
    metrics = _with_own_names(templates)
    imported.taken = len(metrics)
    if metrics:
        imported.yaml = _written(file, templates, metrics)
    imported.diagnostics.sort()
    return imported


def _is_template(root: Node) -> bool:
    """Templates, and parts of ones as documentation shows them."""
    kind = root.value.get("kind")
    return kind.value in KINDS if kind is not None else bool({"metrics", "spec"} & set(root.value))


class _Template:
    def __init__(self, root: Node, file: str, imported: Imported) -> None:
        self._file = file
        self._imported = imported
        self.kind = str(root.value["kind"].value) if "kind" in root.value else "part of a template"
        self.name = _text_at(root, ("metadata", "name"))
        spec = root.value.get("spec", root)
        self._spec: dict[str, Node] = spec.value if isinstance(spec.value, dict) else {}
        self.notes: list[str] = []
        self.args = dict(self._arguments())
        if "kind" not in root.value:  # its arguments stand elsewhere
            used = dict.fromkeys(_ARGUMENT.findall(str(spec.data())))
            self.args |= {name: None for name in used if name not in self.args}
        self.metrics: list[Metric] = self._metrics(spec)
        self._dry_run()
        self._retention()

    def say(self, node: Node, message: str, hint: str = "") -> None:
        self._imported.diagnostics.append(Diagnostic(self._file, node.line, node.column, node.path, message, hint))

    def _items(self, key: str) -> list[Node]:
        node = self._spec.get(key)
        return node.value if node is not None and isinstance(node.value, list) else []

    def _arguments(self) -> Iterator[tuple[str, str | None]]:
        found = filter(None, map(self._secret, self._items("args")))
        secrets = [str(secret.value["name"].value) for secret in found]
        for argument in self._items("args"):
            given = argument.value if isinstance(argument.value, dict) else {}
            if "name" not in given:
                self.say(argument, "an argument without a name", "name: service-name")
                continue
            name, secret = str(given["name"].value), self._secret(argument)
            value = given.get("value")
            if secret is not None:
                yield name, _secret_name(secret, secrets)
            elif "valueFrom" in given:
                self.notes.append(f"args.{name} came from the cluster (valueFrom): give it with each run")
                yield name, None
            else:
                yield name, None if value is None or value.value is None else str(value.value)

    @staticmethod
    def _secret(argument: Node) -> Node | None:
        trail = argument.trail(("valueFrom", "secretKeyRef"))
        node = trail[1][1] if len(trail) == 2 else None
        return node if node is not None and isinstance(node.value, dict) and "name" in node.value else None

    def _metrics(self, spec: Node) -> list[Metric]:
        for reference in self._items("templates"):
            self.say(reference, "it refers to another template", "import that one too, and join the metrics")
        if not self._items("metrics"):
            self.say(
                self._spec.get("metrics", spec), f"{self.name or self.kind} has no metrics", "nothing to take over"
            )
        metrics: list[Metric] = []
        for node in self._items("metrics"):
            metric = Metric(node, self.args, self.say)
            if metric.made is not None and metric.name in [m.name for m in metrics]:
                self.say(node, f"two metrics are named {metric.name}", "give one another name")
                metric.made = None
            metrics.append(metric)
            self._imported.left_out += metric.made is None
        return metrics

    def _dry_run(self) -> None:
        """Argo's rules are regular expressions that need match only a part of a name."""
        for i, pattern, matched in self._matches("dryRun"):
            if not matched:
                self.say(i, f"dryRun {pattern} matches no metric", "Argo ends such a run in an error")
            for metric in matched:
                if metric.made is not None:
                    metric.made["dryRun"] = True
                if not re.fullmatch(pattern, metric.name):
                    metric.notes.append(f"dryRun: Argo's rule {pattern} matches only a part of this name, and counts")

    def _retention(self) -> None:
        for i, pattern, matched in self._matches("measurementRetention"):
            if not matched:
                self.say(i, f"measurementRetention {pattern} matches no metric", "Argo ends such a run in an error")
        if self._items("measurementRetention"):
            self.notes.append("measurementRetention was left out: every measurement is kept, as a task run")

    def _matches(self, key: str) -> Iterator[tuple[Node, str, list[Metric]]]:
        for rule in self._items(key):
            pattern = _text_at(rule, ("metricName",))
            if not pattern:
                self.say(rule, f"a rule of {key} without metricName", "metricName: success-rate")
                continue
            try:
                yield rule, pattern, [metric for metric in self.metrics if re.search(pattern, metric.name)]
            except re.error as e:
                self.say(rule, f"{key} {pattern} is not a regular expression: {e}", "RE2 syntax")


def _text_at(node: Node, loc: tuple[str, ...]) -> str:
    """The text at `loc`; empty if there is none."""
    trail = node.trail(loc)
    value = trail[-1][1].value if len(trail) == len(loc) else None
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _secret_name(reference: Node, all_names: list[str]) -> str:
    """`secret:NAME`; with its key where several keys of one secret are used."""
    name, key = _text_at(reference, ("name",)), _text_at(reference, ("key",))
    whole = f"{name}-{key}" if all_names.count(name) > 1 and key else name
    return f"secret:{re.sub(r'[^A-Za-z0-9_-]', '-', whole)}"


def _with_own_names(templates: list[_Template]) -> list[Metric]:
    """The sound metrics of all templates; a name that two templates use gets its template's before it."""
    sound = [(template, metric) for template in templates for metric in template.metrics if metric.made is not None]
    names = [metric.name for _, metric in sound]
    for template, metric in sound:
        if names.count(metric.name) > 1 and template.name and metric.made is not None:
            metric.made["name"] = f"{template.name}-{metric.name}"
    return [metric for _, metric in sound]


# ── as YAML ──────────────────────────────────────────────────────────────────────────────────────────────────


def _written(file: str, templates: list[_Template], metrics: list[Metric]) -> str:
    canary = CommentedMap()
    args: dict[str, str | None] = {}
    for template in templates:
        for name, value in template.args.items():
            args[name] = args.get(name) or value
    if args:
        given = [{"name": name} | ({"value": value} if value is not None else {}) for name, value in args.items()]
        canary["args"] = _laid_out(given)
    items = CommentedSeq()
    for i, metric in enumerate(metrics):
        items.append(_laid_out(metric.made))
        if metric.notes:
            items.yaml_set_comment_before_after_key(i, "\n".join(metric.notes), indent=4)
    canary["metrics"] = items
    whole = CommentedMap(canary=canary)
    whole.yaml_set_start_comment(_heading(file, templates))
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    out = io.StringIO()
    yaml.dump(whole, out)
    return out.getvalue()


def _heading(file: str, templates: list[_Template]) -> str:
    told = ", ".join(f"{t.kind} {t.name}".strip() for t in templates)
    lines = [f"From {file}: {told}.", "Written by firstwatch import-argo; it belongs into a service file."]
    lines += dict.fromkeys(note for template in templates for note in template.notes)
    left_out = [metric.name or "?" for template in templates for metric in template.metrics if metric.made is None]
    if left_out:
        lines.append(f"Left out, as something is wrong with them: {', '.join(left_out)}.")
    return "\n".join(lines) + "\n"


def _laid_out(value: Any) -> Any:
    """As it reads well: texts of several lines as blocks. `${` is ours, so it is doubled."""
    if isinstance(value, dict):
        return CommentedMap({key: _laid_out(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return CommentedSeq([_laid_out(item) for item in value])
    if isinstance(value, str):
        text = value.replace("${", "$${")
        lines = [line.rstrip() for line in text.strip().replace("\t", "  ").splitlines()]
        is_block = len(lines) > 1 or len(text) > _LONG
        return LiteralScalarString("\n".join(lines)) if is_block else text.strip()
    return value
