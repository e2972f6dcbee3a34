"""Another pytest with the settings of this suite, on a module that a test writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["SUITE", "suite_of"]

SUITE = Path(__file__).parents[2]


def suite_of(folder: Path, text: str, **environ: str) -> str:
    """Run a module of tests, with our plugins, and return what is printed."""
    module = folder / "test_it.py"
    module.write_text(text)
    plugins = ("-p", "machine_parts", "-p", "red_tests", "-p", "no:cacheprovider")
    settings = ("-c", str(SUITE.parent / "pyproject.toml"), "--rootdir", str(folder), "-o", "addopts=-ra")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *settings, str(module)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SUITE), "PYTEST_ADDOPTS": "", "NOMAFLOW_TESTS_COMPLETE": "", **environ},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
