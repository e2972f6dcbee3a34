"""Backup of a project's history to a new file, with its kernel running or not."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from nomaflow_api.private_file import sync
from nomaflow_kernel.store.errors import MaintenanceRefused
from nomaflow_kernel.upkeep.history_file import check_history
from nomaflow_kernel.upkeep.sqlite_copy import copy_history, draft_beside
from nomaflow_project.reading.regular_files import reason_of

_IF_DAMAGED = (
    "no backup was written, and earlier ones are untouched; "
    "to go back to one of them, stop the kernel, then: nomaflow restore FILE --force"
)


def back_up(history: Path, target: Path) -> dict[str, Any]:
    """Write a checked, durable copy to ``target``; the name appears once the file is complete, or not at all.

    :return: the facts of the backup, JSON-ready; times are microseconds since 1970
    :raises MaintenanceRefused: if there is no history, it is damaged, or the target cannot be written or exists
    """
    began = time.perf_counter()
    if not history.is_file():
        raise MaintenanceRefused(
            f"there is no history at {str(history)!r}",
            reason="NO_HISTORY",
            fix="name the project with --project, or the store that its kernel was started with: --store URL",
        )
    if os.path.lexists(target):
        raise _exists(target)
    try:
        with draft_beside(target) as draft:
            copy_history(history, draft, if_damaged=_IF_DAMAGED)
            facts = check_history(draft, shown=history, if_damaged=_IF_DAMAGED)
            _publish(draft, target)
    except (OSError, sqlite3.Error) as error:
        why = reason_of(error) if isinstance(error, OSError) else error
        raise MaintenanceRefused(
            f"cannot write the backup {str(target)!r}: {why}",
            reason="BACKUP_FAILED",
            fix="name a file in an existing, writable directory with enough free space",
        ) from error
    return {
        "path": str(target),
        "store": str(history),
        "bytes": target.stat().st_size,
        "runs": facts.runs,
        "open_runs": facts.open_runs,
        "last_event_seq": facts.last_event_seq,
        "newest_event_at_us": facts.newest_event_at_us,
        "seconds": time.perf_counter() - began,
    }


def _publish(draft: Path, target: Path) -> None:
    """Give a complete file its name. Unlike a rename, a link never replaces a file that appeared meanwhile."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise _exists(target) from None
    except OSError:
        # A filesystem without links: a rename right after the check is the best possible.
        if os.path.lexists(target):
            raise _exists(target) from None
        draft.rename(target)
    sync(target.parent)


def _exists(target: Path) -> MaintenanceRefused:
    return MaintenanceRefused(
        f"{str(target)!r} exists, and a backup does not overwrite files",
        reason="ALREADY_THERE",
        fix="name a new file, or remove that one",
    )
