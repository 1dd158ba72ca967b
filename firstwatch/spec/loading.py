"""A service file's text → a Service, or everything that is wrong with it, all at once and each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from firstwatch.spec import semantics
from firstwatch.spec.diagnostics import Diagnostic, Finding, SpecError
from firstwatch.spec.models import Service
from firstwatch.spec.source import Node, read
from firstwatch.spec.structure import fit


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file came to: a service exactly if there are no diagnostics. They are in the order of the file."""

    service: Service | None
    diagnostics: tuple[Diagnostic, ...]


def load(path_text: str, file: str, environ: Mapping[str, str], *, prometheus: str = "") -> Loaded:
    """Read the text of a service file. `file` is its name in the diagnostics; `${NAME}` is looked up in `environ`.
    `prometheus` goes before metrics.prometheus, if given."""
    tree, diagnostics = read(path_text, file, environ)
    if tree is None:
        return Loaded(None, tuple(diagnostics))
    if prometheus:
        _set_prometheus(tree, prometheus)
        diagnostics = [diagnostic for diagnostic in diagnostics if diagnostic.path != "metrics.prometheus"]
    already = {diagnostic.path for diagnostic in diagnostics}
    fitted, faults = fit(tree)
    diagnostics += _new(faults, file, already)
    if fitted.service is not None:
        found = semantics.findings(fitted.service)
        broken = fitted.broken | {re.split(r"[.[]", path)[0] for path in already}
        trusted = (finding for finding in found if not broken & set(finding.needs))
        placed = ((fitted.tree.at(finding.loc), finding) for finding in trusted)
        already = {diagnostic.path for diagnostic in diagnostics}
        diagnostics += _new(((node, finding) for node, finding in placed if not node.damaged), file, already)
    if diagnostics:
        return Loaded(None, tuple(sorted(set(diagnostics), key=lambda d: (d.line, d.column, d.path))))
    return Loaded(fitted.service, ())


def load_or_raise(path_text: str, file: str, environ: Mapping[str, str]) -> Service:
    """The service. Raises SpecError, whose text lists every diagnostic."""
    loaded = load(path_text, file, environ)
    if loaded.service is None:
        raise SpecError(loaded.diagnostics)
    return loaded.service


def _set_prometheus(tree: Node, url: str) -> None:
    metrics = tree.value.setdefault("metrics", Node({}, tree.line, tree.column, "metrics"))
    if isinstance(metrics.value, dict):
        given = metrics.value.get("prometheus", metrics)
        metrics.value["prometheus"] = Node(url, given.line, given.column, "metrics.prometheus")


def _new(found: Iterable[tuple[Node, Finding]], file: str, already: set[str]) -> list[Diagnostic]:
    """The findings as diagnostics, without those of a value that is known to be wrong already."""
    return [
        Diagnostic(file, node.line, node.column, node.path, finding.message, finding.hint)
        for node, finding in found
        if node.path not in already or not node.path
    ]
