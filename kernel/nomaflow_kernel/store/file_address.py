"""The file that a store's URL names. Loads no SQLAlchemy: a tool that reads or copies the file does without."""

from __future__ import annotations

import os
from urllib.parse import unquote_to_bytes

from nomaflow_kernel.store.errors import UnsupportedStore

SQLITE = ("sqlite", "sqlite+aiosqlite")


def sqlite_file(url: str) -> str | None:
    """Return the path of an SQLite store's file; None if ``url`` names another database.

    :raises UnsupportedStore: if it is not a database URL, or names no file
    """
    kind, found, rest = url.partition("://")
    if not found or kind not in SQLITE:
        from nomaflow_kernel.store.opening import parsed_url

        parsed_url(url)
        return None
    # SQLAlchemy decodes the percent-encoding of a path only from version 2.1 on.
    path = rest.partition("/")[2].partition("?")[0]
    if path in ("", ":memory:"):
        raise UnsupportedStore(url, "history must be kept in a file")
    return os.fsdecode(unquote_to_bytes(os.fsencode(path)))
