"""What a rule made of labelled releases: its false rollbacks, what it found, and how soon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from scipy.stats import binomtest

from bench.labelled import Labelled
from bench.peers import END, Decided


@dataclass
class Tally:
    """Of one kind: the releases, those rolled back while they were healthy, and how long the others took to find."""

    bad: bool
    releases: int = 0
    false: int = 0
    delays: list[float] = field(default_factory=list)  # seconds from the onset

    def add(self, onset: float | None, rolled_back: float | None) -> None:
        self.releases += 1
        if rolled_back is None:
            return
        if onset is None or rolled_back < onset:
            self.false += 1
        elif rolled_back <= END:
            self.delays.append(rolled_back - onset)

    def as_json(self) -> dict[str, Any]:
        found = {"found": len(self.delays), "median_delay_s": _median(self.delays)} if self.bad else {}
        return {"releases": self.releases, "false": self.false, **found}


@dataclass(frozen=True)
class Score:
    """By kind, what a rule did. A bad release that is rolled back before its fault begins was a healthy one until then:
    it is a false rollback, and not found; nor is what is decided after T+30m."""

    kinds: Mapping[str, Tally]

    @classmethod
    def of(cls, releases: Sequence[Labelled], decided: Decided) -> Score:
        kinds: dict[str, Tally] = {}
        for one in releases:
            kinds.setdefault(one.kind, Tally(bad=one.onset is not None)).add(one.onset, decided[one.service])
        return cls(kinds)

    @property
    def delays(self) -> list[float]:
        return sorted(d for tally in self.kinds.values() for d in tally.delays)

    @property
    def bad(self) -> int:
        return sum(tally.releases for tally in self.kinds.values() if tally.bad)

    @property
    def false_rollbacks(self) -> dict[str, Any]:
        """Of all releases while they were healthy."""
        false = sum(tally.false for tally in self.kinds.values())
        return _proportion(false, sum(t.false if t.bad else t.releases for t in self.kinds.values()))

    def as_json(self) -> dict[str, Any]:
        delays = self.delays
        return {
            "false_rollbacks": self.false_rollbacks,
            "detected": _proportion(len(delays), self.bad),
            "median_delay_s": _median(delays),
            "p90_delay_s": _p90(delays),
            "by_kind": {kind: tally.as_json() for kind, tally in self.kinds.items()},
        }


def _proportion(part: int, whole: int) -> dict[str, Any]:
    """With its 95 % interval after Wilson."""
    if not whole:
        return {"count": 0, "of": 0, "share": None, "interval": None}
    interval = binomtest(part, whole).proportion_ci(method="wilson")
    low, high = round(float(interval.low), 4), round(float(interval.high), 4)
    return {"count": part, "of": whole, "share": round(part / whole, 4), "interval": [low, high]}


def _median(delays: Sequence[float]) -> int | None:
    return round(median(delays)) if delays else None


def _p90(delays: Sequence[float]) -> int | None:
    return round(quantiles(delays, n=10, method="inclusive")[-1]) if len(delays) > 1 else _median(delays)
