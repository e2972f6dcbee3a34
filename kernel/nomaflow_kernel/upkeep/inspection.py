"""Inspecting a project's store without changing it, for ``nomaflow doctor``."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from msgspec import Struct, field, structs

from nomaflow_kernel.store.file_lock import read_holder
from nomaflow_kernel.store.migrations import HEAD, usable_revision
from nomaflow_kernel.upkeep.certificate_report import CertificateReport
from nomaflow_kernel.upkeep.history_file import beside, damage, no_damage, opened, read_facts

_QUICK_BYTES = 512 << 20


class StoreReport(Struct, frozen=True, kw_only=True):
    """The facts in a store's files.

    :param mark: ``moved`` if the history continues elsewhere, ``copying`` for an incomplete copy
    :param checked: whether the whole file was checked for damage
    :param damage: the damage found, empty for none
    :param empty: whether a kernel has made the file and written nothing into it
    :param trouble: why the file could not be read, empty if it could; damage is not reported here
    :param held_by: pid of the process that has the store, 0 for none, -1 if unknown
    :param held_for: ``restore``, empty for a kernel's work
    :param certificate: of the kernel that uses the store
    """

    kind: str
    path: str = ""
    exists: bool = False
    empty: bool = False
    bytes: int = 0
    wal_bytes: int = 0
    revision: str = ""
    newest_revision: str = HEAD
    usable: bool = True
    mark: str = ""
    checked: bool = False
    damage: str = ""
    trouble: str = ""
    held_by: int = 0
    held_for: str = ""
    epoch: int = 0
    runs: int = 0
    open_runs: int = 0
    certificate: CertificateReport = field(default_factory=CertificateReport)


def inspect_store(history: Path, *, deep: bool) -> StoreReport:
    """Return what can be seen of a history file without blocking anybody.

    :param deep: check for damage however large the file is
    """
    holder, work = _holder(history)
    there = os.path.lexists(history)
    seen = StoreReport(kind="sqlite", path=str(history), exists=there, held_by=holder, held_for=work)
    if not history.is_file():
        return structs.replace(seen, trouble="it is not a file" if there else "")
    found = history.stat()
    wal = beside(history, "-wal")
    checked = deep or found.st_size <= _QUICK_BYTES
    seen = structs.replace(
        seen,
        bytes=found.st_size,
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        checked=checked,
    )
    try:
        with opened(history) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                return structs.replace(seen, empty=True)
            wrong = damage(connection, thorough=deep) if checked else ""
            facts = read_facts(connection)
    except sqlite3.Error as error:
        if no_damage(error):
            return structs.replace(seen, trouble=str(error))
        return structs.replace(seen, checked=True, damage=str(error))
    return structs.replace(
        seen,
        damage=wrong,
        revision=facts.revision,
        usable=usable_revision(facts.revision),
        mark=facts.mark,
        epoch=facts.epoch,
        runs=facts.runs,
        open_runs=facts.open_runs,
    )


def _holder(history: Path) -> tuple[int, str]:
    """Return the pid of the store's lock holder, and the purpose of the lock.

    The system is asked: trying the lock could make a starting kernel fail.
    """
    lock = beside(history.resolve(), ".lock")
    try:
        inode = str(lock.stat().st_ino)
        _, work = read_holder(lock.read_bytes()[:64])
        table = Path("/proc/locks").read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        return 0, ""
    except OSError:
        return -1, ""
    for line in table.splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            return int(fields[4]) or -1, work
    return 0, ""
