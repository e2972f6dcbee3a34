"""Manifests with their loads as stored, so that a start need not check ten thousand jobs again.

A load names the code that checked it: with another version of the checks, or of the zone data, the manifest is loaded
again. Last good definitions stay valid whichever code checked them: stricter checks never take a job off the schedule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

import nomaflow_project
from nomaflow_project.cron.zones import zone_data_version
from nomaflow_project.jobs.loaded import CatalogueLoad

_KEY = "kept_load"
"""The key of a stored manifest under which the result of loading its jobs is kept."""


class StoredManifest(Struct, frozen=True, kw_only=True):
    """A manifest, and its jobs as they were found when it was stored.

    :param checked_here: whether this code, with this zone data, checked the jobs
    """

    manifest: Mapping[str, Any]
    load: CatalogueLoad
    checked_here: bool


class StoredManifests:
    """Reads manifests as they are stored; a kernel that stands by reads them ahead, so that it can lead sooner.

    What was read ahead is found by its whole text, so that a manifest that has changed meanwhile is read anew.
    """

    def __init__(self) -> None:
        self._ahead: dict[str, StoredManifest] = {}

    def read(self, text: str) -> StoredManifest:
        """Return a manifest that this version, or another one, stored."""
        return self._ahead.pop(text, None) or _read(text)

    def read_ahead(self, texts: Iterable[str]) -> None:
        """Read manifests that will be asked for."""
        self._ahead = {text: _read(text) for text in texts}

    def forget(self) -> None:
        """Drop what was read ahead and not asked for."""
        self._ahead = {}


def with_load(manifest: Mapping[str, Any], load: CatalogueLoad) -> dict[str, Any]:
    """Return a manifest with its load, to be stored as JSON."""
    return {**manifest, _KEY: {"checked_by": _checks(), **load.to_json(compact=True)}}


def _read(text: str) -> StoredManifest:
    manifest = json.loads(text)
    kept = manifest.pop(_KEY)
    # In half the time of `from_json`: a start reads all jobs.
    load = msgspec.convert(kept, CatalogueLoad)
    return StoredManifest(manifest=manifest, load=load, checked_here=kept["checked_by"] == _checks())


@cache
def _checks() -> str:
    """Return a text that identifies the code and the zone data that checks depend on."""
    digest = hashlib.sha256(zone_data_version().encode())
    for path in sorted(Path(nomaflow_project.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
