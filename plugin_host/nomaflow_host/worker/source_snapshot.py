"""The source of a generation, kept for workers that are fresh interpreters.

A forked worker has the code that its template has loaded. A worker that imports again must not pick up later saves:
it gets the old contents of the plugin folders' files, under their own paths, and newer files do not exist for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from importlib.machinery import SourceFileLoader
from typing import Any

MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024
_SUFFIX = ".py"
_FRESH_SECONDS = 2.0


def read_sources(folders: Sequence[str]) -> dict[str, str] | None:
    """Return the modules below *folders*, path to bytes (as Latin-1 text, for JSON); None if they are too large."""
    found: dict[str, str] = {}
    size = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                if name.endswith(_SUFFIX) and (data := _read(os.path.join(parent, name))) is not None:
                    found[os.path.join(parent, name)] = data.decode("latin-1")
                    size += len(data)
                    if size > MAX_SNAPSHOT_BYTES:
                        return None
    return found


def serve_sources(sources: Mapping[str, str], folders: Sequence[str]) -> None:
    """Make this process's imports below *folders* read *sources*, and neither the disk nor compiled files."""
    below = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
    plain_data, plain_stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

    def get_data(self: SourceFileLoader, path: str) -> bytes:
        if not path.startswith(below) or not path.endswith(_SUFFIX):
            return plain_data(self, path)
        if path not in sources:
            raise ImportError(f"{path} was not there when this generation was loaded (reload the host)")
        return sources[path].encode("latin-1")

    def path_stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        if path.startswith(below):
            raise OSError("the disk may be newer than this generation")  # the import system then reads the source
        return plain_stats(self, path)

    SourceFileLoader.get_data = get_data  # type: ignore[method-assign, assignment]  # the purpose of this module
    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]  # the purpose of this module


def keep_no_fresh_bytecode() -> None:
    """Keep this process from writing compiled files of sources that were saved just now.

    Python recognises a compiled file by its source's length and the second of its last change: the next save within
    that second would go unnoticed if the length is the same.
    """
    plain = SourceFileLoader.set_data

    def set_data(self: SourceFileLoader, path: str, data: bytes, *, _mode: int = 0o666) -> None:
        if int.from_bytes(data[8:12], "little") < time.time() - _FRESH_SECONDS:
            plain(self, path, data, _mode=_mode)

    SourceFileLoader.set_data = set_data  # type: ignore[method-assign, assignment]  # the purpose of this function


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
