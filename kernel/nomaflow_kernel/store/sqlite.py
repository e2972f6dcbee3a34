"""The store on SQLite: one file, one kernel; one thread writes, a few read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from nomaflow_kernel.history.lookups import StoreInfo
from nomaflow_kernel.store.driver import sqlite_driver
from nomaflow_kernel.store.driver_errors import mapped_errors
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.migrate import migrate, take_over, usable
from nomaflow_kernel.store.writer import Writer, give

T = TypeVar("T")

_READERS = 4
"""The number of queries that run at once; the others wait, in order."""

_READER_WAIT_SECONDS = 5.0
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
    "PRAGMA secure_delete = FAST",  # builds differ: some write every page of a removed log once more, full of zeros
    "PRAGMA journal_size_limit = 67108864",
)


class SqliteDatabase:
    """An SQLite file, held by a lock.

    :param path: of the database file; its directory must exist
    :param holder: name of this kernel
    :param lock_wait_seconds: time to wait for another process's lock
    """

    def __init__(self, *, path: str, holder: str, lock_wait_seconds: float) -> None:
        self.writer = Writer(SqliteLink(lambda: writing_engine(path, lock_wait_seconds=lock_wait_seconds)))
        self.reading = SqliteLink(lambda: reading_engine(path), threads=_READERS)
        self._path = path
        self._holder = holder
        self._lock = FileLock(path)

    async def claim(self) -> StoreInfo:
        """Take the lock, then take the store over."""
        self._lock.acquire()
        try:
            create_database_file(self._path)
            if not _is_empty_or_wal(self._path):  # it may be another program's, whose mode a writer would change
                await self.reading.run(usable)
            return await self.writer.start(self._take)
        except BaseException:
            await self.reading.close()
            self._lock.release()
            raise

    def _take(self, connection: Connection) -> StoreInfo:
        migrate(connection)
        return take_over(connection, holder=self._holder)

    async def release(self) -> None:
        """Release the lock."""
        self._lock.release()


class SqliteLink:
    """Connections to an SQLite file, one in each of a few threads.

    aiosqlite, and SQLAlchemy's engine over it, go to a thread and back several times for each statement, so reading one
    run took 3.4 ms. Here work goes to its thread once (docs/decisions/2026-11-24-reading.md has the figures).

    :param make_engine: connects to the file
    :param threads: number of pieces of work done at once
    """

    def __init__(self, make_engine: Callable[[], Engine], *, threads: int = 1) -> None:
        self._make_engine = make_engine
        self._count = threads
        self._inbox: queue.SimpleQueue[tuple[Callable[[Connection], Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._threads: dict[threading.Thread, asyncio.Future[None]] = {}

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run work in a thread; see ``Link``."""
        loop = asyncio.get_running_loop()
        if not self._threads:
            engine = self._make_engine()
            for _ in range(self._count):
                ended: asyncio.Future[None] = loop.create_future()
                thread = threading.Thread(
                    target=self._serve, args=(engine, loop, ended), name="nomaflow-store", daemon=True
                )
                thread.start()
                self._threads[thread] = ended
        done: asyncio.Future[T] = loop.create_future()
        self._inbox.put((work, done))
        with mapped_errors():
            return await done

    async def close(self) -> None:
        """Let running work end, and close every connection, one after the other.

        The last one to close takes the log into the database file, so that a stopped kernel leaves its whole history in
        one file. If all closed at the same time, none of them might be the last.
        """
        threads, self._threads = self._threads, {}
        waiting = set(threads.values())
        while waiting:
            self._inbox.put(None)
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for thread in threads:
            thread.join()

    def _serve(self, engine: Engine, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        connection: Connection | None = None
        with contextlib.suppress(RuntimeError):  # the loop was closed without stopping the store
            while (item := self._inbox.get()) is not None:
                work, done = item
                try:
                    if connection is None or connection.invalidated:
                        _drop(connection)
                        connection = engine.connect()
                    result, error = _finish(connection, work), None
                except Exception as failure:  # noqa: BLE001 - handed to the caller
                    result, error = None, failure
                loop.call_soon_threadsafe(give, done, result, error)
        _drop(connection)
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(give, ended, None, None)


def _finish(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Do work, and end the transaction that a query has begun."""
    try:
        return work(connection)
    finally:
        if connection.in_transaction():
            connection.rollback()


def _drop(connection: Connection | None) -> None:
    with contextlib.suppress(Exception):  # it is given up
        if connection is not None:
            connection.close()


def create_database_file(path: str) -> None:
    """Create a missing file, readable by its owner only: job params may be confidential."""
    log = Path(path + "-wal")
    if not os.path.exists(path) and log.exists() and log.stat().st_size:
        # SQLite would discard its contents, which may be the whole history.
        raise StoreUnavailable(
            f"{path!r} is gone and {str(log)!r} is not; put the file back, or move its log away and restore a backup"
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path!r}: {error.strerror}") from error


def _is_empty_or_wal(path: str) -> bool:
    """Return whether a file is empty, or a database in the mode in which a store is once a kernel has opened it."""
    with open(path, "rb") as file:
        return file.read(20)[18:] in (b"", b"\2\2")


def writing_engine(path: str, *, lock_wait_seconds: float) -> Engine:
    """Return the engine of the one connection that writes; transactions are ours (BEGIN IMMEDIATE), not a driver's."""
    return _engine(path, _WRITER_PRAGMAS, begin="BEGIN IMMEDIATE", wait_seconds=lock_wait_seconds)


def reading_engine(path: str) -> Engine:
    """Return the engine of the readers: a few connections that cannot write."""
    pragmas = ("PRAGMA query_only = ON",)
    return _engine(path, pragmas, begin="BEGIN", wait_seconds=_READER_WAIT_SECONDS)


def _engine(path: str, pragmas: tuple[str, ...], *, begin: str, wait_seconds: float) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None, cached_statements=256)
        try:
            for pragma in pragmas:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(URL.create("sqlite"), creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: sqlite_driver(connection).execute(begin))
    return engine
