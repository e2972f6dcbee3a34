"""Run the unit and contract tests on each supported Python that the machine has besides the one of ``.venv``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_LANGUAGE = "Programming Language :: Python :: 3."


def main() -> None:
    """Run them, one Python after the other; exit with 1 if a test of any is red."""
    red = []
    for version, python in _others():
        print(f"Python {version}: {python}", flush=True)
        venv = _ROOT / f".venv-{version}"
        pip = (venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run((python, "-m", "venv", venv), check=True)
        subprocess.run((*pip, "--editable", f"{_ROOT}[dev]"), check=True)
        tests = ("-n", "5", "--dist", "loadfile", "-q", "tests/unit", "tests/contract")
        if subprocess.run((venv / "bin/python", "-m", "pytest", *tests), cwd=_ROOT).returncode:
            red.append(version)
    if red:
        sys.exit(f"red on Python {', '.join(red)}")


def _others() -> Iterator[tuple[str, str]]:
    """Yield the version and the program of each other supported Python that can make a virtual environment."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    supported = [each.removeprefix(_LANGUAGE) for each in project["classifiers"] if each.startswith(_LANGUAGE)]
    for minor in map(int, supported):
        python = shutil.which(f"python3.{minor}")
        if minor == sys.version_info.minor or python is None:
            continue
        asked = (python, "-c", f"import ensurepip, sys; sys.exit(sys.version_info.minor != {minor})")
        if subprocess.run(asked, stderr=subprocess.DEVNULL).returncode == 0:
            yield f"3.{minor}", python
        else:
            print(f"Python 3.{minor}: {python} cannot make a virtual environment", flush=True)


if __name__ == "__main__":
    main()
