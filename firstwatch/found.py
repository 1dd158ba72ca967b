"""What the judge of a certificate, a DNS record, a drift or a heartbeat came to; a Probe adds where and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from firstwatch.model import Attempt, Outcome
from firstwatch.monitor import Kind, Phases, Probe


@dataclass(frozen=True, slots=True)
class Found:
    """`why` tells all that is wrong, or what a pass rests on; `warning` and `facts` as in Probe.

    A warning comes with the facts `threshold` and `fingerprint`: people are reminded once for each pair of them.
    """

    outcome: Outcome
    why: str
    warning: str = ""
    facts: Mapping[str, float | str] = field(default_factory=dict)

    def probe(
        self,
        check: str,
        kind: Kind,
        target: str,
        at: float,
        *,
        elapsed: float | None = None,
        phases: Phases | None = None,
    ) -> Probe:
        """The same as a round's result. `at` is Unix time, `elapsed` seconds."""
        return Probe(
            check=check,
            kind=kind,
            target=target,
            outcome=self.outcome,
            why=self.why,
            at=at,
            elapsed=elapsed,
            warning=self.warning,
            phases=phases or Phases(),
            attempts=(Attempt(self.outcome, self.why, at, elapsed),),
            facts=self.facts,
        )
