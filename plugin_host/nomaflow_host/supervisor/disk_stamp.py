"""Whether code on disk is newer than what was loaded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nomaflow_host.generation import ProjectSpec

__all__ = ["DiskStamp", "DiskWatch", "disk_stamp"]

DiskStamp = Mapping[str, tuple[int, int]]
"""Path to (modification time in nanoseconds, size)."""

_SUFFIXES = (".py", ".toml", ".env")
_KEPT_SECONDS = 2.0
_MAX_FILES = 20_000


def disk_stamp(spec: ProjectSpec) -> DiskStamp:
    """Return what the files a generation is made of are like now: modules, TOML files and ``.env`` files."""
    found: dict[str, tuple[int, int]] = {}
    for path, status in _files(spec):
        found[path] = (status.st_mtime_ns, status.st_size)
        if len(found) >= _MAX_FILES:
            break
    return found


class DiskWatch:
    """Compares the disk with a stamp, at most every two seconds."""

    def __init__(self) -> None:
        self._checked = -_KEPT_SECONDS
        self._stamp: DiskStamp | None = None
        self._newer = False

    def newer_than(self, stamp: DiskStamp, spec: ProjectSpec) -> bool:
        """Return whether a file has changed, come or gone since *stamp*."""
        now = time.monotonic()
        if stamp is not self._stamp or now - self._checked >= _KEPT_SECONDS:
            self._checked, self._stamp = now, stamp
            self._newer = disk_stamp(spec) != stamp
        return self._newer


def _files(spec: ProjectSpec) -> Iterator[tuple[str, os.stat_result]]:
    yield from _scan(spec.root, deep=False)
    for folder in spec.plugin_dirs:
        yield from _scan(folder, deep=True)


def _scan(folder: str, *, deep: bool) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir():
                if deep and not entry.name.startswith((".", "__pycache__")):
                    yield from _scan(entry.path, deep=True)
            elif entry.name.endswith(_SUFFIXES):
                yield entry.path, entry.stat()
        except OSError:
            continue
