"""Tokens and certificates."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from nomaflow_kernel.history.access_records import CertificateRecord, TokenRecord
from nomaflow_kernel.store.rows import CERTIFICATES, TOKENS
from nomaflow_kernel.store.statements import insert

__all__ = ["certificates", "keep_certificates", "keep_tokens", "remove_credentials", "tokens"]

_PAGE = 500
_KEEP_TOKEN = insert(TOKENS.table, TOKENS.columns, replaces=True)
_KEEP_CERTIFICATE = insert(CERTIFICATES.table, CERTIFICATES.columns, replaces=True)


def tokens(connection: Connection) -> list[TokenRecord]:
    """Return every token, in the order in which they were created."""
    table = TOKENS.table
    query = select(table).order_by(table.c.created_at_us, table.c.token_id)
    return [TOKENS.record(row) for row in connection.execute(query)]


def keep_tokens(connection: Connection, records: Sequence[TokenRecord]) -> None:
    """Keep tokens, each in place of the one with its id."""
    _KEEP_TOKEN.execute(connection, [TOKENS.values(each) for each in records])


def certificates(connection: Connection) -> list[CertificateRecord]:
    """Return every certificate, in the order in which they were issued."""
    table = CERTIFICATES.table
    query = select(table).order_by(table.c.issued_at_us, table.c.serial)
    return [CERTIFICATES.record(row) for row in connection.execute(query)]


def keep_certificates(connection: Connection, records: Sequence[CertificateRecord]) -> None:
    """Keep certificates, each in place of the one with its serial."""
    _KEEP_CERTIFICATE.execute(connection, [CERTIFICATES.values(each) for each in records])


def remove_credentials(connection: Connection, token_ids: Sequence[str], serials: Sequence[str]) -> None:
    """Delete tokens by their ids and certificates by their serials; unknown ones are ignored."""
    for column, names in ((TOKENS.table.c.token_id, token_ids), (CERTIFICATES.table.c.serial, serials)):
        for start in range(0, len(names), _PAGE):
            connection.execute(delete(column.table).where(column.in_(names[start : start + _PAGE])))
