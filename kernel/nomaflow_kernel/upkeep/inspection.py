"""Inspecting a project's store and its kernel's certificate without changing them, for ``nomaflow doctor``."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from nomaflow_kernel.network.certificates import CertificateRefused, check_certificate
from nomaflow_kernel.process.settings import KernelSettings
from nomaflow_kernel.store.file_lock import read_holder
from nomaflow_kernel.store.migrations import HEAD, usable_revision
from nomaflow_kernel.upkeep.history_file import beside, damage, no_damage, opened, read_facts

_QUICK_BYTES = 512 << 20


def inspect_store(history: Path, *, deep: bool) -> dict[str, Any]:
    """Return what can be seen of a history file without blocking anybody, JSON-ready.

    ``empty`` says that a kernel has made the file and written nothing into it, ``trouble`` why it cannot be read, and
    ``damage`` what is damaged; ``held_by`` is the pid of the process that has the store, 0 for none and -1 if unknown,
    ``held_for`` its work, empty for a kernel's. The other facts are those of a history that is there and whole:
    ``checked`` says whether the whole file was checked for damage.

    :param deep: check for damage however large the file is
    """
    holder, work = _holder(history)
    seen: dict[str, Any] = {
        "kind": "sqlite",
        "path": str(history),
        "exists": os.path.lexists(history),
        "empty": False,
        "trouble": "",
        "damage": "",
        "held_by": holder,
        "held_for": work,
    }
    if not history.is_file():
        return {**seen, "trouble": "it is not a file" if seen["exists"] else ""}
    size, wal = history.stat().st_size, beside(history, "-wal")
    wal_bytes = wal.stat().st_size if wal.exists() else 0  # before it is opened: whoever closes it last empties that
    checked = deep or size <= _QUICK_BYTES
    try:
        with opened(history) as connection:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                return {**seen, "empty": True}
            wrong = damage(connection, thorough=deep) if checked else ""
            facts = read_facts(connection)
    except sqlite3.Error as error:
        return {**seen, "trouble" if no_damage(error) else "damage": str(error)}
    return {
        **seen,
        "bytes": size,
        "wal_bytes": wal_bytes,
        "checked": checked,
        "damage": wrong,
        "revision": facts.revision,
        "newest_revision": HEAD,
        "usable": usable_revision(facts.revision),
        "mark": facts.mark,
        "runs": facts.runs,
        "open_runs": facts.open_runs,
    }


def inspect_certificate(settings: KernelSettings) -> dict[str, Any]:
    """Return what a kernel with these settings would find in its certificate, or in that of its own authority.

    ``path`` is empty if there is none; ``refused`` says why a kernel would not start with it.
    """
    own = settings.state_dir / "pki"
    cert, key = settings.tls_cert or own / "server.pem", settings.tls_key or own / "server.key"
    if settings.tls_cert is None and not cert.exists():
        return {"path": "", "refused": ""}
    seen = {"path": str(cert), "refused": ""}
    try:
        found = check_certificate(cert, key)
    except CertificateRefused as error:
        return {**seen, "refused": str(error)}
    return {**seen, "names": found.names, "expires_at": found.expires_at, "expires_soon": found.expires_soon}


def _holder(history: Path) -> tuple[int, str]:
    """Return the pid of the store's lock holder, and the purpose of the lock.

    The system is asked: trying the lock could make a starting kernel fail.
    """
    lock = beside(history.resolve(), ".lock")
    try:
        inode = str(lock.stat().st_ino)
        _, work = read_holder(lock)
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
