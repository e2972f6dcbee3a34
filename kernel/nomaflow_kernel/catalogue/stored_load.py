"""A load as stored, so that a start need not check ten thousand jobs again.

It names the code that checked it: with another version of the checks, or of the zone data, the manifest is loaded
again. Last good definitions stay valid whichever code checked them: stricter checks never take a job off the schedule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

import nomaflow_project
from nomaflow_project.cron.zone_data import zone_data_version
from nomaflow_project.jobs.load import CatalogueLoad

__all__ = ["checked_here", "keep_load", "read_kept_load"]


def keep_load(load: CatalogueLoad) -> dict[str, Any]:
    """Return the load as a JSON-ready dict."""
    return {"checked_by": _checks(), **load.to_json(compact=True)}


def checked_here(kept: Mapping[str, Any]) -> bool:
    """Return whether this code, with this zone data, checked a stored load."""
    return bool(kept["checked_by"] == _checks())


def read_kept_load(kept: Mapping[str, Any]) -> CatalogueLoad:
    """Return the load that `keep_load` wrote, by this version or another."""
    return msgspec.convert(kept, CatalogueLoad)  # in half the time of `from_json`: a start reads all jobs


@cache
def _checks() -> str:
    """Return a text that identifies the code and the zone data that checks depend on."""
    digest = hashlib.sha256(zone_data_version().encode())
    for path in sorted(Path(nomaflow_project.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
