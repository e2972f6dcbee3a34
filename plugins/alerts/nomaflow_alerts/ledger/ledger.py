"""The file, opened by one process at a time and used in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from nomaflow_alerts.ledger.book import Book
from nomaflow_alerts.ledger.schema import SCHEMA, VERSION
from nomaflow_alerts.settings import CannotServe
from nomaflow_api.private_file import locked

T = TypeVar("T")

_CHECKPOINT_PAGES = 500


class LedgerInUse(Exception):
    """Raised when another process has the file."""


class Ledger:
    """Runs transactions on the file, one after the other.

    :param path: the file; None for one in memory
    :param clock: seconds since the epoch
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = -1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Lock the file, and make its tables if it is new.

        :raises LedgerInUse: if another process has it
        :raises CannotServe: if it cannot be used; with exit code 1 if a new start may find that it can
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def run(self, work: Callable[[Book], T]) -> T:
        """Return the result of some work, all of it in one transaction: it is durable, or nothing of it happened.

        :raises CannotServe: if the file cannot be read or written any more
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    async def close(self) -> None:
        """Close the file. May be called twice."""
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _open(self) -> None:
        if self._path is not None:
            self._lock = _locked(self._path)
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._close()
            failed = isinstance(error, sqlite3.OperationalError)  # there is no room now, say
            raise CannotServe(
                f"{self._path} cannot be used: {error}; check the disk, or move the file away: "
                "incidents are then built anew from the kernel's history",
                exit_code=1 if failed else os.EX_TEMPFAIL,
            ) from None
        except CannotServe:
            self._close()
            raise

    def _prepare(self) -> None:
        target = str(self._path) if self._path is not None else ":memory:"
        connection = self._connection = sqlite3.connect(target, isolation_level=None, cached_statements=256)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        elif version > VERSION:
            raise CannotServe(
                f"{target!r} was made by a later version; install that one, or move the file away: "
                "incidents are then built anew from the kernel's history",
                exit_code=os.EX_TEMPFAIL,
            )

    def _work(self, work: Callable[[Book], T]) -> T:
        assert self._connection is not None
        try:
            with _transaction(self._connection):
                return work(Book(self._connection, now=self._clock()))
        except sqlite3.OperationalError as error:
            raise CannotServe(
                f"{self._path} cannot be used: {error}; check the disk and its room", exit_code=1
            ) from error

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # on a full disk SQLite has ended it itself
            connection.execute("ROLLBACK")
        raise


def _locked(path: Path) -> int:
    """Return the descriptor of the lock file beside the file, which holds the lock until it is closed."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = locked(path.with_name(f"{path.name}.lock"))
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # readable by nobody else
    except BlockingIOError:
        raise LedgerInUse(str(path)) from None
    except OSError as error:
        why = f"{path.name} in {str(path.parent)!r} cannot be opened: {error.strerror}"
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            fix = "it has to be a folder of the user that runs this"
            raise CannotServe(f"{why}; {fix}", exit_code=os.EX_TEMPFAIL) from None
        raise CannotServe(why, exit_code=1) from None
    return descriptor
