"""The nouns of monitoring: what one probe of a check found, and how a check is.

A *round* is one scheduled run of a service's monitor at one location; it takes every check of the service once. A check
is named once per service, whichever kind it is. Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from firstwatch.model import Attempt, Outcome, Phases

__all__ = ["Health", "Kind", "Phases", "Probe", "Seen"]


class Health(StrEnum):
    """How a check is. UNKNOWN: we could not look (our file, our network, our secret): it is no vote, and opens no
    alert against the service."""

    UP = "up"
    DEGRADED = "degraded"  # it works, and slower than it does or may
    DOWN = "down"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What sort of check it is."""

    HTTP = "http"
    JOURNEY = "journey"
    CERTIFICATE = "certificate"
    DNS = "dns"
    DEPENDENCY = "dependency"
    DRIFT = "drift"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class Probe:
    """What one round found of one check.

    `outcome` is that of the last attempt: PASS, FAIL (proven against the service), ERROR or NO_DATA (ours). A warning
    is a pass that will become a failure if nobody acts: a certificate that expires soon. `elapsed` is what the check
    took, for the history of its speed; None where that says nothing. `facts` are numbers and texts about what was
    found (`status`, `expires_at`, `version`, …), redacted; the metrics page and the alert quote them.
    """

    check: str
    kind: Kind
    target: str  # what was asked, redacted: "GET https://shop.example.com/health"
    outcome: Outcome
    why: str
    at: float
    elapsed: float | None = None
    warning: str = ""
    phases: Phases = field(default_factory=Phases)
    attempts: tuple[Attempt, ...] = ()
    facts: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def health(self) -> Health:
        """How the check is by this probe alone; whether it is slow, its history has to say."""
        if self.outcome is Outcome.FAIL:
            return Health.DOWN
        return Health.UP if self.outcome is Outcome.PASS else Health.UNKNOWN


@dataclass(frozen=True, slots=True)
class Seen:
    """A check's state after a round, at one location: what alerts are made of."""

    check: str
    health: Health
    why: str
    at: float
    warning: str = ""
    facts: Mapping[str, float | str] = field(default_factory=dict)
