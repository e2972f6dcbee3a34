"""Sizes as people read them."""

from __future__ import annotations

import pytest

from nomaflow_api.byte_sizes import byte_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (25 << 20, "25 MiB"),
        (50_541_363, "48.2 MiB"),
        (432_013_312, "412 MiB"),
        ((1 << 20) - 1, "1 MiB"),
        (3_328_599_654, "3.1 GiB"),
        (5_000 << 30, "5,000 GiB"),
    ],
)
def test_a_size_has_three_digits_or_so(count: int, text: str) -> None:
    """In the largest unit in which it is at least one."""
    assert byte_size(count) == text
