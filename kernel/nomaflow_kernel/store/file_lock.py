"""The lock that keeps a second kernel off an SQLite store."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nomaflow_api.private_file import locked
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
        path = Path(os.path.realpath(self._database) + ".lock")
        try:
            self._fd = locked(path)
        except BlockingIOError:
            raise StoreInUse(self._database, *read_holder(path)) from None
        except OSError as error:
            raise StoreUnavailable(f"cannot lock {str(path)!r}: {error.strerror}") from error
        with contextlib.suppress(OSError):  # the holder is for people; there may be no room for it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()} {self._work}".rstrip().encode() + b"\n", 0)

    def release(self) -> None:
        """Release the lock; twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_holder(path: Path) -> tuple[int, str]:
    """Return, from a lock file, the holder's pid (0 if unknown) and the purpose of its lock.

    :raises OSError: if it cannot be read
    """
    pid, _, work = path.read_bytes()[:64].decode("ascii", "replace").strip().partition(" ")
    return (int(pid), work) if pid.isdigit() else (0, "")
