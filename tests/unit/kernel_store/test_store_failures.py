"""Translation of drivers' exceptions into the store's."""

from __future__ import annotations

import re
import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from nomaflow_kernel.store.driver_errors import mapped_errors, store_error
from nomaflow_kernel.store.errors import StaleEpoch, StoreBusy, StoreError, StoreFull, StoreUnavailable


def sqlite_error(code: int) -> OperationalError:
    cause = sqlite3.OperationalError("trouble")
    cause.sqlite_errorcode = code
    return OperationalError("INSERT", {}, cause)


class ServerError(Exception):
    """Looks like an error of a PostgreSQL driver."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate
        super().__init__("first line\nsecond line")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_WRITE, StoreFull),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreFull),
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy),
        (sqlite3.SQLITE_LOCKED, StoreBusy),
        (sqlite3.SQLITE_IOERR_READ, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_CORRUPT, StoreUnavailable),
        (sqlite3.SQLITE_READONLY, StoreUnavailable),
        (sqlite3.SQLITE_CONSTRAINT, None),
        (sqlite3.SQLITE_ERROR, None),
    ],
)
def test_codes_of_sqlite(code: int, expected: type[StoreError] | None) -> None:
    """Each family of codes has its error; those of a statement itself have none."""
    found = store_error(sqlite_error(code))
    assert (type(found) if found else None) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", StoreFull),
        ("53300", StoreUnavailable),
        ("55P03", StoreBusy),
        ("57014", StoreBusy),
        ("57P01", StoreUnavailable),
        ("08006", StoreUnavailable),
        ("3D000", StoreUnavailable),
        ("25006", StoreUnavailable),
        ("23505", None),
        ("22P02", None),
    ],
)
def test_states_of_postgresql(state: str, expected: type[StoreError] | None) -> None:
    """Each class of SQLSTATE has its error, with the first line of the server's text."""
    found = store_error(DBAPIError("INSERT", {}, ServerError(state)))
    assert (type(found) if found else None) is expected
    assert found is None or ("first line" in str(found) and "second line" not in str(found))


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        ("28P01", "correct the user and the password"),
        ("3D000", "create that database"),
        ("42501", "GRANT CREATE, USAGE ON SCHEMA public"),
        ("25006", "default_transaction_read_only = off"),
        ("53300", "raise max_connections"),
        ("3F000", "search_path of the kernel's user"),
        ("08006", "check the database, its disk and the store's URL"),
    ],
)
def test_a_server_that_refuses_is_no_mystery(state: str, fix: str) -> None:
    """Each refusal names its own way out."""
    assert re.search(f"first line; .*{re.escape(fix)}", str(store_error(DBAPIError("INSERT", {}, ServerError(state)))))


def test_what_is_of_no_statement_is_an_unreachable_store() -> None:
    """A server that refuses the connection itself, for whatever reason, blames no operation."""
    refused = store_error(DBAPIError(None, None, ServerError("55000")))
    assert "cannot be reached: first line" in str(refused)
    assert store_error(DBAPIError("INSERT", {}, ServerError("55000"))) is None


def test_a_silent_server_is_told_in_words() -> None:
    """The exception of a time limit has no text of its own."""
    assert "cannot be reached: it did not answer in time" in str(store_error(TimeoutError()))


def test_only_a_lock_is_another_process() -> None:
    """Nobody looks for another process where a read took too long, or was canceled."""
    assert "locked by another process" in str(store_error(DBAPIError("SELECT", {}, ServerError("55P03"))))
    assert "is busy: first line; check the load" in str(store_error(DBAPIError("SELECT", {}, ServerError("57014"))))


def test_what_is_no_driver_error_passes_through() -> None:
    """A mistake in an operation stays itself, the store's own errors too; a broken pipe is an unreachable store."""
    assert store_error(ValueError("x")) is None
    stale = StaleEpoch(own=1, found=2)
    assert store_error(stale) is stale
    assert isinstance(store_error(BrokenPipeError("gone")), StoreUnavailable)
    with pytest.raises(ValueError, match="x"), mapped_errors():
        raise ValueError("x")
    with pytest.raises(StoreUnavailable, match="gone"), mapped_errors():
        raise BrokenPipeError("gone")
