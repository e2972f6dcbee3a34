"""Applies each mutant to a copy of the tree and runs its tests, which must fail: ``python tests/mutants/run.py``.

Names of mutants, or of their files, limit it to those; ``--jobs`` says how many run at once, each in a copy of its own.
The verdicts are printed in the order in which they are reached. Exit code 1 if a mutant survives, or no longer fits
the code.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mutants import PACKAGES, Mutant, MutantError, load_mutants

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "__pycache__", "dist", "build", ".*_cache")
_SECONDS = 600
_PATIENCE = "30"
"""Seconds that tests wait for what may never come with a mutant: half of what they allow a busy machine."""
_GREEN, _RED = 0, 1
_TIMES = itertools.count(1)


def main(arguments: Sequence[str]) -> int:
    """Run the mutants that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of mutants, or of files of mutants; all if none is given")
    parser.add_argument("--jobs", type=int, default=2, choices=range(1, 65), metavar="N", help="how many run at once")
    options = parser.parse_args(arguments)
    try:
        chosen = _chosen(options.names)
        for mutant in chosen:
            mutant.trees(_ROOT)
        with tempfile.TemporaryDirectory(prefix="nomaflow-mutants-") as directory:
            return _run_all([_copy(Path(directory) / str(number)) for number in range(options.jobs)], chosen)
    except MutantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _chosen(names: Sequence[str]) -> list[Mutant]:
    """Return the mutants of some names or files, in the order of the files; all for no name.

    :raises MutantError: if there is no mutant and no file of a name
    """
    mutants = load_mutants(_HERE)
    unknown = sorted(set(names) - {each.name for each in mutants} - {each.file for each in mutants})
    if unknown:
        raise MutantError(f"there is no mutant {unknown[0]!r}, and no file of mutants with that name")
    return [each for each in mutants if not names or each.name in names or each.file in names]


def _copy(directory: Path) -> Path:
    directory.mkdir()
    for open_one in (directory.parent, directory):
        open_one.chmod(0o755)  # some tests run code as another user
    return Path(shutil.copytree(_ROOT, directory / "tree", ignore=_LEFT_OUT, symlinks=True))


def _run_all(trees: Sequence[Path], mutants: Sequence[Mutant]) -> int:
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    print(f"{len(mutants)} mutants; their {len(tests)} tests on the code as it is", flush=True)
    survivors = []
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)
    pool = ThreadPoolExecutor(len(trees))
    share = -(-len(tests) // len(trees))
    shares = [tests[start : start + share] for start in range(0, len(tests), share)]
    try:
        if any(code != _GREEN for code in pool.map(lambda *of: _pytest(*of, last=False), trees, shares)):
            raise MutantError("the tests fail on the code as it is; mend that first")
        for ended in as_completed([pool.submit(_try, mutant, free) for mutant in mutants]):
            mutant, verdict, seconds = ended.result()
            print(f"{verdict:9} {mutant.name:40} {seconds:5.1f} s  {mutant.reason}", flush=True)
            if verdict != "killed":
                survivors.append(mutant.name)
    finally:
        pool.shutdown(cancel_futures=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} killed")
    if survivors:
        print(f"not killed: {' '.join(survivors)}")
    return 1 if survivors else 0


def _try(mutant: Mutant, free: queue.SimpleQueue[Path]) -> tuple[Mutant, str, float]:
    """Return a mutant with its verdict and the seconds it took, in a tree that no other uses meanwhile."""
    tree = free.get()
    begun = time.monotonic()
    try:
        return mutant, _verdict(tree, mutant), time.monotonic() - begun
    finally:
        free.put(tree)


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
    bytecode = str(tree.with_name("bytecode"))
    environ = {**os.environ, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": bytecode, "TESTS_PATIENCE": _PATIENCE}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    if last:
        command.append("--exitfirst")
    seconds = _SECONDS if last else None
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode not in (_GREEN, _RED) or (done.returncode == _RED and not last):
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
