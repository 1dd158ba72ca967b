"""YAML with several documents → trees that know their places."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode

from firstwatch.spec.diagnostics import Diagnostic
from firstwatch.spec.source import Node

_HELM = "a Helm chart's template is rendered first: helm template CHART | firstwatch import-argo /dev/stdin"


def documents(text: str, file: str) -> tuple[list[Node], list[Diagnostic]]:
    """The mappings of the file, those within a `List` too, and what kept it from being read."""
    yaml = YAML(typ="safe", pure=True)
    try:
        roots = [root for root in yaml.compose_all(text) if isinstance(root, MappingNode)]
        found = [_node(yaml, root, "", root) for root in roots]
    except MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        hint = _HELM if "{{" in text else "put text with special characters in quotes"
        return [], [Diagnostic(file, line, column, "", f"not YAML: {e.problem or e.context}", hint)]
    except YAMLError as e:
        return [], [Diagnostic(file, 1, 1, "", f"not YAML: {str(e).splitlines()[0]}", "save the file as plain UTF-8")]
    except RecursionError:
        hint = "an anchor that contains itself?"
        return [], [Diagnostic(file, 1, 1, "", "nested too deeply to be read", hint)]
    return [inner for root in found for inner in _unlisted(root)], []


def _unlisted(root: Node) -> list[Node]:
    items = root.value.get("items")
    if items is not None and isinstance(items.value, list):
        return [item for item in items.value if isinstance(item.value, dict)]
    return [root]


def _node(yaml: YAML, node: Any, path: str, place: Any) -> Node:
    made = Node(None, place.start_mark.line + 1, place.start_mark.column + 1, path)
    if isinstance(node, MappingNode):
        made.value = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key.value, str) else "?"
            made.value[name] = _node(yaml, value, f"{path}.{name}" if path else name, key)
    elif isinstance(node, SequenceNode):
        made.value = [_node(yaml, item, f"{path}[{i}]", item) for i, item in enumerate(node.value)]
    else:
        plain = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool")
        null = node.tag == "tag:yaml.org,2002:null"
        made.value = None if null else yaml.constructor.construct_object(node) if plain else str(node.value)
    return made
