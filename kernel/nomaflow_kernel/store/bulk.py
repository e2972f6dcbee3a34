"""One statement over many rows, in the form that is fast on each database.

A statement is written once, with a typed placeholder for each value. SQLite executes it once per row in one call of the
driver; PostgreSQL gets the rows as one array per placeholder and executes it once. Both return the number of changed
rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from nomaflow_kernel.store.driver import run_many

__all__ = ["BulkStatement", "bulk_insert"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_TYPE_NAMES: tuple[tuple[type[Any], str], ...] = (
    (BigInteger, "bigint"),
    (Integer, "integer"),
    (Boolean, "boolean"),
    (Double, "float8"),
    (LargeBinary, "bytea"),
    (Text, "text"),
)


@dataclass(frozen=True, slots=True)
class BulkStatement:
    """A statement with its two renderings; build it with :meth:`parse` or :func:`bulk_insert`.

    :param sqlite: the text for one row, with question marks
    :param postgresql: the text for all rows, over arrays
    """

    sqlite: str
    postgresql: str

    @classmethod
    def parse(cls, template: str) -> BulkStatement:
        """Return the statement of ``template``, an UPDATE or DELETE … WHERE …, or an INSERT … VALUES (…).

        Its placeholders, like ``{bigint}`` or ``{text}``, are named by their PostgreSQL type; rows give the values in
        the order of the text.
        """
        types = _PLACEHOLDER.findall(template)
        arrays = ", ".join(f"${n}::{name}[]" for n, name in enumerate(types, start=1))
        names = [f"p{n}" for n in range(1, len(types) + 1)]
        rows = f"unnest({arrays}) AS v({', '.join(names)})"
        numbered = iter(names)
        named = _PLACEHOLDER.sub(lambda _: next(numbered), template)
        if named.startswith("INSERT "):
            values = re.compile(r"VALUES \((.*?)\)")
            postgresql = values.sub(lambda m: f"SELECT {m[1]} FROM {rows}", named, count=1)  # noqa: S608 - ours
        else:
            head, tail = named.split(" WHERE ", 1)
            postgresql = f"{head} {'USING' if named.startswith('DELETE ') else 'FROM'} {rows} WHERE {tail}"
        return cls(sqlite=_PLACEHOLDER.sub("?", template), postgresql=postgresql)

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Execute over ``rows`` and return how many rows of the table changed."""
        if not rows:
            return 0
        if connection.dialect.name == "postgresql":
            columns = tuple(list(column) for column in zip(*rows, strict=True))
            return connection.exec_driver_sql(self.postgresql, columns).rowcount
        return run_many(connection, self.sqlite, rows)


def bulk_insert(table: Table, *, on_conflict: str = "DO NOTHING") -> BulkStatement:
    """Return the insert of whole rows, with values in the order of the table's columns."""
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    values = ", ".join(f"{{{_type_name(column)}}}" for column in table.columns)
    return BulkStatement.parse(
        f"INSERT INTO {table.name} ({names}) VALUES ({values}) ON CONFLICT {on_conflict}"  # noqa: S608 - names of our own tables
    )


def _type_name(column: Column[Any]) -> str:
    for kind, name in _TYPE_NAMES:
        if isinstance(column.type, kind):
            return name
    raise TypeError(f"column {column.name!r} has a type without a placeholder: {column.type!r}")
