"""Identification of the process that holds a store, so that others on the machine can tell whether it has ended."""

from __future__ import annotations

import os
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"


def own_process() -> str:
    """Return boot, pid namespace, pid and start time of this process; empty if the system does not say."""
    place, started = _place(), _start_time(os.getpid())
    return f"{place} {os.getpid()} {started}" if place and started else ""


def certainly_ended(process: str) -> bool:
    """Return whether a process has certainly ended. One elsewhere may live; a stopped one has not ended."""
    place, _, rest = process.partition(" ")
    pid, _, started = rest.partition(" ")
    if not place or place != _place() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    found = _start_time(int(pid))
    return found is not None and found != started


def _place() -> str:
    """Return an id shared by all processes that see each other's pids: this boot, this pid namespace."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}/{os.readlink(_NAMESPACE)}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the clock tick at which a process started; empty for a dead process that is not reaped yet.

    None if the system does not say: the process may then be alive.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")
