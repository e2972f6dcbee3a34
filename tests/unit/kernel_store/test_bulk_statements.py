"""One template, two renderings."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import Column, Connection, Date, MetaData, Table, create_engine

from nomaflow_kernel.store.bulk import BulkStatement, bulk_insert


def test_an_update_is_rendered_for_both_databases() -> None:
    """Placeholders become question marks for one row, and columns of one array each for all rows."""
    statement = BulkStatement.parse("UPDATE t SET a = {text}, n = n + {bigint} WHERE k = {text} AND a <> ''")
    assert statement.sqlite == "UPDATE t SET a = ?, n = n + ? WHERE k = ? AND a <> ''"
    assert statement.postgresql == (
        "UPDATE t SET a = p1, n = n + p2"
        " FROM unnest($1::text[], $2::bigint[], $3::text[]) AS v(p1, p2, p3) WHERE k = p3 AND a <> ''"
    )


def test_an_insert_is_rendered_for_both_databases() -> None:
    """VALUES becomes a SELECT from the arrays, the conflict clause stays."""
    statement = BulkStatement.parse("INSERT INTO t (a, b) VALUES ({text}, {bytea}) ON CONFLICT DO NOTHING")
    assert statement.sqlite == "INSERT INTO t (a, b) VALUES (?, ?) ON CONFLICT DO NOTHING"
    assert statement.postgresql == (
        "INSERT INTO t (a, b) SELECT p1, p2 FROM unnest($1::text[], $2::bytea[]) AS v(p1, p2) ON CONFLICT DO NOTHING"
    )


def test_rows_that_did_not_change_are_not_counted() -> None:
    """The count is of rows changed, over all rows given; no rows are no work."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        assert _count(connection) == 2
    engine.dispose()


def _count(connection: Connection) -> int:
    connection.exec_driver_sql("CREATE TABLE t (k, n)")
    insert = BulkStatement.parse("INSERT INTO t (k, n) VALUES ({text}, {bigint}) ON CONFLICT DO NOTHING")
    assert insert.execute(connection, []) == 0
    assert insert.execute(connection, [("a", 1), ("b", 2), ("c", 3)]) == 3
    update = BulkStatement.parse("UPDATE t SET n = 0 WHERE k = {text} AND n < 3")
    return update.execute(connection, [("a",), ("b",), ("c",), ("d",)])


def test_a_type_without_placeholder_is_refused() -> None:
    """A column of a type that has no rendering fails when the statement is made, by name."""
    table = Table("t", MetaData(), Column("day", Date()))
    with pytest.raises(TypeError, match="'day'"):
        bulk_insert(table)


def test_the_sqlite_of_this_python_knows_what_the_store_uses() -> None:
    """Upserts and clustered tables: SQLite 3.24 or newer."""
    assert sqlite3.sqlite_version_info >= (3, 24)
