"""Metrics as values: their declarations, and their current readings. Nothing here knows Prometheus' library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets in seconds, for work that should take milliseconds."""
LONG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Buckets in seconds, for work that may wait or run for hours."""
SIZE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric.

    :param name: exported name; for a counter with ``_total``
    :param kind: ``gauge``, ``counter`` or ``histogram``
    :param unit: ``seconds``, ``bytes`` or empty
    :param labels: names of its labels; each has a bounded number of values
    """

    name: str
    kind: str
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class Histogram:
    """Counts by bucket; the last bucket counts values above every bound. For one writing thread."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value; a negative one, from two clocks that differ, counts as 0."""
        value = max(0.0, value)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> Histogram:
        """Return a copy of the current counts."""
        return Histogram(self.bounds, list(self.counts), self.total)


Reading = Mapping[str, Mapping[tuple[str, ...], float] | Histogram]
"""Name of a metric → its value for each set of label values, ``()`` if it has no labels."""
