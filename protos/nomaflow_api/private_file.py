"""Files that only their owner may read: written whole and durably, checked before they are used, and locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


def mode_open_to_others(path: Path) -> str:
    """Return the mode of a private file that others may use, such as ``644``; empty if they may not.

    A group may read a file that root or another user provides, as engines do for the secrets that they mount.

    :raises OSError: if there is no such file
    """
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    return f"{mode:o}" if mode & (0o077 if found.st_uid == os.geteuid() != 0 else 0o027) else ""


def write_private(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in place of the one before, unless that is the same: there may be no room for another.

    :raises OSError: if it cannot be written; the one before is still there then, unless the disk fails at the end
    """
    with contextlib.suppress(PermissionError):  # another user's is replaced unread
        if path.is_file() and path.read_bytes() == content and not mode_open_to_others(path):
            return
    with draft_of(path, content) as draft:
        draft.replace(path)
    sync(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Make a file of mode 0600 unless there is one; of several processes, the first one wins.

    :raises OSError: if it cannot be written
    """
    with draft_of(path, content) as draft, contextlib.suppress(FileExistsError):
        os.link(draft, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Make the content of a file durable, or the names in a folder.

    :raises OSError: if the disk refuses
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked(path: Path, *, waits: bool = False) -> int:
    """Take the lock that a file stands for, and return the descriptor that holds it until it is closed.

    The file is made if there is none, and stays: to remove it would let two processes lock two files.

    :param waits: whether to wait until nobody else has it
    :raises BlockingIOError: if somebody has it, such as another descriptor of this process
    :raises OSError: if the file cannot be made, or its disk has no locks
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def draft_of(path: Path, content: bytes) -> Iterator[Path]:
    """Write a file of mode 0600 beside another, to be put in its place; it is removed if it is not.

    :raises OSError: if it cannot be written
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)
