"""The store on SQLite: one file, one kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Connection

from nomaflow_kernel.history.port import StoreInfo
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.session import WriteSession
from nomaflow_kernel.store.sqlite_connections import create_database_file, reading_engine, writing_engine
from nomaflow_kernel.store.sqlite_readers import SqliteReaders
from nomaflow_kernel.store.sqlite_writer import SqliteWriter

__all__ = ["SqliteDatabase"]

T = TypeVar("T")


class SqliteDatabase:
    """An SQLite file, held by a lock, written by one thread, read through a small pool.

    :param path: of the database file; its directory must exist
    :param holder: name of this kernel
    :param lock_wait_seconds: time to wait for another process's lock
    """

    kind = "sqlite"

    def __init__(self, *, path: str, holder: str, lock_wait_seconds: float) -> None:
        self._path = path
        self._lock = FileLock(path)
        self._writer = SqliteWriter(
            make_engine=lambda: writing_engine(path, lock_wait_seconds=lock_wait_seconds), holder=holder
        )
        self._readers = SqliteReaders()

    @property
    def waiting(self) -> int:
        """The number of operations that wait for the writer."""
        return self._writer.waiting

    async def open(self) -> StoreInfo:
        """Take the lock, then take the store over."""
        self._lock.acquire()
        try:
            create_database_file(self._path)
            taken = await self._writer.start()
        except BaseException:
            self._lock.release()
            raise
        self._readers.open(reading_engine(self._path))
        return StoreInfo(kind=self.kind, **taken._asdict())

    async def close(self) -> None:
        """Finish waiting operations, close every connection, release the lock."""
        await self._writer.stop()
        await self._readers.close()
        self._lock.release()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own."""
        return await self._readers.read(query)

    def write(self, operation: Callable[[WriteSession], T]) -> Awaitable[T]:
        """Run an operation together with all others that wait; finished once it is durable."""
        return self._writer.submit(operation)
