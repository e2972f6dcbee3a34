"""The store on SQLite: one file, one kernel; one thread writes, a few read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from nomaflow_kernel.store.database import SqlDatabase
from nomaflow_kernel.store.driver import run
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.failures import mapped_errors
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.store.migrate import Taken, migrate, take_over

__all__ = ["SqliteDatabase", "SqliteLink", "create_database_file", "reading_engine", "writing_engine"]

T = TypeVar("T")

_READERS = 4
"""The number of queries that run at once; the others wait, in order."""

_READER_WAIT_SECONDS = 5.0
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)


class SqliteDatabase(SqlDatabase):
    """An SQLite file, held by a lock.

    :param path: of the database file; its directory must exist
    :param holder: name of this kernel
    :param lock_wait_seconds: time to wait for another process's lock
    """

    kind = "sqlite"

    def __init__(self, *, path: str, holder: str, lock_wait_seconds: float) -> None:
        super().__init__(
            writing=SqliteLink(lambda: writing_engine(path, lock_wait_seconds=lock_wait_seconds)),
            reading=SqliteLink(lambda: reading_engine(path), threads=_READERS),
        )
        self._path = path
        self._holder = holder
        self._lock = FileLock(path)

    async def claim(self) -> Taken:
        """Take the lock, then take the store over."""
        self._lock.acquire()
        try:
            create_database_file(self._path)
            return await self._writer.start(self._take)
        except BaseException:
            self._lock.release()
            raise

    def _take(self, connection: Connection) -> Taken:
        migrate(connection)
        return take_over(connection, holder=self._holder)

    async def release(self) -> None:
        """Release the lock."""
        self._lock.release()


class SqliteLink:
    """Connections to an SQLite file, each used by one thread at a time.

    aiosqlite, and SQLAlchemy's engine over it, go to a thread and back several times for each statement, so reading one
    run took 3.4 ms. Here work goes to its thread once (docs/decisions/2026-11-24-reading.md has the figures).

    :param make_engine: connects to the file
    :param threads: number of pieces of work done at once
    """

    def __init__(self, make_engine: Callable[[], Engine], *, threads: int = 1) -> None:
        self._make_engine = make_engine
        self._count = threads
        self._engine: Engine | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._running: set[asyncio.Future[Any]] = set()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run work in a thread; see ``Link``."""
        if self._threads is None or self._engine is None:
            self._engine = self._make_engine()
            self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="nomaflow-store")
        running = asyncio.get_running_loop().run_in_executor(self._threads, _run, self._engine, work)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        with mapped_errors():
            return await running

    async def close(self) -> None:
        """Let running work end, and close every connection."""
        threads, self._threads = self._threads, None
        engine, self._engine = self._engine, None
        if self._running:
            await asyncio.wait(self._running)
        if threads is not None:
            threads.shutdown()  # they are idle, so this takes no time
        if engine is not None:
            engine.dispose()


def _run(engine: Engine, work: Callable[[Connection], T]) -> T:
    connection = engine.connect()
    try:
        return work(connection)
    finally:
        with contextlib.suppress(Exception):  # what the work did or raised counts; the next one may get another
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


def writing_engine(path: str, *, lock_wait_seconds: float) -> Engine:
    """Return the engine of the one connection that writes; transactions are ours (BEGIN IMMEDIATE), not a driver's."""
    return _engine(path, _WRITER_PRAGMAS, begin="BEGIN IMMEDIATE", wait_seconds=lock_wait_seconds, connections=1)


def reading_engine(path: str) -> Engine:
    """Return the engine of the readers: a few connections that cannot write."""
    pragmas = ("PRAGMA query_only = ON",)
    return _engine(path, pragmas, begin="BEGIN", wait_seconds=_READER_WAIT_SECONDS, connections=_READERS)


def _engine(path: str, pragmas: tuple[str, ...], *, begin: str, wait_seconds: float, connections: int) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=wait_seconds, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            for pragma in pragmas:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=connections, max_overflow=0)
    event.listen(engine, "begin", lambda connection: run(connection, begin))
    return engine
