"""What stands where a condition looks: found, walked through, and told in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from firstwatch.cel_text import Path, show_path

_SHOWN = 120  # characters of an actual value in a `why`


class Found(NamedTuple):
    value: Any


def find(path: Path, values: Mapping[str, Any]) -> Found | str:
    """What stands at the path, or a sentence about what is missing."""
    at: Any = values
    for i, step in enumerate(path):
        if isinstance(at, Mapping):
            if step not in at:
                if i == 0:
                    return "the answer is not JSON"
                return f"{show_path(path[:i])} has no key {json.dumps(step)}"
        elif isinstance(at, list) and isinstance(step, int):
            if step >= len(at):
                return f"{show_path(path[:i])} has {len(at)} items, so there is no [{step}]"
        else:
            return f"{show_path(path[:i])} is {show(at)}, which has no {json.dumps(step)}"
        at = at[step]
    return Found(at)


def facts_of(paths: tuple[Path, ...], values: Mapping[str, Any], *, kinds: bool = False) -> str:
    """What stands at the paths, in a sentence."""
    told = []
    for path in paths:
        found = find(path, values)
        if isinstance(found, str):
            told.append(found)
        else:
            told.append(f"{show_path(path)} is {show(found.value)}{f' ({_kind(found.value)})' if kinds else ''}")
    return "; ".join(dict.fromkeys(told))


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "number", float: "number", str: "text", dict: "object", list: "list"}
    return kinds.get(type(value), "null")


def show(value: Any) -> str:
    try:
        return cut(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return cut(repr(value))


def cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Every plain value in a JSON value, with its place; without recursion, as JSON may be nested deep."""
    waiting = [("", value)]
    while waiting:
        where, item = waiting.pop()
        if isinstance(item, Mapping):
            waiting += [(f"{where}.{key}", inner) for key, inner in item.items()]
        elif isinstance(item, list | tuple):
            waiting += [(f"{where}[{i}]", inner) for i, inner in enumerate(item)]
        else:
            yield where, item
