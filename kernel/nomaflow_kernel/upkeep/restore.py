"""Restoring a backup as a project's history, in one step, while no kernel holds it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nomaflow_api.private_file import sync
from nomaflow_kernel.store.errors import MaintenanceRefused, StoreInUse, StoreUnavailable
from nomaflow_kernel.store.file_lock import FileLock
from nomaflow_kernel.upkeep.history_file import HistoryFacts, beside, check_history, opened, read_facts
from nomaflow_kernel.upkeep.sqlite_copy import copy_history, draft_beside
from nomaflow_project.reading.regular_files import reason_of

_IF_DAMAGED = "nothing was changed; try another backup"
_WHY = "the history was restored from a backup; look at what is QUEUED, then: nomaflow resume"
_PAUSE = (
    'INSERT INTO pauses (scope, name, "by", why, since_us) VALUES (?, ?, ?, ?, ?) ON CONFLICT (scope, name)'
    ' DO UPDATE SET "by" = excluded."by", why = excluded.why, since_us = excluded.since_us, until_us = NULL'
    " WHERE until_us IS NOT NULL"
)
"""Pauses everything, also in place of a pause that ends by itself: that may have been over for days."""


def restore(backup: Path, history: Path, *, force: bool, pause: bool, now_us: int) -> dict[str, Any]:
    """Replace ``history`` with the contents of ``backup``. The previous history is kept beside it.

    Epochs and event numbers continue above all that hosts and watchers can have seen: see docs/backup.md.

    :param force: replace an existing history
    :param pause: start nothing until the history is resumed
    :return: the facts of the restore, JSON-ready; times are microseconds since 1970
    :raises MaintenanceRefused: if a kernel runs on the history, if a history exists, or if the backup cannot be used
    """
    began = time.perf_counter()
    history = Path(os.path.realpath(history))  # a link to another disk stays; the lock and the log are beside the file
    if not backup.is_file():
        raise MaintenanceRefused(
            f"there is no file {str(backup)!r}", reason="NO_BACKUP", fix="name a file that nomaflow backup has written"
        )
    try:
        with _locked(history):
            return _restore(backup, history, force=force, pause=pause, now_us=now_us, began=began)
    except (OSError, sqlite3.Error, StoreUnavailable) as error:
        why = reason_of(error) if isinstance(error, OSError) else error
        raise MaintenanceRefused(
            f"cannot restore into {str(history)!r}: {why}",
            reason="RESTORE_FAILED",
            fix="make sure that the directory is writable and has room; what was there is untouched",
        ) from error


@contextlib.contextmanager
def _locked(history: Path) -> Iterator[None]:
    if not history.parent.exists():
        history.parent.mkdir(mode=0o700, parents=True)
        _own(history.parent)
    lock = FileLock(str(history), work="restore")
    try:
        lock.acquire()
    except StoreInUse as error:
        if error.work:
            raise MaintenanceRefused(
                f"another {error.work}, pid {error.pid}, is at work on {str(history)!r}",
                reason="STORE_IN_USE",
                fix="wait until it is done, and look at what it has restored",
            ) from None
        raise MaintenanceRefused(
            f"a kernel, pid {error.pid or 'unknown'}, is running on {str(history)!r}",
            reason="STORE_IN_USE",
            fix="stop it first; hosts may keep running: steps that the backup knows are kept",
        ) from None
    try:
        _own(beside(history, ".lock"))
        yield
    finally:
        lock.release()


def _restore(backup: Path, history: Path, *, force: bool, pause: bool, now_us: int, began: float) -> dict[str, Any]:
    there = history.exists()
    if there and not force:
        raise MaintenanceRefused(
            f"there is a history at {str(history)!r}",
            reason="ALREADY_THERE",
            fix="restore into another directory, or replace it with --force; the old one is kept beside it",
        )
    with draft_beside(history) as draft:
        copy_history(backup, draft, if_damaged=_IF_DAMAGED)
        found = check_history(draft, shown=backup, if_damaged=_IF_DAMAGED)
        old, lost = _old_facts(history, found.last_event_seq)
        _take_on(draft, found, old, pause=pause, now_us=now_us)
        _own(draft)
        replaced = _swap(draft, history, now_us=now_us)
        sync(history.parent)
    return {
        "backup": str(backup),
        "store": str(history),
        "replaced": replaced,
        "bytes": history.stat().st_size,
        "runs": found.runs,
        "open_runs": found.open_runs,
        "newest_event_at_us": found.newest_event_at_us,
        "lost_events": lost,
        "paused": pause,
        "seconds": time.perf_counter() - began,
    }


def _old_facts(history: Path, seq: int) -> tuple[HistoryFacts | None, int | None]:
    """Return the facts of the history to be replaced, and how many events it has after *seq*.

    Each is None if there is none, or if it is unreadable, which may be why it is replaced. Counters cannot tell the
    number of events: a restore sets them to the clock.
    """
    facts = events = None
    with contextlib.suppress(sqlite3.Error), opened(history) as connection:
        facts = read_facts(connection)
        (events,) = connection.execute("SELECT count(*) FROM events WHERE seq > ?", (seq,)).fetchone()
    return facts, events


def _take_on(draft: Path, found: HistoryFacts, old: HistoryFacts | None, *, pause: bool, now_us: int) -> None:
    """Prepare a copy for use.

    Hosts refuse a kernel with a lower epoch than they have seen, and watchers continue after the last event they have
    seen. The backup does not say how far either got later, so both counters continue from the clock: a kernel that
    starts less than once a second, and writes less than a million events a second, never reaches the clock by counting.
    """
    with opened(draft, writing=True) as connection:
        epoch = max(found.epoch, old.epoch if old else 0, now_us // 1_000_000)
        seq = max(found.last_event_seq, old.last_event_seq if old else 0, now_us)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "UPDATE kernel SET epoch = ?, last_event_seq = ?, holder = 'restore', store_id = ?",
            (epoch, seq, uuid.uuid4().hex),
        )
        if pause:
            connection.execute(_PAUSE, ("all", "", "restore", _WHY, now_us))
        connection.execute("COMMIT")
    sync(draft)


def _own(path: Path) -> None:
    """Give a file to the owner of its directory: after a superuser's restore, that user's kernel must open it."""
    owner = path.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0 and path.exists():
        os.chown(path, owner.st_uid, owner.st_gid)


def _swap(draft: Path, history: Path, *, now_us: int) -> str:
    """Put the draft in the history's place; return the path of the kept old one, empty if there was none.

    An old log file must not meet the new database: SQLite would apply it. So its contents go into the old database
    first; if that is too damaged, or gone, the log is moved away.
    """
    there = history.exists()
    stamp = datetime.fromtimestamp(now_us / 1_000_000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = beside(history, f".replaced-{stamp}")
    if there:
        with contextlib.suppress(sqlite3.Error), opened(history, writing=True) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm", "-journal"):
        if beside(history, suffix).exists():
            beside(history, suffix).rename(beside(kept, suffix))
    if there:
        try:
            os.link(history, kept)  # so that a history exists under this name at every moment
        except OSError:
            history.rename(kept)
    draft.rename(history)
    return str(kept) if there else ""
