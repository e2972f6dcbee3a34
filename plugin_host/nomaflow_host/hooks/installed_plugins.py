"""The plugins that installed distributions declare.

``importlib.metadata`` finds the same; to import it and let it look takes a tenth of a template's start.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from typing import Any

from msgspec import Struct

_METADATA = (".dist-info", ".egg-info")


class EntryPoint(Struct, frozen=True):
    """An entry point that a distribution declares.

    :param value: a module, and perhaps an object in it: ``acme.plugins:shop``
    """

    name: str
    value: str

    def load(self) -> Any:
        """Import the module and return the object, or the module."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        loaded = importlib.import_module(module.strip())
        return functools.reduce(getattr, filter(None, attributes.strip().split(".")), loaded)


def installed_plugins(group: str) -> list[EntryPoint]:
    """Return the entry points of a group. Of two distributions of one name, the first on ``sys.path`` counts."""
    seen: set[str] = set()
    found: list[EntryPoint] = []
    for folder in sys.path:
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = sorted(name for name in os.listdir(folder or ".") if name.endswith(_METADATA))
        for name in names:
            distribution = name.partition("-")[0].replace(".", "_").lower()
            if distribution not in seen:
                seen.add(distribution)
                found += _declared(os.path.join(folder, name, "entry_points.txt"), group)
    return found


def _declared(path: str, group: str) -> list[EntryPoint]:
    """Return the entry points of a group in a distribution's file, which few distributions have."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    found: list[EntryPoint] = []
    section = ""
    for line in map(str.strip, text.splitlines()) if f"[{group}]" in text else ():
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.append(EntryPoint(name.strip(), value.strip()))
    return found
