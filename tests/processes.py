"""Answers of the operating system about processes, any of which may end while it is asked about.

A process that has ended is not alive, and has no name and no children; no question raises an error.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

__all__ = [
    "command_of",
    "environ_of",
    "inner_pid",
    "is_alive",
    "open_files",
    "pids_below",
    "process_name",
    "still_alive",
]


def is_alive(pid: int) -> bool:
    """Return True if a process exists and is not a zombie: a dead orphan that nobody reaps stays a zombie."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def still_alive(pids: Iterable[int], *, seconds: float = 0.0) -> list[int]:
    """Return the living processes among those given, once there are none or that many seconds have passed."""
    until = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def process_name(pid: int) -> str:
    """Return the name of a process, empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).name()
    return ""


def command_of(pid: int) -> str:
    """Return the command line of a process, empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


def environ_of(pid: int) -> dict[str, str]:
    """Return a process's environment, empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).environ()
    return {}


def inner_pid(pid: int) -> int:
    """Return the number of a process in the innermost namespace that it is in, 0 if it has ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[-1]) for line in status if line.startswith("NSpid:"))
    return 0


def pids_below(pid: int) -> list[int]:
    """Return every process that descends from *pid*, zombies included, oldest first."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return [child for _, child in sorted((_started(child), child) for child in found)]


def _children(pid: int) -> list[int]:
    """Return the children of all threads of a process; asking each process of the machine would cost far more."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def _started(pid: int) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(psutil.Process(pid).create_time())
    return 0.0


def open_files() -> dict[int, str]:
    """Return the open descriptors of this process, and the names that the system has for them."""
    found: dict[int, str] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found
