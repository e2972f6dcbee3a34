"""The imports of a generation, each in isolation: a module's failure stops no other."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

from nomaflow_host.generation.discovery import find_modules
from nomaflow_host.generation.import_guard import kept_manners
from nomaflow_host.injection.references import ImportReport, import_module, stable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nomaflow_host.generation.discovery import FoundModule

__all__ = ["Imports", "import_plugins"]


@dataclass(kw_only=True, slots=True)
class Imports:
    """The modules of a generation, imported or not.

    :param timings: module to seconds, for the modules imported here
    :param known: the names of the plugin folders' modules, for near matches
    """

    clock: Callable[[], float] = time.perf_counter
    loaded: dict[str, ModuleType] = field(default_factory=dict)
    failed: dict[str, ImportReport] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)

    def add_found(self, modules: Iterable[FoundModule]) -> None:
        """Import modules of the plugin folders, and check that each name gave the module of the folder."""
        found = list(modules)
        self.known.extend(module.name for module in found)
        for module in found:
            self.get(module.name)
            loaded = self.loaded.get(module.name)
            if loaded is not None and not _is_from(loaded, module.file):
                other = getattr(loaded, "__file__", None) or "a built-in module"
                del self.loaded[module.name]
                self.failed[module.name] = ImportReport(
                    code="import_failed",
                    message=stable(
                        f"the module {module.name!r} ({module.file}) is hidden by another of its name, {other} "
                        "(rename the file or its folder)"
                    ),
                )

    def get(self, name: str) -> ModuleType | ImportReport:
        """Return a module; import it unless that was tried before."""
        if name in self.failed:
            return self.failed[name]
        if name not in self.loaded:
            started = self.clock()
            result = import_module(name, known_modules=self.known)
            self.timings[name] = self.clock() - started
            if isinstance(result, ImportReport):
                self.failed[name] = result
                return result
            self.loaded[name] = result
        return self.loaded[name]


def import_plugins(folder: str) -> dict[str, ModuleType]:
    """Import the modules of a plugins folder that is on ``sys.path``; return those that import, by name."""
    imports = Imports()
    with kept_manners():
        imports.add_found(find_modules([folder]))
    return dict(imports.loaded)


def _is_from(module: ModuleType, file: str) -> bool:
    if not issubclass(type(module), ModuleType):  # a module may replace itself by an object that must not be asked
        return True
    actual = getattr(module, "__file__", None)
    return actual is not None and os.path.realpath(actual) == os.path.realpath(file)
