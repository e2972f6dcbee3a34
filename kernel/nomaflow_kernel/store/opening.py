"""Opening a store from a URL."""

from __future__ import annotations

import os
import socket

from sqlalchemy.exc import ArgumentError

from nomaflow_kernel.history.lookups import CommitObserver
from nomaflow_kernel.store.database import LOCK_WAIT_SECONDS, SqlDatabase
from nomaflow_kernel.store.errors import UnsupportedStore
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.sql_store import Store
from nomaflow_kernel.store.urls import driver_url, parsed_url, sqlite_file, unusable_part


def open_store(
    url: str,
    *,
    holder: str = "",
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
    lease: LeasePolicy | None = None,
    observer: CommitObserver | None = None,
) -> Store:
    """Return the store that ``url`` names, not yet opened.

    :param url: ``sqlite:///PATH`` (four slashes for an absolute path, ``%3F`` for a question mark in it), or
        ``postgresql+asyncpg://USER:PASSWORD@HOST/NAME``
    :param holder: name of this kernel, kept in the store; by default host name and process id
    :param lock_wait_seconds: time that a write waits for another process's lock before StoreBusy
    :param lease: leadership settings, if several kernels share a database; None: a lease of 12 s, without addresses
    :param observer: called after each applied batch
    :raises UnsupportedStore: if the URL is of neither kind
    """
    holder = holder or f"{socket.gethostname()}:{os.getpid()}"
    database = _database(url, holder, lock_wait_seconds, lease or LeasePolicy())
    return Store(database=database, observer=observer)


def _database(given: str, holder: str, lock_wait_seconds: float, lease: LeasePolicy) -> SqlDatabase:
    if file := sqlite_file(given):
        from nomaflow_kernel.store.sqlite import SqliteDatabase

        return SqliteDatabase(path=file, holder=holder, lock_wait_seconds=lock_wait_seconds)
    url = parsed_url(given)
    shown = url.render_as_string(hide_password=True)
    unusable = unusable_part(url)
    if unusable:
        raise UnsupportedStore(shown, unusable)
    try:
        # Imported here: a kernel on SQLite need not have asyncpg.
        from nomaflow_kernel.store.postgres import PostgresDatabase

        return PostgresDatabase(url=driver_url(url), holder=holder, lock_wait_seconds=lock_wait_seconds, lease=lease)
    except ModuleNotFoundError as error:
        raise UnsupportedStore(shown, f"{error.name} is not installed; pip install 'nomaflow[postgres]'") from None
    except (ArgumentError, ValueError) as error:
        raise UnsupportedStore(shown, f"one of its options has a wrong value: {error}") from None
