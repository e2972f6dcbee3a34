"""Opening a store from a URL."""

from __future__ import annotations

import os
import socket
from urllib.parse import unquote_to_bytes

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from nomaflow_kernel.history.lookups import CommitObserver
from nomaflow_kernel.store.database import LOCK_WAIT_SECONDS
from nomaflow_kernel.store.errors import UnsupportedStore
from nomaflow_kernel.store.lease_row import LeasePolicy
from nomaflow_kernel.store.sql_store import Database, Store

_SQLITE = ("sqlite", "sqlite+aiosqlite")
_OPTIONS = frozenset(
    {"database", "host", "krbsrvname", "passfile", "password", "port", "prepared_statement_cache_size", "service",
     "servicefile", "ssl", "target_session_attrs", "user"}
)  # fmt: skip
"""The allowed options of a PostgreSQL URL: asyncpg fails with a TypeError on any other."""


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
    parsed = _parsed(url)
    holder = holder or f"{socket.gethostname()}:{os.getpid()}"
    database = _database(url, parsed, holder, lock_wait_seconds, lease or LeasePolicy())
    return Store(database=database, observer=observer)


def sqlite_file(url: str) -> str | None:
    """Return the path of an SQLite store's file; None if ``url`` names another database.

    :raises UnsupportedStore: if it is not a database URL, or names no file
    """
    return _file(url) if _parsed(url).drivername in _SQLITE else None


def _parsed(url: str) -> URL:
    """Return the parts of a store's URL.

    :raises UnsupportedStore: if it is not the URL of a database that the kernel supports
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UnsupportedStore(url.partition("@")[0][:40], "not a database URL") from None
    if parsed.drivername not in (*_SQLITE, "postgresql", "postgresql+asyncpg"):
        shown = parsed.render_as_string(hide_password=True)
        raise UnsupportedStore(shown, f"unknown kind of database {parsed.drivername!r}")
    return parsed


def _file(url: str) -> str:
    """Return the path in an SQLite URL. SQLAlchemy decodes its percent-encoding only from version 2.1 on.

    :raises UnsupportedStore: if there is no path
    """
    path = url.partition("://")[2].partition("/")[2].partition("?")[0]
    if path in ("", ":memory:"):
        raise UnsupportedStore(url, "history must be kept in a file")
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))


def shown_url(url: str) -> str:
    """Return a store's URL without its password, for display."""
    return make_url(url).render_as_string(hide_password=True)


def driver_url(url: URL | str) -> str:
    """Return a PostgreSQL URL with the store's driver, password included."""
    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def _database(given: str, url: URL, holder: str, lock_wait_seconds: float, lease: LeasePolicy) -> Database:
    if url.drivername in _SQLITE:
        from nomaflow_kernel.store.sqlite import SqliteDatabase

        return SqliteDatabase(path=_file(given), holder=holder, lock_wait_seconds=lock_wait_seconds)
    shown = url.render_as_string(hide_password=True)
    unusable = _unusable_part(url)
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


def _unusable_part(url: URL) -> str:
    """Return the part of a PostgreSQL URL that the driver would not understand; empty if there is none."""
    if url.port is not None and url.port > 65_535:
        return f"there is no port {url.port}"
    unknown = sorted(url.query.keys() - _OPTIONS)
    if not unknown:
        return ""
    hint = ", write ssl=require" if unknown == ["sslmode"] else ""
    return f"it has an option {unknown[0]!r}{hint}; those known are {', '.join(sorted(_OPTIONS))}"
