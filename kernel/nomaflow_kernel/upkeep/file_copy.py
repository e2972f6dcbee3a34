"""Copying a history file as of one moment, even while others write to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nomaflow_kernel.upkeep.history_file import damaged, in_thread, opened, sync


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
    :raises MaintenanceRefused: if the source is damaged, or not a history
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
        origin.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")
