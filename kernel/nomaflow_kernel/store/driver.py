"""The databases' own drivers, on the connections that SQLAlchemy holds.

SQLAlchemy's own work for a statement (contexts, events, result objects) costs 20 to 30 µs on SQLite, four times what
the statement itself needs, and a commit has a dozen of them; on PostgreSQL it costs a commit a quarter of a
millisecond. Errors are the driver's own; ``driver_errors.store_error`` handles both kinds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import AdaptedConnection, Connection


def sqlite_driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection to SQLite."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def execute_on_postgres(connection: Connection, text: str, values: Sequence[Any]) -> None:
    """Execute a statement that the server prepares once; outside of a transaction, as one of its own."""
    adapted = cast(AdaptedConnection, connection.connection.dbapi_connection)
    adapted.run_async(lambda driver: driver.fetchval(text, *values))
