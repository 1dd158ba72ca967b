"""A round as JUnit XML, for CI servers. What could not be judged is an error there, never a pass."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from firstwatch.model import Outcome, rfc3339
from firstwatch.monitor import Health, Probe, Seen
from firstwatch.report.text import plain

_WORDS = 2000  # characters of a reason that are shown


def junit_xml(
    service: str, probes: Sequence[Probe], seen: Sequence[Seen], left_out: Sequence[str], started: float, took: float
) -> str:
    """One test suite with a test case for each check; those left out are skipped. `started` is Unix seconds, `took`
    seconds."""
    said = {each.check: each for each in seen}
    cases = [_case(service, probe, said.get(probe.check)) for probe in probes]
    cases += [_skipped(service, check) for check in left_out]
    suite = ElementTree.Element(
        "testsuite",
        name=plain(f"{service} synthetic"),
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped=str(len(left_out)),
        timestamp=rfc3339(started),
        time=f"{took:.3f}",
    )
    suite.extend(cases)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _case(service: str, probe: Probe, seen: Seen | None) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        classname=plain(f"{service}.{probe.kind}"),
        name=plain(probe.check),
        time=f"{probe.elapsed or 0.0:.3f}",
    )
    slow = seen.why if seen is not None and seen.health is Health.DEGRADED else ""
    kind, why = _problem(probe, slow)
    if seen is not None and seen.health is Health.UNKNOWN and kind != "error":  # whatever came back, it is no vote
        kind, why = "error", seen.why
    if kind:
        told = ElementTree.SubElement(case, kind, message=plain(why, _WORDS), type=str(probe.outcome))
        told.text = "\n".join(_attempts(probe))
    notes = [note for note in (probe.target, probe.warning, slow if not kind else "") if note]
    ElementTree.SubElement(case, "system-out").text = "\n".join(plain(note, _WORDS) for note in notes)
    return case


def _skipped(service: str, check: str) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=plain(service), name=plain(check), time="0.000")
    ElementTree.SubElement(case, "skipped", message="it is compared with earlier rounds, and nothing remembers those")
    return case


def _problem(probe: Probe, slow: str) -> tuple[str, str]:
    """`failure`, `error` or nothing, and why."""
    if probe.outcome is Outcome.FAIL:
        return "failure", probe.why
    if probe.outcome is not Outcome.PASS:
        return "error", probe.why or "nothing was found either way"
    return ("failure", slow) if slow else ("", "")


def _attempts(probe: Probe) -> list[str]:
    return [
        f"attempt {n}: {attempt.outcome}: {plain(attempt.why, _WORDS)}" for n, attempt in enumerate(probe.attempts, 1)
    ]
