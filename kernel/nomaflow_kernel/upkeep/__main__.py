"""``python -m nomaflow_kernel.upkeep``: the process that the command line starts to work on a store's files.

It prints one JSON object: ``{"done": …}``, or ``{"refused": {"reason", "message", "fix"}}`` with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nomaflow_api.import_freeze import imports_frozen
from nomaflow_api.option_parser import OptionParser

with imports_frozen():
    from nomaflow_kernel.process.settings import SettingsError, read_settings, store_url
    from nomaflow_kernel.store.errors import MaintenanceRefused, StoreInUse, StoreUnavailable, UnsupportedStore
    from nomaflow_kernel.store.file_lock import FileLock
    from nomaflow_kernel.store.urls import sqlite_file
    from nomaflow_kernel.upkeep.backup import back_up
    from nomaflow_kernel.upkeep.inspection import inspect_certificate, inspect_store
    from nomaflow_kernel.upkeep.restore import restore
    from nomaflow_project.reading.regular_files import reason_of

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130
_POSTGRES = {
    "backup": "pg_dump, or the server's own backup",
    "restore": "pg_restore, then the statements of docs/backup.md",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do the requested work and return the exit code."""
    arguments = _parser().parse(argv)
    try:
        done = _run(arguments)
    except MaintenanceRefused as refusal:
        _print({"refused": {"reason": refusal.reason, "message": refusal.message, "fix": refusal.fix}})
        return 1
    except (SettingsError, UnsupportedStore) as error:
        fix = "correct nomaflow.toml, the NOMAFLOW_KERNEL_* variables or the given URL"
        _print({"refused": {"reason": "BAD_SETTINGS", "message": str(error), "fix": fix}})
        return 1
    except OSError as error:
        fix = "run it as the project's owner, or see who may read and write there"
        message = f"{str(error.filename)!r}: {reason_of(error)}"
        _print({"refused": {"reason": "FILE_UNUSABLE", "message": message, "fix": fix}})
        return 1
    _print({"done": done})
    return 0


def _run_process() -> int:
    """Do the work in its own process; an early end by signal still cleans up."""
    for number in _ENDING:
        signal.signal(number, _interrupt)
    try:
        return main()
    except KeyboardInterrupt:
        return _INTERRUPTED


def _interrupt(_number: int, _frame: object) -> None:
    for number in _ENDING:  # a second signal would interrupt the clean-up
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> OptionParser:
    parser = OptionParser(prog="nomaflow_kernel.upkeep")
    parser.add_argument("work", choices=("backup", "restore", "inspect", "certificate", "copy", "reclaim"))
    parser.add_argument("file", nargs="?", default="", help="the backup, or the store's URL")
    parser.add_argument("--to", default="", help="the store to copy to")
    parser.add_argument("--project", default=".", help="the project's directory")
    parser.add_argument("--held", action="store_true", help="back up only a store that a kernel holds")
    parser.add_argument("--force", action="store_true", help="replace an existing history")
    parser.add_argument("--no-pause", action="store_true", help="let the restored history continue at once")
    parser.add_argument("--deep", action="store_true", help="search for damage however large the store is")
    return parser


def _run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.work in ("copy", "reclaim"):
        from nomaflow_kernel.upkeep.copy_and_reclaim import (  # these read databases, not files
            copy_history_to,
            reclaim_history,
        )

        project = Path(arguments.project).absolute()
        if arguments.work == "reclaim":
            return reclaim_history(store_url(arguments.file, project))
        return copy_history_to(store_url(arguments.file, project), store_url(arguments.to, project))
    settings = read_settings(["--project", arguments.project], os.environ)
    if arguments.work == "certificate":
        return inspect_certificate(settings)
    found = sqlite_file(settings.store)
    if found is None:
        if arguments.work == "inspect":
            return {"kind": "postgresql", "certificate": inspect_certificate(settings)}
        raise MaintenanceRefused(
            "the store is a PostgreSQL database, which has its own tools",
            reason="OTHER_STORE",
            fix=f"use {_POSTGRES[arguments.work]}",
        )
    history = Path(found).absolute()
    if arguments.work == "inspect":
        return {**inspect_store(history, deep=arguments.deep), "certificate": inspect_certificate(settings)}
    file = Path(os.path.abspath(arguments.file))
    if arguments.work == "restore":
        now_us = time.time_ns() // 1000
        return restore(file, history, force=arguments.force, pause=not arguments.no_pause, now_us=now_us)
    if arguments.held and not _held(history):
        raise MaintenanceRefused(
            f"the project's kernel does not run on {str(history)!r}",
            reason="OTHER_STORE",
            fix="name the store that it was started with: --store URL",
        )
    return back_up(history, file)


def _held(history: Path) -> bool:
    """Return whether a kernel has the store; only called if one is known to run, so it cannot block a start."""
    lock = FileLock(str(history))
    try:
        lock.acquire()
    except StoreInUse:
        return True
    except StoreUnavailable:
        return False
    lock.release()
    return False


def _print(shape: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(shape) + "\n")


if __name__ == "__main__":
    sys.exit(_run_process())
