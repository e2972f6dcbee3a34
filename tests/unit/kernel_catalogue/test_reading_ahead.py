"""A kernel that stands by reads the catalogue once the leader is silent, and drops it if the leader speaks again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import cast

import pytest

from nomaflow_kernel.catalogue.stored_load import StoredManifests, with_load
from nomaflow_kernel.history.lookups import HostManifest
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.sql_store import Store
from nomaflow_project.jobs.loaded import CatalogueLoad

TEXT = json.dumps(with_load({}, CatalogueLoad()))
STORED = HostManifest(host="team", digest="m1", text=TEXT, introduced_at_us=1, owned_job_ids=frozenset())


class OneManifest:
    """A store with one manifest, or without an answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = True

    async def manifests(self) -> Sequence[HostManifest]:
        """Return it."""
        self.asked += 1
        await asyncio.sleep(0)
        if not self.answers:
            raise StoreUnavailable("the database does not answer")
        return [STORED]


async def test_each_silence_is_read_once() -> None:
    """The catalogue is read once when the leader is silent, and dropped when the leader renews its lease again."""
    store = OneManifest()
    ahead = StoredManifests(cast("Store", store))
    ahead.see(overdue=False)
    await ahead.end()
    assert store.asked == 0
    for asked in (1, 2):
        for _ in range(3):
            ahead.see(overdue=True)
            await ahead.end()
        assert (store.asked, ahead._ahead.keys()) == (asked, {STORED})
        ahead.see(overdue=False)
        assert not ahead._ahead


async def test_a_database_that_does_not_answer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel reads the catalogue when it leads, as one does that never stood by."""
    caplog.set_level(logging.INFO)
    store = OneManifest()
    store.answers = False
    ahead = StoredManifests(cast("Store", store))
    ahead.see(overdue=True)
    await ahead.end()
    assert not ahead._ahead
    assert "the catalogue could not be read ahead: the history store cannot be reached" in caplog.text
