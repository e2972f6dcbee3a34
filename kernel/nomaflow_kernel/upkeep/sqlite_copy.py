"""Copying a history file as of one moment, even while others write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nomaflow_api.private_file import sync
from nomaflow_kernel.store.errors import MaintenanceRefused
from nomaflow_kernel.upkeep.history_file import damaged, in_thread, opened


@contextlib.contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """Yield a new file, readable by this user only, in the directory of ``target``; it is removed afterwards.

    :raises OSError: if it cannot be made
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def copy_history(source: Path, target: Path, *, if_damaged: str) -> None:
    """Fill ``target``, an empty file, with the current contents of ``source``, as one file without a log beside it.

    It reads one snapshot in one step, which in WAL mode blocks no writer.

    :param if_damaged: the way out for whoever needs the source whole
    :raises MaintenanceRefused: if the source is damaged, not a history, or in a folder that cannot be written
    :raises sqlite3.Error: if one of them cannot be read or written
    """
    try:
        in_thread(lambda: _copy(source, target))
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damaged(source, error, fix=if_damaged) from error
        raise
    sync(target)


def _copy(source: Path, target: Path) -> None:
    with opened(source) as origin, contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
        _require_room_beside(origin, source)
        origin.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")


def _require_room_beside(origin: sqlite3.Connection, source: Path) -> None:
    """Check that SQLite can make the files beside the source that it needs to read it."""
    try:
        origin.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        raise MaintenanceRefused(
            f"cannot read {str(source)!r}: SQLite needs a file beside it, and may not make one",
            reason="FILE_UNUSABLE",
            fix=f"make {str(source.parent)!r} writable; or copy {source.name} and, if it is there, {source.name}-wal "
            "to a folder that is, and name the copy with --store sqlite:///PATH",
        ) from error
