"""The version of the zone data with which the kernel computes schedules."""

from __future__ import annotations

import importlib.metadata
import zoneinfo
from functools import cache
from pathlib import Path


@cache
def zone_data_version() -> str:
    """Return the version of the zone data in use, or "unknown"."""
    for folder in zoneinfo.TZPATH:
        for name in ("+VERSION", "tzdata.zi"):
            path = Path(folder) / name
            if path.is_file():
                with path.open(encoding="utf-8") as file:
                    return file.readline().strip().removeprefix("# version ")
    try:
        return importlib.metadata.version("tzdata")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
