"""Summaries of series of measured values."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["at_rank", "described", "in_words", "machine"]


def at_rank(values: Sequence[float], rank: float) -> float:
    """Return the value below which the share ``rank`` of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * rank))]


def described(values: Sequence[float]) -> dict[str, Any]:
    """Return median, least, most and the values."""
    rounded = [round(value, 4) for value in values]
    return {"median": statistics.median(rounded), "least": min(rounded), "most": max(rounded), "values": rounded}


def in_words(value: float) -> str:
    """Return a figure with three digits, or all of them before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> dict[str, str]:
    """Return what the figures depend on, without names of anybody's machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("grpcio", "protobuf", "SQLAlchemy", "uvloop")},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
