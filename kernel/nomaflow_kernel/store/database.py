"""A database that one kernel at a time works on: what SQLite and PostgreSQL have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Connection

from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.writer import Link, Writer

T = TypeVar("T")

LOCK_WAIT_SECONDS = 5.0
"""How long a write waits for a lock that another process holds."""


class SqlDatabase(ABC):
    """Runs the operations of a store.

    :param writing: the one connection that writes
    :param reading: connections that only read
    """

    def __init__(self, *, writing: Link, reading: Link) -> None:
        self._writer = Writer(writing)
        self._reading = reading
        self._closed = False

    @abstractmethod
    async def claim(self) -> StoreInfo:
        """Keep other kernels off the database, start the writer and take the store over."""

    @abstractmethod
    async def release(self) -> None:
        """Let other kernels have the database. Releasing twice is allowed."""

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the writer."""
        return self._writer.waiting

    async def open(self) -> StoreInfo:
        """Make or migrate the schema, and take the store over. May be tried again after an error."""
        info = await self.claim()
        self._closed = False
        return info

    async def close(self) -> None:
        """Finish waiting operations, close every connection, and release the database.

        It is released even if the caller does not wait for the operations any longer.
        """
        self._closed = True
        try:
            await self._writer.stop()
        finally:
            await self.release()
        await self._reading.close()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own, also while another kernel has the database.

        :raises StoreUnavailable: if the store is closed
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return await self._reading.run(query)

    def write(self, operation: Callable[[WriteSession], T]) -> Awaitable[T]:
        """Run an operation together with all others that wait; finished once it is durable."""
        return self._writer.submit(operation)
