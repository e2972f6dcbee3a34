"""Fills the store of a kernel that is not running with copies of a finished run."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["copies"]

_TABLES = ("runs", "attempts", "log_chunks", "events")
_BLOCK = 50_000
_RUN_ID = "printf('run_%026d', n.i)"


def copies(database: Path, *, run_id: str, count: int) -> None:
    """Insert so many copies of a run, older than every run there, with their attempts, logs and events."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        for first in range(1, count + 1, _BLOCK):
            connection.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                connection.execute(_statement(connection, table), (first, min(first + _BLOCK, count + 1), run_id))
            connection.execute("UPDATE kernel SET last_event_seq = (SELECT max(seq) FROM events)")
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _statement(connection: sqlite3.Connection, into: str) -> str:
    columns, source = [row[1] for row in connection.execute(f"PRAGMA table_info({into})")], f"{into} t"
    given = {"run_id": _RUN_ID, "request_id": f"'copy-' || {_RUN_ID}"}
    if into == "events":
        # Copies of one run's events, as far apart as those are; the offset is that of the block.
        given["seq"] = "(SELECT last_event_seq FROM kernel) + (n.i - ?1) * s.width + t.seq - s.low + 1"
        source = "events t, (SELECT min(seq) AS low, max(seq) - min(seq) + 1 AS width FROM events WHERE run_id = ?3) s"
    chosen = ", ".join(given.get(column, f"t.{column}") for column in columns)
    numbers = "WITH RECURSIVE n (i) AS (VALUES (?1) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)"
    return f"INSERT INTO {into} ({', '.join(columns)}) {numbers} SELECT {chosen} FROM n, {source} WHERE t.run_id = ?3"
