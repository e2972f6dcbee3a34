"""One statement, three renderings."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import BigInteger, Column, Connection, Date, Integer, LargeBinary, MetaData, Table, Text, create_engine

from nomaflow_kernel.store.statements import insert, update

METADATA = MetaData()
TABLE = Table(
    "t",
    METADATA,
    Column("k", Text(), primary_key=True),
    Column("state", Text()),
    Column("body", LargeBinary()),
    Column("n", Integer()),
    Column("log_lines", BigInteger(), nullable=False),
    Column("report_seq", BigInteger(), nullable=False),
    Column("day", Date()),
)


def test_an_update_is_rendered_for_both_databases() -> None:
    """Values become question marks, or a row of values, for one row, and columns of one array each for all rows."""
    statement = update(TABLE, ["n", "log_lines", "report_seq"], key=["k"], sources=["A", "B"])
    assert " ".join(statement.sqlite.split()) == (
        "UPDATE t SET n = ?1, log_lines = log_lines + ?2,"
        " report_seq = CASE WHEN report_seq > ?3 THEN report_seq ELSE ?3 END WHERE k = ?4 AND state || '' IN ('A', 'B')"
    )
    assert statement.postgresql == (
        "UPDATE t SET n = p1, log_lines = log_lines + p2,"
        " report_seq = CASE WHEN report_seq > p3 THEN report_seq ELSE p3 END"
        " FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[]) AS v(p1, p2, p3, p4)"
        " WHERE k = p4 AND state || '' IN ('A', 'B')"
    )
    arrays, values = (
        "unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[])",
        "($1::integer, $2::bigint, $3::bigint, $4::text)",
    )
    assert statement.postgresql_row == statement.postgresql.replace(arrays, f"(VALUES {values})")


def test_an_insert_is_rendered_for_both_databases() -> None:
    """VALUES becomes a SELECT from the arrays, the conflict clause stays."""
    statement = insert(TABLE, ["k", "body"])
    assert statement.sqlite == 'INSERT INTO t ("k", "body") VALUES (?1, ?2) ON CONFLICT DO NOTHING'
    assert statement.postgresql == (
        'INSERT INTO t ("k", "body") SELECT p1, p2 FROM unnest($1::text[], $2::bytea[]) AS v(p1, p2)'
        " ON CONFLICT DO NOTHING"
    )
    replacing = insert(TABLE, ["k", "n"], replaces=True)
    assert replacing.sqlite.endswith('ON CONFLICT (k) DO UPDATE SET "n" = excluded."n"')


def test_rows_that_did_not_change_are_not_counted() -> None:
    """The count is of rows changed, over all rows given; no rows are no work."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        assert _count(connection) == 2
    engine.dispose()


def _count(connection: Connection) -> int:
    METADATA.create_all(connection)
    adding = insert(TABLE, ["k", "state", "log_lines", "report_seq"])
    assert adding.execute(connection, []) == 0
    assert adding.execute(connection, [("a", "A", 0, 0), ("b", "B", 0, 0), ("c", "C", 0, 0)]) == 3
    changing = update(TABLE, ["n"], key=["k"], sources=["A", "B"])
    return changing.execute(connection, [(0, "a"), (0, "b"), (0, "c"), (0, "d")])


def test_a_type_without_placeholder_is_refused() -> None:
    """A column of a type that has no rendering fails when the statement is made, by the name of the type."""
    with pytest.raises(KeyError, match="Date"):
        insert(TABLE, ["k", "day"])


def test_the_sqlite_of_this_python_knows_what_the_store_uses() -> None:
    """Upserts and clustered tables: SQLite 3.24 or newer."""
    assert sqlite3.sqlite_version_info >= (3, 24)
