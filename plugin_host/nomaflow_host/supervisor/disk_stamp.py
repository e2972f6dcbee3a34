"""Detects code on disk that is newer than the loaded code."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nomaflow_project.reading.files import EDITOR_LOCK

if TYPE_CHECKING:
    from nomaflow_host.generation.spec import ProjectSpec

SOURCE_SUFFIXES = (".py", ".toml", ".env")
_KEPT_SECONDS = 2.0
_MAX_FILES = 20_000
_MOST_NAMED = 20


class _Seen(NamedTuple):
    """The state of a file or folder: modification time in nanoseconds, size, mode and inode; all 0 if it is gone.

    For a folder only the mode counts, since its times change with unrelated files.
    """

    mtime_ns: int = 0
    size: int = 0
    mode: int = 0
    inode: int = 0


DiskStamp = Mapping[str, _Seen]
"""Each file that a generation is made from, and each folder, by path."""


def disk_stamp(spec: ProjectSpec) -> DiskStamp:
    """Return the current state of a generation's files: modules, TOML and ``.env`` files.

    Unreadable entries are included: a dangling link, a folder that cannot be listed, a file without permission.
    """
    found = dict(_scan(spec.root, deep=False, within=()))
    for folder in {*spec.plugin_dirs, os.path.join(spec.root, "plugins")}:
        for path, seen in _scan(folder, deep=True, within=()):
            found[path] = seen
            if len(found) >= _MAX_FILES:
                return found
    for path in _named(spec):
        found.setdefault(path, _seen(path))
    return found


class DiskWatch:
    """Compares the disk with a stamp, at most every two seconds."""

    def __init__(self) -> None:
        self._checked = -_KEPT_SECONDS
        self._stamp: DiskStamp | None = None
        self._newer: tuple[str, ...] = ()

    def newer_than(self, stamp: DiskStamp, spec: ProjectSpec) -> tuple[str, ...]:
        """Return the files and folders that have changed, appeared or vanished since *stamp*, relative to the project.

        At most 20, sorted.
        """
        now = time.monotonic()
        if stamp is not self._stamp or now - self._checked >= _KEPT_SECONDS:
            self._checked, self._stamp = now, stamp
            found = disk_stamp(spec)
            changed = sorted(path for path in stamp.keys() | found.keys() if stamp.get(path) != found.get(path))
            self._newer = tuple(os.path.relpath(path, spec.root) for path in changed[:_MOST_NAMED])
        return self._newer


def _named(spec: ProjectSpec) -> Iterator[str]:
    """Yield the files that the project names, wherever they are."""
    for file in spec.job_files:
        yield os.path.join(spec.root, str(file["path"]))
    yield from spec.env_files
    connectors = spec.settings.get("connectors")
    if connectors:
        yield str(connectors["config_path"])


def _scan(folder: str, *, deep: bool, within: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, _Seen]]:
    """Yield a folder and its contents.

    :param within: device and inode of the enclosing folders, so that a link to one of them ends the walk
    """
    try:
        status = os.stat(folder)
        entries = list(os.scandir(folder))
    except OSError as error:
        yield folder, _Seen(mode=-(error.errno or 1))
        return
    yield folder, _Seen(mode=status.st_mode)
    me = (status.st_dev, status.st_ino)
    for entry in entries if me not in within else ():
        if entry.name.startswith(EDITOR_LOCK):
            continue
        if _is_folder(entry):
            if deep and not entry.name.startswith((".", "__pycache__")):
                yield from _scan(entry.path, deep=True, within=(*within, me))
        elif entry.name.endswith(SOURCE_SUFFIXES) or (deep and entry.is_symlink()):
            yield entry.path, _seen(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _seen(path: str) -> _Seen:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a path with a NUL byte is a ValueError
        return _Seen()
    return _Seen(status.st_mtime_ns, status.st_size, status.st_mode, status.st_ino)
