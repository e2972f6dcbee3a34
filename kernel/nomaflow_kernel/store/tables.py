"""Whole tables: read in key order, written to another database, summed up in digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.util import await_only

from nomaflow_kernel.store import schema
from nomaflow_kernel.store.driver import run_many

__all__ = ["HISTORY", "TableDigest", "copy_table", "digest_table"]

HISTORY: Sequence[Table] = tuple(
    table
    for table in schema.metadata.sorted_tables
    if table not in (schema.kernel, schema.leadership, schema.lease_length, schema.identity)
)
"""All tables but the rows about who is using this very database."""

_FETCHED = 100
_PAGE_ROWS = 5_000
_PAGE_BYTES = 4 << 20

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class TableDigest:
    """The contents of a table: its number of rows, and a digest of them all in key order."""

    rows: int
    sha256: str


class _Summing:
    """Digests rows by their Python values, which are the same in every database."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._rows = 0

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._hash.update(repr(row).encode("utf-8"))
        self._rows += len(rows)

    def digest(self) -> TableDigest:
        return TableDigest(self._rows, self._hash.hexdigest())


def copy_table(source: Connection, target: Connection, table: Table, *, between: Callable[[int], None]) -> TableDigest:
    """Append every row of a table to its counterpart in another database, page by page; return the rows' digest.

    :param between: called after each page with its number of rows; an exception from it ends the copy
    """
    summing = _Summing()
    write = _writer(target, table)
    for page in _pages(source, table):
        summing.add(page)
        with target.begin():
            write(page)
        between(len(page))
    return summing.digest()


def digest_table(connection: Connection, table: Table, *, between: Callable[[int], None]) -> TableDigest:
    """Return the contents of a table.

    :param between: called after each page with its number of rows
    """
    summing = _Summing()
    for page in _pages(connection, table):
        summing.add(page)
        between(len(page))
    return summing.digest()


def _pages(connection: Connection, table: Table) -> Iterator[list[Row]]:
    """Yield the rows in pages, so that neither many nor large rows fill the memory."""
    query = select(table).order_by(*table.primary_key.columns).execution_options(stream_results=True)
    page: list[Row] = []
    size = 0
    with connection.begin(), connection.execute(query) as result:
        for fetched in result.partitions(_FETCHED):
            for row in fetched:
                page.append(tuple(row))
                size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
            if len(page) >= _PAGE_ROWS or size >= _PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page


def _writer(target: Connection, table: Table) -> Callable[[list[Row]], None]:
    if target.dialect.name == "sqlite":
        statement = str(table.insert().compile(dialect=target.dialect))
        return lambda page: _expect(run_many(target, statement, page), page, table)
    columns = [column.name for column in table.columns]

    def copy(page: list[Row]) -> None:
        target.exec_driver_sql("SELECT 1")  # begins the transaction; the driver's own COPY would not
        driver: Any = target.connection.driver_connection
        await_only(driver.copy_records_to_table(table.name, records=page, columns=columns))

    return copy


def _expect(written: int, page: list[Row], table: Table) -> None:
    if written != len(page):
        raise AssertionError(f"{written} of {len(page)} rows of {table.name} were written")
