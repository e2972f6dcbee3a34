"""Finds the modules of the plugin folders, and imports each in isolation: a module's failure stops no other."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from nomaflow_host.generation.import_guard import restored_process
from nomaflow_host.injection.references import ImportReport, import_module, stable
from nomaflow_project.reading.callable_references import MAX_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SKIPPED_FOLDERS = frozenset({"__pycache__", "tests", "node_modules"})
_SKIPPED_FILES = re.compile(r"__main__\.py|conftest\.py|setup\.py|test_.*\.py|.*_test\.py")


def find_modules(plugin_dirs: Iterable[str]) -> dict[str, str]:
    """Return the modules of the folders: dotted name to absolute file, sorted by name. Imports nothing.

    Packages, with or without ``__init__.py``, and single files are found, at any depth. Tests, ``setup.py`` and
    ``__main__.py`` are not plugins; names that cannot be imported, or that no reference can hold, and links to nothing
    are skipped. If two modules have the same name, the earlier folder's counts.
    """
    found: dict[str, str] = {}
    for folder in plugin_dirs:
        for name, file in _modules_below(Path(folder)):
            found.setdefault(name, file)
    return dict(sorted(found.items()))


def _modules_below(folder: Path) -> Iterator[tuple[str, str]]:
    for current, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if _IDENTIFIER.fullmatch(each) and each not in _SKIPPED_FOLDERS)
        package = Path(current).relative_to(folder).parts
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix != ".py" or not _IDENTIFIER.fullmatch(stem) or _SKIPPED_FILES.fullmatch(file):
                continue
            parts = package if stem == "__init__" else (*package, stem)
            path = os.path.join(current, file)
            if 0 < len(name := ".".join(parts)) <= MAX_LENGTH and os.path.exists(path):
                yield name, path


def extend_sys_path(entries: Iterable[str]) -> None:
    """Put folders on ``sys.path``: after the standard library, which no plugin may hide, before installed packages."""
    wanted = [entry for entry in entries if entry not in sys.path]
    packages = (index for index, entry in enumerate(sys.path) if "site-packages" in entry or "dist-packages" in entry)
    position = next(packages, len(sys.path))
    sys.path[position:position] = wanted


@dataclass(kw_only=True, slots=True)
class Imports:
    """The modules of a generation, imported or not.

    :param known: the modules of the plugin folders, for near matches: name to file
    :param withheld: names of variables that the host has and does not pass on
    """

    loaded: dict[str, ModuleType] = field(default_factory=dict)
    failed: dict[str, ImportReport] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()

    def add_folders(self, plugin_dirs: Iterable[str]) -> None:
        """Import the modules of the plugin folders, and check that each name gave the module of the folder."""
        self.known = find_modules(plugin_dirs)
        for name, file in self.known.items():
            found = self.get(name)
            if isinstance(found, ImportReport):
                hiding = _imported(name) if found.code == "callable_not_found" else ""
            else:
                hiding = "" if _is_from(found, file) else name
            if hiding:
                other = getattr(sys.modules.get(hiding), "__file__", None) or "a built-in module"
                self.loaded.pop(name, None)
                problem = (
                    f"the module {name!r} ({file}) is hidden by another {hiding!r}, {other} "
                    "(rename the file or its folder)"
                )
                self.failed[name] = ImportReport(code="import_failed", message=stable(problem))

    def get(self, name: str) -> ModuleType | ImportReport:
        """Return a module; import it unless that was tried before."""
        found = self.failed.get(name) or self.loaded.get(name)
        if found is not None:
            return found
        result = import_module(name, known_modules=self.known, withheld=self.withheld)
        if isinstance(result, ImportReport):
            self.failed[name] = result
        else:
            self.loaded[name] = result
        return result


def import_plugins(folder: str) -> dict[str, ModuleType]:
    """Import the modules of a plugins folder that is on ``sys.path``; return those that import, by name."""
    imports = Imports()
    with restored_process():
        imports.add_folders([folder])
    return imports.loaded


def _imported(name: str) -> str:
    """Return a module, or the nearest package above it, that is imported; empty if there is none."""
    while name and name not in sys.modules:
        name = name.rpartition(".")[0]
    return name


def _is_from(module: ModuleType, file: str) -> bool:
    if not issubclass(type(module), ModuleType):  # a module may replace itself by an object that must not be asked
        return True
    actual = getattr(module, "__file__", None)
    return actual is not None and os.path.realpath(actual) == os.path.realpath(file)
