"""Connections to an SQLite store: one that writes, some that read, each set up the same way every time."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from nomaflow_kernel.store.errors import StoreUnavailable

__all__ = ["create_database_file", "reading_engine", "writing_engine"]

_READER_WAIT_SECONDS = 5.0
_READERS = 4
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -16384",
    "PRAGMA journal_size_limit = 67108864",
)


def create_database_file(path: str) -> None:
    """Make the file where there is none, readable by its owner only: job params may be confidential."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"cannot open {path!r}: {error.strerror}") from error


def writing_engine(path: str, *, lock_wait_seconds: float) -> Engine:
    """Return the engine of the one connection that writes; transactions are ours (BEGIN IMMEDIATE), no driver's."""

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


def reading_engine(path: str) -> AsyncEngine:
    """Return the engine of the readers: a small pool of connections that cannot write."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        connect_args={"timeout": _READER_WAIT_SECONDS},
        poolclass=AsyncAdaptedQueuePool,
        pool_size=_READERS,
        max_overflow=0,
    )
    event.listen(engine.sync_engine, "connect", _make_reader)
    event.listen(engine.sync_engine, "begin", _begin_reading)
    return engine


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _make_reader(driver_connection: Any, _record: Any) -> None:
    driver_connection.isolation_level = None
    cursor = driver_connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()
