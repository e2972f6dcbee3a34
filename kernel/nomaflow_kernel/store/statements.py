"""One statement over many rows, in the form that is fast on each database, made from the columns it writes.

SQLite executes it once per row in one call of the driver; PostgreSQL gets the rows as one array per column and executes
it once, or the values themselves if there is one row in a commit. Both return the number of changed rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from msgspec import Struct
from sqlalchemy import BigInteger, Boolean, Column, Connection, Double, Integer, LargeBinary, Table, Text

from nomaflow_kernel.store.driver import execute_on_postgres, sqlite_driver

ADDED = frozenset({"log_lines", "fold_count"})
"""Columns that an update adds to."""

JOINED = frozenset({"log_levels"})
"""Columns of bits that an update adds bits to."""

RAISED = frozenset({"report_seq", "fold_last_us", "finished_at_us"})
"""Columns that an update never lowers: late reports and late fires move nothing back."""

ONCE = frozenset({"cancel_at_us"})
"""Columns that an update sets only while they are NULL: the first cancel request stays."""

_PARAMETER = re.compile(r"\$(\d+)")
_DIVISION_BY_ZERO = "22012"

_TYPE_NAMES: Mapping[type[Any], str] = {
    BigInteger: "bigint",
    Integer: "integer",
    Boolean: "boolean",
    Double: "float8",
    LargeBinary: "bytea",
    Text: "text",
}


class Statement(Struct, frozen=True):
    """A statement with its renderings; build it with :func:`insert`, :func:`update` or :func:`delete`.

    :param sqlite: the text for one row, with a numbered question mark for each value
    :param postgresql: the text for all rows, over arrays
    :param postgresql_row: the text for one row, over its values: half of the work, most of which is to read arrays
    """

    sqlite: str
    postgresql: str
    postgresql_row: str

    def execute(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
        """Execute over ``rows`` and return how many rows of the table changed."""
        if not rows:
            return 0
        if connection.dialect.name == "postgresql":
            return connection.exec_driver_sql(self.postgresql, _columns(rows)).rowcount
        return sqlite_driver(connection).executemany(self.sqlite, rows).rowcount


class Write(Struct, frozen=True):
    """A statement and its rows, at least one.

    :param required: whether each of them must change a row of the table
    """

    statement: Statement
    rows: Sequence[Sequence[Any]]
    required: bool = False


def execute_all(connection: Connection, writes: Sequence[Write]) -> bool:
    """Execute statements over their rows; return False if one that must change a row for each did not.

    PostgreSQL gets one statement of them all, so that it is asked once: it may execute them in any order, so no row may
    be changed by two of them. Outside of a transaction it is one of its own, and writes all or nothing.
    """
    at_once = len(writes) > 1 or not connection.in_transaction()
    if at_once and connection.dialect.name == "postgresql":
        return _execute_together(connection, writes)
    changed = (write.statement.execute(connection, write.rows) for write in writes)
    return all(n == len(write.rows) or not write.required for n, write in zip(changed, writes, strict=True))


def _execute_together(connection: Connection, writes: Sequence[Write]) -> bool:
    writes = sorted(writes, key=_text)  # in whatever order they come, the server knows their statement
    together = _together(tuple((write.statement, write.required, len(write.rows) == 1) for write in writes))
    values = (write.rows[0] if len(write.rows) == 1 else _columns(write.rows) for write in writes)
    try:
        execute_on_postgres(connection, together, [*chain.from_iterable(values)])
    except Exception as error:
        if getattr(error, "sqlstate", None) != _DIVISION_BY_ZERO:
            raise
        return False
    return True


def _text(write: Write) -> tuple[str, bool]:
    return write.statement.postgresql, write.required


def _columns(rows: Sequence[Sequence[Any]]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*rows, strict=True))


@lru_cache(maxsize=128)
def _together(statements: tuple[tuple[Statement, bool, bool], ...]) -> str:
    """Return one statement that executes all, and divides by zero if a required one changes too few rows.

    :param statements: each with whether it is required, and whether it gets one row
    """
    parts: list[str] = []
    checks = ["true"]
    first = 0
    for n, (statement, required, of_row) in enumerate(statements):
        text = statement.postgresql_row if of_row else statement.postgresql
        pieces = _PARAMETER.split(text)  # texts and numbers by turns
        numbers = [int(number) for number in pieces[1::2]]
        pieces[1::2] = [f"${first + number}" for number in numbers]
        parts.append(f"w{n} AS ({''.join(pieces)} RETURNING 1)")
        if required:
            rows = "1" if of_row else f"cardinality(${first + 1})"
            checks.append(f"(SELECT count(*) FROM w{n}) = {rows}")  # noqa: S608  # no value in it
        first += max(numbers)
    return f"WITH {', '.join(parts)} SELECT 1 / CASE WHEN {' AND '.join(checks)} THEN 1 ELSE 0 END"


def insert(table: Table, columns: Sequence[str], *, replaces: bool = False) -> Statement:
    """Return the insert of rows, with the values of ``columns``.

    :param replaces: whether it replaces the row of the same key, instead of doing nothing
    """
    conflict = "DO NOTHING"
    if replaces:
        key = [column.name for column in table.primary_key.columns]
        news = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in key)
        conflict = f"({', '.join(key)}) DO UPDATE SET {news}"
    names = ", ".join(f'"{name}"' for name in columns)

    def body(values: Sequence[str], source: str) -> str:
        given = ", ".join(values)
        rows = f"SELECT {given} {source}" if source else f"VALUES ({given})"
        return f"INSERT INTO {table.name} ({names}) {rows} ON CONFLICT {conflict}"

    return _rendered([table.c[name] for name in columns], body)


def update(
    table: Table, columns: Sequence[str], *, key: Sequence[str], sources: Sequence[str] | None = None
) -> Statement:
    """Return the update of one row each, with the values of ``columns``, then those of ``key``.

    :param sources: states, for a compare-and-set: it changes the row only if its state is one of them; None for any
    """

    def body(values: Sequence[str], source: str) -> str:
        news, olds = values[: len(columns)], values[len(columns) :]
        assignments = ", ".join(f"{name} = {_new(name, value)}" for name, value in zip(columns, news, strict=True))
        conditions = [f"{name} = {value}" for name, value in zip(key, olds, strict=True)]
        if sources is not None:
            states = ", ".join(f"'{state}'" for state in sources) or "''"
            conditions.append(f"state || '' IN ({states})")  # not by their index: the key finds the row
        conditions += [f"{name} IS NULL" for name in columns if name in ONCE]
        conditions += [f"{name} IS NOT NULL" for name in columns if name in ADDED and table.c[name].nullable]
        return f"UPDATE {table.name} SET {assignments} {source} WHERE {' AND '.join(conditions)}"  # noqa: S608  # our own names

    return _rendered([table.c[name] for name in (*columns, *key)], body)


def delete(table: Table, key: Sequence[str]) -> Statement:
    """Return the removal of one row each, with the values of ``key``."""

    def body(values: Sequence[str], source: str) -> str:
        conditions = " AND ".join(f"{name} = {value}" for name, value in zip(key, values, strict=True))
        return f"DELETE FROM {table.name} {source.replace('FROM', 'USING', 1)} WHERE {conditions}"  # noqa: S608  # our own names

    return _rendered([table.c[name] for name in key], body)


def _new(name: str, value: str) -> str:
    if name in ADDED:
        return f"{name} + {value}"
    if name in JOINED:
        return f"{name} | {value}"
    return f"CASE WHEN {name} > {value} THEN {name} ELSE {value} END" if name in RAISED else value


def _rendered(columns: Sequence[Column[Any]], body: Callable[[Sequence[str], str], str]) -> Statement:
    numbers = range(1, len(columns) + 1)
    types = [_TYPE_NAMES[type(column.type)] for column in columns]
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in zip(numbers, types, strict=True))
    values = ", ".join(f"${n}::{kind}" for n, kind in zip(numbers, types, strict=True))
    names = [f"p{n}" for n in numbers]
    row = f"AS v({', '.join(names)})"
    return Statement(
        sqlite=body([f"?{n}" for n in numbers], ""),
        postgresql=body(names, f"FROM unnest({arrays}) {row}"),
        postgresql_row=body(names, f"FROM (VALUES ({values})) {row}"),
    )
