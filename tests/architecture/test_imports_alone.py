"""Each module of kernel, host and reader can be the first one that a process imports, so that none is in a circle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "kernel": ("nomaflow_kernel",),
    "plugin_host": ("nomaflow_host",),
    "sdk": ("nomaflow_project",),
}
_FORKING = """
import importlib, os, sys
for name in ("alembic", "asyncpg", "grpc.aio", "httpx", "msgspec", "pydantic", "sqlalchemy.dialects.postgresql"):
    importlib.import_module(name)
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def modules_of(folder: str, package: str) -> list[str]:
    """Return the modules of a package; those that run when they are imported are left out."""
    found = sorted((ROOT / folder).glob(f"**/{package}/**/*.py"))
    names = (path.relative_to(path.parents[path.parts[::-1].index(package)]) for path in found)
    return [
        ".".join(name.with_suffix("").parts).removesuffix(".__init__")
        for name in names
        if name.stem != "__main__" and "migrations" not in name.parts
    ]


@pytest.mark.parametrize(("folder", "package"), [(key, each) for key, value in PACKAGES.items() for each in value])
def test_each_module_can_be_imported_first(folder: str, package: str) -> None:
    """A process that starts elsewhere, such as a host's secrets process, meets a circle that others do not."""
    modules = modules_of(folder, package)
    assert len(modules) > 3
    command = [sys.executable, "-c", _FORKING, *modules]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
