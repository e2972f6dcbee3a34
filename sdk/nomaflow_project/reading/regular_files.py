"""Files on the disk: read up to a limit, named for messages, checked for who may open them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from nomaflow_api.byte_sizes import byte_size

MAX_FILE_BYTES = 1024 * 1024
"""The largest file of a project that is read."""


def read_regular(
    path: str | Path, *, limit: int = MAX_FILE_BYTES, accept: Callable[[os.stat_result], str] | None = None
) -> bytes:
    """Return the bytes of a file.

    :param accept: returns why the opened file is refused, empty if it is not, such as `private_reason`
    :raises OSError: if it cannot be read, is larger than the limit (``EFBIG``), or is not a regular file, such as a
        pipe, which could block
    :raises PermissionError: if *accept* refuses it
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its path has a NUL byte")
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if accept is not None and (reason := accept(status)):
            raise PermissionError(errno.EPERM, reason)
        body = stream.read(limit + 1)
    if len(body) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {byte_size(limit)}")
    return body


def file_stamp(path: str | Path) -> tuple[int, ...]:
    """Return what is another whenever a file was written or replaced; empty if it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def reason_of(error: OSError) -> str:
    """Return why a file cannot be used, as the end of a sentence."""
    reason = error.strerror or type(error).__name__
    return reason[:1].lower() + reason[1:]


def shown_path(path: Path, root: Path) -> str:
    """Return a file's name for messages and the manifest: relative to the project if it is inside it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def private_reason(status: os.stat_result) -> str:
    """Return why a file is no place for a secret; empty if only its owner, who is us or root, can change and read it.

    A group may read a file of root, as systemd and administrators arrange it: root decides who is in that group.
    """
    if status.st_uid not in (os.geteuid(), 0):
        return "it belongs to another user"
    mode = stat.S_IMODE(status.st_mode)
    group_may = stat.S_IRGRP if status.st_uid == 0 else 0
    if mode & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP) & ~group_may & ~(stat.S_IXOTH):
        return f"others may read or write it (its mode is {mode:04o})"
    return ""


def detour_reason(path: Path, *, owner: int) -> str:
    """Return which folder on the way to a file others may change; empty if none. They could lead root to any file.

    Only a process of root is led astray so: another one can read only what its user may read.

    :param owner: user id that is trusted besides root, such as the owner of the project
    """
    if os.geteuid() != 0:
        return ""
    ways = (Path(os.path.abspath(path)), Path(os.path.realpath(path)))
    for folder in dict.fromkeys(folder for way in ways for folder in way.parents):
        status = folder.stat()
        group_may = stat.S_IWGRP if status.st_gid != 0 else 0
        shared = status.st_mode & (stat.S_IWOTH | group_may) and not status.st_mode & stat.S_ISVTX
        if shared or status.st_uid not in (0, owner):
            return f"others may change the folder {str(folder)!r}, and the host runs as root"
    return ""


def others_may_open(path: Path) -> int:
    """Return the mode of a file that others than its owner may read or write, otherwise 0."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode if mode & (stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH) else 0
