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


_OPTIONS = frozenset(
    {"database", "host", "krbsrvname", "passfile", "password", "port", "prepared_statement_cache_size", "service",
     "servicefile", "ssl", "target_session_attrs", "user"}
)  # fmt: skip
"""The allowed options of a PostgreSQL URL: asyncpg fails with a TypeError on any other."""


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


def unusable_part(url: URL) -> str:
    """Return the part of a PostgreSQL URL that the driver would not understand; empty if there is none."""
    if url.port is not None and url.port > 65_535:
        return f"there is no port {url.port}"
    unknown = sorted(url.query.keys() - _OPTIONS)
    if not unknown:
        return ""
    hint = ", write ssl=require" if unknown == ["sslmode"] else ""
    return f"it has an option {unknown[0]!r}{hint}; those known are {', '.join(sorted(_OPTIONS))}"
