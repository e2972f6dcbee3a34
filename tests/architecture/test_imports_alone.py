"""Each module of kernel, host and reader can be the first one that a process imports: none is in a circle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("sdk/nomaflow_project", "kernel/nomaflow_kernel", "plugin_host/nomaflow_host")
_WATCHING = """
import builtins, importlib, pkgutil, sys

def is_begun(name):
    return name in sys.modules and sys.modules[name].__spec__._initializing

def watching(name, variables=None, names=None, members=(), level=0):
    if name.partition(".")[0] in packages:
        wanted = [f"{name}.{member}" for member in members or ()]
        if is_begun(name):
            below = {each.name for each in pkgutil.iter_modules(getattr(sys.modules[name], "__path__", ()))}
            if not members or {*members} - below:
                wanted.append(name)
        for each in filter(is_begun, wanted):
            print(f"{variables['__name__']} imports {each} while that is being imported")
    return import_(name, variables, names, members, level)

import_, builtins.__import__ = builtins.__import__, watching
packages = {name.partition(".")[0] for name in sys.argv[1:]}
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
"""Imports modules, in any order: one of each circle is asked for again before it is there.

A package that is not there yet may be asked for what is below it alone.
"""


def circles_of(*folders: Path) -> list[str]:
    """Return a line for each import that closes a circle of the modules of packages, but for those that run so."""
    paths = (path.relative_to(folder.parent) for folder in folders for path in sorted(folder.rglob("*.py")))
    modules = [
        ".".join(path.parent.parts if path.stem == "__init__" else path.with_suffix("").parts)
        for path in paths
        if path.stem != "__main__" and "migrations" not in path.parts
    ]
    command = [sys.executable, "-c", _WATCHING, *modules]
    done = subprocess.run(command, cwd=folders[0].parent, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_each_module_can_be_imported_first() -> None:
    """A process that starts elsewhere, such as a host's secrets process, meets a circle that others do not."""
    assert circles_of(*(ROOT / package for package in PACKAGES)) == []


def test_circles_are_found(tmp_path: Path) -> None:
    """One is of modules, one goes through their package, one is of modules that are asked for as names of it."""
    for name, code in {
        "__init__": "DOORS = 2\nfrom house.door import KEY",
        "door": "KEY = 1\nfrom house import lock",
        "lock": "import house.door\nfrom house.wall import DOORS",
        "wall": "from house import DOORS, lock",
        "attic": "from house import roof",
        "roof": "from house import attic",
    }.items():
        (tmp_path / "house").mkdir(exist_ok=True)
        (tmp_path / "house" / f"{name}.py").write_text(code)
    assert circles_of(tmp_path / "house") == [
        f"house.{one} imports {other} while that is being imported"
        for one, other in (("lock", "house.door"), ("wall", "house.lock"), ("wall", "house"), ("roof", "house.attic"))
    ]
