"""`{{service}}`, `{{version}}` and `{{args.NAME}}` in a service file, filled in for one release.

They may stand in the selectors of signals, in the window's queries and anywhere in the canary section. Arguments are
put in as they are, as Argo Rollouts does: one may be a whole selector. The service's and the versions' names must not
end a quoted text. What comes out is looked at once more: arguments may make of a gate one that proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from firstwatch.selector import SelectorError, parse
from firstwatch.spec.base import Model
from firstwatch.spec.canary_findings import KNOWN_ARGS, findings
from firstwatch.spec.models import Service, Signals

PLACEHOLDER = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ENDS_A_TEXT = re.compile(r"[\"'`\\\x00-\x1f]")


def fill(service: Service, *, name: str, version: str, args: Mapping[str, str], canary: bool = True) -> Service:
    """The service file as it stands for one release of the service `name`, whose name it bears from then on.

    Arguments that the canary section declares with a value need not be given. `canary=False` leaves that section out,
    for whoever only watches the window. Raises ValueError, which names every placeholder without a value and where it
    stands; a selector that is none any more; a canary that is compared with itself, and whatever else a load refuses.
    """
    if not _SERVICE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a service: letters, digits, `_`, `.` and `-`")
    known = {"service": name, "version": version, "args.service": name, "args.version": version}
    declared = {a.name: a.value for a in (service.canary.args if service.canary and canary else ()) if a.value}
    known |= {f"args.{key}": PLACEHOLDER.sub(lambda m: known.get(m[1], m[0]), text) for key, text in declared.items()}
    known |= {f"args.{key}": text for key, text in args.items()}
    fillers = {
        "signals": service.signals,
        "window": service.window,
        "canary": service.canary if canary else None,
    }
    problems = [problem for key, section in fillers.items() for problem in _problems(section, key, known)]
    if not problems:
        filled = {key: _filled(section, known) for key, section in fillers.items()}
        problems = list(_broken(filled["signals"]))
        service = service.model_copy(update={**filled, "service": name})
    problems = problems or [f"{'.'.join(map(str, f.loc))}: {f.message}" for f in findings(service)]
    if problems:
        raise ValueError("; ".join(problems))
    return service


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    """The same with every placeholder replaced. Texts stay texts, so all that was validated still holds."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: known.get(found[1], found[0]), value)
    if isinstance(value, Model):
        return value.model_copy(update={key: _filled(inner, known) for key, inner in value})
    if isinstance(value, dict):
        return {key: _filled(inner, known) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(inner, known) for inner in value)
    return value


def _problems(value: Any, where: str, known: Mapping[str, str]) -> Iterator[str]:
    """Each placeholder that cannot be filled in, with its place as the file writes it."""
    if isinstance(value, str):
        for found in PLACEHOLDER.finditer(value):
            if (text := known.get(found[1])) is None:
                yield f"{where}: {found[0]} has no value"
            elif found[1].removeprefix("args.") in KNOWN_ARGS and _ENDS_A_TEXT.search(text):
                yield f"{where}: {found[0]} is {text!r}, which cannot stand in a quoted text"
    elif isinstance(value, Model):
        for key, inner in value:
            if not (where == "canary" and key == "args"):  # what they stand for, not where
                yield from _problems(inner, f"{where}.{type(value).model_fields[key].alias or key}", known)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _problems(inner, f"{where}.{key}", known)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _problems(inner, f"{where}[{i}]", known)


def _broken(signals: Signals) -> Iterator[str]:
    for key in ("requests", "errors", "latency"):
        try:
            if text := getattr(signals, key):
                parse(text)
        except SelectorError as error:
            yield f"signals.{key}: {error}"
