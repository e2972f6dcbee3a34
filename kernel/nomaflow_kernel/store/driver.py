"""Statements passed directly to SQLite's driver, on the connection that SQLAlchemy holds.

SQLAlchemy's own work for a statement (contexts, events, result objects) costs 20 to 30 µs, four times what SQLite needs
for the statement itself, and a commit has a dozen of them. On PostgreSQL the network costs more than either, so
SQLAlchemy runs them. Errors are the driver's own; ``driver_errors.store_error`` handles both kinds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection


def run(connection: Connection, statement: str) -> None:
    """Execute a statement without parameters or results."""
    sqlite = _sqlite(connection)
    if sqlite is None:
        connection.exec_driver_sql(statement)
    else:
        sqlite.execute(statement)


def run_many(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Execute an SQLite statement once for each row; return how many rows of the table changed."""
    sqlite = _sqlite(connection)
    if sqlite is None:
        raise AssertionError("only SQLite takes rows one by one")
    return sqlite.executemany(statement, rows).rowcount


def fetch_one(connection: Connection, query: str) -> tuple[Any, ...]:
    """Return the only row of a query."""
    sqlite = _sqlite(connection)
    if sqlite is None:
        return tuple(connection.exec_driver_sql(query).one())
    (row,) = sqlite.execute(query).fetchall()
    return tuple(row)


def _sqlite(connection: Connection) -> sqlite3.Connection | None:
    driver = connection.connection.driver_connection
    return driver if isinstance(driver, sqlite3.Connection) else None
