"""SQLite history files: opening them, reading their facts, and making files durable."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from nomaflow_kernel.store.marks import Mark, mark_of
from nomaflow_kernel.store.migrate import usable_revision
from nomaflow_kernel.store.migrations import HEAD
from nomaflow_kernel.upkeep.errors import MaintenanceRefused

__all__ = [
    "HistoryFacts",
    "beside",
    "check_history",
    "damage",
    "damaged",
    "in_thread",
    "no_damage",
    "opened",
    "read_facts",
    "sync_directory",
    "sync_file",
]

T = TypeVar("T")

_WAIT_SECONDS = 5.0
_ROUND_IT = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED,
     sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY}
)  # fmt: skip
_UNREADABLE = frozenset(
    {sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR_DATA, sqlite3.SQLITE_IOERR_READ,
     sqlite3.SQLITE_IOERR_SHORT_READ}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryFacts:
    """The facts of a history file. Times are microseconds since 1970."""

    revision: str
    epoch: int
    last_event_seq: int
    newest_event_at_us: int | None
    runs: int
    open_runs: int


@contextlib.contextmanager
def opened(path: Path, *, writing: bool = False) -> Iterator[sqlite3.Connection]:
    """Open an existing history file, with manual transactions; a reader beside a running kernel blocks nobody."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    try:
        if not writing:
            connection.execute("PRAGMA query_only = ON")
        yield connection
    finally:
        connection.close()


def check_history(path: Path, *, shown: Path) -> None:
    """Check that this version can read a file as history.

    :param shown: the file's name in errors
    :raises MaintenanceRefused: if it is damaged, not a history, or of a newer version
    :raises sqlite3.Error: if it cannot be read
    """
    found, revision = in_thread(lambda: _look_into(path))
    if found:
        raise damaged(shown, found)
    marked = mark_of(revision)
    if marked is not None:
        what = "was moved to another store" if marked.mark is Mark.MOVED else "is an incomplete copy"
        raise MaintenanceRefused(
            f"{str(shown)!r} {what}",
            reason="STORE_MOVED" if marked.mark is Mark.MOVED else "STORE_UNFINISHED",
            fix="back up the store that the history is in",
        )
    if not usable_revision(revision):
        raise MaintenanceRefused(
            f"{str(shown)!r} has schema revision {revision!r}, this version knows up to {HEAD!r}",
            reason="SCHEMA_TOO_NEW",
            fix="use the version of nomaflow that wrote it, or a later one",
        )


def _look_into(path: Path) -> tuple[str, str]:
    """Return the damage of a history, and its schema's revision."""
    try:
        with opened(path) as connection:
            found = damage(connection, thorough=True)
            return found, "" if found else _revision(connection)
    except sqlite3.Error as error:
        if no_damage(error):
            raise
        return str(error), ""


def in_thread(work: Callable[[], T]) -> T:
    """Run work in a thread that may keep SQLite busy for minutes.

    Python handles a signal only between its own instructions. The main thread, where signals arrive, waits for the work
    instead, so that an interruption takes effect at once.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001  # handed to the waiting thread
            done.set_exception(error)

    threading.Thread(target=run, name="nomaflow-maintenance", daemon=True).start()
    return done.result()


def damaged(path: Path, what: object) -> MaintenanceRefused:
    """Return the refusal of a file that is not an intact history."""
    return MaintenanceRefused(
        f"{str(path)!r} is not a whole history: {what}",
        reason="HISTORY_DAMAGED",
        fix="nothing was changed; see what else there is: another backup, or nomaflow doctor --deep",
    )


def damage(connection: sqlite3.Connection, *, thorough: bool) -> str:
    """Return the damage of a database, empty if it is intact.

    :param thorough: also compare indexes with tables
    :raises sqlite3.Error: if it cannot be read
    """
    try:
        pragma = "integrity_check" if thorough else "quick_check"
        first = connection.execute(f"PRAGMA {pragma}(1)").fetchone()
        return "" if first == ("ok",) else str(first[0])
    except sqlite3.DatabaseError as error:
        if no_damage(error):
            raise
        return str(error)


def no_damage(error: Exception) -> bool:
    """Return whether an error is about the file's surroundings: no room, no permission, a lock."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _ROUND_IT and code not in _UNREADABLE


def _revision(connection: sqlite3.Connection) -> str:
    """Return the schema's revision.

    :raises sqlite3.Error: if the file is not a history
    """
    connection.execute("SELECT epoch, last_event_seq FROM kernel WHERE id = 1").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def read_facts(connection: sqlite3.Connection) -> HistoryFacts:
    """Return the facts of a history, as of one moment.

    :raises sqlite3.Error: if the file is not a history, or cannot be read
    """
    connection.execute("BEGIN")
    try:
        epoch, last_event_seq = connection.execute("SELECT epoch, last_event_seq FROM kernel WHERE id = 1").fetchone()
        newest = connection.execute("SELECT at_us FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        open_runs = connection.execute("SELECT count(*) FROM runs WHERE state IN ('QUEUED', 'RUNNING')").fetchone()[0]
        return HistoryFacts(
            revision=_revision(connection),
            epoch=epoch,
            last_event_seq=last_event_seq,
            newest_event_at_us=newest[0] if newest else None,
            runs=runs,
            open_runs=open_runs,
        )
    finally:
        connection.execute("ROLLBACK")


def beside(path: Path, suffix: str) -> Path:
    """Return the file beside a history file whose name ends with ``suffix``, such as ``-wal``."""
    return path.with_name(path.name + suffix)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
