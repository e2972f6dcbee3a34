"""The percentile that tells a usual time from an unusual one."""

from __future__ import annotations

import pytest

from nomaflow_api.percentiles import percentile_95


@pytest.mark.parametrize(
    ("values", "found"), [([], None), ([7.0], 7.0), (range(20, 0, -1), 19.0), (range(1, 22), 20.0), (range(101), 95.0)]
)
def test_95_of_100_values_are_at_most_the_percentile(values: list[float], found: float | None) -> None:
    """The value itself is one of them, whatever their order."""
    assert percentile_95(values) == found
