"""Every test here runs on SQLite and on PostgreSQL, each with a store of its own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_places import Place, PostgresPlace, SqlitePlace

from nomaflow_kernel.store.sql_store import Store, open_store
from postgres_server import PostgresServer
from waiting import eventually

_numbers = itertools.count(1)


@pytest.fixture
def sqlite_place(tmp_path: Path) -> SqlitePlace:
    """Give a path for an SQLite store."""
    return SqlitePlace(tmp_path / "history.db")


@pytest.fixture
async def postgres_place(postgres_server: PostgresServer) -> AsyncIterator[PostgresPlace]:
    """Give an empty PostgreSQL database: a new one costs as much as most tests, so that one is emptied for the next."""
    if postgres_server.spare:
        place = PostgresPlace(postgres_server, postgres_server.spare.pop())
    else:
        place = PostgresPlace(postgres_server, f"store_{next(_numbers)}")
        await place.create()
    yield place
    await place.empty()
    postgres_server.spare.append(place.name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest) -> Place:
    """Give an empty database of each kind."""
    name = "sqlite_place" if request.param == "sqlite" else "postgres_place"
    found: Place = request.getfixturevalue(name)
    return found


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    """Open a store; at the end close it and see that no thread and no connection is left."""
    threads = set(threading.enumerate())
    opened = open_store(place.url, holder="test", lock_wait_seconds=0.3)
    await opened.open()
    yield opened
    await opened.close()

    async def nothing_left() -> bool:
        return set(threading.enumerate()) <= threads and await place.nothing_left()

    await eventually(nothing_left)
