"""Files on the disk: read up to a limit, named for messages, checked for who may open them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["MAX_FILE_BYTES", "others_may_open", "read_regular", "shown_path"]

MAX_FILE_BYTES = 1024 * 1024
"""The largest file of a project that is read."""


def read_regular(path: str | Path, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a file.

    :raises OSError: if it cannot be read, is larger than the limit (``EFBIG``), or is not a regular file, such as a
        pipe, which could block
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        body = stream.read(limit + 1)
    if len(body) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit} bytes")
    return body


def shown_path(path: Path, root: Path) -> str:
    """Return a file's name for messages and the manifest: relative to the project if it is inside it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def others_may_open(path: Path) -> int:
    """Return the mode of a file that others than its owner may read or write, otherwise 0."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode if mode & (stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH) else 0
