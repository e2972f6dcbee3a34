"""The URLs of stores. The path of a file is found without SQLAlchemy: a tool that reads or copies it does without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nomaflow_kernel.store.errors import UnsupportedStore
from nomaflow_project.models.store_url import (
    IN_MEMORY,
    NOT_A_URL,
    POSTGRES_KINDS,
    SQLITE_KINDS,
    path_in_url,
    unknown_kind,
)

if TYPE_CHECKING:
    from sqlalchemy import URL


def sqlite_file(url: str) -> str | None:
    """Return the path of an SQLite store's file; None if ``url`` names another database.

    :raises UnsupportedStore: if it is not a database URL, or names no file
    """
    kind, found, rest = url.partition("://")
    if not found or kind not in SQLITE_KINDS:
        parsed_url(url)
        return None
    path = path_in_url(rest)
    if not path:
        raise UnsupportedStore(url, IN_MEMORY)
    return path


def parsed_url(url: str) -> URL:
    """Return the parts of a store's URL.

    :raises UnsupportedStore: if it is not the URL of a database that the kernel supports
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UnsupportedStore(url.rpartition("@")[2][:40], NOT_A_URL) from None
    if parsed.drivername not in (*SQLITE_KINDS, *POSTGRES_KINDS):
        raise UnsupportedStore(parsed.render_as_string(hide_password=True), unknown_kind(parsed.drivername))
    return parsed


def shown_url(url: str) -> str:
    """Return a store's URL without its password, for display."""
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)


def driver_url(url: URL | str) -> str:
    """Return a PostgreSQL URL with the store's driver, password included."""
    from sqlalchemy import make_url

    return make_url(url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)
