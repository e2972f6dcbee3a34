"""Conversion of driver errors to the store's errors."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from nomaflow_kernel.store.errors import CHECK_DATABASE, StoreBusy, StoreError, StoreFull, StoreUnavailable

_WRITE_FAILED = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)
_BROKEN = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)
_SQLSTATES_FULL = ("53100",)
_SQLSTATE_LOCKED = "55P03"
_SQLSTATES_BUSY = ("57014", "40P01", "40001")
_SQLSTATES_UNAVAILABLE = ("08", "57P", "53", "58", "XX", "25006", "28", "3D", "3F", "42501", "42P01")
_FIXES = {
    "28": "correct the user and the password of the store, or let the server admit that user (pg_hba.conf)",
    "08P01": "connect to the server itself: a pooler such as PgBouncer keeps back the settings of sessions",
    "3D": "create that database, or correct the name in the store's URL",
    "3F": "let the search_path of the kernel's user begin with a schema that exists",
    "42501": "let the kernel's user create tables: GRANT CREATE, USAGE ON SCHEMA public TO that user; and own those "
    "that are there: ALTER TABLE … OWNER TO that user",
    "25006": "use a server that accepts writes, and let the kernel's user write: default_transaction_read_only = off",
    "53300": "end other sessions, or raise max_connections of the server: a kernel needs 6",
}
"""The way out, by the beginning of the SQLSTATE."""


def store_error(error: BaseException) -> StoreError | None:
    """Return the store's error for a driver's error, or None if the operation itself caused it."""
    if isinstance(error, StoreError):
        return error
    cause: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return _from_sqlite(cause)
    if isinstance(error, PoolTimeout):
        return StoreBusy("all its connections are in use", locked=False)
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if isinstance(state, str):
        found = _from_sqlstate(state, cause)
        if found is None and isinstance(error, DBAPIError) and error.statement is None:
            # No operation is to blame: it was about to connect, or to commit.
            return StoreUnavailable(_first_line(cause))
        return found
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return StoreUnavailable(_first_line(cause))
    if isinstance(cause, (OSError, EOFError)) or type(cause).__name__ in _LOST_CONNECTION:
        return StoreUnavailable(_first_line(cause))
    return None


_LOST_CONNECTION = frozenset({"InterfaceError", "InternalClientError", "ConnectionDoesNotExistError"})
"""Exceptions by name, since asyncpg is an extra and may not be installed."""


def _from_sqlite(error: sqlite3.Error) -> StoreError | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return StoreUnavailable(_first_line(error)) if isinstance(error, sqlite3.ProgrammingError) else None
    if code == sqlite3.SQLITE_FULL or code in _WRITE_FAILED:
        return StoreFull(_first_line(error))
    if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(_first_line(error))
    if code & 0xFF in _BROKEN:
        return StoreUnavailable(_first_line(error))
    return None


def _from_sqlstate(state: str, error: BaseException) -> StoreError | None:
    if state.startswith(_SQLSTATES_FULL):
        return StoreFull(_first_line(error))
    if state == _SQLSTATE_LOCKED:
        return StoreBusy(_first_line(error))
    if state.startswith(_SQLSTATES_BUSY):
        return StoreBusy(_first_line(error), locked=False)
    if state.startswith(_SQLSTATES_UNAVAILABLE):
        fix = next((fix for beginning, fix in _FIXES.items() if state.startswith(beginning)), CHECK_DATABASE)
        return StoreUnavailable(_first_line(error), fix=fix)
    return None


def _first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, TimeoutError) and not text:
        return "it did not answer in time"
    return text or type(error).__name__


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Raise the store's error instead of the driver's."""
    try:
        yield
    except Exception as error:
        mapped = store_error(error)
        if mapped is None or mapped is error:
            raise
        raise mapped from error
