"""SQLite's driver, on the connection that SQLAlchemy holds.

SQLAlchemy's own work for a statement (contexts, events, result objects) costs 20 to 30 µs, four times what SQLite needs
for the statement itself, and a commit has a dozen of them. On PostgreSQL the network costs more than either, so
SQLAlchemy runs them. Errors are the driver's own; ``driver_errors.store_error`` handles both kinds.
"""

from __future__ import annotations

import sqlite3
from typing import cast

from sqlalchemy import Connection


def sqlite_driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection to SQLite."""
    return cast(sqlite3.Connection, connection.connection.driver_connection)
