"""The lock that keeps a second kernel off an SQLite store."""

from __future__ import annotations

import contextlib
import fcntl
import os

from nomaflow_kernel.store.errors import StoreInUse, StoreUnavailable


class FileLock:
    """An exclusive lock on ``<database>.lock``, with the holder's pid inside; it ends with the process.

    :param database: path of the database file
    :param work: purpose of the lock, shown to others; empty for a kernel
    """

    def __init__(self, database: str, *, work: str = "") -> None:
        self._database = database
        self._work = work
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock, without waiting.

        :raises StoreInUse: if another process has it, or another store object of this process
        :raises StoreUnavailable: if it cannot be taken, or the path is not a file
        """
        if os.path.exists(self._database) and not os.path.isfile(self._database):
            raise StoreUnavailable(f"{self._database!r} is not a file")  # before a lock file is left beside it
        path = os.path.realpath(self._database) + ".lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot open {path!r}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, work = read_holder(os.pread(fd, 64, 0))
            os.close(fd)
            raise StoreInUse(self._database, pid, work) from None
        with contextlib.suppress(OSError):  # the holder is for people; there may be no room for it
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {self._work}".rstrip().encode() + b"\n", 0)
        self._fd = fd

    def release(self) -> None:
        """Release the lock; twice is allowed. The file stays: removing it would let two processes lock two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_holder(content: bytes) -> tuple[int, str]:
    """Return, from a lock file's content, the holder's pid (0 if unknown) and the purpose of its lock."""
    pid, _, work = content.decode("ascii", "replace").strip().partition(" ")
    return (int(pid), work) if pid.isdigit() else (0, "")
