"""The store on SQLite: one file, one kernel."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from nomaflow_kernel.ports import StoreInfo
from nomaflow_kernel.store.errors import BackupRefused
from nomaflow_kernel.store.failures import mapped_errors
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
    :param holder: who this kernel is
    :param lock_wait_seconds: how long to wait for another process's lock
    """

    kind = "sqlite"

    def __init__(self, *, path: str, holder: str, lock_wait_seconds: float) -> None:
        self._path = path
        self._lock = FileLock(path)
        self._writer = SqliteWriter(
            make_engine=lambda: writing_engine(path, lock_wait_seconds=lock_wait_seconds), holder=holder
        )
        self._readers = SqliteReaders()

    async def open(self) -> StoreInfo:
        """Take the lock, then the store."""
        self._lock.acquire()
        try:
            create_database_file(self._path)
            epoch, last_event_seq = await self._writer.start()
        except BaseException:
            self._lock.release()
            raise
        self._readers.open(reading_engine(self._path))
        return StoreInfo(kind=self.kind, epoch=epoch, last_event_seq=last_event_seq)

    async def close(self) -> None:
        """Finish what waits, close every connection, release the lock."""
        await self._writer.stop()
        await self._readers.close()
        self._lock.release()

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a read transaction of its own."""
        return await self._readers.read(query)

    async def write(self, operation: Callable[[WriteSession], T]) -> T:
        """Run an operation with all others that wait, and return once it is durable."""
        result: T = await self._writer.submit(operation)
        return result

    async def backup(self, path: str) -> None:
        """Write a consistent copy to a new file, while the kernel goes on writing."""
        with mapped_errors():
            await asyncio.to_thread(_copy, self._path, path)


def _copy(source: str, target: str) -> None:
    """Copy in one step: it reads one snapshot, and in WAL mode holds up nobody."""
    if os.path.lexists(target):
        raise BackupRefused(target, "the file exists; name a new one, or remove it")
    partial = target + ".partial"
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise BackupRefused(target, f"cannot create {partial!r}: {error.strerror}") from error
    try:
        _copy_pages(source, partial)
        os.rename(partial, target)
    except BaseException:
        os.unlink(partial)
        raise


def _copy_pages(source: str, target: str) -> None:
    origin = sqlite3.connect(source, timeout=5.0)
    try:
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            origin.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")
            copy.execute("PRAGMA synchronous = FULL")
        finally:
            copy.close()
    finally:
        origin.close()
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
