"""The lock that keeps a second kernel off an SQLite store."""

from __future__ import annotations

import fcntl
import os

from nomaflow_kernel.store.errors import StoreInUse, StoreUnavailable

__all__ = ["FileLock"]


class FileLock:
    """An exclusive lock on ``<database>.lock``, with the holder's pid inside; the system releases it with the process.

    :param database: path of the database file
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, without waiting.

        :raises StoreInUse: where another process has it, or another store of this one
        """
        path = os.path.realpath(self._database) + ".lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot open {path!r}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).strip()
            os.close(fd)
            raise StoreInUse(self._database, int(holder) if holder.isdigit() else 0) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let go; doing it twice is legal. The file stays: removing it would let two processes lock two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
