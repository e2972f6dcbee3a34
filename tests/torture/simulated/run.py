"""Runs simulated schedules: ``python tests/torture/simulated/run.py --schedules 10000 --seed 1``.

Prints the seeds that broke a promise and how to run one of them again; ``--seed N --schedules 1 --timeline`` shows
what happened when. Exit code 1 where any did.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from simulated_ledger import Ledger
from simulated_network import SimulatedLink
from simulated_schedule import Schedule
from simulated_store import make_template

import nomaflow_host.session.reconnecting as session_module
from nomaflow_kernel.store.sqlite import writing_engine

_HASH_SEED = "0"
_TELL_EVERY = 500


def main(arguments: list[str]) -> int:
    """Run what the command line asks for and return the exit code."""
    options = _options(arguments)
    if os.environ.get("PYTHONHASHSEED") != _HASH_SEED:
        # Sets of strings are part of the order of things, so their order has to be the same each time.
        os.environ["PYTHONHASHSEED"] = _HASH_SEED
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    logging.getLogger().setLevel(logging.DEBUG if options.logs else logging.CRITICAL + 1)
    if options.logs:
        logging.basicConfig(stream=sys.stdout, format="           %(name)s: %(message)s")
    with tempfile.TemporaryDirectory(prefix="nomaflow-simulated-", dir=options.directory) as directory:
        return _run(options, Path(directory))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=1, help="how many, of consecutive seeds")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--timeline", action="store_true", help="print what happened when")
    parser.add_argument("--logs", action="store_true", help="print what the product logs as well")
    parser.add_argument("--digest", action="store_true", help="print a digest of each timeline, to compare two runs")
    parser.add_argument("--stop-after", type=int, default=20, help="give up after so many seeds that failed")
    parser.add_argument("--directory", default=None, help="where the databases go while they are used")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, directory: Path) -> int:
    scene = Scene(directory)
    failed: list[int] = []
    begun = time.monotonic()
    done = executions = taken_back = 0
    # An interrupt ends with the summary of what was run.
    with contextlib.suppress(KeyboardInterrupt):
        for seed in range(options.seed, options.seed + options.schedules):
            ledger = scene.run(seed)
            done += 1
            executions += len(ledger.executions)
            taken_back += ledger.taken_back
            _show(options, seed, ledger)
            if ledger.complaints:
                failed.append(seed)
            if len(failed) >= options.stop_after:
                break
            if done % _TELL_EVERY == 0:
                print(f"{done} schedules, {len(failed)} failed, {time.monotonic() - begun:.0f} s", flush=True)
    seconds = time.monotonic() - begun
    print(
        f"{done} schedules from seed {options.seed}, {executions} executions, {taken_back} turns taken back, "
        f"{len(failed)} failed, {seconds:.1f} s, {1000 * seconds / max(done, 1):.0f} ms each"
    )
    if failed:
        print(f"failed seeds: {' '.join(map(str, failed))}")
        print(f"to see one: python tests/torture/simulated/run.py --seed {failed[0]} --timeline")
    return 1 if failed or done < options.schedules else 0


class Scene:
    """The place of schedules, run one after the other: a database file, new for each, and its engine.

    :param directory: empty, for the files
    """

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.db"
        make_template(self._template)
        self._path = directory / "history.db"
        self._engine = writing_engine(str(self._path), lock_wait_seconds=0.1)
        self._directory = directory

    def run(self, seed: int) -> Ledger:
        """Run one schedule."""
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(self._template, self._path)
        schedule = Schedule(seed, path=self._path, database=self._engine, directory=self._directory)
        session_module.Link = lambda *, address, identity_file: SimulatedLink(schedule.link(address))
        gc.disable()
        try:
            return schedule.run()
        finally:
            gc.enable()


def _show(options: argparse.Namespace, seed: int, ledger: Ledger) -> None:
    if options.timeline:
        print("\n".join(ledger.timeline))
    if options.digest:
        print(seed, hashlib.sha256("\n".join(ledger.timeline).encode()).hexdigest()[:16])
    for complaint in ledger.complaints:
        print(f"seed {seed}: {complaint}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
