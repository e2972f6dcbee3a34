"""Manifests with their loads as stored, so that a start need not check ten thousand jobs again.

A load names the code that checked it: with another version of the checks, or of the zone data, the manifest is loaded
again. Last good definitions stay valid whichever code checked them: stricter checks never take a job off the schedule.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

import nomaflow_project
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.history.lookups import HostManifest
from nomaflow_kernel.store.errors import StoreError
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.cron.zones import zone_data_version
from nomaflow_project.jobs.loaded import CatalogueLoad

_LOG = logging.getLogger(__name__)
_KEY = "kept_load"
"""The key of a stored manifest under which the result of loading its jobs is kept."""


_Read = tuple[HostCatalogue, bool]
"""The catalogue of a host as it was stored, and whether this code, with this zone data, checked its jobs."""


class StoredManifests:
    """Reads manifests as they are stored; a kernel that stands by reads them ahead, so that it can lead sooner.

    It does so once for each silence of the leader: two seconds of processor time for 100,000 jobs. What was read ahead
    is found by all that is stored of a host, so that a manifest that has changed meanwhile is read anew.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ahead: dict[HostManifest, _Read] = {}
        self._reading: asyncio.Task[None] | None = None

    def read(self, stored: HostManifest) -> _Read:
        """Return the catalogue that this version, or another one, stored; and whether this code checked its jobs."""
        return self._ahead.pop(stored, None) or _read(stored)

    def forget(self) -> None:
        """Drop what was read ahead and not asked for."""
        self._ahead = {}

    def see(self, *, overdue: bool) -> None:
        """Begin to read ahead if the leader should have renewed its lease by now; once it has, drop what was read."""
        if overdue and self._reading is None:
            self._reading = asyncio.create_task(self._read_ahead(), name="reading-ahead")
        elif not overdue and self._reading is not None and self._reading.done():
            self._reading = None
            self.forget()

    async def end(self) -> None:
        """Wait for a reading that has begun."""
        if self._reading is not None:
            await self._reading

    async def _read_ahead(self) -> None:
        try:
            found = await self._store.manifests()
        except StoreError as error:
            _LOG.info("the catalogue could not be read ahead: %s", error)
            return
        self._ahead = await asyncio.to_thread(lambda: {each: _read(each) for each in found})


def with_load(manifest: Mapping[str, Any], load: CatalogueLoad) -> dict[str, Any]:
    """Return a manifest with its load, to be stored as JSON."""
    return {**manifest, _KEY: {"checked_by": _checks(), **load.to_json(compact=True)}}


def _read(stored: HostManifest) -> _Read:
    manifest = json.loads(stored.text)
    kept = manifest.pop(_KEY)
    # In half the time of `from_json`: a start reads all jobs.
    load = msgspec.convert(kept, CatalogueLoad)
    known = HostCatalogue(
        host=stored.host, digest=stored.digest, introduced_at_us=stored.introduced_at_us, manifest=manifest, load=load
    )
    return known, kept["checked_by"] == _checks()


@cache
def _checks() -> str:
    """Return a text that identifies the code and the zone data that checks depend on."""
    digest = hashlib.sha256(zone_data_version().encode())
    for path in sorted(Path(nomaflow_project.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
