"""Has all SQLite stores of this process, and of those forked from it, share what SQLAlchemy makes of statements.

A new store compiles those that make its tables, and whatever it is asked: longer than most tests of one take otherwise.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from nomaflow_kernel.store import migrate, schema, sqlite

_FIRST = create_engine("sqlite://", poolclass=NullPool)
"""Holds what has been compiled. Its dialect has been made for a connection, as that of any engine is at its first."""
_SCHEMA: list[str] = []
"""The statements that make the tables, in their order."""


def _share(make: Any, *given: Any, **options: Any) -> Engine:
    engine: Engine = make(*given, **options)
    engine.dialect = engine.pool._dialect = _FIRST.dialect
    engine._compiled_cache = _FIRST._compiled_cache
    return engine


def _create_tables(create: Any, connection: Connection) -> None:
    if connection.dialect.name != "sqlite":
        create(connection)
        return
    for statement in _SCHEMA:
        connection.exec_driver_sql(statement)


with _FIRST.connect() as _connection:
    migrate.migrate(_connection)
    migrate.take_over(_connection, holder="")
    _made = text("SELECT sql FROM sqlite_master WHERE sql <> '' AND tbl_name <> :last ORDER BY rowid")
    _SCHEMA += _connection.execute(_made, {"last": schema.revisions.name}).scalars()
vars(schema)["create_tables"] = partial(_create_tables, schema.create_tables)
vars(sqlite)["_engine"] = partial(_share, sqlite._engine)
