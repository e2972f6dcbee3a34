"""The reading side of PostgreSQL: a pool, and one short read transaction per query."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.failures import mapped_errors

__all__ = ["Readers"]

T = TypeVar("T")


class Readers:
    """The connections of a store that only read."""

    def __init__(self) -> None:
        self._engine: AsyncEngine | None = None

    def open(self, engine: AsyncEngine) -> None:
        """Read through an engine from now on."""
        self._engine = engine

    async def close(self) -> None:
        """Close every connection. Closing twice is allowed."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own.

        :raises StoreUnavailable: if the store is closed
        """
        if self._engine is None:
            raise StoreUnavailable("the store is closed")
        with mapped_errors():
            async with self._engine.connect() as connection:
                return await connection.run_sync(query)
