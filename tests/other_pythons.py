"""Run the unit and contract tests with other versions than those of ``.venv``.

That is on each other supported Python of the machine, and with the oldest versions of the dependencies.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

__all__ = ["main"]

_ROOT = Path(__file__).parents[1]
_NOT_OLD = ("dev", "ray")
"""The extras whose tools need not be old."""
_OF_NEWEST = (
    "--deselect",
    "tests/unit/kernel_catalogue/test_configuration_docs.py::test_generated_files_are_up_to_date",
)
"""Pages are generated with the newest pydantic, which tells more of a model."""
_LANGUAGE = "Programming Language :: Python :: 3."


def main() -> None:
    """Run them, one environment after the other; exit with 1 if a test in any is red."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    red = []
    for version, python in _others(project):
        print(f"Python {version}: {python}", flush=True)
        if not _green(_ROOT / f".venv-{version}", python):
            red.append(f"Python {version}")
    print("the oldest versions of the dependencies", flush=True)
    if not _green(_ROOT / ".venv-oldest", sys.executable, *_OF_NEWEST, constraints=list(_oldest(project))):
        red.append("the oldest versions of the dependencies")
    if red:
        sys.exit(f"red with {', '.join(red)}")


def _green(venv: Path, python: str, *options: str, constraints: Sequence[str] = ()) -> bool:
    """Return whether the tests are green in an environment of their own.

    :param constraints: requirements that limit the versions to install
    """
    subprocess.run((python, "-m", "venv", venv), check=True)
    limits = venv / "constraints.txt"
    limits.write_text("\n".join(constraints))
    pip = (venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run((*pip, "--editable", f"{_ROOT}[dev]", "--constraint", limits), check=True)
    tests = ("-n", "5", "--dist", "loadfile", "-q", "tests/unit", "tests/contract", *options)
    return subprocess.run((venv / "bin/python", "-m", "pytest", *tests), cwd=_ROOT).returncode == 0


def _oldest(project: Mapping[str, Any]) -> Iterator[str]:
    """Yield the oldest version of each dependency of the product, as a constraint."""
    extras = project["optional-dependencies"]
    for requirement in chain(project["dependencies"], *(extras[name] for name in extras if name not in _NOT_OLD)):
        if found := re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement):
            yield f"{found[1]}=={found[2]}"


def _others(project: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the version and the program of each other supported Python that can make a virtual environment."""
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
