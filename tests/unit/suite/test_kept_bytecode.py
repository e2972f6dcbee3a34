"""Bytecode that the suite keeps where none may be written beside the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pytest_below import SUITE


def test_a_temporary_clone_keeps_its_bytecode(tmp_path: Path) -> None:
    """The bytecode of earlier tests' projects goes; that of the clone stays, although it is temporary, too."""
    temporary = tmp_path / "temporary"
    tests = temporary / "clone" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(SUITE / "conftest.py", tests)
    kept = tests.parent.joinpath(".pytest_cache", "bytecode", *temporary.parts[1:])
    ours, earlier = (kept / name / "module.pyc" for name in ("clone", "project"))
    for each in (ours, earlier):
        each.parent.mkdir(parents=True)
        each.touch()
    environ = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": f"{tests}{os.pathsep}{SUITE}"}
    for variable in ("PYTEST_XDIST_WORKER", "PYTHONPYCACHEPREFIX"):
        environ.pop(variable, None)
    subprocess.run([sys.executable, "-B", "-c", "import conftest"], env=environ, check=True, cwd=tests)
    assert ours.exists()
    assert not earlier.exists()
