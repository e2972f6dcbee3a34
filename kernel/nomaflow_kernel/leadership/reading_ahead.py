"""The catalogue, read by a kernel that stands by, so that it serves sooner once it leads."""

from __future__ import annotations

import asyncio
import logging

from nomaflow_kernel.catalogue.stored_load import StoredManifests
from nomaflow_kernel.store import Store
from nomaflow_kernel.store.errors import StoreError

_LOG = logging.getLogger(__name__)


class ReadingAhead:
    """Reads the catalogue once for each silence of the leader: two seconds of processor time for 100,000 jobs.

    :param manifests: keeps what was read
    """

    def __init__(self, store: Store, manifests: StoredManifests) -> None:
        self._store = store
        self._manifests = manifests
        self._task: asyncio.Task[None] | None = None

    def see(self, *, overdue: bool) -> None:
        """Begin to read if the leader should have renewed its lease by now; once it has, drop what was read."""
        if overdue and self._task is None:
            self._task = asyncio.create_task(self._read(), name="reading-ahead")
        elif not overdue and self._task is not None and self._task.done():
            self._task = None
            self._manifests.forget()

    async def end(self) -> None:
        """Wait for a reading that has begun."""
        if self._task is not None:
            await self._task

    async def _read(self) -> None:
        try:
            found = await self._store.manifests()
        except StoreError as error:
            _LOG.info("the catalogue could not be read ahead: %s", error)
            return
        await asyncio.to_thread(self._manifests.read_ahead, [each.text for each in found])
