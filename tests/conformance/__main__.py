"""How far we decide as the systems do whose vectors we hold: `python -m tests.conformance [--vectors DIR]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Case(NamedTuple):
    file: str
    kind: str
    name: str
    agrees: bool
    expected: Any
    decided: Any
    chosen: str  # the name of the difference that we chose, if one made it agree


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=Path, help="a directory with files of the same names")
    given = parser.parse_args()
    if given.vectors:
        os.environ["FIRSTWATCH_VECTORS"] = str(given.vectors)  # read when the adapters are imported
    cases = [case for file, suite in SUITES for case in _cases(file, suite, given.vectors)]
    for (file, kind), number in Counter((c.file, c.kind) for c in cases).items():
        of_kind = [c for c in cases if (c.file, c.kind) == (file, kind)]
        agreeing = sum(c.agrees for c in of_kind)
        chosen = Counter(c.chosen for c in of_kind if c.chosen)
        told = (
            f", of these chosen differences: {', '.join(f'{n} {name}' for name, n in chosen.items())}" if chosen else ""
        )
        print(f"{file:24} {kind:18} {agreeing:4} of {number}{told}")
    for c in cases:
        if not c.agrees:
            print(f"  {c.file} {c.name}: expected {c.expected}, decided {c.decided}")
    agreeing = sum(c.agrees for c in cases)
    print(f"{agreeing} of {len(cases)} agree ({100 * agreeing / max(len(cases), 1):.1f} %)")
    return 0 if agreeing == len(cases) else 1


def _cases(file: str, suite: Callable[[], Iterable[Case]], directory: Path | None) -> Iterable[Case]:
    """The suite's cases; none of a file that is not there, which is said."""
    if (directory or Path(__file__).parent / "vectors").joinpath(file).is_file():
        yield from suite()
    else:
        print(f"{file:24} skipped: there is no such file")


def _tried(decide: Any, vector: Any) -> Any:
    try:
        return decide(vector)
    except Exception as e:
        return f"{type(e).__name__}: {e}"


def _argo() -> Iterable[Case]:
    from tests.conformance import test_argo as argo

    for vector in argo.load():
        decided, expected = _tried(argo.decide, vector), vector.get("expect", vector.get("expectValid"))
        said = decided[0] if isinstance(decided, tuple) else decided
        chosen = argo.difference(vector)
        differs = chosen.name if chosen and said != expected and said in chosen.instead.split(" or ") else ""
        agrees = bool(_tried(lambda v, d=decided: argo.agrees(v, d), vector) is True)
        yield Case("argo_vectors.json", vector["kind"], vector["id"], agrees, expected, decided, differs)


def _templates() -> Iterable[Case]:
    from tests.conformance import test_argo as argo

    for metric in argo.load("argo_templates.json", "metrics"):
        imported = _tried(argo.decide_template, metric)
        agrees = not isinstance(imported, str) and argo.template_agrees(metric, imported)
        name = f"{metric['path']}:{metric['line']}"
        yield Case("argo_templates.json", "template", name, agrees, metric.get("defect", "taken over"), imported, "")


def _kayenta() -> Iterable[Case]:
    from tests.conformance import test_kayenta as kayenta

    for vector in kayenta.load():
        decided = _tried(kayenta.decide, vector)
        agrees = bool(_tried(lambda v, d=decided: kayenta.agrees(v, d), vector) is True)
        expected = {key: value for key, value in vector.items() if key.startswith(("expect", "better", "user"))}
        yield Case("kayenta_vectors.json", vector["kind"], vector["id"], agrees, expected, decided, "")


def _gatus() -> Iterable[Case]:
    from tests.conformance import gatus_vectors, test_gatus, test_gatus_suites

    yield from _agreeing(gatus_vectors, test_gatus)
    yield from _agreeing(test_gatus_suites, test_gatus_suites)


def _agreeing(vectors: Any, choices: Any) -> Iterable[Case]:
    """By a module with load, decide and expected, and one with agrees and difference (the same, if it has all)."""
    for vector in vectors.load():
        decided, expected = _tried(vectors.decide, vector), vectors.expected(vector)
        agrees = bool(_tried(lambda v, d=decided: choices.agrees(v, d), vector) is True)
        chosen = choices.difference(vector) if agrees and decided != expected else None
        differs = chosen.name if chosen else ""
        yield Case("gatus_vectors.json", vector["kind"], vector["id"], agrees, expected, decided, differs)


def _alerts() -> Iterable[Case]:
    from tests.conformance import test_alerts as alerts

    for vector in alerts.load():
        decided = _tried(alerts.decide, vector)
        agrees = bool(_tried(lambda v, d=decided: alerts.agrees(v, d), vector) is True)
        chosen = alerts.difference(vector)
        same = _tried(lambda v, d=decided: alerts.SAME[v["kind"]](v, d), vector) is True
        differs = chosen.name if chosen and agrees and not same else ""
        yield Case("alert_vectors.json", vector["kind"], vector["id"], agrees, vector, decided, differs)


SUITES: tuple[tuple[str, Callable[[], Iterable[Case]]], ...] = (
    ("argo_vectors.json", _argo),
    ("argo_templates.json", _templates),
    ("kayenta_vectors.json", _kayenta),
    ("gatus_vectors.json", _gatus),
    ("alert_vectors.json", _alerts),
)


if __name__ == "__main__":
    sys.exit(main())
