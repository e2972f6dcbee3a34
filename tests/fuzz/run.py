"""``make fuzz N=1000000 SEED=1``: that many inputs, nine of ten to a real kernel and one to the readers of files.

The bytes come from a seeded generator and not from Hypothesis, whose bookkeeping costs ten times a call; and not from
Atheris, whose coverage sees one process: the kernel is another. A failure names its seed and number, which repeat it:
``python tests/fuzz/run.py --seed 1 --only 4711``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

for _folder in (Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2]):
    sys.path.insert(0, str(_folder))

from choices import Choices  # noqa: E402  # its folder is found by now
from kernel_target import FuzzedKernel  # noqa: E402
from reader_targets import READERS  # noqa: E402

_AT_ONCE = 48
_PER_READER = 10
"""One input in so many goes to a reader in this process."""


def _choices(seed: int, number: int) -> Choices:
    return Choices(random.Random(f"{seed}/{number}").randbytes(3000))


def _read(seed: int, number: int) -> None:
    choices = _choices(seed, number)
    READERS[sorted(READERS)[number // _PER_READER % len(READERS)]](choices)


async def fuzz(*, seed: int, numbers: range) -> FuzzedKernel:
    """Send inputs; return the kernel that got them."""
    kernel = FuzzedKernel()
    await kernel.start()
    began, done, waiting = time.monotonic(), 0, iter(numbers)

    async def work() -> None:
        nonlocal done
        for number in waiting:
            try:
                if number % _PER_READER:
                    await kernel.one(_choices(seed, number))
                else:
                    _read(seed, number)
            except Exception as error:
                error.add_note(f"seed {seed}, input {number}")
                raise
            done += 1

    async def watch() -> None:
        told = time.monotonic()
        while True:
            await asyncio.sleep(1)
            rss = await asyncio.to_thread(kernel.check)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{done:,} inputs, {done / (told - began):,.0f}/s, the kernel has {rss >> 20} MiB", flush=True)

    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            workers = [group.create_task(work()) for _ in range(_AT_ONCE)]
            await asyncio.wait(workers)
            watcher.cancel()
        kernel.check()
    finally:
        await kernel.close()
    return kernel


def main() -> int:
    """Run the fuzz; the exit code is 1 for a weakness."""
    parser = argparse.ArgumentParser(description="Send hostile inputs to a kernel and to the readers of files.")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, default=None, help="repeat this one input")
    options = parser.parse_args()
    numbers = range(options.start, options.start + options.inputs)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    kernel = asyncio.run(fuzz(seed=options.seed, numbers=numbers))
    for name, count in sorted(kernel.counts.items()):
        print(f"{count:>9,}  {name}")
    print(f"{len(numbers):,} inputs, seed {options.seed}: no weakness found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
