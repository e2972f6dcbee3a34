"""Applies each mutant to a copy of the tree and runs its tests, which must fail: ``python tests/mutants/run.py``.

Names of mutants limit it to those. Exit code 1 where one survives, or no longer fits the code.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mutants import PACKAGES, Mutant, MutantError, load_mutants

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "__pycache__", "dist", "build", ".*_cache")
_SECONDS = 600
_GREEN, _RED = 0, 1
_TIMES = itertools.count(1)


def main(arguments: Sequence[str]) -> int:
    """Run the mutants that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of mutants; all where none is given")
    wanted = parser.parse_args(arguments).names
    try:
        mutants = load_mutants(_HERE)
        unknown = sorted(set(wanted) - {each.name for each in mutants})
        if unknown:
            raise MutantError(f"there is no mutant {unknown[0]!r}")
        chosen = [each for each in mutants if not wanted or each.name in wanted]
        with tempfile.TemporaryDirectory(prefix="nomaflow-mutants-") as directory:
            Path(directory).chmod(0o755)  # some tests run code as another user
            tree = Path(directory) / "tree"
            shutil.copytree(_ROOT, tree, ignore=_LEFT_OUT, symlinks=True)
            return _run_all(tree, chosen)
    except MutantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run_all(tree: Path, mutants: Sequence[Mutant]) -> int:
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    print(f"{len(mutants)} mutants; their {len(tests)} tests on the code as it is", flush=True)
    if _pytest(tree, tests, last=False) != _GREEN:
        raise MutantError("the tests fail on the code as it is; mend that first")
    survivors = []
    for mutant in mutants:
        begun = time.monotonic()
        verdict = _verdict(tree, mutant)
        print(f"{verdict:9} {mutant.name:40} {time.monotonic() - begun:5.1f} s  {mutant.reason}", flush=True)
        if verdict != "killed":
            survivors.append(mutant.name)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} killed")
    if survivors:
        print(f"not killed: {' '.join(survivors)}")
    return 1 if survivors else 0


def _verdict(tree: Path, mutant: Mutant) -> str:
    changed = {path: ast.unparse(module) for path, module in mutant.trees(tree).items()}
    originals = {path: path.read_text(encoding="utf-8") for path in changed}
    try:
        for path, text in changed.items():
            _write(path, text)
        code = _pytest(tree, mutant.tests, last=True)
    except subprocess.TimeoutExpired:
        return "killed"
    finally:
        for path, text in originals.items():
            _write(path, text)
    # Any other code means that pytest itself did not get to the tests: that shows nothing.
    return {_GREEN: "SURVIVES", _RED: "killed"}.get(code, f"ERROR {code}")


def _write(path: Path, text: str) -> None:
    """Write a file with a time of its own, so that nobody takes it for what was compiled before."""
    path.write_text(text, encoding="utf-8")
    second = next(_TIMES)
    os.utime(path, (second, second))


def _pytest(tree: Path, tests: Sequence[str], *, last: bool) -> int:
    path = os.pathsep.join(str(tree / package) for package in PACKAGES)
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(tree.with_name("bytecode"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    if last:
        command.append("--exitfirst")
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode not in (_GREEN, _RED) or (done.returncode == _RED and not last):
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
