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
BELOW = {
    "nomaflow_kernel": ("nomaflow_api", "nomaflow_telemetry", "nomaflow_project"),
    "nomaflow_host": ("nomaflow_api", "nomaflow_telemetry", "nomaflow_project", "nomaflow"),
    "nomaflow_project": ("nomaflow_api",),
}
"""What each imports of ours and what never imports it, by the contracts of .importlinter: no circle goes through it."""
_FORKING = """
import gc, importlib, os, pkgutil, sys
gc.disable()
for name in (
    "alembic.command", "asyncpg", "cryptography.x509", "google.protobuf.json_format", "grpc.aio", "httpx", "msgspec",
    "pydantic.dataclasses", "sqlalchemy.dialects.postgresql", "sqlalchemy.dialects.sqlite", "sqlalchemy.ext.asyncio",
):
    importlib.import_module(name)
for name in sys.argv[1].split(","):
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
gc.freeze()

def alone(name, modules=()):
    child = os.fork()
    if not child:
        importlib.import_module(name)
        for module in modules:
            if module not in sys.modules:
                alone(module)
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)

for names in sys.argv[2:]:
    package, *modules = names.split(",")
    alone(package, modules)
"""
"""Imports each package first, and then each of its modules that it has not imported itself: any import of one of them
begins with the package."""


def packages_of(folder: str, package: str) -> list[str]:
    """Return the packages of a distribution, each with its modules; those that run when imported are left out."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).glob(f"**/{package}/**/*.py")):
        name = ".".join(path.relative_to(path.parents[path.parts[::-1].index(package)]).with_suffix("").parts)
        if path.stem == "__init__":
            found.setdefault(name.removesuffix(".__init__"), [])
        elif path.stem != "__main__" and "migrations" not in path.parts:
            found.setdefault(name.rpartition(".")[0], []).append(name)
    return [",".join((package, *modules)) for package, modules in found.items() if "migrations" not in package]


@pytest.mark.parametrize(("folder", "package"), [(key, each) for key, value in PACKAGES.items() for each in value])
def test_each_module_can_be_imported_first(folder: str, package: str) -> None:
    """A process that starts elsewhere, such as a host's secrets process, meets a circle that others do not."""
    packages = packages_of(folder, package)
    assert len(packages) > 3
    command = [sys.executable, "-c", _FORKING, ",".join(BELOW[package]), *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
