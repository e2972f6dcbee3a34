"""The percentile that tells a usual time from an unusual one."""

from __future__ import annotations

import math
from collections.abc import Iterable


def percentile_95(values: Iterable[float]) -> float | None:
    """Return the least of some values that at least 95 of 100 do not exceed; None for none."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * 0.95) - 1] if ordered else None
