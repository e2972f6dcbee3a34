"""``python tests/torture/torture_main.py``: run many schedules on real processes, or one again.

What has been run on the code as it is now is kept in a file, one line a seed, and not run again: an interrupted torture
goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torture_run import Torture, Verdict

__all__ = ["main"]

_TELL_EVERY = 25
_ROOT = Path(__file__).parents[2]
_CODE = ("protos", "sdk", "kernel", "plugin_host", "tests/torture")


@dataclass(kw_only=True)
class Progress:
    """The finished schedules, in a file that outlives this process.

    :param file: one line a seed: ``SEED ok SECONDS``, or ``SEED broken DIRECTORY``
    """

    file: Path
    done: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Path) -> Progress:
        """Read what an earlier run has left."""
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = file.read_text().splitlines() if file.exists() else []
        done = {int(line.split()[0]): line.split()[1] for line in lines if len(line.split()) >= 3}
        return cls(file=file, done=done)

    def add(self, verdict: Verdict) -> None:
        """Record a verdict."""
        word, rest = ("broken", str(verdict.kept)) if verdict.wrong else ("ok", f"{verdict.seconds:.2f}")
        self.done[verdict.seed] = word
        with self.file.open("a") as file:
            file.write(f"{verdict.seed} {word} {rest}\n")

    @property
    def broken(self) -> list[int]:
        """The seeds that broke a promise."""
        return sorted(seed for seed, word in self.done.items() if word != "ok")


def progress_file() -> Path:
    """Return the file of what has been run on the code as it is now; a verdict says nothing about other code."""
    code = hashlib.sha256()
    for file in sorted(file for folder in _CODE for file in (_ROOT / folder).rglob("*.py")):
        code.update(file.read_bytes())
    return Path("build/torture") / code.hexdigest()[:12]


async def run_all(seeds: Iterator[int], total: int, progress: Progress, *, parallel: int) -> None:
    """Run the schedules of many seeds, some beside each other."""
    began = time.monotonic()
    count = itertools.count(1)

    befell: Counter[str] = Counter()

    async def work() -> None:
        async with Torture() as torture:
            for seed in seeds:
                verdict = await torture.run(seed)
                progress.add(verdict)
                befell.update(verdict.befell)
                number = next(count)
                if verdict.wrong:
                    print(verdict, flush=True)
                elif number % _TELL_EVERY == 0:
                    print(f"{number} of {total} in {time.monotonic() - began:.0f} s", flush=True)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(work())
    finally:
        print(f"{befell.total()} faults came about, {len(befell)} kinds of them:")
        print(*(f"{times:6} {name}" for name, times in sorted(befell.items())), sep="\n")


async def run_one(seed: int) -> int:
    """Run one schedule and print what was done; return the exit code."""
    async with Torture() as torture:
        verdict = await torture.run(seed)
    print(verdict if verdict.wrong else "\n".join([f"seed {seed}: all is well", *verdict.timeline]))
    return 1 if verdict.wrong else 0


def main(arguments: list[str]) -> int:
    """Run what the command line says; return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="torture_main.py", description="Run fault schedules on real processes.")
    parser.add_argument("--seed", type=int, help="run this one alone and print its timeline")
    parser.add_argument("--schedules", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed; the others follow it")
    parser.add_argument("--parallel", type=int, default=2, help="how many systems are tortured beside each other")
    parser.add_argument("--progress", type=Path, default=progress_file(), help="file of what has been run")
    options = parser.parse_args(arguments)
    # Both end in the same way: whatever was started is killed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.seed is not None:
        return asyncio.run(run_one(options.seed))
    progress = Progress.of(options.progress)
    seeds = range(options.first, options.first + options.schedules)
    todo = [seed for seed in seeds if seed not in progress.done]
    print(f"{len(todo)} schedules to run, {options.schedules - len(todo)} were run before ({options.progress})")
    try:
        asyncio.run(run_all(iter(todo), len(todo), progress, parallel=options.parallel))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one was")
    print(f"{len(progress.done)} schedules on real processes, {len(progress.broken)} broke a promise")
    for seed in progress.broken:
        print(f"again: {sys.executable} {Path(__file__).name} --seed {seed}")
    return 1 if progress.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
