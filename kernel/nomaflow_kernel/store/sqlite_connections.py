"""Connections to an SQLite store: one that writes, some that read, each set up the same way every time."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event

from nomaflow_kernel.store.driver import run
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_kernel.store.sqlite_readers import READERS

__all__ = ["create_database_file", "reading_engine", "writing_engine"]

_READER_WAIT_SECONDS = 5.0
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)


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

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=lock_wait_seconds, isolation_level=None, cached_statements=256)
        try:
            for pragma in _WRITER_PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def reading_engine(path: str) -> Engine:
    """Return the engine of the readers: a small pool of connections that cannot write, for any thread."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=_READER_WAIT_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=READERS, max_overflow=0)
    event.listen(engine, "begin", _begin_reading)
    return engine


def _begin_immediate(connection: Connection) -> None:
    run(connection, "BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    run(connection, "BEGIN")
