"""Finds the modules of the plugin folders. It reads the file system and imports nothing."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FoundModule", "extend_sys_path", "find_modules"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SKIPPED_FOLDERS = frozenset({"__pycache__", "tests", "node_modules"})
_SKIPPED_FILES = re.compile(r"__main__\.py|conftest\.py|setup\.py|test_.*\.py|.*_test\.py")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class FoundModule:
    """A module of a plugin folder.

    :param name: dotted
    :param file: absolute
    """

    name: str
    file: str


def find_modules(plugin_dirs: Iterable[str]) -> list[FoundModule]:
    """Return the modules of the folders, sorted by name. If two have one name, the earlier folder's counts.

    Packages, with or without ``__init__.py``, and single files are found, at any depth. Tests, ``setup.py`` and
    ``__main__.py`` are no plugins; names that cannot be imported are skipped.
    """
    found: dict[str, FoundModule] = {}
    for folder in plugin_dirs:
        for module in _modules_below(Path(folder)):
            found.setdefault(module.name, module)
    return sorted(found.values())


def _modules_below(folder: Path) -> Iterator[FoundModule]:
    for current, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if _IDENTIFIER.fullmatch(each) and each not in _SKIPPED_FOLDERS)
        package = Path(current).relative_to(folder).parts
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix != ".py" or not _IDENTIFIER.fullmatch(stem) or _SKIPPED_FILES.fullmatch(file):
                continue
            if stem == "__init__" and not package:
                continue
            parts = package if stem == "__init__" else (*package, stem)
            yield FoundModule(name=".".join(parts), file=str(Path(current, file)))


def extend_sys_path(entries: Iterable[str]) -> None:
    """Put folders on ``sys.path``: after the standard library, which no plugin may hide, before installed packages."""
    wanted = [entry for entry in entries if entry not in sys.path]
    packages = (index for index, entry in enumerate(sys.path) if "site-packages" in entry or "dist-packages" in entry)
    position = next(packages, len(sys.path))
    sys.path[position:position] = wanted
