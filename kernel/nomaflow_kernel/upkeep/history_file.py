"""SQLite history files: opening them, reading their facts, and making files durable."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from nomaflow_kernel.store.errors import MaintenanceRefused
from nomaflow_kernel.store.migrations import HEAD, usable_revision

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


class HistoryFacts(Struct, frozen=True, kw_only=True):
    """The facts of a history file. Times are microseconds since 1970.

    :param mark: ``moved`` if the history continues elsewhere, ``copying`` for an incomplete copy
    """

    revision: str
    mark: str
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


def check_history(path: Path, *, shown: Path, if_damaged: str) -> HistoryFacts:
    """Check that this version can read a file as history; return its facts.

    :param shown: the file's name in errors
    :param if_damaged: the way out for whoever needs the file whole
    :raises MaintenanceRefused: if it is damaged, not a history, marked, or of a version that this one cannot use
    :raises sqlite3.Error: if it cannot be read
    """
    facts = in_thread(lambda: _look_into(path))
    if isinstance(facts, str):
        raise damaged(shown, facts, fix=if_damaged)
    if not usable_revision(facts.revision):
        too_new = facts.revision > HEAD
        raise MaintenanceRefused(
            f"{str(shown)!r} has schema revision {facts.revision!r}, this version knows {HEAD!r}",
            reason="SCHEMA_TOO_NEW" if too_new else "SCHEMA_TOO_OLD",
            fix="use the version of nomaflow that wrote it" + (", or a later one" if too_new else ""),
        )
    if facts.mark:
        moved, elsewhere = facts.mark == "moved", "back up the store that the history is in"
        reclaim = f"nomaflow store reclaim {shlex.quote(f'sqlite:///{shown.absolute()}')}"
        raise MaintenanceRefused(
            f"{str(shown)!r} {'was moved to another store' if moved else 'is an incomplete copy'}",
            reason="STORE_MOVED" if moved else "STORE_UNFINISHED",
            fix=f"{elsewhere}; or make this one usable again, as it was at the move: {reclaim}" if moved else elsewhere,
        )
    return facts


def _look_into(path: Path) -> HistoryFacts | str:
    """Return the facts of a history, or its damage."""
    try:
        with opened(path) as connection:
            return damage(connection, thorough=True) or read_facts(connection)
    except sqlite3.Error as error:
        if no_damage(error):
            raise
        return str(error)


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


def damaged(path: Path, what: object, *, fix: str) -> MaintenanceRefused:
    """Return the refusal of a file that is not an intact history."""
    return MaintenanceRefused(f"{str(path)!r} is not a whole history: {what}", reason="HISTORY_DAMAGED", fix=fix)


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


def read_facts(connection: sqlite3.Connection) -> HistoryFacts:
    """Return the facts of a history, as of one moment.

    :raises sqlite3.Error: if the file is not a history, or cannot be read
    """
    connection.execute("BEGIN")
    try:
        found = connection.execute("SELECT * FROM kernel, alembic_version")
        kernel = dict(zip((column[0] for column in found.description), found.fetchone() or (), strict=False))
        if not kernel:
            raise sqlite3.DatabaseError("it does not name its schema, or no kernel has used it")
        newest = connection.execute("SELECT at_us FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        runs, open_runs = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE state IN ('QUEUED', 'RUNNING')) FROM runs"
        ).fetchone()
        return HistoryFacts(
            revision=kernel["version_num"],
            mark=kernel.get("mark", ""),
            epoch=kernel["epoch"],
            last_event_seq=kernel["last_event_seq"],
            newest_event_at_us=newest[0] if newest else None,
            runs=runs,
            open_runs=open_runs,
        )
    finally:
        connection.execute("ROLLBACK")


def beside(path: Path, suffix: str) -> Path:
    """Return the file beside a history file whose name ends with ``suffix``, such as ``-wal``."""
    return path.with_name(path.name + suffix)
