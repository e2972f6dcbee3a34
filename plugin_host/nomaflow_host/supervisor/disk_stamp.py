"""Detects code on disk that is newer than the loaded code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from nomaflow_project.reading.files import EDITOR_LOCK

if TYPE_CHECKING:
    from nomaflow_host.generation.spec import ProjectSpec

SOURCE_SUFFIXES = (".py", ".toml", ".env")
_LOOK_SECONDS = 1.0
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
    """Compares the disk with a stamp, on a thread: on a shared disk, thousands of files take seconds, or it hangs."""

    def __init__(self) -> None:
        self._looking: asyncio.Future[None] | None = None
        self._stamp: DiskStamp | None = None
        self._newer: tuple[str, ...] = ()

    def newer_than(self, stamp: DiskStamp) -> tuple[str, ...]:
        """Return the files and folders that had changed, appeared or vanished since *stamp* at the last look.

        At most 20, sorted, relative to the project; none if that look was for another stamp.
        """
        return self._newer if stamp is self._stamp else ()

    async def look(self, stamp: DiskStamp, spec: ProjectSpec) -> None:
        """Look at the disk, and wait for a second at most: a look that takes longer counts once it is done."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._compare(stamp, spec))
        await asyncio.wait((self._looking,), timeout=_LOOK_SECONDS)

    async def _compare(self, stamp: DiskStamp, spec: ProjectSpec) -> None:
        self._newer, self._stamp = await asyncio.to_thread(_newer, stamp, spec), stamp


def _newer(stamp: DiskStamp, spec: ProjectSpec) -> tuple[str, ...]:
    found = disk_stamp(spec)
    changed = sorted(path for path in stamp.keys() | found.keys() if stamp.get(path) != found.get(path))
    return tuple(os.path.relpath(path, spec.root) for path in changed[:_MOST_NAMED])


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
