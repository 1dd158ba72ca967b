"""A Prometheus source that shares nothing: each question is a request of its own, at once, in a thread of its own."""

from __future__ import annotations

import copy

from tasks.prometheus import PrometheusSource
from tasks.prometheus_turns import Turns
from tasks.shared_reading import Reader


class UnsharedSource(PrometheusSource):
    """Its connections are kept from question to question, as a shared reader's are."""

    def _reader(self) -> Reader:
        reader = copy.copy(super()._reader())
        reader._turns = Turns(reader.where)
        reader._waiting, reader._open, reader._pump, reader._flights = {}, {}, None, set()
        return reader
