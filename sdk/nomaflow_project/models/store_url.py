"""The URL of a history as a file, a variable or a flag gives it."""

from __future__ import annotations

import os
from typing import Annotated
from urllib.parse import unquote_to_bytes

from nomaflow_project.reading.keys import Checked, refusal

SQLITE_KINDS = ("sqlite", "sqlite+aiosqlite")
POSTGRES_KINDS = ("postgresql", "postgresql+asyncpg")
NOT_A_URL = "not a database URL; in a user and a password, write %40 for @, %3A for : and %2F for /"
IN_MEMORY = "history must be kept in a file"
_UNRESOLVED = "${"


def path_in_url(rest: str) -> str:
    """Return the path in an SQLite URL without its kind; empty for a store in memory, or if no file has such a name."""
    # SQLAlchemy decodes the percent-encoding of a path only from version 2.1 on.
    path = os.fsdecode(unquote_to_bytes(os.fsencode(rest.partition("/")[2].partition("?")[0])))
    return "" if path == ":memory:" or "\0" in path else path


def unknown_kind(kind: str) -> str:
    """Return what is wrong with a URL of an unknown kind."""
    return f"unknown kind of database {kind[:80]!r}"


def unfit_store(url: str) -> str:
    """Return why no kernel can use a URL, as far as its kind tells; empty if one may."""
    kind, found, rest = url.partition("://")
    if not found:
        return NOT_A_URL
    if kind in SQLITE_KINDS:
        return "" if path_in_url(rest) else IN_MEMORY
    return "" if kind in POSTGRES_KINDS else unknown_kind(kind)


def _checked(url: str) -> str:
    if url and _UNRESOLVED not in url and (problem := unfit_store(url)):  # a missing variable is a problem of its own
        fix = "write sqlite:///PATH, or postgresql+asyncpg://USER:PASSWORD@HOST/NAME"
        raise refusal("bad_url", "{problem}", problem=problem, fix=fix)
    return url


StoreUrl = Annotated[str, Checked(_checked)]
"""A URL of SQLite or PostgreSQL; empty for the usual file. Only a kernel can tell whether the rest of it is right."""
