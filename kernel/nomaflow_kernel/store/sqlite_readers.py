"""The reading side of SQLite: a few threads, each query whole in one of them.

aiosqlite, and SQLAlchemy's engine over it, go to a thread and back several times for each statement, so reading one run
took 3.4 ms. Here a query goes to its thread once (docs/decisions/2026-11-24-reading.md has the figures).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.failures import mapped_errors

__all__ = ["READERS", "SqliteReaders"]

T = TypeVar("T")

READERS = 4
"""The number of queries that run at once; the others wait, in order."""


class SqliteReaders:
    """The connections of an SQLite store that only read."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._reading: set[asyncio.Future[Any]] = set()

    def open(self, engine: Engine) -> None:
        """Read through an engine from now on."""
        self._engine = engine
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="nomaflow-read")

    async def close(self) -> None:
        """Let running queries end, and close every connection. Closing twice is allowed."""
        threads, self._threads = self._threads, None
        engine, self._engine = self._engine, None
        if self._reading:
            await asyncio.wait(self._reading)
        if threads is not None:
            threads.shutdown()  # they are idle, so this takes no time
        if engine is not None:
            engine.dispose()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own.

        :raises StoreUnavailable: if the store is closed
        """
        if self._engine is None or self._threads is None:
            raise StoreUnavailable("the store is closed")
        reading = asyncio.get_running_loop().run_in_executor(self._threads, _run, self._engine, query)
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        with mapped_errors():
            return await reading


def _run(engine: Engine, query: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return query(connection)
