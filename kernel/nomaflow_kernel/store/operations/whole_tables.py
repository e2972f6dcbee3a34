"""Tables that are read whole, and whose rows are replaced and removed by their keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct
from sqlalchemy import Connection, delete, select

from nomaflow_kernel.store.operations.conditions import chunks
from nomaflow_kernel.store.rows import CERTIFICATES, TOKENS, Rows
from nomaflow_kernel.store.statements import insert

R = TypeVar("R", bound=Struct)


def every(rows: Rows[R], *order: str) -> Callable[[Connection], list[R]]:
    """Return the operation that returns every record of a table, in the order of some columns."""
    query = select(rows.table).order_by(*(rows.table.c[name] for name in order))
    return lambda connection: [rows.record(row) for row in connection.execute(query)]


def replacing(rows: Rows[R]) -> Callable[[Connection, Sequence[R]], None]:
    """Return the operation that keeps records, each in place of the one with its key."""
    statement = insert(rows.table, rows.columns, replaces=True)

    def keep(connection: Connection, records: Sequence[R]) -> None:
        statement.execute(connection, [rows.values(each) for each in records])

    return keep


def remove_credentials(connection: Connection, token_ids: Sequence[str], serials: Sequence[str]) -> None:
    """Delete tokens by their ids and certificates by their serials; unknown ones are ignored."""
    for column, names in ((TOKENS.table.c.token_id, token_ids), (CERTIFICATES.table.c.serial, serials)):
        for chunk in chunks(names):
            connection.execute(delete(column.table).where(column.in_(chunk)))
