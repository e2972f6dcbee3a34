"""Sizes as people read them. Every package writes them in this form."""

from __future__ import annotations


def byte_size(count: float) -> str:
    """Return a number of bytes in three digits or so: ``0 B``, ``48.2 MiB``, ``412 MiB``, ``3.1 GiB``."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1023.5:
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f}".removesuffix(".0") + f" {unit}"
